"""Which video a file is: the names that a log or a table may call it by, and its id.

A file's names are, the most exact first, its path below the folder of videos, that path without
its ending, its own name, and its stem. Each name means the file of the most exact kind that bears
it, so `001` is `001.mp4` at the top of the folder before it is `alice/001.mp4`; what is borne by
several files of that kind means none of them.
"""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from reelm.formats.base import QUARANTINE
from reelm.formats.blocks.values import identifier

PATH, BARE_PATH, NAME, STEM = range(4)
"""Kinds of names, the most exact first."""
USUAL = (STEM, BARE_PATH, PATH, NAME)
"""Which kinds are ids where nobody calls a file by anything, the first that means it alone."""
SHOWN = 3  # files that people are shown where a name could mean several

Bearers = Mapping[str, Collection[str]]
"""Name to the files that bear it."""


@dataclass(frozen=True)
class Clips:
    """What files were found to be."""

    ids: dict[str, str]
    """File to id, but for those that the table of videos has a path to already."""
    again: dict[str, str]
    """Further names by which the log calls a file, each to the id that stands for it."""
    unclear: dict[str, list[str]]
    """Names in the log or the table that mean no file, since several bear them; and which."""
    bad: pl.DataFrame
    """Files that are no video of their own, as the columns `QUARANTINE`."""

    @property
    def told(self) -> str:
        """What people should know of names; empty where there is nothing to say."""
        said = ""
        if self.again:
            videos = len(set(self.again.values()))
            said = f"; the log calls {videos} of them by more than one name: taken as one"
        if self.unclear:
            name, files = next(iter(self.unclear.items()))
            some = ", ".join(files[:SHOWN])
            said += f"; names of several files, given to none: {len(self.unclear)}, such as "
            said += f"{name} ({some})"
        return said


def place(where: Path, found: list[Path], listed: pl.DataFrame, watched: pl.Series) -> Clips:
    """Say which video each file is.

    Args:
        where: the folder of videos, or the list of their paths.
        found: the files in it.
        listed: `video_id` and `path` of the table of videos; its ids stay as they are.
        watched: ids of the log.
    """
    bearers = _bearers(where, found)
    paths = dict(listed.select("video_id", "path").iter_rows())
    placed = {os.path.normpath(path): video for video, path in paths.items() if path}
    own = _own(bearers, found)
    called = set(watched.unique()) - paths.keys()
    ids: dict[str, str] = {}
    again: dict[str, str] = {}
    bad: list[dict[str, str | None]] = []
    for file, names in own.items():
        video = placed.get(file) or _chosen(names, paths, called)
        if video is None or not _free(paths.get(video), file):
            bad.append(_set_aside(file, video, paths))
            continue
        if file not in placed:
            ids[file] = video
        if video in names:
            again |= {name: video for name in names if name in called and name != video}
    asked = called | {video for video, path in paths.items() if not path}
    unclear = {
        name: sorted(next(iter(own[file]), file) for file in _meant(bearers, name))
        for name in _shared(bearers, asked)
    }
    return Clips(ids, again, unclear, pl.DataFrame(bad, schema=QUARANTINE))


def _bearers(where: Path, found: list[Path]) -> list[Bearers]:
    """The files that bear each name, by the kind of name."""
    root = _root(where, found)
    below = [path.relative_to(root) for path in found]
    shapes: list[Callable[[Path], str]] = [
        Path.as_posix,
        lambda path: path.as_posix().removesuffix(path.suffix),
        lambda path: path.name,
        lambda path: path.stem,
    ]
    files = [str(path.resolve()) for path in found]
    made: list[Bearers] = []
    for shape in shapes:
        borne: dict[str, dict[str, None]] = {}
        names = identifier(pl.Series([shape(path) for path in below], dtype=pl.String))
        for name, file in zip(names, files, strict=True):
            if name is not None:
                borne.setdefault(name, {})[file] = None
        made.append(borne)
    return made


def _root(where: Path, found: list[Path]) -> Path:
    """What paths are told from: the folder of videos; that of a list, or what its files share."""
    if where.is_dir() or not found:
        return where
    beside = where.parent.resolve()
    if all(path.is_relative_to(beside) for path in found):
        return beside
    return Path(os.path.commonpath([path.parent for path in found]))


def _meant(bearers: list[Bearers], name: str) -> Collection[str]:
    """The files of the most exact kind that bear a name."""
    return next(kind[name] for kind in bearers if name in kind)


def _own(bearers: list[Bearers], found: list[Path]) -> dict[str, dict[str, int]]:
    """For each file the names that mean it alone, most exact first, and of what kind they are; the
    last that holds, as a file at the top has its name for a path."""
    own: dict[str, dict[str, int]] = {str(path.resolve()): {} for path in found}
    for kind, borne in enumerate(bearers):
        for name in borne:
            meant = _meant(bearers, name)
            if len(meant) == 1:
                own[next(iter(meant))][name] = kind
    return own


def _chosen(own: Mapping[str, int], tabled: Collection[str], called: Collection[str]) -> str | None:
    """A file's id: what the table calls it, else the one name that the log has for it, else the
    usual one; None for a file without a name of its own."""
    listed = next((name for name in own if name in tabled), None)
    told = [name for name in own if name in called]
    if listed or len(told) == 1:
        return listed or told[0]
    return next((name for kind in USUAL for name, at in own.items() if at == kind), None)


def _free(path: str | None, file: str) -> bool:
    """Whether a file may be that of a video: the table says no other path."""
    return path is None or os.path.realpath(path) == file


def _set_aside(
    file: str, video: str | None, paths: Mapping[str, str | None]
) -> dict[str, str | None]:
    reason = "another file has its name" if video is None else "the table names another file"
    detail = None if video is None else paths[video]
    return {"table": "videos", "id": video, "place": file, "reason": reason, "detail": detail}


def _shared(bearers: list[Bearers], names: Collection[str]) -> list[str]:
    """Those names that mean several files."""
    borne = {name for kind in bearers for name in kind if len(kind[name]) > 1}
    return sorted(name for name in borne.intersection(names) if len(_meant(bearers, name)) > 1)
