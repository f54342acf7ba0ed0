"""VBPR: MF-BPR with a second pair of vectors, the item's made from what the video shows.

Source: He & McAuley 2016, "VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback",
arXiv:1510.01784, equations 3 to 5.
Departures: any feature tables, side by side and standardised, in place of one of pictures; biases
of users are left out, since they do not change a ranking; AdamW, see mf.
"""

import torch
from jaxtyping import Bool, Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.data.pairs import PairBatch
from reelm.models.blocks.features import FeatureTables
from reelm.models.pairwise import Pairwise, PairwiseConfig, embedding


class VBPRConfig(PairwiseConfig):
    """Section [model] of a vbpr run."""

    features: tuple[str, ...] = ("text",)
    """Feature tables that are read, side by side."""
    feature_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of items whose features are left out of a step, each table's on its own."""
    content_dim: PositiveInt = 64
    """Width of the vectors that are made of features; the paper has as many as learned ones."""


class VBPR(Pairwise):
    """A learned part, a part made of features, and what an item is worth to everybody."""

    Config = VBPRConfig

    def __init__(self, config: VBPRConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.shown = FeatureTables(data, config.features, "vbpr", config.feature_dropout)
        width = sum(self.shown.widths)
        self.project = nn.Linear(width, config.content_dim, bias=False)
        self.worth = nn.Linear(width, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(len(data.items), 1))
        self.user = embedding(len(data.users), config.dim)
        self.item = embedding(len(data.items), config.dim)
        self.taste = embedding(len(data.users), config.content_dim)

    @classmethod
    def needs(cls, config: VBPRConfig) -> tuple[str, ...]:
        return tuple(f"features.{name}" for name in config.features)

    def vectors(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        learned = torch.cat([self.item, self.bias], dim=1) * self.seen[:, None]
        features = torch.cat(self.shown.tables(), dim=1)
        shown = torch.cat([self.project(features), self.worth(features)], dim=1)
        one = torch.ones_like(self.user[:, :1])
        users = torch.cat([self.user, one, self.taste, one], dim=1)
        return users, torch.cat([learned, shown], dim=1)

    def learned(self, batch: PairBatch) -> list[Float[Tensor, "rows dim"]]:
        items = torch.cat([batch.item, batch.negatives.flatten()])
        return [*super().learned(batch), self.taste[batch.user], self.bias[items]]

    def rankable(self) -> Bool[Tensor, "items"]:
        return self.seen | self.shown.known
