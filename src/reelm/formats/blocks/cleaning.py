"""Frames of any types into the tables of a catalogue; rows that do not make sense set aside."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from reelm.formats.base import EVENTS, QUARANTINE, SPLITS, VIDEOS, Tables
from reelm.formats.blocks import columns
from reelm.formats.blocks.reading import ROW
from reelm.formats.blocks.values import forms, given, identifier, number, seconds, text

WORDS = {
    "view": "watch", "play": "watch", "read": "watch", "watched": "watch", "click": "click",
    "favourite": "like", "favorite": "like", "liked": "like", "forward": "share", "repost": "share",
    "rate": "rating", "rated": "rating", "skipped": "skip",
}  # fmt: skip
"""Other words for events."""

NUMBERS = ("value", "percent", "watch_time", "rating")
"""Roles in a log that must be numbers where something is written."""

PORTIONS = {"value", "percent", "watch_time"}
"""Roles that tell how much of a video was watched."""

LONGEST = 80
"""Characters of what could not be read that are kept."""


@dataclass(frozen=True)
class Cleaned:
    """Good rows, bad rows, and what was taken for what."""

    good: pl.DataFrame
    bad: pl.DataFrame
    mapping: dict[str, str]
    unit: str | None = None
    """What a log's times were taken to be in, if it has any."""
    times: frozenset[str] = frozenset()
    """How a log's times are written: dates, numbers, or a unit of those."""
    unused: tuple[str, ...] = ()
    """Columns of a table of videos that were taken for nothing."""


Cleaner = Callable[[pl.DataFrame, Path, Mapping[str, str]], Cleaned]
"""What `events`, `videos` and `users` have in common."""


def tables(events: Cleaned, videos: Cleaned, users: Cleaned | None = None) -> Tables:
    """What a format read whose tables were each cleaned in one piece."""
    parts = [part for part in (events, videos, users) if part]
    return Tables(
        videos=videos.good,
        events=events.good,
        users=users.good if users else None,
        quarantine=pl.concat([part.bad for part in parts]),
        mapping={role: column for part in parts for role, column in part.mapping.items()},
        rows_in=events.good.height + events.bad.height,
    )


def events(
    frame: pl.DataFrame,
    path: Path,
    wanted: Mapping[str, str] | None = None,
    untimed: bool = False,
) -> Cleaned:
    """A whole log (with the column `__row`) as the columns `EVENTS`; see `piece`."""
    cleaned = piece(frame, path, wanted, untimed)
    mapping = timed(cleaned.mapping, cleaned.times)
    return replace(cleaned, good=cleaned.good.drop(ROW), mapping=mapping)


def timed(mapping: Mapping[str, str], times: Iterable[str]) -> dict[str, str]:
    """A log's mapping that also tells how its times are written."""
    if "timestamp" not in mapping:
        return dict(mapping)
    written = " and ".join(sorted(times)) or "none can be read"
    return {**mapping, "timestamp": f"{mapping['timestamp']} ({written})"}


