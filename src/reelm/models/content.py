"""Content: videos that look like what the user watched, by frozen feature vectors.

Source: none; the baseline every model with features starts from.
Departures: none.
"""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from reelm.config import Config
from reelm.data.dataset import Dataset
from reelm.models.base import Complete, Factors
from reelm.models.blocks.dot import dot


class ContentConfig(Config):
    """Section [model] of a content run."""

    features: str = "text"
    """Name of the feature table that is compared."""


class Content(Complete):
    """Cosine between a video and the mean of the user's history; nothing is learned."""

    Config = ContentConfig

    def __init__(self, config: ContentConfig, data: Dataset) -> None:
        super().__init__(config, data)
        table = data.feature(config.features, "content").float()
        self.register_buffer("vector", F.normalize(table, dim=1))
        self.vector: Tensor

    @classmethod
    def needs(cls, config: ContentConfig) -> tuple[str, ...]:
        return (f"features.{config.features}",)

    def score(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch items"]:
        return dot(self.asking(user, history), self.vector)

    def asking(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch dim"]:
        taste = F.embedding_bag(history, self.vector, mode="sum", padding_idx=0)
        return F.normalize(taste, dim=1)

    def factors(self) -> Factors:
        return self.vector, self.vector.new_zeros(len(self.vector))

    def item_vectors(self) -> Float[Tensor, "items dim"]:
        return self.vector
