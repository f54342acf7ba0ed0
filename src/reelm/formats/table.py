"""A log in CSV, TSV, Parquet or JSON lines, with item and user tables and video files beside it.

A source may be the log itself or a folder that holds `events.*` (or `interactions`, `log`,
`ratings`), and if wanted `videos.*` (or `items`, `movies`), `users.*` and a folder `videos/`. A
folder with nothing but video files comes in too, as a catalogue that nobody watched yet.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from reelm.errors import BadData
from reelm.formats.base import EVENTS, QUARANTINE, VIDEOS, Format, ReadOptions, Tables
from reelm.formats.blocks import cleaning, columns, log, reading
from reelm.formats.blocks.values import identifier

LOGS = ("events", "interactions", "log", "logs", "ratings", "inter")
ITEMS = ("videos", "items", "movies", "titles", "item")
USERS = ("users", "user")
BESIDE: dict[str, tuple[cleaning.Cleaner, Any]] = {
    "videos": (cleaning.videos, VIDEOS),
    "users": (cleaning.users, {"user_id": pl.String}),
}
"""Tables beside a log: what cleans them, and the columns of an empty one."""
NO_LOG = log.Log(pl.DataFrame(schema=EVENTS), pl.DataFrame(schema=QUARANTINE), {}, [])


class Table(Format):
    """Columns are known by common names, or by the caller's mapping."""

    name: ClassVar[str] = "table"

    def inputs(self, source: Path, options: ReadOptions) -> list[Path]:
        """The log and the tables beside it."""
        return [path for path in _tables(source, options) if path is not None]

    def clips(self, source: Path, options: ReadOptions) -> list[Path]:
        """Files that the item table names, and those of the folder or list of videos."""
        _, items, _ = _tables(source, options)
        wanted = columns.wanted(options.mapping, "videos.")
        listed = _cleaned("videos", items, wanted)
        where = options.videos or _folder(source)
        found = reading.video_files(where) if where else []
        return sorted({*map(Path, listed.good["path"].drop_nulls()), *(p.resolve() for p in found)})

    def read(self, source: Path, options: ReadOptions) -> Tables:
        """The log, its tables, and the video files whose stems (or names) are ids."""
        path, items, users = _tables(source, options)
        told = options.mapping
        events = log.read(path, columns.wanted(told, "")) if path else NO_LOG
        listed = _cleaned("videos", items, columns.wanted(told, "videos."))
        known = _cleaned("users", users, columns.wanted(told, "users."))
        where = options.videos or _folder(source)
        found = reading.video_files(where) if where else []
        twice = _named_twice(listed.good["video_id"], found, events.good["video_id"])
        if twice:
            one = pl.col("video_id").cast(pl.String).replace(twice).cast(EVENTS["video_id"])
            events = replace(events, good=events.good.with_columns(one))
        videos = _with_files(listed.good, found, events.good["video_id"])
        bad = [events.bad, listed.bad, known.bad]
        told = events.mapping | listed.mapping | known.mapping
        if where:
            told["videos.path"] = f"{len(found)} files of {where}"
            if twice:
                both = (
                    f"; the log names {len(twice)} with their ending and without it: taken as one"
                )
                told["videos.path"] += both
        return Tables(
            videos=videos,
            events=events.good,
            users=known.good if users else None,
            quarantine=pl.concat(bad),
            mapping=told,
            rows_in=events.rows,
            unused=[*events.unused, *listed.unused],
        )


def _tables(source: Path, options: ReadOptions) -> tuple[Path | None, Path | None, Path | None]:
    """Log, item table and user table.

    Raises:
        BadData: the source is not there, or is a folder without a log and without videos.
    """
    if source.is_file():
        return source, options.items, options.users
    if not source.is_dir():
        raise BadData(f"{source}: no such log or folder")
    path = reading.one_of(source, LOGS)
    if path is None and _folder(source) is None and options.videos is None:
        wanted = ", ".join(LOGS[:4])
        raise BadData(f"{source}: holds no log (one of {wanted} with .csv, .parquet …), no videos")
    items = options.items or reading.one_of(source, ITEMS)
    return path, items, options.users or reading.one_of(source, USERS)


def _folder(source: Path) -> Path | None:
    """Where video files lie in a source folder: below `videos/`, or in the folder itself."""
    if not source.is_dir():
        return None
    if (source / "videos").is_dir():
        return source / "videos"
    there = any(path.suffix.lower() in reading.VIDEO_FILES for path in source.iterdir())
    return source if there else None


def _cleaned(of: str, path: Path | None, wanted: Mapping[str, str]) -> cleaning.Cleaned:
    """Good and bad rows of the table of videos or users; empty ones when there is none."""
    clean, schema = BESIDE[of]
    if path is None:
        return cleaning.Cleaned(pl.DataFrame(schema=schema), pl.DataFrame(schema=QUARANTINE), {})
    frame, unparsable = reading.table(path, of)
    cleaned = clean(frame, path, wanted)
    return replace(cleaned, bad=pl.concat([unparsable, cleaned.bad]))


def _named_twice(listed: pl.Series, found: list[Path], watched: pl.Series) -> dict[str, str]:
    """Whole name to stem of those files that a log calls by both, where no other file shares the
    stem and no table lists the whole name: one video, that would else be two."""
    ids, tabled = set(watched.unique()), set(listed)
    names = identifier(pl.Series([path.name for path in found], dtype=pl.String))
    stems = identifier(pl.Series([path.stem for path in found], dtype=pl.String))
    return {
        name: stem
        for name, stem, shared in zip(names, stems, stems.is_duplicated(), strict=True)
        if name in ids and name not in tabled and (stem in ids or stem in tabled) and not shared
    }


def _with_files(listed: pl.DataFrame, found: list[Path], watched: pl.Series) -> pl.DataFrame:
    """Videos of the table, with files put to the ids they are named after, and files on their own.

    A file's id is its whole name where a table or the log knows it by that, else its stem, unless
    several files share the stem.
    """
    placed = set(listed["path"].drop_nulls())
    paths = [path.resolve() for path in found if str(path.resolve()) not in placed]
    if not paths:
        return listed
    known = set(listed["video_id"]) | set(watched.unique())
    names = identifier(pl.Series([path.name for path in paths], dtype=pl.String))
    stems = identifier(pl.Series([path.stem for path in paths], dtype=pl.String))
    ids = [
        name if name in known or shared else stem
        for name, stem, shared in zip(names, stems, stems.is_duplicated(), strict=True)
    ]
    files = pl.DataFrame({"video_id": ids, "file": [str(path) for path in paths]})
    files = files.unique("video_id", keep="first", maintain_order=True)
    joined = listed.join(
        files, on="video_id", how="full", coalesce=True, maintain_order="left_right"
    )
    return joined.with_columns(path=pl.coalesce("path", "file")).select(*VIDEOS)
