"""Frames of any types into the tables of a catalogue; rows that do not make sense set aside."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from reelm.errors import BadData
from reelm.formats.base import EVENTS, QUARANTINE, SPLITS, VIDEOS
from reelm.formats.blocks import columns
from reelm.formats.blocks.reading import ROW

WORDS = {
    "view": "watch", "play": "watch", "read": "watch", "watched": "watch", "click": "click",
    "favourite": "like", "favorite": "like", "liked": "like", "forward": "share", "repost": "share",
    "rate": "rating", "rated": "rating", "skipped": "skip",
}  # fmt: skip
"""Other words for events."""

UNITS = ((1e17, 1e9, "nanoseconds"), (1e14, 1e6, "microseconds"), (1e11, 1e3, "milliseconds"))
"""A typical time above the first number is counted in the second number's share of a second."""


@dataclass(frozen=True)
class Cleaned:
    """Good rows, bad rows, and what was taken for what."""

    good: pl.DataFrame
    bad: pl.DataFrame
    mapping: dict[str, str]


Cleaner = Callable[[pl.DataFrame, Path, Mapping[str, str]], Cleaned]
"""What `events`, `videos` and `users` have in common."""


def events(
    frame: pl.DataFrame,
    path: Path,
    wanted: Mapping[str, str] | None = None,
    untimed: bool = False,
) -> Cleaned:
    """Rows of a log (with the column `__row`) as the columns `EVENTS`.

    A log with watch times but no durations gets the column `watch_s` and no value yet.

    Args:
        wanted: role to column, before well-known names.
        untimed: rows without a time are good although the log has times.

    Raises:
        BadData: no column can be taken for the user or the video.
    """
    found = columns.find(
        frame.drop(ROW).columns, columns.LOG, wanted or {}, ("user_id", "video_id"), path
    )
    take = {role: frame[column] for role, column in found.items()}
    raw, time_unit = _read(frame, take)
    wrong = [_unless(raw, "user_id", "no user id"), _unless(raw, "video_id", "no video id")]
    if "timestamp" in take:
        given = text(take["timestamp"], frame.height).is_not_null()
        fault = pl.when(pl.lit(given)).then(pl.lit("unreadable time"))
        fault = fault if untimed else fault.otherwise(pl.lit("no time"))
        wrong.append(pl.when(pl.col("timestamp").is_null()).then(fault))
    wrong += [_number_faults(raw, take, role) for role in ("value", "watch_time", "rating")]
    raw, no_portion = _portions(raw, take)
    wrong += no_portion
    good, bad = _parted(raw, wrong, path, "events", "user_id")
    good = good.with_columns(order=pl.int_range(pl.len(), dtype=pl.Int64))
    extra = []
    if good["value"].null_count():
        unit = 1e3 if columns.plain(found["watch_time"]).endswith("ms") else 1.0
        good, extra = good.with_columns(watch_s=pl.col("watch_time") / unit), ["watch_s"]
    told = {role: f"{column} of {path.name}" for role, column in found.items()}
    if "timestamp" in told:
        told["timestamp"] += f" ({time_unit})"
    return Cleaned(good.select(*EVENTS, *extra).cast(EVENTS), bad, told)


def _read(frame: pl.DataFrame, take: Mapping[str, pl.Series]) -> tuple[pl.DataFrame, str]:
    """A log's columns by role, unreadable values null; and the unit of its times."""
    rows = frame.height
    times, time_unit = seconds(take.get("timestamp"), rows)
    numbers = ("value", "watch_time", "duration", "rating")
    columns = {
        ROW: frame[ROW],
        "user_id": identifier(take["user_id"]),
        "video_id": identifier(take["video_id"]),
        "timestamp": times,
        "event": _words(take, rows),
        "split": _splits(take.get("split"), rows),
    }
    return pl.DataFrame(columns | {n: number(take.get(n), rows) for n in numbers}), time_unit


