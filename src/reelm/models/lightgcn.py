"""LightGCN: vectors of users and items, smoothed along who chose what.

Source: He et al. 2020, "LightGCN: Simplifying and Powering Graph Convolution Network for
Recommendation", arXiv:2002.02126.
Departures: every pair is met once per epoch, not drawn per user; other losses over the same pairs
are a setting (the paper has bpr).
"""

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.data.pairs import PairBatch
from reelm.models.blocks.graph import Bipartite, light_propagate
from reelm.models.pairwise import Pairwise, PairwiseConfig


class LightGCNConfig(PairwiseConfig):
    """Section [model] of a lightgcn run."""

    layers: NonNegativeInt = 3
    """Rounds along the edges; the mean of all rounds, the first vectors included, is what counts.
    0 is MF."""


class LightGCN(Pairwise):
    """The mean of learned vectors and of what a few rounds along the edges make of them."""

    Config = LightGCNConfig

    def __init__(self, config: LightGCNConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.layers = config.layers
        self.graph = Bipartite(data)
        self.user = nn.Parameter(torch.empty(len(data.users), config.dim))
        self.item = nn.Parameter(torch.empty(len(data.items), config.dim))
        for table in (self.user, self.item):
            nn.init.xavier_uniform_(table)

    def vectors(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        return light_propagate(self.graph, self.user, self.item, self.layers)

    def learned(self, batch: PairBatch) -> list[Float[Tensor, "rows dim"]]:
        return [self.user[batch.user], self.item[batch.item], self.item[batch.negatives.flatten()]]
