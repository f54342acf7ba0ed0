"""The shapes a model can learn from, and the loader of each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from reelm.data.dataset import Dataset

BUCKET = 32  # batches that are sorted by length together, so that little of each is padding


@dataclass(frozen=True)
class SequenceBatch:
    """Histories and, at every place, the item that came next; padding is 0 and on the left."""

    history: Int[Tensor, "batch length"]
    next_item: Int[Tensor, "batch length"]

    def to(self, device: torch.device) -> "SequenceBatch":
        """The same on another device."""
        return SequenceBatch(self.history.to(device), self.next_item.to(device))


def sequences(
    data: Dataset, batch_size: int, max_length: int, rng: torch.Generator
) -> Iterator[SequenceBatch]:
    """One epoch: each user with two interactions or more once, shuffled by `rng`.

    Users of like length share a batch, and a batch is as long as its longest history, at most
    `max_length`; of longer histories the newest interactions are used.
    """
    size = np.diff(data.offsets)
    users = np.flatnonzero(size >= 2)
    if not len(users):
        return
    users = users[torch.randperm(len(users), generator=rng).numpy()]
    pool = np.arange(len(users)) // (BUCKET * batch_size)
    users = users[np.lexsort((np.minimum(size[users], max_length + 1), pool))]
    parts = range(0, len(users), batch_size)
    for part in torch.randperm(len(parts), generator=rng).tolist():
        rows = users[parts[part] : parts[part] + batch_size]
        whole = padded(data.item, data.offsets[rows], data.offsets[rows + 1], max_length + 1)
        yield SequenceBatch(whole[:, :-1], whole[:, 1:].masked_fill(whole[:, :-1] == 0, 0))


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
