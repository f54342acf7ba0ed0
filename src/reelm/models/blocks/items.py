"""Vectors of items: learned ones, ones made of frozen features, or both added up."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.models.blocks.dropout import Dropout

LENGTH = 8.0  # mean length of standardised feature vectors
START = 0.02  # deviation of learned vectors at the start


class ContentProjector(nn.Module):
    """Frozen features and the small network that turns them into item vectors."""

    def __init__(self, names: Sequence[str], table: Float[Tensor, "items raw"], dim: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("table", table)
        self.table: Tensor
        self.network = nn.Sequential(
            nn.Linear(table.shape[1], 2 * dim), nn.GELU(), Dropout(0.2), nn.Linear(2 * dim, dim)
        )

    def columns(self, tables: Float[Tensor, "*rows raw"]) -> Float[Tensor, "*rows raw"]:
        """Of the standardised tables side by side what is kept: all of it."""
        return tables

    def forward(self, rows: Int[Tensor, "rows"]) -> Float[Tensor, "rows dim"]:
        """Vectors of these items."""
        return self.network(self.table[rows]).float()


class ItemVectors(nn.Module):
    """One vector per item; what it is made of is the first setting of a sequential model."""

    def __init__(
        self,
        made_of: Literal["id", "content", "both"],
        data: Dataset,
        features: Sequence[str],
        dim: int,
        id_dropout: float,
    ) -> None:
        super().__init__()
        self.id_dropout = id_dropout
        self.register_buffer("known", torch.from_numpy(data.counts > 0))
        self.known: Tensor
        self.id = None if made_of == "content" else nn.Embedding(len(data.items), dim)
        self.content = None if made_of == "id" else projector(data, features, dim)
        if self.id is not None and self.content is None:
            nn.init.normal_(self.id.weight, std=START)
        elif self.id is not None:
            nn.init.zeros_(self.id.weight)  # content alone at first; ids add what it lacks

    def forward(self, rows: Int[Tensor, "rows"] | None = None) -> Float[Tensor, "rows dim"]:
        """Vectors of these items, or of all; features are projected once per distinct item."""
        if self.content is None:
            assert self.id is not None
            return self.id.weight if rows is None else self.id(rows)
        if rows is None:
            return self._mixed(torch.arange(len(self.known), device=self.known.device))
        distinct, place = rows.unique(return_inverse=True)
        return self._mixed(distinct)[place]

    def _mixed(self, rows: Int[Tensor, "rows"]) -> Float[Tensor, "rows dim"]:
        """Features plus, where there is one to be trusted, the learned vector.

        While training, some items must do without theirs; afterwards those that training never
        saw, whose learned vector never learned anything.
        """
        assert self.content is not None
        vectors = self.content(rows)
        if self.id is None:
            return vectors
        if self.training:
            trusted = torch.rand(len(rows), device=rows.device) >= self.id_dropout
        else:
            trusted = self.known[rows]
        return vectors + self.id(rows) * trusted[:, None]


def projector(data: Dataset, features: Sequence[str], dim: int) -> ContentProjector:
    """A projector of these feature tables side by side, each standardised.

    Raises:
        MissingInput: the dataset was loaded without one of them.
    """
    table = torch.cat([standardised(data, n, "items of content or both") for n in features], dim=1)
    return ContentProjector(features, table, dim)


def standardised(data: Dataset, name: str, needed_by: str) -> Float[Tensor, "items raw"]:
    """A feature table, each column with mean 0 and deviation 1 over the videos that have it, then
    all scaled to a mean length of 8; other videos stay zero, which is then the mean video.

    Raises:
        MissingInput: the dataset was loaded without it.
    """
    return scaled(data.feature(name, needed_by), torch.from_numpy(data.has_feature[name]))


def scaled(
    table: Float[Tensor, "rows raw"], has: Bool[Tensor, "rows"]
) -> Float[Tensor, "rows raw"]:
    """`standardised` of any table, whose rows `has` names; the others stay zero. In float32,
    though wide vectors are kept in half of it."""
    nothing = torch.zeros_like(table, dtype=torch.float32)
    if not has.any():
        return nothing
    known = table[has].float()
    known = (known - known.mean(0)) / (known.std(0, correction=0) + 1e-6)
    known = known * (LENGTH / known.norm(dim=1).mean().clamp(min=1e-6))
    return nothing.index_put((has.nonzero()[:, 0],), known)


def unit(rows: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
    """Rows of length 1; those that are zero stay so."""
    return F.normalize(rows, dim=1, eps=1e-6)
