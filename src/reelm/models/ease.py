"""EASE: each item's score is a weighted sum of the history, in closed form.

Source: Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", arXiv:1905.03375,
equation 8.
Departures: where scores are equal, which they are for items that nothing links to the history, the
item that more users chose comes first.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import PositiveFloat, PositiveInt
from scipy import linalg, sparse
from torch import Tensor

from reelm.config import Config
from reelm.data.dataset import Dataset
from reelm.data.pairs import Chosen
from reelm.errors import ConfigError
from reelm.models.base import Complete
from reelm.models.blocks.repeats import without_repeats

TIE = 1e-6  # what the most popular item's score is raised by; others in proportion

LONG = 5_000  # items from which the fit takes long enough to be told of


class EASEConfig(Config):
    """Section [model] of an ease run."""

    ridge: PositiveFloat = 100.0
    """Weight of the squared length of the weights (lambda); choose it on validation."""
    most_items: PositiveInt = 30_000
    """Items beyond which it refuses to be built: it holds a matrix of items x items."""


class EASE(Complete):
    """A linear model from items to items with a zero diagonal; nothing is iterated."""

    Config = EASEConfig

    def __init__(self, config: EASEConfig, data: Dataset) -> None:
        super().__init__(config, data)
        items = len(data.items)
        if items > config.most_items:
            raise ConfigError(
                f"ease: {items - 1} items need a matrix of {4e-9 * items * items:.1f} GB; raise "
                "model.most_items to allow it, or use item_knn with model.neighbours."
            )
        self.register_buffer("weight", torch.from_numpy(_weights(data, config.ridge)))
        self.weight: Tensor

    @classmethod
    def operations(cls, config: EASEConfig, data: Dataset) -> float:
        return 7 / 3 * len(data.items) ** 3 if len(data.items) > LONG else 0.0

    def score(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch items"]:
        if not len(self.weight):  # it learned from nothing
            return history.new_zeros(len(history), len(self.counts), dtype=torch.float32)
        once = without_repeats(history)
        scores = F.embedding_bag(once, self.weight, mode="sum", padding_idx=0)
        return scores + TIE * self.counts / self.counts.max().clamp(min=1)


def _weights(data: Dataset, ridge: float) -> np.ndarray:
    """B of equation 8, [items, items]; row i is what having chosen item i adds to all scores."""
    if not len(data):
        return np.zeros((0, 0), np.float32)
    chosen = Chosen.of(data)
    ones = np.ones(len(chosen), np.float64)
    x: Any = sparse.csr_matrix((ones, (chosen.user, chosen.item)), (chosen.users, chosen.items))
    gram = (x.T @ x).toarray()
    gram[np.diag_indices_from(gram)] += ridge
    factor = linalg.cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    inverse = linalg.cho_solve(
        (factor, True), np.eye(len(gram)), overwrite_b=True, check_finite=False
    )
    weight = inverse / -np.diag(inverse)
    weight[np.diag_indices_from(weight)] = 0
    return weight.astype(np.float32)
