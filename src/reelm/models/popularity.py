"""Popularity: every user gets the items most people chose, of late or ever.

Source: none; the baseline each table starts with.
Departures: none.
"""

from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import PositiveFloat
from torch import Tensor

from reelm.config import Config
from reelm.data.dataset import Dataset
from reelm.errors import BadData
from reelm.models.base import Complete


class PopularityConfig(Config):
    """Section [model] of a popularity run."""

    half_life_s: PositiveFloat | None = None
    """Seconds after which an interaction counts half, measured from the newest one of the
    training data; unset counts all alike."""


class Popularity(Complete):
    """Counts of interactions per item in the training data; nothing is learned."""

    Config = PopularityConfig
    personal = False
    cannot: ClassVar[dict[str, str]] = {
        "test_beats_popularity_where_there_is_something_to_learn": "it is popularity"
    }

    def __init__(self, config: PopularityConfig, data: Dataset) -> None:
        super().__init__(config, data)
        weight = None if config.half_life_s is None else _weight(data, config.half_life_s)
        total = np.bincount(data.item, weight, minlength=len(data.items))
        self.register_buffer("total", torch.from_numpy(total.astype(np.float32)))
        self.total: Tensor

    def score(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch items"]:
        return self.total.expand(len(history), -1)


def _weight(data: Dataset, half_life_s: float) -> np.ndarray:
    if np.isnan(data.time).any():
        raise BadData("model.half_life_s needs the time of every interaction; some have none.")
    return np.exp2((data.time - data.time.max(initial=0)) / half_life_s)
