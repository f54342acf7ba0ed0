"""Is a video file good? Hash, facts and a test decode of many files, each looked at once.

What was found is kept in parts under one folder, so that a killed run goes on where it was and a
file that did not change (same path, size and time) is not opened again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from reelm import files
from reelm.errors import MediaError
from reelm.media.frames import sample
from reelm.media.guard import Guard
from reelm.media.probe import probe

EXAMINED = pl.Schema(
    {
        "path": pl.String,
        "sha256": pl.String,
        "bytes": pl.Int64,
        "duration_s": pl.Float64,
        "fps": pl.Float64,
        "width": pl.Int64,
        "height": pl.Int64,
        "rotation": pl.Int64,
        "has_audio": pl.Boolean,
        "video_codec": pl.String,
        "usable": pl.Boolean,
        "reason": pl.String,
        "detail": pl.String,
    }
)
"""What is known of a file; `reason` may speak of damage that leaves it usable."""

VERSION = 2  # of what `look` finds; files that another version looked at are looked at again
CACHE = pl.Schema(
    EXAMINED
    | {"mtime_ns": pl.Int64, "moments": pl.Int64, "seconds": pl.Float64, "memory": pl.Int64}
    | {"version": pl.Int64}
)
LIMITS = ("took too long", "out of memory", "crashed")  # reasons that more room may remove
PART_FILES, PART_S = 256, 10.0  # a part is written after so many files or seconds


@dataclass(frozen=True)
class _Task:
    path: Path
    moments: int


class Examiner:
    """Examines video files in child processes and remembers what was found."""

    def __init__(self, folder: Path, moments: int, seconds: float | int, memory_bytes: int) -> None:
        """
        Args:
            folder: where findings are kept.
            moments: frames that a file must give.
            seconds: wall time for one file.
            memory_bytes: memory for one file.
        """
        self.folder, self.moments = folder, moments
        self.seconds, self.memory_bytes = float(seconds), memory_bytes
        self._known: dict[tuple[str, int, int], dict[str, Any]] = {}
        for part in sorted(folder.glob("part-*.parquet")):
            self._remember(pl.read_parquet(part).to_dicts())

    def fresh(self, paths: Sequence[Path]) -> list[Path]:
        """Those that were not examined yet, or that changed since."""
        return [path for path in paths if self._found(path) is None]

    def examine(
        self, paths: Sequence[Path], workers: int, advance: Callable[[int], None]
    ) -> pl.DataFrame:
        """One row per path, columns `EXAMINED`, in the order given."""
        rows: list[dict[str, Any]] = []
        begun = time.monotonic()
        for row in self._looked_at(self.fresh(paths), workers):
            rows.append(row)
            advance(1)
            if len(rows) == PART_FILES or time.monotonic() - begun > PART_S:
                self._write(rows)
                rows, begun = [], time.monotonic()
        self._write(rows)
        found = [self._found(path) or {"path": str(path)} for path in paths]
        return pl.DataFrame(found, schema=CACHE).select(*EXAMINED)

    def _looked_at(self, paths: Sequence[Path], workers: int) -> Iterator[dict[str, Any]]:
        if not paths:
            return
        tasks = [_Task(path, self.moments) for path in paths]
        limits = {"seconds": self.seconds, "memory": self.memory_bytes, "moments": self.moments}
        limits["version"] = VERSION
        with Guard(workers, self.seconds, self.memory_bytes) as guard:
            for task, result in guard.map(look, tasks, label=lambda task: task.path):
                row = _broken(task.path, result) if isinstance(result, MediaError) else result
                yield {"mtime_ns": _stamp(task.path)[1], **row, **limits}

    def _found(self, path: Path) -> dict[str, Any] | None:
        """What is remembered, if it still holds: a limit that was hit may have been raised."""
        row = self._known.get((str(path), *_stamp(path)))
        if row is None or row["moments"] != self.moments:
            return None
        more = self.seconds > row["seconds"] or self.memory_bytes > row["memory"]
        return None if row["reason"] in LIMITS and more else row

    def _remember(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            if row.get("version") == VERSION:  # the first version did not write its number
                self._known[row["path"], row["bytes"], row["mtime_ns"]] = row

    def _write(self, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            table = pl.DataFrame(rows, schema=CACHE)
            with files.atomic(self.folder / f"part-{time.time_ns():016x}.parquet") as tmp:
                table.write_parquet(tmp)
            self._remember(table.to_dicts())


def look(task: _Task) -> dict[str, Any]:
    """Hash, probe and test-decode one file; runs in a child process."""
    row = _base(task.path)
    try:
        facts = probe(task.path)
        row |= {
            "duration_s": facts.duration_s,
            "fps": facts.fps,
            "width": facts.width,
            "height": facts.height,
            "rotation": facts.rotation,
            "has_audio": facts.audio_streams > 0,
            "video_codec": facts.video_codec,
        }
        seen = sample(task.path, task.moments, longest=64)
    except MediaError as error:
        return row | {"usable": False, "reason": error.reason, "detail": error.detail}
    if seen.damaged:
        detail = f"{seen.damaged} packets do not decode; the rest is kept"
        return row | {"reason": "damaged", "detail": detail}
    if seen.cut_short:
        detail = f"states {seen.duration_s:.1f} s, ends after {seen.times_s[-1]:.1f} s"
        return row | {"reason": "cut short", "detail": detail}
    return row


def _broken(path: Path, error: MediaError) -> dict[str, Any]:
    """The row of a file that took its process down or went over a limit."""
    return _base(path) | {"usable": False, "reason": error.reason, "detail": error.detail}


def _base(path: Path) -> dict[str, Any]:
    size, _ = _stamp(path)
    sha = files.sha256(path) if path.is_file() else None
    return {"path": str(path), "sha256": sha, "bytes": size, "usable": True}


def _stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in ns; -1 where there is no file."""
    try:
        facts = path.stat()
    except OSError:
        return -1, -1
    return facts.st_size, facts.st_mtime_ns