def videos(frame: pl.DataFrame, path: Path, wanted: Mapping[str, str] | None = None) -> Cleaned:
    """Rows of an item table (with the column `__row`) as the columns `VIDEOS`, each id once.

    Relative paths of files start at the table's folder.

    Raises:
        BadData: no column can be taken for the video.
    """
    names = frame.drop(ROW).columns
    found = columns.find(names, columns.ITEMS, wanted or {}, ("video_id",), path)
    take = {role: frame[column] for role, column in found.items()}
    made = {role: text(take.get(role), frame.height) for role in VIDEOS}
    made["video_id"] = identifier(take["video_id"])
    made["uploaded_at"] = seconds(take.get("uploaded_at"), frame.height)[0]
    folder = str(path.parent.resolve())
    raw = pl.DataFrame({ROW: frame[ROW], **made}).with_columns(
        pl.when(pl.col("path").str.starts_with("/"))
        .then(pl.col("path"))
        .otherwise(folder + "/" + pl.col("path"))
        .alias("path")
    )
    again = pl.when(raw["video_id"].is_duplicated() & ~raw["video_id"].is_first_distinct())
    wrong = [_unless(raw, "video_id", "no video id"), again.then(pl.lit("listed twice"))]
    good, bad = _parted(raw, wrong, path, "videos", "video_id")
    told = {f"videos.{role}": f"{column} of {path.name}" for role, column in found.items()}
    return Cleaned(good.select(*VIDEOS).cast(VIDEOS), bad, told)


def users(frame: pl.DataFrame, path: Path, wanted: Mapping[str, str] | None = None) -> Cleaned:
    """Rows of a user table: `user_id` as text, each once, and the other columns as they are."""
    names = frame.drop(ROW).columns
    found = columns.find(names, columns.USERS, wanted or {}, ("user_id",), path)
    raw = frame.drop(c for c in (found["user_id"],) if c != "user_id").with_columns(
        identifier(frame[found["user_id"]]).alias("user_id")
    )
    again = pl.when(raw["user_id"].is_duplicated() & ~raw["user_id"].is_first_distinct())
    wrong = [_unless(raw, "user_id", "no user id"), again.then(pl.lit("listed twice"))]
    good, bad = _parted(raw, wrong, path, "users", "user_id")
    told = {"users.user_id": f"{found['user_id']} of {path.name}"}
    return Cleaned(good.select("user_id", pl.all().exclude("user_id", ROW)), bad, told)


def identifier(column: pl.Series) -> pl.Series:
    """Ids as text without blanks around; 12.0 is 12; empty ones are null."""
    if column.dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        is_whole = (column == whole).fill_null(False)
        column = whole.cast(pl.String).zip_with(is_whole, column.cast(pl.String))
    if not column.dtype.is_numeric() and column.dtype not in (pl.String, pl.Categorical):
        raise BadData(f"column {column.name!r} holds {column.dtype}; ids are numbers or text")
    stripped = column.cast(pl.String).str.strip_chars()
    return stripped.set(stripped.is_in(["", "nan", "NaN", "null", "None"]).fill_null(False), None)


def number(column: pl.Series | None, rows: int) -> pl.Series:
    """Floats; null where there is none or it cannot be read."""
    if column is None:
        return pl.repeat(None, rows, dtype=pl.Float64, eager=True)
    if column.dtype == pl.String:
        column = column.str.strip_chars()
    return column.cast(pl.Float64, strict=False)


def text(column: pl.Series | None, rows: int) -> pl.Series:
    """Text, lists joined by spaces; empty text is null."""
    if column is None:
        return number(None, rows).cast(pl.String)
    if isinstance(column.dtype, pl.List):
        column = column.cast(pl.List(pl.String)).list.join(" ")
    column = column.cast(pl.String).str.strip_chars()
    return column.set((column == "").fill_null(False), None)


def seconds(column: pl.Series | None, rows: int) -> tuple[pl.Series, str]:
    """Times as seconds UTC, null where unreadable, and the unit they were taken to be in.

    Numbers are seconds, or smaller parts of one when their size says so; text is a number or an
    ISO 8601 date; a time without a zone is UTC.
    """
    if column is None:
        return number(None, rows), "no time"
    if column.dtype.is_temporal():
        whole = column.cast(pl.Datetime("us")).dt.epoch("us")
        return whole.cast(pl.Float64) / 1e6, "dates"
    numbers = number(column, rows)
    given = text(column, rows).is_not_null()
    if (given & numbers.is_null()).sum() > given.sum() / 2:
        return _dates(column), "dates"
    usable = numbers.is_finite() & (numbers >= 0)
    numbers = numbers.set(~usable.fill_null(True), None)
    typical = numbers.median()
    for least, parts, unit in UNITS:
        if isinstance(typical, float) and typical >= least:
            return numbers / parts, unit
    return numbers, "seconds"