def piece(
    frame: pl.DataFrame,
    path: Path,
    wanted: Mapping[str, str] | None = None,
    untimed: bool = False,
    unit: str | None = None,
) -> Cleaned:
    """Some rows of a log (with the column `__row`) as `__row` and the columns `EVENTS`.

    A log with watch times but no durations gets the column `watch_s` and no value yet.

    Args:
        wanted: role to column, before well-known names.
        untimed: rows without a time are good although the log has times.
        unit: what the times of an earlier piece of this log were taken to be in.

    Raises:
        BadData: no column can be taken for the user or the video.
    """
    found = columns.find(
        frame.drop(ROW).columns, columns.LOG, wanted or {}, ("user_id", "video_id"), path
    )
    take = {role: frame[column] for role, column in found.items()}
    raw, time_unit = _read(frame, take, unit)
    wrong = [_unless(raw, "user_id", "no user id"), _unless(raw, "video_id", "no video id")]
    wrong += [_garbled(raw, "user_id", "user id"), _garbled(raw, "video_id", "video id")]
    if "timestamp" in take:
        fault = pl.when(pl.lit(given(take["timestamp"]))).then(pl.lit("unreadable time"))
        fault = fault if untimed else fault.otherwise(pl.lit("no time"))
        wrong.append(pl.when(pl.col("timestamp").is_null()).then(fault))
    wrong += [_number_faults(take, role) for role in NUMBERS]
    raw, no_portion = _portions(raw, take)
    wrong += no_portion
    good, bad = _parted(raw, wrong, path, "events", "user_id", _unreadable(take))
    good = good.with_columns(order=pl.int_range(pl.len(), dtype=pl.Int64))
    extra = []
    if good["value"].null_count():
        good, extra = good.with_columns(watch_s=pl.col("watch_time")), ["watch_s"]
    told = {role: f"{column} of {path.name}" for role, column in found.items()}
    known = time_unit if good["timestamp"].count() else unit
    times = forms(take.get("timestamp"), raw["timestamp"], time_unit)
    good = good.select(ROW, *EVENTS, *extra).cast(EVENTS)
    return Cleaned(good, bad, told, known, times)


def _read(
    frame: pl.DataFrame, take: Mapping[str, pl.Series], unit: str | None
) -> tuple[pl.DataFrame, str]:
    """A log's columns by role, unreadable values null, spans in seconds; and the unit of its
    times."""
    rows = frame.height
    times, time_unit = seconds(take.get("timestamp"), rows, unit)
    numbers = {role: number(take.get(role), rows) for role in ("value", "rating")}
    numbers["percent"] = number(_bare(take.get("percent")), rows)
    for role in ("watch_time", "duration"):
        parts = 1e3 if role in take and columns.in_ms(take[role].name) else 1.0
        numbers[role] = number(take.get(role), rows) / parts
    made = {
        ROW: frame[ROW],
        "user_id": identifier(take["user_id"]),
        "video_id": identifier(take["video_id"]),
        "timestamp": times,
        "event": _words(take, rows),
        "split": _splits(take.get("split"), rows),
    }
    return pl.DataFrame(made | numbers), time_unit


def _bare(column: pl.Series | None) -> pl.Series | None:
    """Percents without their sign."""
    if column is None or column.dtype != pl.String:
        return column
    return column.str.strip_chars(" %")


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
    wrong = [
        _unless(raw, "video_id", "no video id"), _garbled(raw, "video_id", "video id"),
        again.then(pl.lit("listed twice")),
    ]  # fmt: skip
    good, bad = _parted(raw, wrong, path, "videos", "video_id")
    told = {f"videos.{role}": f"{column} of {path.name}" for role, column in found.items()}
    unused = tuple(f"{n} of {path.name}" for n in names if n not in found.values())
    return Cleaned(good.select(*VIDEOS).cast(VIDEOS), bad, told, unused=unused)


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


def comments(frame: pl.DataFrame, path: Path, known: pl.Series) -> Cleaned:
    """Rows of a table of comments as `video_id`, `text` and, where it has them, `likes`.

    Args:
        known: ids of videos; comments on others are set aside.

    Raises:
        BadData: no column can be taken for the video or for the text.
    """
    names = frame.drop(ROW).columns
    found = columns.find(names, columns.COMMENTS, {}, ("video_id", "text"), path)
    take = {role: frame[column] for role, column in found.items()}
    raw = pl.DataFrame(
        {ROW: frame[ROW], "video_id": identifier(take["video_id"]), "text": text(take["text"], 0)}
    )
    if "likes" in take:
        raw = raw.with_columns(number(take["likes"], 0).alias("likes"))
    strange = pl.when(~pl.lit(raw["video_id"].is_in(known.implode()))).then(pl.lit("no such video"))
    wrong = [_unless(raw, "video_id", "no video id"), _unless(raw, "text", "no text"), strange]
    good, bad = _parted(raw, wrong, path, "comments", "video_id")
    told = {f"comments.{role}": f"{column} of {path.name}" for role, column in found.items()}
    return Cleaned(good.drop(ROW), bad, told)


