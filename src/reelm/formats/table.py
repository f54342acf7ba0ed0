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
from reelm.formats.blocks import cleaning, clips, columns, log, reading

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
        """The log, its tables, and the video files whose names or paths are ids; see `clips`."""
        path, items, users = _tables(source, options)
        told = options.mapping
        events = log.read(path, columns.wanted(told, "")) if path else NO_LOG
        listed = _cleaned("videos", items, columns.wanted(told, "videos."))
        known = _cleaned("users", users, columns.wanted(told, "users."))
        where = options.videos or _folder(source)
        found = reading.video_files(where) if where else []
        bad = [events.bad, listed.bad, known.bad]
        told = events.mapping | listed.mapping | known.mapping
        good, videos = events.good, listed.good
        if where:
            placed = clips.place(where, found, videos, good["video_id"])
            if placed.again:
                one = pl.col("video_id").cast(pl.String).replace(placed.again)
                good = good.with_columns(one.cast(EVENTS["video_id"]))
            videos = _with_files(videos, placed.ids)
            bad.append(placed.bad)
            told["videos.path"] = f"{len(found)} files of {where}{placed.told}"
        return Tables(
            videos=videos,
            events=good,
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


def _with_files(listed: pl.DataFrame, ids: Mapping[str, str]) -> pl.DataFrame:
    """Videos of the table, with files put to their ids, and files that it does not list."""
    files = pl.DataFrame(
        {"video_id": [*ids.values()], "file": [*ids]}, {"video_id": pl.String, "file": pl.String}
    )
    joined = listed.join(
        files, on="video_id", how="full", coalesce=True, maintain_order="left_right"
    )
    return joined.with_columns(path=pl.coalesce("path", "file")).select(*VIDEOS)
