"""Writing that is never half done: atomic files, stage folders, manifests written last."""

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from reelm import __version__
from reelm.errors import BadData, ConfigError, StaleFolder

MANIFEST = "manifest.json"


@contextmanager
def atomic(path: Path, private: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling to write; move it onto `path` only if the block succeeds.

    The temporary name keeps the suffix, so writers that look at it (PyAV, polars) work. Who may
    read the file is what the umask says, whoever writes it.

    Args:
        private: its owner alone may read it.

    Raises:
        ConfigError: a folder lies there.
        BadData: the folder that it lies in went away meanwhile.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: a folder; name a file to write, such as one inside of it.")
    tmp = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        mode = _begun(tmp, 0o600 if private else 0o666)
        yield tmp
        _allow(tmp, mode)
        tmp.replace(path)  # same folder, so the move is atomic
    except FileNotFoundError as error:
        if path.parent.is_dir():
            raise
        raise BadData(
            f"{path.parent}: this folder went away while {path.name} was written into it. "
            "Run the command again, and see that nothing cleans up there."
        ) from error
    finally:
        tmp.unlink(missing_ok=True)


@contextmanager
def locked(handle: int) -> Iterator[None]:
    """Wait for other writers, and hold them off: processes, and threads with a handle of theirs.

    Raises:
        BadData: this system has no locks of files, and what two write would be lost or mixed.
    """
    try:
        import fcntl
    except ImportError as error:
        raise BadData("writing this needs file locks, which this system does not have.") from error
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


def shared(folder: Path) -> Path:
    """Let the umask say who may read the files right inside of a folder, and return the folder:
    some writers, such as those of safetensors, leave files to their owner alone."""
    probe = folder / f".{os.getpid()}.tmp"
    mode = _begun(probe, 0o666)
    probe.unlink()
    for path in filter(Path.is_file, folder.iterdir()):
        _allow(path, mode)
    return folder


def vacant(folder: Path, kind: str) -> Path:
    """A folder that a stage of this kind may write into: empty, not there, or one of its own.

    Raises:
        StaleFolder: it holds something else.
    """
    own = finished(folder) and manifest(folder).get("stage") == kind
    if not own and folder.is_dir() and any(folder.iterdir()):
        raise StaleFolder(
            f"{folder}: is not empty and holds no {kind}. Choose another folder, or empty it."
        )
    return folder


def readable(path: Path) -> Path:
    """The file, or the folder with the files right inside of it, which may be read.

    Raises:
        BadData: one may not, for lack of permission; what reads it may call it missing or torn.
    """
    inside = sorted(path.iterdir()) if path.is_dir() and os.access(path, os.R_OK | os.X_OK) else []
    for one in (path, *inside):
        if one.exists() and not os.access(one, os.R_OK):
            raise BadData(
                f"{one}: may not be read by this user; it is there, but permission is denied. Ask "
                f"its owner for it (chmod a+r {one}), or run the command as its owner."
            )
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a whole text file atomically."""
    with atomic(path) as tmp:
        tmp.write_text(text, encoding="utf-8")
    return path


def key(stage: str, version: int, settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """Twelve hex digits that change when, and only when, the stage's output may change."""
    facts = {"stage": stage, "version": version, "settings": settings, "inputs": inputs}
    return digest(json.dumps(facts, sort_keys=True, default=str).encode())


def digest(data: bytes) -> str:
    """Twelve hex digits of the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()[:12]


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_hash(model: Path | str) -> str | None:
    """What tells a checkpoint apart: twelve hex digits over the files of its folder that can change
    its answers; None of a hub id, whose commit does (`hub.commit`)."""
    if not Path(model).is_dir():
        return None
    kept = (".safetensors", ".bin", ".json", ".jinja", ".txt", ".model")
    facts = [f"{p.name} {sha256(p)}" for p in sorted(Path(model).iterdir()) if p.suffix in kept]
    return digest("\n".join(facts).encode())


def finished(folder: Path) -> bool:
    """True if the stage that fills `folder` ran to its end: its manifest is written last."""
    return (folder / MANIFEST).is_file()


def finish(folder: Path, **facts: Any) -> Path:
    """Write the manifest, the last act of a stage, and return the folder.

    `facts` should hold stage, version, key, settings, inputs, rows, failed and seconds; the
    package version, commit, machine and time are added here.
    """
    facts = {
        **facts,
        "package": __version__,
        "commit": commit(),
        "machine": f"{platform.system()} {platform.machine()} {os.cpu_count()} cpus",
        "finished_at": time.time(),
    }
    text = json.dumps(facts, indent=2, sort_keys=True, default=str)
    write_text(folder / MANIFEST, text + "\n")
    return folder


def there(folder: Path) -> Path:
    """The folder itself.

    Raises:
        BadData: there is no such folder.
    """
    if not folder.is_dir():
        raise BadData(f"{folder}: no such folder. Is the path right, seen from {Path.cwd()}?")
    return folder


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished stage folder.

    Raises:
        BadData: there is none, so the stage did not run to its end; or there is no such folder.
    """
    path = there(folder) / MANIFEST
    if not path.is_file():
        raise BadData(
            f"{folder}: no {MANIFEST}; the stage that fills it did not finish. Run it again."
        )
    return json.loads(path.read_text(encoding="utf-8"))


KINDS = {
    "ingest": "a catalogue", "annotate": "notes", "transcribe": "notes", "encode": "features",
    "train": "a run", "distill": "a run", "evaluate": "a report", "batch": "a batch",
}  # fmt: skip
"""What the stages leave that one could take for each other's."""


def of(folder: Path, kind: str) -> Path:
    """The folder itself, unless it holds what another kind of stage left.

    Args:
        kind: one of KINDS that is wanted.

    Raises:
        BadData: there is no such folder, or it is of another kind.
    """
    held = KINDS.get(manifest(folder).get("stage", "")) if finished(there(folder)) else None
    if held not in (None, kind):
        raise BadData(f"{folder}: holds {held}, where {kind} must be named.")
    return folder


def latest(
    folder: Path, name: str = "*", keep: Callable[[Mapping[str, Any]], bool] | None = None
) -> Path:
    """The stage folder inside `folder` that finished last.

    Args:
        name: pattern that its name fits.
        keep: says by a manifest whether its folder counts.

    Raises:
        BadData: none has finished.
    """
    found = [path.parent for path in folder.glob(f"{name}/{MANIFEST}")]
    if keep is not None:
        found = [path for path in found if keep(manifest(path))]
    if not found:
        kind = "" if name == "*" else f" as {name}"
        raise BadData(
            f"{folder}: nothing finished here yet{kind}; run the stage that fills it first."
        )
    return max(found, key=lambda stage: manifest(stage).get("finished_at", 0))


@cache
def commit() -> str | None:
    """The git commit this package runs from, or None for an installed copy."""
    here = Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=here, capture_output=True, text=True, check=False, timeout=5,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() or None if run.returncode == 0 else None


def _begun(tmp: Path, most: int) -> int:
    """Begin an empty file and return its mode: `most`, as far as the umask allows."""
    tmp.unlink(missing_ok=True)
    tmp.touch(mode=most)
    return tmp.stat().st_mode & 0o777


def _allow(path: Path, mode: int) -> None:
    """Give a file a mode; where it has it already nothing is done, as not every disk knows any."""
    if path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)