def _words(take: Mapping[str, pl.Series], rows: int) -> pl.Series:
    """What happened: the log's own word, or what its columns tell."""
    if "event" in take:
        said = text(take["event"], rows).str.to_lowercase().replace(WORDS)
        return said.fill_null("watch")
    rated = "rating" in take and not take.keys() & PORTIONS
    return pl.repeat("rating" if rated else "watch", rows, eager=True)


def _splits(column: pl.Series | None, rows: int) -> pl.Series:
    """train, valid or test; numbers 0, 1, 2 as this field counts them."""
    if column is None:
        return pl.repeat(None, rows, dtype=pl.String, eager=True)
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
    told = take.keys() & PORTIONS
    share = pl.when(pl.col("duration") > 0).then(pl.col("watch_time") / pl.col("duration"))
    portion = pl.coalesce("value", pl.col("percent") / 100, share) if told else pl.lit(1.0)
    skim = pl.when(skipped).then(pl.coalesce(portion, 1.0)).otherwise(1.0)
    raw = raw.with_columns(value=pl.when(watched).then(portion).otherwise(skim))
    later = pl.col("watch_time").is_not_null() if "duration" not in take else pl.lit(False)
    lost = watched & pl.col("value").is_null() & ~later
    return raw, [pl.when(lost).then(pl.lit("no portion"))]


def _unreadable(take: Mapping[str, pl.Series]) -> dict[str, pl.Series]:
    """The reasons for which a log's cell cannot be read, each with its column."""
    cells = {"timestamp": "time", **{n: n.replace("_", " ") for n in NUMBERS}}
    return {f"unreadable {said}": take[role] for role, said in cells.items() if role in take}


def _number_faults(take: Mapping[str, pl.Series], role: str) -> pl.Expr:
    """Why a number cannot be used: it is none, is not finite, or is negative."""
    if role not in take:
        return pl.lit(None, pl.String)
    name, written = role.replace("_", " "), pl.lit(given(take[role]))
    return (
        pl.when(written & pl.col(role).is_null()).then(pl.lit(f"unreadable {name}"))
        .when(~pl.col(role).is_finite()).then(pl.lit(f"{name} is not finite"))
        .when(pl.col(role) < 0).then(pl.lit(f"{name} is negative"))
    )  # fmt: skip


def _unless(raw: pl.DataFrame, column: str, reason: str) -> pl.Expr:
    return pl.when(pl.lit(raw[column].is_null())).then(pl.lit(reason))


def _garbled(raw: pl.DataFrame, column: str, name: str) -> pl.Expr:
    """What was not in UTF-8 is one sign now, so that ids of two may have become one."""
    lost = raw[column].str.contains("\ufffd", literal=True).fill_null(value=False)
    return pl.when(pl.lit(lost)).then(pl.lit(f"{name} is not in UTF-8"))


def _parted(
    raw: pl.DataFrame,
    wrong: Iterable[pl.Expr],
    path: Path,
    table: str,
    key: str,
    written: Mapping[str, pl.Series] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Good rows, and bad ones as the columns `QUARANTINE` with the first reason that holds.

    Args:
        written: reason to the column whose words are the detail.
    """
    raw = raw.with_columns(pl.coalesce(*wrong).alias("__reason"))
    if not raw["__reason"].count():
        return raw.drop("__reason"), pl.DataFrame(schema=QUARANTINE)
    details = [
        pl.when(pl.col("__reason") == reason).then(pl.lit(text(words, 0).str.head(LONGEST)))
        for reason, words in (written or {}).items()
    ]
    raw = raw.with_columns(pl.coalesce(*details, pl.lit(None, pl.String)).alias("__detail"))
    bad = raw.filter(pl.col("__reason").is_not_null()).select(
        table=pl.lit(table),
        id=pl.col(key),
        place=path.name + ":" + pl.col(ROW).cast(pl.String),
        reason=pl.col("__reason"),
        detail=pl.col("__detail"),
    )
    good = raw.filter(pl.col("__reason").is_null()).drop("__reason", "__detail")
    return good, bad.cast(QUARANTINE)
