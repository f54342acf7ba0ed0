"""Where the parts of a stage run: what is common to stages that go over videos part by part.

A part is a file that appears whole or not at all. A stage that is killed goes on with the first
part that is missing. While one part is worked on, the next is read, and the one after it decoded.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import polars as pl
from jaxtyping import Float32, UInt8
from pydantic import PositiveFloat, PositiveInt

from reelm.config import Config
from reelm.cost import Cost, Ledger, Meter, progress
from reelm.data.tables import Catalog
from reelm.energy import Energy
from reelm.errors import BadData, MediaError, StaleFolder
from reelm.media.guard import Guard
from reelm.media.store import FrameStore

AHEAD = 2  # parts that are loaded while one is worked on: one waits for files, one for this process

T = TypeVar("T")
Task = TypeVar("Task", contravariant=True)
L = TypeVar("L")
M = TypeVar("M")
Out = TypeVar("Out", covariant=True)
Decoded = tuple[
    UInt8[np.ndarray, "moments height width 3"], Float32[np.ndarray, "samples"]
]  # frames and sound at views.SOUND_RATE


@dataclass(frozen=True)
class Video:
    """A video file that can be watched, and the ids that share its content."""

    id: str
    sha256: str
    path: Path
    copies: tuple[str, ...] = ()
    """Other videos whose files are the same, byte by byte."""

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids of this content."""
        return (self.id, *self.copies)


def videos(catalog: Catalog, limit: int | None = None) -> list[Video]:
    """The catalogue's usable files, each content once, in the catalogue's order.

    Args:
        limit: only the first so many.
    """
    table = catalog.videos
    if not {"path", "sha256"} <= set(table.columns):
        return []
    table = table.filter(pl.col("path").is_not_null() & pl.col("sha256").is_not_null())
    if "ok" in table.columns:
        table = table.filter(pl.col("ok"))
    groups = table.group_by("sha256", maintain_order=True).agg("video_id", "path")
    rows = groups.head(limit) if limit else groups
    return [
        Video(ids[0], sha, Path(paths[0]), tuple(ids[1:])) for sha, ids, paths in rows.iter_rows()
    ]


def to_open(catalog: Catalog, limit: int | None = None) -> list[Video]:
    """The videos of `videos`, for a stage that is pointless without any.

    Raises:
        BadData: there is no file that can be read.
    """
    found = videos(catalog, limit)
    if not found:
        raise BadData(
            f"{catalog.folder}: none of its {catalog.videos.height} videos has a file that can be "
            "read. Say where they lie with `reelm ingest … --videos FOLDER`, or name another "
            "--catalog."
        )
    return found


class DecodeConfig(Config):
    """How stages open video files; part of their sections."""

    workers: PositiveInt = 2
    """Processes that decode ahead; with many cores, or a fast accelerator, take more."""
    seconds: PositiveFloat = 20.0
    """Wall time for one file, after which it counts as undecodable."""
    memory_mb: PositiveInt = 2048
    """Memory for one file, in MiB."""
    longest: PositiveInt = 320
    """Frames are kept with at most so many pixels on their longer side."""


class Decoder:
    """Frames and sound of videos, from the store in `work/frames` or else from their files.

    May be called in several threads: one waits for files while another reads back what is stored.
    """

    def __init__(self, work: Path, moments: int, config: DecodeConfig) -> None:
        self._store = FrameStore(work / "frames", moments=moments, longest=config.longest)
        self._guard = Guard(config.workers, config.seconds, config.memory_mb * 2**20)
        self._filling = Lock()

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.__exit__()

    def __call__(self, wanted: Sequence[Video]) -> list[Decoded | MediaError]:
        """One entry for each video, in order; a file that cannot be decoded gives its error."""
        files = [(v.id, v.sha256, v.path) for v in wanted]
        with self._filling:
            self._store.fill(files, self._guard, retry_failed=True)
        return [self._store.get(v.sha256) for v in wanted]


@runtime_checkable
class Worker(Protocol[Task, L, Out]):
    """What turns tasks into results; it lives where the model is."""

    def load(self, tasks: Sequence[Task]) -> L:
        """Read a part's inputs. Called in threads, up to AHEAD parts ahead; calls may overlap."""
        ...

    def make(self, loaded: L) -> Out:
        """Work on a part; nothing is written."""
        ...


