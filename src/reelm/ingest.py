"""Logs, tables and video files become a catalogue: checked, hashed, probed, bad rows set aside."""

import time
from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float32
from pydantic import Field, PositiveFloat, PositiveInt

from reelm import files
from reelm.config import Config
from reelm.cost import Meter, progress
from reelm.data.packing import POSITIVE
from reelm.errors import BadData
from reelm.formats import FORMATS
from reelm.formats.base import QUARANTINE, Format, ReadOptions, Tables
from reelm.formats.blocks import cleaning, columns, reading
from reelm.formats.blocks.values import TIMES
from reelm.media.examine import Examiner
from reelm.registry import find

STAGE, VERSION = "ingest", 6
WRITTEN = pl.Schema(dict.fromkeys(("user_id", "video_id", "event", "split"), pl.String))
"""Columns of events that are numbered in memory and text in the file."""


class IngestConfig(Config):
    """What comes in, and how carefully files are opened."""

    format: str = "table"
    """How the source is laid out; one of `reelm.formats`."""
    mapping: dict[str, str] = Field(default_factory=dict)
    """Which column to take for what: user_id, video_id, timestamp, event, value, percent,
    watch_time, duration, rating, split; videos.title and so on for the item table."""
    videos: Path | None = None
    """Folder of video files, or a text file with one path per line; a file's stem is its id, or
    its path in the folder, such as alice/001, where others have the same stem."""
    items: Path | None = None
    """Table of videos, if it does not lie beside the log."""
    users: Path | None = None
    """Table of users, if it does not lie beside the log."""
    comments: Path | None = None
    """Table of comments on videos: video_id, text and, if known, likes."""
    licence: str | None = None
    """Licence of videos whose table states none."""
    moments: PositiveInt = 6
    """Frames that are decoded to see whether a file is good."""
    workers: PositiveInt = 2
    """Processes that open video files; the catalogue does not depend on it."""
    seconds_per_file: PositiveFloat = 20.0
    """Wall time for one video file, after which it counts as broken."""
    memory_per_file_mb: PositiveInt = 2048
    """Memory for one video file, in MiB."""


DAY_S = 86400.0
EARLY = 631152000.0
"""1990-01-01 in seconds UTC; events before it are doubted."""
COUNTED = ("watch", "skip", *POSITIVE)
"""Kinds of event that say something about liking without further settings."""
PORTIONS = (0.002, 1.5, 20)
"""Half of all watches are hardly this short, as shares of their videos, hardly longer than the
second, and so long as the third only where milliseconds were taken for seconds."""


def ingest(source: Path, work: Path, config: IngestConfig) -> Path:
    """Read `source` into `work/catalog/<key>` and return that folder.

    With the same settings and unchanged files the finished folder is returned at once. Run it
    again after a kill: files that were examined are not examined again. The manifest's `mapping`
    says which column was taken for what.

    Raises:
        BadData: the source is not laid out as `config.format` wants it, or holds no good row.
        ConfigError: the mapping names a role that does not exist.
    """
    layout: Format = find("formats", FORMATS, config.format)()
    options = ReadOptions(**{name: getattr(config, name) for name in ReadOptions.model_fields})
    settings = config.model_dump(mode="json", exclude={"workers"})
    inputs = _inputs(layout, source, options)
    if config.comments:
        inputs |= {"comments": files.sha256(_there(config.comments))}
    else:
        settings.pop("comments")  # catalogues of before this was a setting stay as they are
    key = files.key(STAGE, VERSION, settings, inputs)
    folder = work / "catalog" / key
    if files.finished(folder):
        return folder
    meter = Meter()
    tables = layout.read(source, options)
    videos, faults = _examined(_all_videos(tables, config.licence), work, config)
    events, unmeasured = _measured(tables.events, videos)
    if not videos.height:
        reasons = [f"{count:,} {why}" for why, count in _reasons(tables.quarantine).items()]
        why = [*reasons, *_unread(tables.quarantine)] or ["there is a header and no row"]
        raise BadData(f"{source}: not one good row; {'; '.join(why)}")
    said = _comments(config.comments, videos)
    mapping = dict(ChainMap(*(one.mapping for one in said), dict(tables.mapping)))
    quarantine = pl.concat([tables.quarantine, unmeasured, faults, *(one.bad for one in said)])
    _write(folder, "videos", videos)
    _write(folder, "events", events.lazy().cast(WRITTEN))
    _write(folder, "quarantine", quarantine)
    if tables.users is not None:
        _write(folder, "users", tables.users)
    for one in said:
        _write(folder, "comments", one.good)
    for name, (ids, vectors) in tables.features.items():
        _write_feature(folder / "features" / name, ids, vectors)
    return files.finish(
        folder, stage=STAGE, version=VERSION, key=key, settings=settings, inputs=inputs,
        rows=_counts(tables, videos, events), failed=quarantine.height,
        reasons=_reasons(quarantine), mapping=mapping,
        features=sorted(tables.features), unused=list(tables.unused), kinds=_kinds(events),
        doubts=_suspicions(tables, events, config.mapping),
        **meter.read(),
    )  # fmt: skip


