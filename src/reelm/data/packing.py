"""Events into packed arrays: ids become rows, histories lie one behind the other, oldest first.

Nothing here is made per user: every step is one pass over whole columns. Ten million events take
about half a gigabyte on the way and 20 bytes each in the end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float32, Float64, Int8, Int32, Int64, UInt32
from pydantic import NonNegativeFloat, NonNegativeInt

from reelm.config import Config
from reelm.errors import BadData

SPLITS = {"train": 0, "valid": 1, "test": 2}
POSITIVE = ("like", "share", "comment", "follow", "favorite", "rating", "interaction")
COLUMNS = ("user_id", "video_id", "event", "value", "timestamp", "split", "order", "rating")
"""What is looked at of an event."""
NO_SPLIT = -1
REFUSED = -1.0  # value of what was shown and not liked; of several at once the largest counts

Rows = Int32[np.ndarray, "interactions"]
Places = Int64[np.ndarray, "interactions"]


class DatasetConfig(Config):
    """Section [dataset]: which events count as interactions."""

    min_portion: NonNegativeFloat = 0.5
    """A watch counts when at least this share of the video was watched, 0..1."""
    positive: tuple[str, ...] = POSITIVE
    """Kinds of event that count whatever their value is."""
    rating_above: float | None = None
    """A rating counts only if it is above this, as 3 is for CTR models on MovieLens; one without
    stars is left out. Unset, every rating counts."""
    exposures: bool = False
    """Whether all other events are kept too, as videos that were shown and not liked: what models
    that rate single places learn from (docs/ctr.md). min_user and min_item then count both."""
    min_user: NonNegativeInt = 0
    """Interactions a user must have. Users and videos with fewer are left out, again and again
    until all that stay have enough (the k-core of the papers); 0 keeps everybody."""
    min_item: NonNegativeInt = 0
    """Interactions a video must have. Above 0, videos that nobody watched are left out too."""


@dataclass(frozen=True)
class Packed:
    """A log by rows; `Dataset` says what the arrays mean."""

    users: Sequence[str]
    items: Sequence[str]
    """The empty id first."""
    offsets: Int64[np.ndarray, "ends"]
    item: Rows
    time: Float64[np.ndarray, "interactions"]
    value: Float32[np.ndarray, "interactions"]
    split: Int8[np.ndarray, "interactions"] | None
    uploaded: Float64[np.ndarray, "items"] | None
    removed: dict[str, int]
    """How many of what were left out: `repeats` of the video before; then interactions, users
    and videos that had too few (`min_user`, `min_item`)."""
    exposures: bool = False
    """Whether what was shown and not liked is there too, with the value `REFUSED`."""


@dataclass(frozen=True)
class _Log:
    """Interactions as columns; users and videos as numbers of some kind."""

    user: np.ndarray
    video: np.ndarray
    time: Float64[np.ndarray, "interactions"]
    """NaN where unknown."""
    value: Float32[np.ndarray, "interactions"]
    """NaN for what is no watch."""
    split: Int8[np.ndarray, "interactions"]
    place: Places | None

    def take(self, rows: np.ndarray) -> "_Log":
        """These rows, in this order (or under this mask)."""
        return _Log(
            user=self.user[rows],
            video=self.video[rows],
            time=self.time[rows],
            value=self.value[rows],
            split=self.split[rows],
            place=None if self.place is None else self.place[rows],
        )


class _Ids:
    """Strings to numbers from 0, the same ones for every piece of a log."""

    def __init__(self) -> None:
        self._kind = pl.Categorical(pl.Categories.random())
        self._held = pl.Series(dtype=self._kind)  # numbers are forgotten with their last series
        self._names = pl.Series(dtype=pl.String)

    def codes(self, ids: pl.Series) -> UInt32[np.ndarray, "ids"]:
        """One number for each id; the next one for each new id."""
        if ids.dtype == pl.Categorical and len(ids):  # numbered already: text of each id once
            numbers, distinct = ids.to_physical().to_numpy(), ids.unique()
            own = np.zeros(int(numbers.max()) + 1, np.uint32)
            own[distinct.to_physical().to_numpy()] = self.codes(distinct.cast(pl.String))
            return own[numbers]
        ids = ids.cast(pl.String)
        codes = ids.cast(self._kind).to_physical().to_numpy()
        known, size = len(self._names), int(codes.max(initial=0)) + 1 if len(codes) else 0
        if size > known:
            place = np.flatnonzero(codes >= known)
            first = np.full(size - known, len(codes))
            np.minimum.at(first, codes[place] - np.uint32(known), place)
            self._names = pl.concat([self._names, ids.gather(first)], rechunk=True)
        return codes

    def names(self, codes: np.ndarray) -> list[str]:
        """The ids of numbers."""
        return self._names.gather(codes).to_list()


def pack(
    frames: Iterable[pl.DataFrame],
    videos: pl.DataFrame | Sequence[str] | None,
    config: DatasetConfig,
) -> Packed:
    """Pack the interactions among the events of `frames`, which are the pieces of one log.

    Users are in the order of their first interaction; items in that of `videos`, then in that of
    the first interaction.

    Raises:
        BadData: an event without its ids, a split that is not train, valid or test, or a video
            that is listed twice.
    """
    users, ids = _Ids(), _Ids()
    known, at = _listed(videos)
    ids.codes(known)  # listed videos come first
    log = _collected(frames, config, users, ids)
    order = _in_time(log)
    user_row, user_codes = _first_come(log.user[order], 0)
    item_row, item_codes = _first_come(log.video[order], len(known))
    row = user_row[log.user[order]]
    log = log.take(order[by_digits(row.view(np.uint32))])
    log = replace(log, user=user_row[log.user], video=item_row[log.video] + 1, place=None)
    log, repeats = _folded(log)
    uploaded = _uploaded(at, len(item_codes))
    packed = Packed(
        users=users.names(user_codes),
        items=["", *ids.names(item_codes)],
        offsets=offsets(np.bincount(log.user, minlength=len(user_codes))),
        item=log.video,
        time=log.time,
        value=np.nan_to_num(log.value, copy=False, nan=1.0),
        split=_split(log.split),
        uploaded=uploaded,
        removed={"repeats": repeats} if repeats else {},
        exposures=config.exposures,
    )
    return core(packed, config.min_user, config.min_item)


def core(packed: Packed, min_user: int, min_item: int) -> Packed:
    """What is left when users and items with too few interactions go, until none has too few."""
    if not min_user and not min_item:
        return packed
    user = np.repeat(np.arange(len(packed.users), dtype=np.int32), np.diff(packed.offsets))
    left = np.arange(len(user))
    while True:
        few_user = np.bincount(user[left], minlength=len(packed.users)) < min_user
        few_item = np.bincount(packed.item[left], minlength=len(packed.items)) < min_item
        few = few_user[user[left]] | few_item[packed.item[left]]
        if not few.any():
            break
        left = left[~few]
    return _kept(packed, user, left, min_item)


def offsets(sizes: np.ndarray) -> Int64[np.ndarray, "ends"]:
    """Where parts of these sizes begin, and where the last one ends."""
    ends = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=ends[1:])
    return ends


def by_digits(keys: np.ndarray) -> Places:
    """The stable order of unsigned numbers.

    Where they leave enough of 64 bits free their places are written behind them and all is sorted
    at once, in a third of the time; else they are sorted digit by digit of 16 bits from the right.
    """
    if len(keys) and int(keys.max() - keys.min()) < 2**64 // len(keys) // 2:
        bits = np.uint64(len(keys).bit_length())
        packed = (keys - keys.min()).astype(np.uint64) << bits
        packed |= np.arange(len(keys), dtype=np.uint64)
        packed.sort()
        packed &= (np.uint64(1) << bits) - np.uint64(1)
        return packed.view(np.int64)
    order = np.arange(len(keys))
    for shift in range(0, keys.dtype.itemsize * 8, 16):
        digit = (keys >> keys.dtype.type(shift)).astype(np.uint16)
        if len(digit) and (digit != digit[0]).any():
            order = order[np.argsort(digit[order], kind="stable")]
    return order


def _kept(packed: Packed, user: Rows, left: Int64[np.ndarray, "left"], min_item: int) -> Packed:
    """The interactions `left`, their users, and the items among them (all, if `min_item` is 0)."""
    stay = np.bincount(user[left], minlength=len(packed.users)) > 0
    item_stays = np.bincount(packed.item[left], minlength=len(packed.items)) >= min_item
    item_stays[0] = True  # padding
    row = np.cumsum(item_stays, dtype=np.int32) - 1
    gone = {
        "interactions": len(user) - len(left),
        "users": int((~stay).sum()),
        "videos": int((~item_stays).sum()),
    }
    sizes = np.bincount(user[left], minlength=len(packed.users))[stay]
    return Packed(
        users=list(compress(packed.users, stay)),
        items=list(compress(packed.items, item_stays)),
        offsets=offsets(sizes),
        item=row[packed.item[left]],
        time=packed.time[left],
        value=packed.value[left],
        split=None if packed.split is None else packed.split[left],
        uploaded=None if packed.uploaded is None else packed.uploaded[item_stays],
        removed=packed.removed | {name: count for name, count in gone.items() if count},
        exposures=packed.exposures,
    )


def _collected(
    frames: Iterable[pl.DataFrame], config: DatasetConfig, users: _Ids, ids: _Ids
) -> _Log:
    """The interactions among the events of all pieces, in the order of the log."""
    parts = [_interactions(frame, config, users, ids) for frame in frames]
    columns: dict[str, Any] = {}
    for name in ("user", "video", "time", "value", "split", "place"):
        pieces = [part.pop(name) for part in parts]  # so that each column is held twice by itself
        there = [piece for piece in pieces if piece is not None]
        columns[name] = np.concatenate(there) if len(there) == len(pieces) else None
    return _Log(**columns)


def _interactions(
    frame: pl.DataFrame, config: DatasetConfig, users: _Ids, ids: _Ids
) -> dict[str, np.ndarray | None]:
    """The columns of `_Log` for the events of one piece that count."""
    has = set(frame.columns)
    given = pl.repeat(1.0, pl.len())
    if "value" in has:  # NaN is unknown; compared, it would be more than any number
        given = pl.col("value").cast(pl.Float64).fill_nan(None)
    if "event" in has:
        watch = (pl.col("event") == "watch").fill_null(False)
        counts = watch & (given >= config.min_portion)
        counts |= pl.col("event").is_in(list(config.positive))
        value = pl.when(watch).then(given)
        if config.rating_above is not None:
            stars = pl.col("rating") if "rating" in has else pl.lit(None)
            stars = stars.cast(pl.Float64).fill_nan(None)
            counts &= (pl.col("event") != "rating") | (stars > config.rating_above)
            given = pl.when(pl.col("event") == "rating").then(stars).otherwise(given)
    else:
        counts, value = given >= config.min_portion, given
    if config.exposures:
        liked = counts.fill_null(False)
        value = pl.when(liked).then(value.fill_null(1.0)).otherwise(pl.lit(REFUSED))
        counts = liked | given.is_not_null()  # what nobody measured was not refused
    frame = frame.select(*(n for n in COLUMNS if n in has), __value=value.cast(pl.Float32))
    frame = frame.filter(counts.fill_null(False))
    if frame["user_id"].null_count() or frame["video_id"].null_count():
        raise BadData("an event lacks its user_id or video_id; every event needs both.")
    return {
        "user": users.codes(frame["user_id"]),
        "video": ids.codes(frame["video_id"]),
        "time": _floats(frame, "timestamp"),
        "value": frame["__value"].fill_null(float("nan")).to_numpy(),
        "split": _numbered_splits(frame),
        "place": frame["order"].cast(pl.Int64).to_numpy() if "order" in has else None,
    }


def _floats(frame: pl.DataFrame, name: str) -> Float64[np.ndarray, "interactions"]:
    if name not in frame.columns:
        return np.full(frame.height, np.nan)
    return frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _numbered_splits(frame: pl.DataFrame) -> Int8[np.ndarray, "interactions"]:
    """0, 1, 2 by name, and `NO_SPLIT` where there is none."""
    if "split" not in frame.columns or frame["split"].null_count() == frame.height:
        return np.full(frame.height, NO_SPLIT, np.int8)
    names = frame["split"].cast(pl.String)
    wrong = set(names.unique().drop_nulls()) - set(SPLITS)
    if wrong:
        raise _unknown_split(*sorted(map(repr, wrong)))
    numbers = names.replace_strict(SPLITS, return_dtype=pl.Int8)
    return numbers.fill_null(NO_SPLIT).to_numpy()


def _split(numbers: Int8[np.ndarray, "interactions"]) -> Int8[np.ndarray, "interactions"] | None:
    """The split that every interaction has; None if there is none.

    Raises:
        BadData: some have one and some have not.
    """
    without = numbers == NO_SPLIT
    if without.all():
        return None
    if without.any():
        raise _unknown_split(f"None in {int(without.sum()):,} rows")
    return numbers


def _unknown_split(*said: str) -> BadData:
    return BadData(f"column split: {', '.join(said)}; every row must say train, valid or test.")


def _in_time(log: _Log) -> Places:
    """The order of time, then of `order`, then of the log; without time if one is not known."""
    order = np.arange(len(log.time))
    if log.place is not None and (np.diff(log.place) < 0).any():
        order = np.argsort(log.place, kind="stable")
    time = log.time[order]
    if np.isnan(time).any() or (np.diff(time) >= 0).all():
        return order
    if time.min() < 0:
        return order[np.argsort(time, kind="stable")]
    whole = time.astype(np.uint64) if time.max() < 2**63 else None
    if whole is not None and (whole == time).all():  # seconds leave room for places behind them
        return order[by_digits(whole)]
    return order[
        by_digits((time + 0.0).view(np.uint64))
    ]  # bits of floats from 0 on sort as they do


def _first_come(
    codes: UInt32[np.ndarray, "interactions"], listed: int
) -> tuple[Int32[np.ndarray, "codes"], Int64[np.ndarray, "rows"]]:
    """Rows by code and codes by row: codes below `listed` first, others as they appear."""
    size = int(max(listed, codes.max(initial=0) + 1)) if len(codes) else listed
    first = np.full(size, len(codes), np.int64)
    np.minimum.at(first, codes, np.arange(len(codes)))
    later = listed + np.flatnonzero(first[listed:] < len(codes))
    by_row = np.concatenate([np.arange(listed), later[np.argsort(first[later])]])
    rows = np.full(size, -1, np.int32)
    rows[by_row] = np.arange(len(by_row), dtype=np.int32)
    return rows, by_row


def _folded(log: _Log) -> tuple[_Log, int]:
    """The same video twice in a row for one user (a watch and its like) is one interaction, with
    the larger portion, unless the source's own split parts the two; also says how many were
    folded into others."""
    again = np.zeros(len(log.user), bool)
    again[1:] = (log.user[1:] == log.user[:-1]) & (log.video[1:] == log.video[:-1])
    again[1:] &= log.split[1:] == log.split[:-1]
    repeats = int(again.sum())
    if not repeats:
        return log, 0
    start = np.flatnonzero(~again)
    value = np.fmax.reduceat(log.value, start)
    return replace(log.take(start), value=value), repeats


def _listed(
    videos: pl.DataFrame | Sequence[str] | None,
) -> tuple[pl.Series, pl.Series | None]:
    """Ids of the catalogue's videos, and when they were uploaded if it says so."""
    if isinstance(videos, pl.DataFrame):
        known = videos["video_id"].cast(pl.String)
        at = videos["uploaded_at"] if "uploaded_at" in videos.columns else None
    else:
        known, at = pl.Series("video_id", list(videos or ()), dtype=pl.String), None
    if known.n_unique() != len(known):
        twice = known.filter(known.is_duplicated())[0]
        raise BadData(f"the catalogue lists the video {twice!r} more than once.")
    return known, at


def _uploaded(at: pl.Series | None, items: int) -> Float64[np.ndarray, "items"] | None:
    """Upload times by item row; NaN for padding and for videos that only the log knows."""
    if at is None:
        return None
    uploaded = np.full(items + 1, np.nan)
    uploaded[1 : len(at) + 1] = at.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return uploaded
