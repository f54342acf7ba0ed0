"""The loader of models that learn from who chose what, whatever the order."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int32, Int64
from torch import Tensor

from reelm.data.dataset import Dataset
from reelm.data.preferences import Preferences

REDRAWS = 10  # times an item that the user chose is drawn again


@dataclass(frozen=True)
class PairBatch:
    """Users, an item each of them chose, and items that they did not choose."""

    user: Int[Tensor, "batch"]
    item: Int[Tensor, "batch"]
    negatives: Int[Tensor, "batch negatives"]

    def to(self, device: torch.device) -> "PairBatch":
        """The same on another device."""
        return PairBatch(self.user.to(device), self.item.to(device), self.negatives.to(device))


@dataclass(frozen=True)
class EdgeBatch(PairBatch):
    """Pairs, and edges that were said of some of their users."""

    owner: Int[Tensor, "edges"]
    """The user of each edge."""
    liked: Int[Tensor, "edges"]
    disliked: Int[Tensor, "edges"]
    weight: Float[Tensor, "edges"]

    def to(self, device: torch.device) -> "EdgeBatch":
        """The same on another device."""
        return EdgeBatch(**{name: part.to(device) for name, part in vars(self).items()})


@dataclass(frozen=True)
class MateBatch(PairBatch):
    """Pairs, and for the first of them another item that their user chose too."""

    mate: Int[Tensor, "mates"]
    """The pair's own item where the user chose no other."""
    likes: Bool[Tensor, "mates mates"]
    """Whether the user of a row chose the item of a column: no negative of his."""
    likes_mate: Bool[Tensor, "mates mates"]
    """The same for the mate of a column."""

    def to(self, device: torch.device) -> "MateBatch":
        """The same on another device."""
        return MateBatch(**{name: part.to(device) for name, part in vars(self).items()})


@dataclass(frozen=True)
class Chosen:
    """Who chose what, each pair once, by user and then by item."""

    user: Int64[np.ndarray, "pairs"]
    item: Int32[np.ndarray, "pairs"]
    users: int
    items: int

    @staticmethod
    def of(data: Dataset, rows: Bool[np.ndarray, "interactions"] | None = None) -> "Chosen":
        """All interactions, or these, those of a user with the same item as one."""
        width, which = len(data.items), slice(None) if rows is None else rows
        pair = np.sort(
            data.user[which] * width + data.item[which]
        )  # np.unique hashes: 18 to 60 times as long
        first = np.ones(len(pair), bool)
        first[1:] = pair[1:] != pair[:-1]
        pair = pair[first]
        return Chosen(pair // width, (pair % width).astype(np.int32), len(data.users), width)

    def __len__(self) -> int:
        return len(self.user)

    def holds(
        self, user: Int64[np.ndarray, "*some"], item: Int64[np.ndarray, "*some"]
    ) -> Bool[np.ndarray, "*some"]:
        """Which of these pairs are among them."""
        asked = user * self.items + item
        place = np.searchsorted(self.keys, asked)
        return self.keys[np.minimum(place, len(self) - 1)] == asked

    @cached_property
    def keys(self) -> Int64[np.ndarray, "pairs"]:
        """Each pair as one number, rising; kept, since every batch asks several times."""
        return self.user * self.items + self.item


def pairs(
    data: Dataset, batch_size: int, negatives: int, rng: torch.Generator
) -> Iterator[PairBatch]:
    """One epoch of all pairs of user and item, shuffled by `rng`, each with drawn items.

    Drawn items are some that training saw, evenly, and not among those of the user; only a user
    who chose nearly everything may meet one of his own.
    """
    chosen = Chosen.of(data)
    seen = np.flatnonzero(data.counts)
    order = torch.randperm(len(chosen), generator=rng).numpy()
    for at in range(0, len(order), batch_size):
        rows = order[at : at + batch_size]
        user = chosen.user[rows]
        yield PairBatch(
            torch.from_numpy(user),
            torch.from_numpy(chosen.item[rows].astype(np.int64)),
            torch.from_numpy(_unchosen(chosen, seen, user, negatives, rng)),
        )


def with_edges(
    batch: PairBatch, said: Preferences, share: float, rng: torch.Generator
) -> EdgeBatch:
    """A batch with one edge each for `share` of its rows, or for all whose users have any if these
    are fewer; rows, and the edge of a user who has several, are drawn by `rng`."""
    user = batch.user.numpy()
    first, last = (np.searchsorted(said.user, user, side=side) for side in ("left", "right"))
    having = np.flatnonzero(last > first)
    count = min(round(share * len(user)), len(having))
    rows = having[torch.randperm(len(having), generator=rng).numpy()[:count]]
    place = torch.rand(count, generator=rng).numpy()
    edge = said.take(first[rows] + (place * (last - first)[rows]).astype(np.int64))
    parts = map(torch.from_numpy, (edge.user, edge.liked, edge.disliked, edge.weight))
    return EdgeBatch(batch.user, batch.item, batch.negatives, *parts)


def with_mates(batch: PairBatch, chosen: Chosen, count: int, rng: torch.Generator) -> MateBatch:
    """A batch with mates for its first `count` rows, drawn by `rng`."""
    user = batch.user.numpy()[:count]
    item = batch.item.numpy()[:count]
    first, last = (np.searchsorted(chosen.user, user, side=side) for side in ("left", "right"))
    others = np.maximum(last - first - 1, 1)
    place = first + (torch.rand(len(user), generator=rng).numpy() * others).astype(np.int64)
    own = (
        chosen.item[np.minimum(place, last - 1)] >= item
    )  # items of a user rise: step over his own
    mate = chosen.item[np.minimum(place + own, last - 1)].astype(np.int64)
    columns = np.broadcast_to(user[:, None], (len(user), len(user)))
    likes = [
        torch.from_numpy(chosen.holds(columns, np.broadcast_to(items, columns.shape)))
        for items in (item, mate)
    ]
    return MateBatch(batch.user, batch.item, batch.negatives, torch.from_numpy(mate), *likes)


def _unchosen(
    chosen: Chosen,
    seen: Int64[np.ndarray, "seen"],
    user: Int64[np.ndarray, "batch"],
    negatives: int,
    rng: torch.Generator,
) -> Int64[np.ndarray, "batch negatives"]:
    def draw(count: int) -> np.ndarray:
        return seen[torch.randint(len(seen), (count,), generator=rng).numpy()]

    drawn, owner = draw(len(user) * negatives), user.repeat(negatives)
    wrong = np.arange(len(drawn))
    for _ in range(REDRAWS):
        wrong = wrong[chosen.holds(owner[wrong], drawn[wrong])]
        if not len(wrong):
            break
        drawn[wrong] = draw(len(wrong))
    return drawn.reshape(len(user), negatives)
