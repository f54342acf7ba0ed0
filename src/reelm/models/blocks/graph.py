"""Sparse graphs that vectors flow along: who chose what, and which items are alike.

A product of a sparse matrix and many short vectors is bound by memory. On a processor
`embedding_bag` is the quickest way that torch or scipy has (benchmarks/bench_graph.py); the
gradient is the product with the transpose, which is kept beside the matrix.
"""

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.data.pairs import Chosen
from reelm.models.blocks.neighbours import nearest

Scale = Literal["symmetric", "mean"]

Rows = tuple[Tensor, Tensor, Tensor]
"""A sparse matrix by rows: where each begins, then column and value of every entry."""

Both = tuple[Rows, Rows]
"""Matrices of the shapes users x items and items x users."""


class Bipartite(nn.Module):
    """Users and the items they chose; vectors flow from one side to the other.

    Each edge is there once and is followed both ways. `symmetric` divides it by the roots of the
    numbers of edges at both ends, `mean` by the number at the end that receives.

    Cost: O(edges * dim) time for each call, and for its gradient; no memory per edge and
    dimension.
    """

    def __init__(self, data: Dataset, scale: Scale = "symmetric") -> None:
        super().__init__()
        chosen = Chosen.of(data)
        self.shape = (chosen.users, chosen.items)
        self.scale = scale
        # Kept with the weights: a run is loaded without the interactions it was trained on.
        self.register_buffer("edge_user", torch.from_numpy(chosen.user.astype(np.int32)))
        self.register_buffer("edge_item", torch.from_numpy(chosen.item.copy()))
        self.edge_user: Tensor
        self.edge_item: Tensor
        self._kept: tuple[Tensor, Both, Both] | None = None

    def to_users(self, items: Float[Tensor, "items dim"]) -> Float[Tensor, "users dim"]:
        """What each user receives from the items he chose."""
        (users, _), (_, items_back) = self.directions()
        return product(users, items_back, items)

    def to_items(self, users: Float[Tensor, "users dim"]) -> Float[Tensor, "items dim"]:
        """What each item receives from the users who chose it."""
        (_, items), (users_back, _) = self.directions()
        return product(items, users_back, users)

    def rows(
        self, users: Int[Tensor, "batch"], items: Int[Tensor, "some"]
    ) -> Float[Tensor, "batch some"]:
        """1 where these users chose these items, 0 elsewhere; no item may be there twice.

        Cost: O(all edges of these users) time.
        """
        starts, column, _ = self.directions()[0][0]
        size = starts[users + 1] - starts[users]
        owner = torch.arange(len(users), device=users.device).repeat_interleave(size)
        first = (starts[users] - size.cumsum(0) + size).repeat_interleave(size)
        item = column[torch.arange(len(owner), device=users.device) + first]
        places = torch.full((self.shape[1],), -1, device=users.device)
        places[items] = torch.arange(len(items), device=users.device)
        place = places[item]
        found = place >= 0
        table = torch.zeros(len(users), len(items), device=users.device)
        table[owner[found], place[found]] = 1.0
        return table

    def dropped(self, share: float) -> "Bipartite":
        """The same graph without a share of its edges, drawn now, and scaled anew.

        An edge is kept with a chance in proportion to its symmetric scale, so that those between
        busy users and popular items go first. Source: Zhou & Shen 2023, arXiv:2211.06924, 3.1.2.
        """
        user, item = self.edge_user, self.edge_item
        count = max(1, round((1 - share) * len(user)))
        weight = (self._degree(user, 0) * self._degree(item, 1)).rsqrt()
        race = torch.empty_like(weight).exponential_() / weight  # the first `count` to arrive
        kept = race.topk(min(count, len(user)), largest=False, sorted=False).indices
        other = Bipartite.__new__(Bipartite)
        nn.Module.__init__(other)
        other.shape, other.scale, other._kept = self.shape, self.scale, None
        other.register_buffer("edge_user", user[kept])
        other.register_buffer("edge_item", item[kept])
        return other

    def _degree(self, end: Int[Tensor, "edges"], side: int) -> Float[Tensor, "edges"]:
        """How many edges each edge's user (side 0) or item (side 1) has."""
        return torch.bincount(end, minlength=self.shape[side]).float()[end.long()]

    def directions(self) -> tuple[Both, Both]:
        """The matrices users x items and items x users; then the transpose of the second and of
        the first, which have their shapes. Where scaling is the same both ways they are the same.
        """
        if self._kept is None or self._kept[0] is not self.edge_user:
            user, item = self.edge_user.long(), self.edge_item.long()
            forth, back = self._values()
            both = (
                by_rows(user, item, forth, self.shape[0]),
                by_rows(item, user, back, self.shape[1]),
            )
            other = both
            if back is not forth:
                other = (
                    by_rows(user, item, back, self.shape[0]),
                    by_rows(item, user, forth, self.shape[1]),
                )
            self._kept = self.edge_user, both, other
        return self._kept[1:]

    def _values(self) -> tuple[Float[Tensor, "edges"], Float[Tensor, "edges"]]:
        """What edges count on the way to users, and to items."""
        by_user, by_item = self._degree(self.edge_user, 0), self._degree(self.edge_item, 1)
        if self.scale == "mean":
            return 1 / by_user, 1 / by_item
        same = (by_user * by_item).rsqrt()
        return same, same


