"""The shapes a model can learn from, and the loader of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from reelm.data import augment
from reelm.data.augment import Repeat
from reelm.data.dataset import Dataset

Weigh = Literal["place", "user", "portion"]

BUCKET = 32  # batches that are sorted by length together, so that little of each is padding


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

    def to(self, device: torch.device) -> "SequenceBatch":
        """The same on another device."""
        weight, part = (t if t is None else t.to(device) for t in (self.weight, self.part))
        return SequenceBatch(self.history.to(device), self.next_item.to(device), weight, part)


def sequences(
    data: Dataset,
    batch_size: int,
    max_length: int,
    rng: torch.Generator,
    repeat: Repeat = "no",
    weigh: Weigh = "place",
) -> Iterator[SequenceBatch]:
    """One epoch: each user with two interactions or more once, shuffled by `rng`.

    Users of like length share a batch, and a batch is as long as its longest history, at most
    `max_length`; of longer histories the newest interactions are used.

    Args:
        repeat: what is put into places that a short history leaves empty; see data.augment.
        weigh: place: every place counts alike; user: every user does; portion: a place counts
            as much as was watched of its target, 0..1.
    """
    users = np.flatnonzero(np.diff(data.offsets) >= 2)
    if not len(users):
        return
    users = users[torch.randperm(len(users), generator=rng).numpy()]
    size = np.minimum(np.diff(data.offsets)[users] - 1, max_length)
    start = data.offsets[users + 1] - 1 - size
    taken = augment.filled(size, max_length, repeat, rng)
    pool = np.arange(len(users)) // (BUCKET * batch_size)
    order = np.lexsort((taken, pool))
    parts = range(0, len(order), batch_size)
    for part in torch.randperm(len(parts), generator=rng).tolist():
        rows = order[parts[part] : parts[part] + batch_size]
        where = augment.places(start[rows], size[rows], taken[rows], repeat)
        yield SequenceBatch(
            _taken(data.item, where.source, where.real),
            _taken(data.item, where.source + 1, where.real),
            _weights(data, where, size[rows], weigh),
            torch.from_numpy(where.part) if repeat == "isolated" else None,
        )


def _taken(item: np.ndarray, place: np.ndarray, real: np.ndarray) -> Int64[Tensor, "batch length"]:
    return torch.from_numpy(np.where(real, item[np.where(real, place, 0)], 0).astype(np.int64))


def _weights(
    data: Dataset, where: augment.Places, size: np.ndarray, weigh: Weigh
) -> Float[Tensor, "batch length"] | None:
    if weigh == "place":
        return None
    if weigh == "user":
        weight = where.real / size[:, None]
    else:
        portion = data.value[np.where(where.real, where.source + 1, 0)]
        weight = np.where(where.real, np.clip(portion, 0, 1), 0)
    return torch.from_numpy(weight.astype(np.float32))


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
