"""MF-BPR: a learned vector per user and per item; chosen items should score above drawn ones.

Source: Rendle et al. 2009, "BPR: Bayesian Personalized Ranking from Implicit Feedback",
arXiv:1205.2618.
Departures: every pair is met once per epoch, not drawn with replacement; AdamW in batches instead
of single steps of gradient descent, with its own decay of .01 beside `decay` unless
train.weight_decay is 0; other losses over the same pairs are a setting.
"""

from jaxtyping import Float
from torch import Tensor

from reelm.data.dataset import Dataset
from reelm.models.pairwise import Pairwise, PairwiseConfig, embedding


class MFConfig(PairwiseConfig):
    """Section [model] of an mf run."""


class MF(Pairwise):
    """Learned vectors of users and items, compared by dot product."""

    Config = MFConfig

    def __init__(self, config: MFConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.user = embedding(len(data.users), config.dim)
        self.item = embedding(len(data.items), config.dim)

    def vectors(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        return self.user, self.item