def summary(folder: Path) -> str:
    """What came in, for people: counts, the mapping of columns, columns that were taken for
    nothing, what is likely to be missed, and what was set aside and why."""
    facts = files.manifest(folder)
    lines = [f"{name.replace('_', ' ')}: {count:,}" for name, count in facts["rows"].items()]
    lines += [f"{ours} <- {theirs}" for ours, theirs in facts["mapping"].items()]
    lines += _doubts(facts)
    if facts.get("unused"):
        lines.append(f"not used: {', '.join(facts['unused'])}")
    lines += [_aside(reason, count) for reason, count in facts["reasons"].items()]
    return "\n".join(lines)


def _aside(reason: str, count: int) -> str:
    """How many rows of a table were set aside for a reason; damaged videos are named and kept."""
    table, _, why = reason.partition(": ")
    done = "kept" if reason == "videos: damaged" else "set aside"
    return f"{done}: {count:,} {table.removesuffix('s') if count == 1 else table}: {why}"


def _doubts(facts: Mapping[str, Any]) -> list[str]:
    """Kinds of events, those that train nothing, videos that no file was found for, and what was
    likely meant otherwise."""
    kinds, rows = facts.get("kinds") or {}, facts["rows"]
    strange = {kind: count for kind, count in kinds.items() if kind not in COUNTED}
    lines = [f"kinds of event: {_listed(kinds)}"] if kinds else []
    if strange:
        lines.append(f"not counted unless dataset.positive names it: {_listed(strange)}")
    if rows["files"] and rows["files"] < rows["videos"]:
        lines.append(f"without a file: {rows['videos'] - rows['files']:,} videos")
    return [*lines, *facts.get("doubts", [])]


def _suspicions(tables: Tables, events: pl.DataFrame, told: Mapping[str, str]) -> list[str]:
    """What a log's columns were likely meant to be, where they were taken for something else.

    Args:
        told: the caller's own mapping, which is not doubted.
    """
    lines = _unread(tables.quarantine)
    if events.height and "timestamp" not in tables.mapping and "timestamp" not in told:
        lines.append("no times: events go by the order of the file, and repeats of them stay")
        if tables.unused:
            lines[-1] += "; if a column holds times, name it with --map timestamp=NAME"
    if "timestamp" in tables.mapping and "timestamp" not in told:
        lines += _strange_times(events["timestamp"])
    return lines + _strange_portions(events, tables.mapping, told)


def _unread(quarantine: pl.DataFrame) -> list[str]:
    """A time that could not be read, and which can be."""
    lost = quarantine.filter(table="events", reason="unreadable time")["detail"]
    if not len(lost):
        return []
    return [f"unreadable times: {len(lost):,}, such as {lost[0]!r}. What is read: {TIMES}"]


def _strange_times(times: pl.Series) -> list[str]:
    """Times that no log of videos can have, as where 20260131 was taken for seconds."""
    strange = times.filter((times < EARLY) | (times > time.time() + DAY_S))
    if strange.is_empty():
        return []
    first, last = pl.from_epoch(pl.Series([strange.min(), strange.max()]).cast(pl.Int64))
    return [
        f"times before 1990 or still to come: {len(strange):,}, {first:%Y-%m-%d} to "
        f"{last:%Y-%m-%d}. What is read: {TIMES}"
    ]


def _strange_portions(
    events: pl.DataFrame, mapping: Mapping[str, str], told: Mapping[str, str]
) -> list[str]:
    """Portions that are so long, or so short, that their unit is likely another one."""
    usual = events.filter(pl.col("event") == "watch")["value"].median()
    if not isinstance(usual, float):
        return []
    short, long, longest = PORTIONS
    if "value" in mapping:
        strange = usual > long and "value" not in told
        said = f"value: are they shares of 1? Half of them are {usual:g} or more"
        return [said] if strange else []
    if "watch_time" not in mapping or short <= usual <= longest:
        return []
    role, than = ("watch_time", "more") if usual > longest else ("duration", "less")
    if role not in mapping:
        return []
    half = f"Half of the portions are {usual:g} or {than}"
    if columns.in_ms(mapping[role].rpartition(" of ")[0]):
        return [f"{role}: in milliseconds, as its name says? {half}"]
    return [f"{role}: in milliseconds? {half}; name it {role}_ms"]


