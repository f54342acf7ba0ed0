"""The shapes a model can learn from, and the loader of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from reelm.data import augment
from reelm.data.augment import Repeat
from reelm.data.dataset import Dataset
from reelm.data.exposures import Exposures
from reelm.data.packing import offsets

Weigh = Literal["batch", "place", "user", "portion"]
Window = Literal["newest", "all"]

BUCKET = 32  # batches that are sorted by length together, so that little of each is padding
PLACES = 6400  # of a batch that a processor learns from at once: bounds the memory of a step


@dataclass(frozen=True)
class SequenceBatch:
    """Histories and, at every place, the item that came next; padding is 0 and on the left."""

    history: Int[Tensor, "batch length"]
    next_item: Int[Tensor, "batch length"]
    """0 where there is nothing to learn."""
    weight: Float[Tensor, "batch length"] | None = None
    """What each place counts in the loss; None if all count alike."""
    part: Int[Tensor, "batch length"] | None = None
    """Places see only those of their own part; None if a row is one part."""
    when: Float64[Tensor, "batch length"] | None = None
    """When the next item was chosen, seconds since 1970; NaN where the log does not say."""
    share: float = 1.0
    """What the batch counts, beside the mean batch of the epoch."""
    user: Int[Tensor, "batch"] | None = None
    """Whose histories these are."""

    def to(self, device: torch.device) -> "SequenceBatch":
        """The same on another device."""
        rest = (self.weight, self.part, self.when)
        moved = (t if t is None else t.to(device) for t in rest)
        user = None if self.user is None else self.user.to(device)
        return SequenceBatch(
            self.history.to(device), self.next_item.to(device), *moved, share=self.share, user=user
        )

    def pieces(self, most: int = PLACES) -> list["SequenceBatch"]:
        """Runs of rows with about `most` places, one at least; their losses add up to the batch's.

        A piece is as long as its own longest row. One in which nothing counts is left out.
        """
        count = -(-self.history.numel() // most)
        counts = self.next_item != 0 if self.weight is None else self.weight
        whole = float(counts.sum())
        if count < 2 or not whole:
            return [self]
        rows = torch.arange(len(self.history)).chunk(count)
        shares = [float(counts[some].sum()) / whole for some in rows]
        return [self._piece(some, share) for some, share in zip(rows, shares, strict=True) if share]

    def _piece(self, rows: Int[Tensor, "rows"], share: float) -> "SequenceBatch":
        taken = slice(int(rows[0]), int(rows[-1]) + 1)
        empty = int((self.history[taken] != 0).any(0).int().argmax())  # columns before the first
        rest = (self.weight, self.part, self.when)
        cut = (None if field is None else field[taken, empty:] for field in rest)
        history, following = self.history[taken, empty:], self.next_item[taken, empty:]
        user = None if self.user is None else self.user[taken]
        return SequenceBatch(history, following, *cut, share=self.share * share, user=user)


@dataclass(frozen=True)
class ExposureBatch:
    """Places with their labels; padding of histories is 0 and on the left."""

    user: Int[Tensor, "batch"]
    history: Int[Tensor, "batch length"]
    item: Int[Tensor, "batch"]
    label: Float[Tensor, "batch"]

    def to(self, device: torch.device) -> "ExposureBatch":
        """The same on another device."""
        parts = (self.user, self.history, self.item, self.label)
        return ExposureBatch(*(part.to(device) for part in parts))


def sequences(  # noqa: PLR0913 - every choice of how histories become batches, in one place
    data: Dataset,
    batch_size: int,
    max_length: int,
    rng: torch.Generator,
    window: Window = "newest",
    fill: tuple[Repeat, Weigh] = ("no", "batch"),
    after: Int64[np.ndarray, "users"] | None = None,
) -> Iterator[SequenceBatch]:
    """One epoch of all users with two interactions or more, shuffled by `rng`.

    Histories of like length share a batch, and a batch is as long as its longest history, at most
    `max_length`.

    Args:
        window: what becomes of longer histories. newest: the newest interactions are used; all:
            they are cut into pieces, at other places in each epoch, and each is a row.
        fill: what is put into places that a short history leaves empty, see data.augment; and
            what counts alike in the loss. batch: every batch, and every place of a batch; place:
            every place of the epoch; user: every row; portion: a place counts as much as was
            watched of its target, 0..1.
        after: so many of each user's first interactions are read and never targets.
    """
    repeat, weigh = fill
    users = np.flatnonzero(np.diff(data.offsets) >= 2)
    start, size = _pieces(data.offsets[users], data.offsets[users + 1] - 1, max_length, window, rng)
    before = offsets((taught := _taught(data, after)).astype(np.int64))
    if after is not None:  # without what has nothing to teach
        kept = before[start + size + 1] > before[start + 1]
        start, size = start[kept], size[kept]
    if not len(start):
        return
    drawn = torch.randperm(len(start), generator=rng).numpy()
    start, size = start[drawn], size[drawn]
    taken = augment.filled(size, max_length, repeat, rng)
    order = np.lexsort((taken, np.arange(len(taken)) // (BUCKET * batch_size)))
    parts = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]

    def placed(rows: np.ndarray) -> tuple[augment.Places, np.ndarray, np.ndarray]:
        """Places of these rows, what follows each, and which are learned from."""
        where = augment.places(start[rows], size[rows], taken[rows], repeat)
        following = np.where(where.real, where.source + 1, 0)
        return where, following, where.real & taught[following]

    shares = np.ones(len(parts))
    if weigh == "place":
        those = (augment.learned(start[r], size[r], taken[r], repeat, before) for r in parts)
        counts = np.array([learned.sum() for learned in those])
        shares = counts / counts.mean()
    for part in torch.randperm(len(parts), generator=rng).tolist():
        rows, (where, following, learned) = parts[part], placed(parts[part])
        yield SequenceBatch(
            _taken(data.item, where.source, where.real),
            _taken(data.item, following, learned),
            _weights(data, where, learned, weigh),
            torch.from_numpy(where.part) if repeat == "isolated" else None,
            torch.from_numpy(data.time[following]),
            share=float(shares[part]),
            user=torch.from_numpy(np.searchsorted(data.offsets, start[rows], "right") - 1),
        )


def _taught(
    data: Dataset, after: Int64[np.ndarray, "users"] | None
) -> Bool[np.ndarray, "interactions"]:
    """Which interactions may be targets."""
    if after is None:
        return np.ones(len(data), bool)
    return np.arange(len(data)) >= np.repeat(data.offsets[:-1] + after, np.diff(data.offsets))


def _pieces(
    start: np.ndarray, stop: np.ndarray, max_length: int, window: Window, rng: torch.Generator
) -> tuple[Int64[np.ndarray, "pieces"], Int64[np.ndarray, "pieces"]]:
    """First place and length of the pieces of the histories start[u]:stop[u]."""
    whole = stop - start
    if window == "newest":
        size = np.minimum(whole, max_length)
        return stop - size, size
    phase = torch.randint(1, max_length + 1, (len(start),), generator=rng).numpy()
    newest = np.where(whole > max_length, np.minimum(phase, whole), whole)
    pieces = 1 + -(-(whole - newest) // max_length)  # the newest one, and full ones before it
    back = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    last = np.repeat(stop - newest, pieces) - np.maximum(back - 1, 0) * max_length
    length = np.where(back == 0, np.repeat(newest, pieces), max_length)
    first = np.maximum(np.where(back == 0, last, last - max_length), np.repeat(start, pieces))
    return first, np.where(back == 0, length, last - first)


def _taken(item: np.ndarray, place: np.ndarray, real: np.ndarray) -> Int64[Tensor, "batch length"]:
    return torch.from_numpy(np.where(real, item[np.where(real, place, 0)], 0).astype(np.int64))


def _weights(
    data: Dataset, where: augment.Places, learned: np.ndarray, weigh: Weigh
) -> Float[Tensor, "batch length"] | None:
    if weigh in ("batch", "place"):
        return None
    if weigh == "user":
        weight = learned / learned.sum(1, keepdims=True).clip(min=1)
    else:
        portion = data.value[np.where(learned, where.source + 1, 0)]
        weight = np.where(learned, np.clip(portion, 0, 1), 0)
    return torch.from_numpy(weight.astype(np.float32))


def exposed(
    shown: Exposures, batch_size: int, max_length: int | None, rng: torch.Generator | None = None
) -> Iterator[ExposureBatch]:
    """All places once, shuffled by `rng` or as they lie; of histories the newest `max_length`, or
    all of them."""
    count = len(shown)
    order = np.arange(count) if rng is None else torch.randperm(count, generator=rng).numpy()
    for at in range(0, count, batch_size):
        rows = order[at : at + batch_size]
        yield ExposureBatch(
            torch.from_numpy(shown.user[rows]),
            padded(shown.past, shown.start[rows], shown.stop[rows], max_length),
            torch.from_numpy(shown.item[rows].astype(np.int64)),
            torch.from_numpy(shown.label[rows]),
        )


def padded(
    item: np.ndarray,
    start: Int64[np.ndarray, "batch"],
    stop: Int64[np.ndarray, "batch"],
    max_length: int | None = None,
) -> Int[Tensor, "batch length"]:
    """Slices of a packed array as rows: newest item in the last column, zeros to the left.

    As wide as the longest slice or `max_length`, whichever is less, and at least 1.
    """
    longest = int((stop - start).max(initial=1))
    length = min(longest, max_length or longest)
    place = stop[:, None] - length + np.arange(length)
    real = place >= start[:, None]
    rows = np.zeros(place.shape, np.int64)
    rows[real] = item[place[real]]
    return torch.from_numpy(rows)
