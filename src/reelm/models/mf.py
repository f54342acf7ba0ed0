"""MF-BPR: a learned vector per user and per item; chosen items should score above drawn ones.

Source: Rendle et al. 2009, "BPR: Bayesian Personalized Ranking from Implicit Feedback",
arXiv:1205.2618.
Departures: every pair is met once per epoch, not drawn with replacement; AdamW in batches instead
of single steps of gradient descent; other losses over the same pairs are a setting.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.data.pairs import PairBatch
from reelm.models.pairwise import Pairwise, PairwiseConfig


class MFConfig(PairwiseConfig):
    """Section [model] of an mf run."""


class MF(Pairwise):
    """Learned vectors of users and items, compared by dot product."""

    Config = MFConfig

    def __init__(self, config: MFConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.user = nn.Parameter(torch.empty(len(data.users), config.dim))
        self.item = nn.Parameter(torch.empty(len(data.items), config.dim))
        for table in (self.user, self.item):
            nn.init.xavier_uniform_(table)

    def vectors(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        return self.user, self.item

    def learned(self, batch: PairBatch) -> list[Float[Tensor, "rows dim"]]:
        return [self.user[batch.user], self.item[batch.item], self.item[batch.negatives.flatten()]]