def _listed(counts: Mapping[str, int]) -> str:
    """Names and counts, the largest first."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered)


def _inputs(layout: Format, source: Path, options: ReadOptions) -> dict[str, Any]:
    """What tells whether the source changed: hashes of tables, size and age of video files."""
    tables = {str(path): files.sha256(path) for path in layout.inputs(source, options)}
    stamps = (f"{path}\t{_stamp(path)}\n" for path in layout.clips(source, options))
    return {"tables": tables, "videos": files.digest("".join(stamps).encode())}


def _there(path: Path) -> Path:
    if not path.is_file():
        raise BadData(f"{path}: no such table of comments; see ingest.comments.")
    return path


def _comments(path: Path | None, videos: pl.DataFrame) -> list[cleaning.Cleaned]:
    """The table of comments, if there is one; lines that are no rows are among its bad ones."""
    if path is None:
        return []
    frame, unparsable = reading.table(path, "comments")
    one = cleaning.comments(frame, path, videos["video_id"])
    return [replace(one, bad=pl.concat([unparsable, one.bad]))]


def _stamp(path: Path) -> str:
    """Size and age of a file, or that it is not there."""
    try:
        facts = path.stat()
    except OSError:
        return "missing"
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _all_videos(tables: Tables, licence: str | None) -> pl.DataFrame:
    """Videos of the source, then those that only the log knows, in the order of their events."""
    seen = tables.events.select(pl.col("video_id").unique(maintain_order=True).cast(pl.String))
    known = tables.videos.with_columns(pl.col("licence").fill_null(pl.lit(licence, pl.String)))
    unknown = seen.join(known, on="video_id", how="anti", maintain_order="left")
    return pl.concat([known, unknown], how="diagonal")


def _examined(
    videos: pl.DataFrame, work: Path, config: IngestConfig
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Videos with what their files hold, and what is wrong with those files."""
    examiner = Examiner(
        work / "probes", config.moments, config.seconds_per_file, config.memory_per_file_mb * 2**20
    )
    paths = [Path(path) for path in videos["path"].drop_nulls().unique(maintain_order=True)]
    fresh = examiner.fresh(paths)
    with progress("ingest", len(paths), len(paths) - len(fresh)) as advance:
        facts = examiner.examine(paths, config.workers, advance)
    known = videos.join(facts, on="path", how="left", maintain_order="left")
    faults = known.filter(pl.col("reason").is_not_null()).select(
        table=pl.lit("videos"), id="video_id", place="path", reason="reason", detail="detail"
    )
    usable = pl.col("usable").fill_null(True)  # a video without a file is not a broken one
    first = pl.col("video_id").first().over("sha256")
    copy = pl.col("sha256").is_not_null() & (first != pl.col("video_id"))
    known = known.with_columns(duplicate_of=pl.when(copy).then(first), ok=usable)
    return known.drop("reason", "detail", "usable"), faults.cast(QUARANTINE)


def _measured(events: pl.DataFrame, videos: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Portions of watches that the log gives in seconds; those of unknown length set aside."""
    if "watch_s" not in events.columns:
        return events, pl.DataFrame(schema=QUARANTINE)
    lengths = videos.select(pl.col("video_id").cast(events["video_id"].dtype), "duration_s")
    joined = events.join(lengths, on="video_id", how="left", maintain_order="left")
    share = pl.when(pl.col("duration_s") > 0).then(pl.col("watch_s") / pl.col("duration_s"))
    joined = joined.with_columns(pl.coalesce("value", share).alias("value"))
    lost = joined.filter(pl.col("value").is_null()).select(
        table=pl.lit("events"),
        id=pl.col("user_id").cast(pl.String),
        place=pl.lit("event ") + pl.col("order").cast(pl.String),
        reason=pl.lit("no portion"),
        detail=pl.lit("the log gives seconds, and the video's length is not known"),
    )
    good = joined.filter(pl.col("value").is_not_null()).drop("watch_s", "duration_s")
    return good, lost.cast(QUARANTINE)


def _write(folder: Path, name: str, table: pl.DataFrame | pl.LazyFrame) -> None:
    with files.atomic(folder / f"{name}.parquet") as tmp:
        table.lazy().sink_parquet(tmp)


def _write_feature(
    folder: Path, ids: Iterable[str], vectors: Float32[np.ndarray, "items dim"]
) -> None:
    """Vectors and the ids of their rows."""
    with files.atomic(folder / "part-00000.npy") as tmp:
        np.save(tmp, vectors)
    _write(folder, "ids", pl.DataFrame({"video_id": list(ids)}, schema={"video_id": pl.String}))


def _counts(tables: Tables, videos: pl.DataFrame, events: pl.DataFrame) -> dict[str, int]:
    return {
        "events_in": tables.rows_in,
        "events": events.height,
        "videos": videos.height,
        "files": videos["path"].count(),
        "files_ok": videos.filter(pl.col("path").is_not_null() & pl.col("ok")).height,
        "duplicates": videos["duplicate_of"].count(),
        "users": events["user_id"].n_unique(),
    }


def _kinds(events: pl.DataFrame) -> dict[str, int]:
    """How many events of each kind."""
    counted = events.group_by(pl.col("event").cast(pl.String)).len()
    return dict(counted.iter_rows())


def _reasons(quarantine: pl.DataFrame) -> dict[str, int]:
    """How many rows were set aside for each reason."""
    counted = quarantine.group_by("table", "reason").len().sort("table", "reason")
    return {f"{table}: {reason}": count for table, reason, count in counted.iter_rows()}