class ItemGraph(nn.Module):
    """Each item with its nearest ones; vectors flow from these to it."""

    def __init__(self, near: Int[Tensor, "items k"], value: Float[Tensor, "items k"]) -> None:
        super().__init__()
        self.register_buffer("near", near)
        self.register_buffer("value", value)
        self.near: Tensor
        self.value: Tensor
        self._kept: tuple[Tensor, Rows, Rows] | None = None

    def forward(self, items: Float[Tensor, "items dim"]) -> Float[Tensor, "items dim"]:
        """What each item receives from its neighbours."""
        if self._kept is None or self._kept[0] is not self.near:
            count, k = self.near.shape
            row = torch.arange(count, device=self.near.device).repeat_interleave(k)
            near, value = self.near.flatten().long(), self.value.flatten()
            real = value != 0
            row, near, value = row[real], near[real], value[real]
            forth, back = by_rows(row, near, value, count), by_rows(near, row, value, count)
            self._kept = (self.near, forth, back)
        return product(self._kept[1], self._kept[2], items)


def by_rows(row: Tensor, column: Tensor, value: Tensor, rows: int) -> Rows:
    """A sparse matrix by rows from the places and values of its entries, fewer than 2^31.

    Places have 32 bits: products take 5 to 20 percent less, sorting half (bench_graph.py).
    """
    row, column = row.int(), column.int()
    order = row.argsort(stable=True)
    starts = F.pad(torch.bincount(row, minlength=rows).cumsum(0), (1, 0)).int()
    return starts, column[order], value[order]


def product(matrix: Rows, transposed: Rows, x: Float[Tensor, "columns dim"]) -> Tensor:
    """matrix @ x, with a gradient for x alone."""
    return _Product.apply(x, matrix, transposed)


def light_propagate(
    graph: Bipartite,
    users: Float[Tensor, "users dim"],
    items: Float[Tensor, "items dim"],
    layers: int,
) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
    """Mean of the vectors given and of those after each of `layers` rounds along the edges.

    0 rounds give back what was given.
    Source: He et al. 2020, "LightGCN", arXiv:2002.02126, equations 3 and 4 with equal weights.
    """
    forth, back = graph.directions()
    return _Rounds.apply(users, items, forth, back, layers)


def alike(table: Float[Tensor, "items raw"], k: int) -> ItemGraph:
    """Each item joined to the `k` items whose features have the largest cosine with its own.

    Edges are 1 / sqrt(neighbours of one * neighbours of the other). Items without a feature have
    no neighbours and are nobody's. Source: Zhang et al. 2021, "LATTICE", arXiv:2104.09036,
    equations 2 to 4, with edges of 0 and 1 as in FREEDOM.
    """
    near, cosine = nearest(table, k)
    real = (cosine > -2).float()
    size = real.sum(1).clamp(min=1)
    return ItemGraph(near, real * (size[:, None] * size[near.long()]).rsqrt())


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Rows, transposed: Rows) -> Tensor:
        ctx.transposed = transposed
        return _times(matrix, x.detach())  # a table that wants a gradient is slower to read

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        return _times(ctx.transposed, above[0].contiguous()), None, None


class _Rounds(torch.autograd.Function):
    """`light_propagate`; its gradient goes the same rounds along the transposed matrices.

    Sums are made in place, which autograd, given the rounds one by one, could not do.
    """

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, forth: Both, back: Both, layers: int
    ) -> tuple[Tensor, Tensor]:
        ctx.back, ctx.layers = back, layers
        return _rounds(users.detach(), items.detach(), forth, layers)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        users, items = (slope.contiguous() for slope in above)
        return *_rounds(users, items, ctx.back, ctx.layers), None, None, None


def _rounds(users: Tensor, items: Tensor, along: Both, layers: int) -> tuple[Tensor, Tensor]:
    user, item, all_users, all_items = users, items, users.clone(), items.clone()
    for _ in range(layers):
        user, item = _times(along[0], item), _times(along[1], user)
        all_users += user
        all_items += item
    return all_users.div_(layers + 1), all_items.div_(layers + 1)


def _times(matrix: Rows, x: Tensor) -> Tensor:
    starts, column, value = matrix
    if x.device.type != "cpu":
        shape = (len(starts) - 1, len(x))
        return torch.sparse_csr_tensor(starts, column, value, shape) @ x
    if not len(column):
        return x.new_zeros(len(starts) - 1, x.shape[1])
    return F.embedding_bag(
        column, x, starts, mode="sum", per_sample_weights=value, include_last_offset=True
    )