def _dates(column: pl.Series) -> pl.Series:
    """ISO 8601 dates and times, with `T` or a blank between, with or without a zone."""
    normal = (
        pl.col("at").str.strip_chars().str.replace(r"^(\d{4}-\d\d-\d\d) ", "${1}T")
        .str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00")
        .str.replace(r"[zZ]$| UTC$", "+0000")
        .str.replace(r"T(\d\d:\d\d)($|[+-])", "T${1}:00${2}")
        .str.replace(r"([+-]\d\d):(\d\d)$", "${1}${2}")
        .str.replace(r"(T\d\d:\d\d:\d\d(?:\.\d+)?)$", "${1}+0000")
    )  # fmt: skip
    parsed = normal.str.strptime(pl.Datetime("us", "UTC"), "%Y-%m-%dT%H:%M:%S%.f%z", strict=False)
    frame = pl.DataFrame({"at": column})
    return frame.select(parsed.dt.epoch("us").cast(pl.Float64) / 1e6).to_series()


def _words(take: Mapping[str, pl.Series], rows: int) -> pl.Series:
    """What happened: the log's own word, or what its columns tell."""
    if "event" in take:
        said = text(take["event"], rows).str.to_lowercase().replace(WORDS)
        return said.fill_null("watch")
    rated = "rating" in take and "value" not in take and "watch_time" not in take
    return pl.repeat("rating" if rated else "watch", rows, eager=True)


def _splits(column: pl.Series | None, rows: int) -> pl.Series:
    """train, valid or test; numbers 0, 1, 2 as this field counts them."""
    names = {str(n): name for n, name in SPLITS.items()} | {"val": "valid", "validation": "valid"}
    said = text(column, rows).str.to_lowercase().replace(names)
    return said.set(~said.is_in(["train", "valid", "test"]).fill_null(True), None)


def _portions(
    raw: pl.DataFrame, take: Mapping[str, pl.Series]
) -> tuple[pl.DataFrame, list[pl.Expr]]:
    """Give every event its value; say which watches have none where the log tells portions."""
    rated = pl.col("event") == "rating"
    watched, skipped = pl.col("event") == "watch", pl.col("event") == "skip"
    if "value" in take and "rating" not in take:
        raw = raw.with_columns(rating=pl.when(rated).then("value"))
    told = "value" in take or "watch_time" in take
    share = pl.when(pl.col("duration") > 0).then(pl.col("watch_time") / pl.col("duration"))
    portion = pl.coalesce("value", share) if told else pl.lit(1.0)
    skim = pl.when(skipped).then(pl.coalesce(portion, 1.0)).otherwise(1.0)
    raw = raw.with_columns(value=pl.when(watched).then(portion).otherwise(skim))
    later = pl.col("watch_time").is_not_null() if "duration" not in take else pl.lit(False)
    lost = watched & pl.col("value").is_null() & ~later
    return raw, [pl.when(lost).then(pl.lit("no portion"))]


def _number_faults(raw: pl.DataFrame, take: Mapping[str, pl.Series], role: str) -> pl.Expr:
    """Why a number cannot be used: it is none, is not finite, or is negative."""
    if role not in take:
        return pl.lit(None, pl.String)
    given, name = text(take[role], raw.height).is_not_null(), role.replace("_", " ")
    return (
        pl.when(pl.lit(given) & pl.col(role).is_null()).then(pl.lit(f"unreadable {name}"))
        .when(~pl.col(role).is_finite()).then(pl.lit(f"{name} is not finite"))
        .when(pl.col(role) < 0).then(pl.lit(f"{name} is negative"))
    )  # fmt: skip


def _unless(raw: pl.DataFrame, column: str, reason: str) -> pl.Expr:
    return pl.when(pl.lit(raw[column].is_null())).then(pl.lit(reason))


def _parted(
    raw: pl.DataFrame, wrong: Iterable[pl.Expr], path: Path, table: str, key: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Good rows, and bad ones as the columns `QUARANTINE` with the first reason that holds."""
    raw = raw.with_columns(pl.coalesce(*wrong).alias("__reason"))
    bad = raw.filter(pl.col("__reason").is_not_null()).select(
        table=pl.lit(table),
        id=pl.col(key),
        place=path.name + ":" + pl.col(ROW).cast(pl.String),
        reason=pl.col("__reason"),
        detail=pl.lit(None, pl.String),
    )
    good = raw.filter(pl.col("__reason").is_null()).drop("__reason")
    return good, bad.cast(QUARANTINE)
