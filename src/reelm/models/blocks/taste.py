"""Taste by noted values: what a history has more of than the catalogue has."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reelm.data.dataset import Dataset

DOUBT = 15.0  # items' worth of the catalogue that every history begins with
START = 0.5  # weight of every value at the start
QUICK = 10.0  # times as far as other weights at a step: a few numbers, which all places agree on


class Taste(nn.Module):
    """The logarithm of how much oftener a value stands in a history than in the catalogue, weighed.

    A value is a column of a feature table that is not negative, as the encoder `values` makes them.
    With n of the history's h items showing a value whose share of the catalogue is p, what it adds
    to the score of every item that shows it is

        weight * log((n + d p) / ((h + d) p))

    the naive Bayes estimate with d items' worth of doubt; one weight per value, and d, are learned.
    Nothing is learned per item or per user, so that videos nobody watched and users of few words
    are scored by the very same numbers as all others.

    To a model that compares by dot product it is a few columns more: a state has the weighed
    logarithms, an item what it shows.
    """

    def __init__(self, data: Dataset, names: Sequence[str]) -> None:
        """
        Raises:
            MissingInput: the dataset was loaded without one of the tables.
        """
        super().__init__()
        self.names = tuple(names)
        tables = torch.cat([data.feature(name, "taste") for name in names], dim=1)
        self.register_buffer("used", (tables > 0).any(0).nonzero()[:, 0])
        self.used: Tensor
        self.register_buffer("table", self.columns(tables))
        self.table: Tensor
        self.register_buffer("share", self.table[self.table.any(1)].mean(0))
        self.share: Tensor
        self.weight = nn.Parameter(torch.full((tables.shape[1],), START / QUICK))
        self.log_doubt = nn.Parameter(torch.tensor(DOUBT).log() / QUICK)

    def columns(self, tables: Float[Tensor, "*rows raw"]) -> Float[Tensor, "*rows values"]:
        """Of the tables side by side those columns that any item had."""
        return tables[..., self.used.to(tables.device)].clamp(min=0)

    def items(self, rows: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows values"]:
        """The columns of these items."""
        return self.table[rows]

    def places(self, history: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length values"]:
        """The columns of states: each place has read the items up to itself."""
        shown = self.table[history]
        return self._weighed(shown.cumsum(1), shown.any(2).cumsum(1))

    def newest(self, history: Int[Tensor, "batch length"]) -> Float[Tensor, "batch values"]:
        """The columns of the states that have read all of their history."""
        shown = self.table[history]
        return self._weighed(shown.sum(1), shown.any(2).sum(1))

    def _weighed(
        self, counts: Float[Tensor, "*rows values"], size: Int[Tensor, "*rows"]
    ) -> Float[Tensor, "*rows values"]:
        doubt = (QUICK * self.log_doubt).exp()
        much = (counts / self.share + doubt) / (size[..., None] + doubt)
        return QUICK * self.weight[self.used] * much.log()
