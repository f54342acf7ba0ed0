"""What every recommender is: settings, batches, a loss over them, and scores.

Concrete models are leaves: none inherits from another. Blocks that three of them use live in
`blocks/`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reelm.config import Config
from reelm.data.dataset import Dataset

Factors = tuple[Float[Tensor, "items dim"], Float[Tensor, "items"]]


class Recommender(nn.Module, ABC):
    """Built from its own settings and the training data; reads no files, keeps no globals."""

    Config: ClassVar[type[Config]]
    uses_user: ClassVar[bool] = False
    """Whether scores depend on the user's row, and not on the history alone."""
    personal: ClassVar[bool] = True
    """Whether scores depend on whom they are for: on the user, the history, or both."""
    stranger: ClassVar[int] = 0
    """The row that stands for users whom training did not know. A model that uses the user and
    scores strangers too, by their histories alone, has -1."""
    cannot: ClassVar[dict[str, str]] = {}
    """Conformance tests this model does not pass, and why."""
    counts: Tensor
    """Training interactions per item, [items]; 0 for items that training never saw."""

    def __init__(self, config: Any, data: Dataset) -> None:
        super().__init__()
        self.register_buffer("counts", torch.from_numpy(data.counts).clone())

    @classmethod
    def needs(cls, config: Any) -> tuple[str, ...]:
        """What the dataset must be loaded with under these settings, e.g. "features.text"."""
        return ()

    @classmethod
    def operations(cls, config: Any, data: Dataset) -> float:
        """Floating point operations of building it, where that takes long; else 0."""
        return 0.0

    @property
    def seen(self) -> Bool[Tensor, "items"]:
        """Items that occur in the training interactions."""
        return self.counts > 0

    @abstractmethod
    def batches(self, data: Dataset, size: int, rng: torch.Generator) -> Iterator[Any]:
        """One epoch of what `loss` takes; as a rule one call of a loader of data.batches."""

    @abstractmethod
    def loss(self, batch: Any) -> dict[str, Float[Tensor, ""]]:
        """Named terms, already weighted; the training loop adds them up and logs each."""


class Retriever(Recommender):
    """Scores the whole catalogue at once; finds candidates."""

    @abstractmethod
    def score(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch items"]:
        """Higher is better; column 0, the padding item, is never looked at.

        Histories have the newest item in the last column and zeros to the left; a history may be
        all zeros.
        """

    def item_vectors(self) -> Float[Tensor, "items dim"] | None:
        """Vectors in which near items are alike, or None where the model has none."""
        return None

    def factors(self) -> Factors | None:
        """Vectors and biases of all items, where scores are dot products with `asking`; or None.

        `asking(user, history) @ vectors.T + bias` is then `score(user, history)`, but that a bias
        of -inf says of an item what the lowest score says there: nothing is known of it.
        """
        return None

    def asking(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch dim"]:
        """What `factors` are multiplied with; only where there are factors."""
        raise TypeError(f"{type(self).__name__} has no factors: score everything instead")

    def similar(self, item: Int[Tensor, "batch"]) -> Float[Tensor, "batch items"]:
        """How alike each item is to all: cosine of vectors, else scores of a history of one.

        An item of which nothing is known (see `factors`) is like none and none like it: -inf.
        """
        vectors, factors = self.item_vectors(), self.factors()
        if vectors is None:
            return self.score(torch.zeros_like(item), item[:, None])
        unit = nn.functional.normalize(vectors, dim=1)
        alike = unit[item] @ unit.T
        if factors is None:
            return alike
        unknown = factors[1] == -torch.inf
        return alike.masked_fill(unknown | unknown[item, None], -torch.inf)


class Complete(Retriever):
    """Complete when it is built: nothing is trained."""

    def batches(self, data: Dataset, size: int, rng: torch.Generator) -> Iterator[Any]:
        return iter(())

    def loss(self, batch: Any) -> dict[str, Float[Tensor, ""]]:
        return {}

    def similar(self, item: Int[Tensor, "batch"]) -> Float[Tensor, "batch items"]:
        """As of every retriever; without vectors nothing is known of what nobody chose."""
        alike = super().similar(item)
        if self.item_vectors() is not None:
            return alike
        return alike.masked_fill(~(self.seen & self.seen[item, None]), -torch.inf)


class Ranker(Recommender):
    """Scores a short list somebody else found; may be slow, as a language model is."""

    calibrate: Literal["platt", "temperature", "no"] = "platt"
    """What training fits on validation in the end: slope and shift, slope alone, or nothing."""

    def __init__(self, config: Any, data: Dataset) -> None:
        super().__init__(config, data)
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))
        self.calibration: Tensor
        """Slope and shift that turn scores into logits; fitted on validation after training."""

    @abstractmethod
    def score(
        self,
        user: Int[Tensor, "batch"],
        history: Int[Tensor, "batch length"],
        candidates: Int[Tensor, "batch candidates"],
    ) -> Float[Tensor, "batch candidates"]:
        """Higher is better, one number per candidate, in the order given."""

    def probability(self, scores: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
        """How likely each is to be liked, by scores of `score`."""
        return torch.sigmoid(self.calibration[0] * scores + self.calibration[1])

    def score_all(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch items"]:
        """The whole catalogue as candidates, one user after the other.

        Cost: as many places as the catalogue has videos for each user; for small ones only.
        """
        items = torch.arange(len(self.counts), device=self.counts.device)[None]
        pairs = zip(user.split(1), history.split(1), strict=True)
        return torch.cat([self.score(one, shown, items) for one, shown in pairs])

    def similar(self, item: Int[Tensor, "batch"]) -> Float[Tensor, "batch items"]:
        """How alike each item is to all, by scores of a history of one."""
        return self.score_all(torch.full_like(item, self.stranger), item[:, None])
