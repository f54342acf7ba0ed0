"""Logs of any length: read and cleaned piece by piece, then looked over as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from reelm.errors import BadData
from reelm.formats.base import EVENTS, QUARANTINE
from reelm.formats.blocks import cleaning, columns, reading
from reelm.formats.blocks.reading import ROW

SAME = [name for name in EVENTS if name != "order"]
"""Events that agree in all of these are one event."""
MOST_PORTION = 1.5
"""Where most watches say more than this, they hardly say shares of a video."""
ODD = [np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)]


@dataclass(frozen=True)
class Log:
    """A whole log."""

    good: pl.DataFrame
    """Columns `EVENTS`, and `watch_s` as `cleaning.piece` says."""
    bad: pl.DataFrame
    """Columns `QUARANTINE`."""
    mapping: dict[str, str]
    unused: list[str]
    """Columns that were taken for nothing."""

    @property
    def rows(self) -> int:
        """Rows that were looked at."""
        return self.good.height + self.bad.height


def read(path: Path, wanted: Mapping[str, str] | None = None) -> Log:
    """All events of a file; those that occur twice with their time are set aside.

    The unit of times is that of the first piece of a million rows.

    Raises:
        BadData: the file cannot be read, has no column for the user or the video, one whose name
            is nearly that of a role nothing else was taken for, or one of portions that look like
            percents, or of percents that look like portions.
    """
    names = reading.names(path)
    found = columns.find(names, columns.LOG, wanted or {}, ("user_id", "video_id"), path)
    columns.no_slips(names, columns.LOG, found, wanted or {}, path)
    taken = list(dict.fromkeys(found.values()))
    good, bad, unit, mapping, times = [], [], None, {}, frozenset()
    for frame, unparsable in reading.pieces(path, taken):
        cleaned = cleaning.piece(frame, path, found, unit=unit)
        good.append(cleaned.good.cast({ROW: pl.UInt32}))
        bad += [unparsable, cleaned.bad]
        unit, mapping = cleaned.unit, cleaned.mapping
        times |= cleaned.times
    whole = pl.concat(good, how="diagonal", rechunk=False)
    _no_mistaken_portions(whole, found, wanted or {}, path)
    events, copies = _once(whole, path)
    events = events.with_columns(order=pl.int_range(pl.len(), dtype=pl.Int64))
    unused = [name for name in names if name not in taken]
    return Log(events, pl.concat([*bad, copies]), cleaning.timed(mapping, times), unused)


def _no_mistaken_portions(
    events: pl.DataFrame, found: Mapping[str, str], wanted: Mapping[str, str], path: Path
) -> None:
    """Refuse shares that look like percents and percents that look like shares, unless the caller
    says that the column is what it is taken for.

    Raises:
        BadData: naming the column, one of its values, and how to say what it is.
    """
    role = next((role for role in ("value", "percent") if role in found), None)
    if role is None or role in wanted:
        return
    column, scale = found[role], 100 if role == "percent" else 1
    said = events.filter(pl.col("event") == "watch")["value"].drop_nulls() * scale
    many, few = said.filter(said > MOST_PORTION), said.filter(said > 0)
    if role == "value" and 2 * len(many) > len(said) and (many <= 100).all():
        raise BadData(
            f"{path}: most values of {column!r} are above {MOST_PORTION}, such as {many[0]:g}, and "
            f"a portion is a share of 1. Is it percent? --map percent={column}. Is it seconds? "
            f"--map watch_time={column}. Is it shares of 1 all the same? --map value={column}"
        )
    if role == "percent" and len(few) and not len(many):
        raise BadData(
            f"{path}: no value of {column!r} is above {MOST_PORTION}, such as {few[0]:g}. Is it "
            f"shares of 1? --map value={column}. Is it percent all the same? --map percent={column}"
        )


def _once(events: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Each event once, without `__row`; and later copies of the same event as `QUARANTINE`.

    Copies agree in everything, time included: without a time they may be views of another day.
    """
    suspects = _alike(events)
    rows = events[suspects].with_row_index("place")
    later = rows.filter(~pl.struct(SAME).is_first_distinct())
    if not later.height:
        return events.drop(ROW), pl.DataFrame(schema=QUARANTINE)
    copies = later.select(
        table=pl.lit("events"),
        id=pl.col("user_id").cast(pl.String),
        place=path.name + ":" + pl.col(ROW).cast(pl.String),
        reason=pl.lit("same event again"),
        detail=pl.lit(None, pl.String),
    )
    stay = np.ones(events.height, bool)
    stay[suspects[later["place"].to_numpy()]] = False
    return events.drop(ROW).filter(pl.Series(stay)), copies.cast(QUARANTINE)


def _alike(events: pl.DataFrame) -> np.ndarray:
    """Places of timed events that share user, video and time with another one."""
    if not events["timestamp"].count():
        return np.zeros(0, np.int64)
    user, video = (events[n].to_physical().to_numpy() for n in ("user_id", "video_id"))
    key = (user.astype(np.uint64) << np.uint64(32)) | video
    key *= ODD[0]
    key ^= key >> np.uint64(29)
    key += events["timestamp"].fill_null(-1.0).to_numpy().view(np.uint64)
    key *= ODD[1]
    if pl.Series(key).n_unique() == len(key):  # the usual case, at a third of the cost of sorting
        return np.zeros(0, np.int64)
    ordered = np.sort(key)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    there = np.searchsorted(twice, key).clip(max=len(twice) - 1)
    timed = events["timestamp"].is_not_null().to_numpy()
    return np.flatnonzero((twice[there] == key) & timed)
