"""What all models that rate single places have in common: settings, batches and the loss.

Such a model says for a user, what he liked before, and a video, whether he would like it: a CTR
model. Its scores are logits, so that it can be calibrated.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor

from reelm.config import Config
from reelm.data.batches import ExposureBatch, exposed
from reelm.data.dataset import Dataset
from reelm.errors import MissingInput
from reelm.models.base import Ranker
from reelm.models.blocks.features import first_read

FIX = "--set dataset.exposures=true, on a log that says what was not liked too"


class PointwiseConfig(Config):
    """What section [model] of every model that rates single places has."""

    dim: PositiveInt = 32
    """Width of each field; KAR has 32."""
    features: tuple[str, ...] = ()
    """Feature tables of videos that are fields beside the learned vector."""
    profiles: tuple[str, ...] = ()
    """Tables of users' vectors that are fields."""
    after: bool = True
    """Learn only from what each user was shown after the events that whatever is said of him was
    made from. False is a leak, for comparison."""
    max_length: PositiveInt = 30
    """Items of a history that are read, the newest ones."""
    hidden: tuple[PositiveInt, ...] = (200, 80)
    """Widths of the last network's layers; DIN and KAR have these."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of that network."""
    calibrate: Literal["platt", "temperature", "no"] = "platt"
    """What is fitted on validation once training is over: slope and shift of the logits, the slope
    alone, or nothing."""


class Pointwise(Ranker):
    """Learns whether a place was liked, by binary cross-entropy."""

    uses_user = True
    stranger = -1

    def __init__(self, config: PointwiseConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.config = config
        self.calibrate = config.calibrate
        self.said: tuple[str, ...] = config.profiles
        """Profiles of users that are read in any way."""

    @classmethod
    def needs(cls, config: Any) -> tuple[str, ...]:
        features = (f"features.{name}" for name in config.features)
        return (*features, *(f"profiles.{name}" for name in config.profiles))

    def batches(self, data: Dataset, size: int, rng: torch.Generator) -> Iterator[ExposureBatch]:
        """All exposures, shuffled, but those that what is said of their users may have seen.

        Raises:
            MissingInput: the dataset was loaded without exposures.
            BadData: profiles were made from everything, so that nothing is left.
        """
        later = self._later(data) if self.config.after and self.said else data
        if later.exposures is None:
            raise MissingInput(type(self).__name__.lower(), "exposures", (), FIX)
        return exposed(later.exposures, size, self.config.max_length, rng)

    def loss(self, batch: ExposureBatch) -> dict[str, Float[Tensor, ""]]:
        scores = self.rate(batch.user, batch.history, batch.item[:, None])[:, 0]
        return {"likes": F.binary_cross_entropy_with_logits(scores, batch.label)}

    def score(
        self,
        user: Int[Tensor, "batch"],
        history: Int[Tensor, "batch length"],
        candidates: Int[Tensor, "batch candidates"],
    ) -> Float[Tensor, "batch candidates"]:
        """Logits, before calibration."""
        return self.rate(user, history[:, -self.config.max_length :], candidates)

    def _later(self, data: Dataset) -> Dataset:
        """The data with the places of users who had liked by then all that was read of them."""
        shown = data.exposures
        if shown is None:
            return data
        read = first_read(data, self.said, type(self).__name__.lower())
        return replace(data, exposures=shown.take(shown.stop - shown.start >= read[shown.user]))

    @abstractmethod
    def rate(
        self,
        user: Int[Tensor, "batch"],
        history: Int[Tensor, "batch length"],
        candidates: Int[Tensor, "batch candidates"],
    ) -> Float[Tensor, "batch candidates"]:
        """Logits."""