@runtime_checkable
class Stage(Worker[Task, L, M], Protocol):
    """What `run` asks of a stage."""

    folders: list[Path]
    """Every part leaves one file in each."""
    device: str

    def path(self, folder: Path, number: int) -> Path:
        """The file whose presence says that a part is done in a folder."""
        ...

    def keep(self, number: int, made: M) -> list[dict[str, Any]]:
        """Write a part's files; for each folder `rows`, and where known tokens_in and tokens_out,
        and the `share` of the time that it took (1 if there is one folder).
        """
        ...


@dataclass(frozen=True)
class Spent:
    """What a part took where it was worked on, in seconds."""

    seconds: float
    """Wall time, waiting for decoded videos included."""
    cpu_s: float
    device_s: float
    """Wall time that the model was busy."""
    joules: float | None = None
    """Of the chips named in `joules_of`; None where none can be read."""
    joules_of: str = ""


Parts = Sequence[tuple[int, Sequence[T]]]
Hands = Callable[[Worker[T, L, M], Parts[T]], Generator[tuple[int, M, Spent]]]
"""Where parts are worked on. Gives them back as they are done, in any order."""


def run(
    stage: Stage[T, L, M],
    tasks: Sequence[T],
    size: int,
    label: str,
    hands: Hands[T, L, M] | None = None,
) -> list[dict[str, Any]]:
    """Do all parts that are missing, `size` tasks each; the total of each folder's ledger.

    Args:
        hands: where the work is done; in this process if None.

    Raises:
        StaleFolder: another process is filling the same folder.
    """
    parts = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    with ExitStack() as locks:
        for folder in stage.folders:
            locks.enter_context(alone(folder))
        ledgers = [Ledger(folder) for folder in stage.folders]
        waiting = [n for n in range(len(parts)) if not _done(stage, n)]
        for folder, ledger in zip(stage.folders, ledgers, strict=True):
            _note_lost(stage, folder, parts, ledger)
        done = len(tasks) - sum(len(parts[n]) for n in waiting)
        made = (hands or here)(stage, [(n, parts[n]) for n in waiting])
        with progress(label, len(tasks), done) as advance, closing(made):
            for number, result, spent in made:
                for ledger, facts in zip(ledgers, stage.keep(number, result), strict=True):
                    ledger.add(_cost(number, stage.device, facts, spent))
                advance(len(parts[number]))
        return [ledger.total() for ledger in ledgers]


def here(stage: Worker[T, L, M], parts: Parts[T]) -> Generator[tuple[int, M, Spent]]:
    """Hands in this process: the next parts are read while one is worked on."""
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="load") as pool:
        loads = (pool.submit(stage.load, tasks) for _, tasks in parts)
        coming = deque(islice(loads, AHEAD))
        for number, _ in parts:
            meter = Meter(Energy())
            loaded = coming.popleft().result()
            coming.extend(islice(loads, 1))
            ready = time.perf_counter()
            made = stage.make(loaded)
            busy = time.perf_counter() - ready
            yield number, made, Spent(**meter.read(), device_s=busy)


def _done(stage: Stage[T, L, M], number: int) -> bool:
    return all(stage.path(folder, number).is_file() for folder in stage.folders)


def _cost(number: int, device: str, facts: dict[str, Any], spent: Spent) -> Cost:
    """A line of the ledger: what the part cost one of the folders it was done for."""
    share = facts.pop("share", 1.0)
    amounts = {
        name: round(value * share, 4) if isinstance(value, float) else value
        for name, value in asdict(spent).items()
    }
    return Cost(number, device=device, **facts, **amounts)


def _note_lost(
    stage: Stage[T, L, M], folder: Path, parts: Sequence[Sequence[T]], ledger: Ledger
) -> None:
    """A kill between a part and its line: the part stands, its cost is unknown."""
    known = {line.part for line in ledger.lines()}
    for number, tasks in enumerate(parts):
        if number not in known and stage.path(folder, number).is_file():
            ledger.add(Cost(number, len(tasks), device=stage.device, known=False))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes, and clear away what killed ones left half done."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            _lock(lock.fileno())
        except OSError as error:
            raise StaleFolder(
                f"{folder}: another process is filling this folder. Wait for it, or end it."
            ) from error
        for half in folder.glob(".*.tmp*"):
            half.unlink(missing_ok=True)
        yield
        (folder / ".lock").unlink(missing_ok=True)


def _lock(handle: int) -> None:
    """
    Raises:
        OSError: another process has it, or had it until now and took the file away: whoever comes
            next would lock a new one beside us.
    """
    try:
        import fcntl
    except ImportError:  # not on this system: parts are atomic, so only work would be lost
        return
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not os.fstat(handle).st_nlink:
        raise OSError("the lock was taken away")
