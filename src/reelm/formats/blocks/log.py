"""Logs of any length: read and cleaned piece by piece, then looked over as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from reelm.formats.base import EVENTS, QUARANTINE
from reelm.formats.blocks import cleaning, columns, reading
from reelm.formats.blocks.reading import ROW

SAME = [name for name in EVENTS if name != "order"]
"""Events that agree in all of these are one event."""
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
        BadData: the file cannot be read, has no column for the user or the video, or one whose
            name is nearly that of a role nothing else was taken for.
    """
    names = reading.names(path)
    found = columns.find(names, columns.LOG, wanted or {}, ("user_id", "video_id"), path)
    columns.no_slips(names, columns.LOG, found, wanted or {}, path)
    taken = list(dict.fromkeys(found.values()))
    good, bad, unit, mapping = [], [], None, {}
    for frame, unparsable in reading.pieces(path, taken):
        cleaned = cleaning.piece(frame, path, found, unit=unit)
        good.append(cleaned.good.cast({ROW: pl.UInt32}))
        bad += [unparsable, cleaned.bad]
        unit = cleaned.unit
        if frame.height or not mapping:
            mapping = cleaned.mapping
    events, copies = _once(pl.concat(good, how="diagonal", rechunk=False), path)
    events = events.with_columns(order=pl.int_range(pl.len(), dtype=pl.Int64))
    return Log(
        events, pl.concat([*bad, copies]), mapping, [name for name in names if name not in taken]
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
