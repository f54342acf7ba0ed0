"""Rendering many clips at once, in several processes, with a progress bar."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from reelm.world.clips import Clip
from reelm.world.mp4 import write_mp4

Job = tuple[Path, Clip, int, int, int]
"""What `write_mp4` takes: where to, what, width, height, frames per second."""


def render_clips(
    clips: Sequence[Clip], paths: Sequence[Path], shape: tuple[int, int, int], workers: int
) -> None:
    """Write each clip to its path unless there is a file already.

    Files appear only when they are whole, so one that is there need not be looked at.

    Args:
        shape: width and height in pixels, frames per second.
        workers: processes; with one, nothing is started.
    """
    jobs = [
        (path, clip, *shape) for path, clip in zip(paths, clips, strict=True) if not path.is_file()
    ]
    with _progress() as bar:
        task = bar.add_task("rendering", total=len(paths), completed=len(paths) - len(jobs))
        for _ in _rendered(jobs, min(workers, len(jobs))):
            bar.advance(task)
    for folder in {path.parent for path in paths}:
        for left_over in folder.glob(".*.tmp.mp4"):  # of runs that were killed
            left_over.unlink(missing_ok=True)


def _rendered(jobs: list[Job], workers: int) -> Iterator[Path]:
    if workers <= 1:
        yield from map(_render, jobs)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        for done in as_completed([pool.submit(_render, job) for job in jobs]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _render(job: Job) -> Path:
    return write_mp4(*job)


class Rate(ProgressColumn):
    """Videos per second."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text(f"{task.speed or 0:.1f} videos/s")


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar with rate and time left; nothing is drawn unless stderr is a terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate()
    console = Console(stderr=True)
    quiet = not sys.stderr.isatty()
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=quiet) as bar:
        yield bar
