"""What was decoded, kept small, so that several stages decode each video once.

A part is two files: `part-<digest>.bin` with pictures and sound one after the other, as `packing`
makes them, and `part-<digest>.parquet`, written last, that says where each video's bytes lie or why
it failed. A part without its index is not there. Parts are named by their content, so two processes
that fill the same store never overwrite each other.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import UInt8

from reelm import files
from reelm.errors import BadData, MediaError
from reelm.media.guard import Guard
from reelm.media.packing import (
    DAMAGE,
    Entry,
    Settings,
    Task,
    Wave,
    decode,
    unpacked_picture,
    unpacked_sound,
)
from reelm.media.views import SOUND_RATE

VERSION = 2
PART_VIDEOS = 256  # videos per part …
PART_S = 30.0  # … or seconds, whichever comes first; this much is lost when a fill is killed
INDEX = {
    "sha256": pl.String,
    "reason": pl.String,
    "detail": pl.String,
    "starts": pl.List(pl.Int64),
    "gain": pl.Float64,
}

Frames = UInt8[np.ndarray, "moments height width 3"]


@dataclass(frozen=True)
class Filled:
    """What a fill came to, counted in files of different content."""

    stored: int
    """Files whose frames can be read now."""
    reused: int
    """Files that were looked at before, failures included."""
    failed: dict[str, MediaError]
    """Video id to what is wrong with its file."""


class FrameStore:
    """Frames at moments and sound of many videos, looked up by the SHA-256 of their files."""

    def __init__(
        self,
        folder: Path,
        moments: int = 6,
        longest: int = 320,
        quality: int = 88,
        sound_s: float | int = 60.0,
    ) -> None:
        """
        Args:
            folder: parent; the store lives in a folder below it that is named by its settings.
            moments: frames per video, at (i + 0.5) / moments of its duration.
            longest: pixels of a frame's longer side; larger frames are made smaller.
            quality: JPEG quality, 1..100.
            sound_s: seconds of sound kept, from the start.
        """
        self._settings = Settings(moments, longest, quality, sound_s)
        facts = asdict(self._settings) | {"sound_rate": SOUND_RATE}
        self.folder = folder / f"frames-{files.key('frames', VERSION, facts, {})}"
        if not (self.folder / "settings.json").is_file():
            files.write_text(self.folder / "settings.json", json.dumps(facts, indent=2) + "\n")
        self._known: dict[str, tuple[Path, dict[str, Any]]] = {}
        self._read: set[str] = set()

    def fill(
        self,
        videos: Iterable[tuple[str, str, Path]],
        guard: Guard | None = None,
        progress: Callable[[int], None] | None = None,
        retry_failed: bool = False,
    ) -> "Filled":
        """Decode what is not stored yet. Run it again after a kill: what was written stays.

        Args:
            videos: (video id, SHA-256 of the file, path); files of the same content are read once.
            guard: limits for the decoding; a guard with its defaults when None.
            progress: called with a number of files that are done since the last call.
            retry_failed: try again what failed before, e.g. under a longer time limit.
        """
        self._refresh()
        names: dict[str, list[str]] = {}
        paths: dict[str, Path] = {}
        for video_id, sha, path in videos:
            names.setdefault(sha, []).append(video_id)
            paths.setdefault(sha, Path(path))
        fresh = [sha for sha in paths if self._missing(sha, retry_failed)]
        told = progress or (lambda files: None)
        told(len(paths) - len(fresh))
        tasks = [Task(sha, paths[sha], self._settings) for sha in fresh]
        for _ in self._decoded(tasks, guard):
            told(1)
        wrong = {sha: error for sha in paths if (error := self._failure(sha)) is not None}
        failed = {name: error for sha, error in wrong.items() for name in names[sha]}
        return Filled(len(paths) - len(wrong), len(paths) - len(fresh), failed)

    def get(self, sha256: str) -> tuple[Frames, Wave] | MediaError:
        """Frames and sound of a video, or why it has none.

        Returns:
            frames uint8 [moments height width 3] and float32 mono at `views.SOUND_RATE`, empty
            for a video without sound.

        Raises:
            BadData: the video was never filled in, or its bytes are damaged.
        """
        if sha256 not in self._known:
            self._refresh()
        if sha256 not in self._known:
            raise BadData(f"{self.folder}: no video with SHA-256 {sha256}; fill the store first")
        path, row = self._known[sha256]
        if row["reason"] is not None:
            return MediaError(sha256, row["reason"], row["detail"])
        try:
            *packed, heard = _pieces(path.with_suffix(".bin"), row["starts"])
            pictures = np.stack([unpacked_picture(data) for data in packed])
            return pictures, unpacked_sound(heard) * np.float32(row["gain"])
        except DAMAGE as error:
            raise BadData(
                f"{path.with_suffix('.bin')}: frames that were kept cannot be read back "
                f"({type(error).__name__}: {error}). Delete {self.folder}; it is made again."
            ) from error

    def __contains__(self, sha256: str) -> bool:
        """True if the video was filled in, also when it failed."""
        if sha256 not in self._known:
            self._refresh()
        return sha256 in self._known

    def _refresh(self) -> None:
        """Read the indexes of parts that are new since the last look."""
        for path in sorted(self.folder.glob("part-*.parquet")):
            if path.name not in self._read:
                self._read.add(path.name)
                for row in pl.read_parquet(path).to_dicts():
                    self._note(path, row)

    def _note(self, path: Path, row: dict[str, Any]) -> None:
        """Remember a row; a success is never replaced by a failure."""
        known = self._known.get(row["sha256"])
        if known is None or known[1]["reason"] is not None:
            self._known[row["sha256"]] = path, row

    def _missing(self, sha: str, retry_failed: bool) -> bool:
        return sha not in self._known or (retry_failed and self._failure(sha) is not None)

    def _failure(self, sha: str) -> MediaError | None:
        row = self._known[sha][1]
        return row["reason"] and MediaError(sha, row["reason"], row["detail"])

    def _decoded(
        self, tasks: Sequence[Task], guard: Guard | None
    ) -> Iterator[tuple[Task, Entry | MediaError]]:
        """Decode tasks, write them part by part, and pass the outcomes on."""
        if not tasks:
            return
        waiting: list[tuple[Task, Entry | MediaError]] = []
        begun = time.monotonic()
        with _own_guard(guard) as guarded:
            for task, outcome in guarded.map(decode, tasks, label=lambda task: task.path):
                waiting.append((task, outcome))
                if len(waiting) == PART_VIDEOS or time.monotonic() - begun > PART_S:
                    self._write(waiting)
                    yield from waiting
                    waiting, begun = [], time.monotonic()
        self._write(waiting)
        yield from waiting

    def _write(self, entries: Sequence[tuple[Task, Entry | MediaError]]) -> None:
        """One part: the bytes first, then the index that makes them count."""
        if not entries:
            return
        name = files.digest("".join(task.sha256 for task, _ in entries).encode())
        path = self.folder / f"part-{name}-{time.time_ns():x}.parquet"
        rows, at = [], 0
        with files.atomic(path.with_suffix(".bin")) as tmp, tmp.open("wb") as file:
            for task, outcome in entries:
                row = {"sha256": task.sha256, "reason": None, "detail": None, "starts": None}
                if isinstance(outcome, MediaError):
                    row |= {"reason": outcome.reason, "detail": outcome.detail, "gain": None}
                else:
                    ends = np.cumsum([at, *map(len, outcome.pieces)])
                    at = int(ends[-1])
                    file.write(b"".join(outcome.pieces))
                    row |= {"starts": ends.tolist(), "gain": outcome.gain}
                rows.append(row)
        with files.atomic(path) as tmp:
            pl.DataFrame(rows, schema=INDEX).write_parquet(tmp)
        self._read.add(path.name)
        for row in rows:
            self._note(path, row)


@contextmanager
def _own_guard(guard: Guard | None) -> Iterator[Guard]:
    """The caller's guard, left open, or one of our own."""
    if guard is not None:
        yield guard
        return
    with Guard() as own:
        yield own


def _pieces(path: Path, starts: Sequence[int]) -> list[bytes]:
    """The bytes between neighbouring starts."""
    with path.open("rb") as file:
        file.seek(starts[0])
        data = file.read(starts[-1] - starts[0])
    at = [start - starts[0] for start in starts]
    return [data[a:b] for a, b in pairwise(at)]
