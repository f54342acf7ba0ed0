"""LightGCN: vectors of users and items, smoothed along who chose what.

Source: He et al. 2020, "LightGCN: Simplifying and Powering Graph Convolution Network for
Recommendation", arXiv:2002.02126.
Departures: every pair is met once per epoch, not drawn per user; other losses over the same pairs
are a setting (the paper has bpr); AdamW, whose own decay of .01 comes on top of the paper's unless
train.weight_decay is 0, as it is for published figures.
"""

from jaxtyping import Float
from pydantic import NonNegativeInt
from torch import Tensor

from reelm.data.dataset import Dataset
from reelm.models.blocks.graph import Bipartite, light_propagate
from reelm.models.pairwise import Pairwise, PairwiseConfig, embedding


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
        self.user = embedding(len(data.users), config.dim)
        self.item = embedding(len(data.items), config.dim)

    def vectors(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        return light_propagate(self.graph, self.user, self.item, self.layers)
