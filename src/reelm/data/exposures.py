"""Exposures: single videos that were shown to somebody, and whether he liked them.

What a dataset calls an interaction is an exposure that was liked. The others are seen by models
that rate a single place, and by nobody else. A place shows what its user had liked before its
moment: neither itself, nor what happened at the same second, nor anything that came later.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int8, Int32, Int64

from reelm.data.packing import Packed, offsets
from reelm.errors import BadData

Places = Int64[np.ndarray, "places"]
Mask = Bool[np.ndarray, "places"]


@dataclass(frozen=True)
class Exposures:
    """Places by user, oldest first; histories are slices of one packed array."""

    user: Places
    item: Int32[np.ndarray, "places"]
    label: Float32[np.ndarray, "places"]
    """1 liked, 0 not."""
    time: Float64[np.ndarray, "places"]
    """Seconds since 1970, UTC; NaN where the log does not say."""
    past: Int32[np.ndarray, "interactions"]
    start: Places
    stop: Places
    """The history of place p is past[start[p]:stop[p]], oldest first."""
    split: Int8[np.ndarray, "places"] | None = None
    """0 train, 1 valid, 2 test, where the source came with a split."""

    def __len__(self) -> int:
        return len(self.user)

    def history(self, place: int) -> Int32[np.ndarray, "length"]:
        """Items the user had liked before, oldest first."""
        return self.past[self.start[place] : self.stop[place]]

    def take(self, rows: Mask | Int64[np.ndarray, "some"]) -> "Exposures":
        """These places only, in this order."""
        columns = ("user", "item", "label", "time", "start", "stop")
        split = None if self.split is None else self.split[rows]
        return replace(self, split=split, **{name: getattr(self, name)[rows] for name in columns})

    def among(self, rows: Mask, kept: Bool[np.ndarray, "interactions"]) -> "Exposures":
        """These places only, with histories of the interactions `kept` only."""
        before = offsets(kept.astype(np.int64))
        some = self.take(rows)
        where = {"start": before[some.start], "stop": before[some.stop]}
        return replace(some, past=self.past[kept], **where)

    def digest(self) -> bytes:
        """Changes with any place, its label, its time, its history, or the source's split."""
        seen = hashlib.sha256()
        arrays = [self.user, self.item, self.label, self.time, self.past, self.start, self.stop]
        for array in (*arrays, *([] if self.split is None else [self.split])):
            seen.update(np.ascontiguousarray(array).data)
        return seen.digest()


def parted(packed: Packed) -> tuple[Packed, Exposures]:
    """The interactions of a log that holds exposures too, and the exposures, by the same rows.

    Users who liked nothing keep their row; their histories are empty.
    """
    liked = packed.value >= 0
    user = np.repeat(np.arange(len(packed.users)), np.diff(packed.offsets))
    ends = offsets(np.bincount(user[liked], minlength=len(packed.users)))
    before = offsets(liked.astype(np.int64))[_moment(user, packed.time)]
    shown = Exposures(
        user, packed.item, liked.astype(np.float32), packed.time,
        packed.item[liked], ends[:-1][user], before, packed.split,
    )  # fmt: skip
    split = None if packed.split is None else packed.split[liked]
    columns = {name: getattr(packed, name)[liked] for name in ("item", "time", "value")}
    return replace(packed, offsets=ends, split=split, exposures=False, **columns), shown


def parts(shown: Exposures, valid_at: float, test_at: float) -> Int8[np.ndarray, "places"]:
    """0, 1, 2 for places before validation begins, before the test begins, and from there on.

    Raises:
        BadData: a place has no time.
    """
    timeless = int(np.isnan(shown.time).sum())
    if timeless:
        raise BadData(
            f"a split by time needs the time of every exposure, and {timeless:,} that were not "
            "liked have none. Leave these events out, or give a column split."
        )
    return (shown.time >= valid_at).astype(np.int8) + (shown.time >= test_at).astype(np.int8)


def _moment(user: Places, time: Float64[np.ndarray, "places"]) -> Places:
    """For each place the first one of its user at the same moment: where its history ends.

    Without times every place is a moment of its own.
    """
    first = np.ones(len(user), bool)
    if not np.isnan(time).any():
        first[1:] = (user[1:] != user[:-1]) | (time[1:] != time[:-1])
    return np.flatnonzero(first)[np.cumsum(first) - 1]
