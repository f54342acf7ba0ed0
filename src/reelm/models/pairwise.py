"""What all models that learn from pairs of user and item have in common: batches, losses, scores.

Such a model gives every user and every item a vector (`vectors`); how, is all they differ in. The
rest is here: a chosen item's dot product with the user should exceed that of drawn items.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from reelm import losses
from reelm.config import Config
from reelm.data.dataset import Dataset
from reelm.data.pairs import PairBatch, pairs
from reelm.models.base import Factors, Retriever
from reelm.models.blocks.dot import dot

Compare = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Terms of a loss from vectors of all users and of all items."""


class PairwiseConfig(Config):
    """What section [model] of every model that learns from pairs has."""

    dim: PositiveInt = 64
    """Width of the vectors of users and items."""
    objective: Literal["bpr", "softmax"] = "bpr"
    """bpr: the chosen item against items drawn for its user, by the logistic loss of their
    difference; softmax: against items drawn for the whole batch, by cosines over `temperature`."""
    negatives: PositiveInt | None = None
    """Items drawn; unset: 1 for each pair (bpr), 1024 for a batch (softmax)."""
    temperature: PositiveFloat = 0.2
    """What cosines are divided by in softmax."""
    decay: NonNegativeFloat = 1e-4
    """Weight of half the squared length of the learned vectors that a batch uses, mean over its
    pairs."""

    @property
    def drawn(self) -> int:
        """How many items are set against a chosen one."""
        return self.negatives or (1 if self.objective == "bpr" else 1024)


class Pairwise(Retriever):
    """A user's score of an item is the dot product of their vectors."""

    uses_user = True
    user: nn.Parameter
    """Learned vectors, [users, dim]; made with `embedding`."""
    item: nn.Parameter

    def __init__(self, config: PairwiseConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.config = config
        known = torch.zeros(len(data.users), dtype=torch.bool)
        known[torch.from_numpy(data.user)] = True
        self.register_buffer("known_user", known)
        self.known_user: Tensor
        self._kept: tuple[Tensor, Tensor] | None = None  # while the weights stay as they are
        self.register_load_state_dict_post_hook(lambda model, keys: model._forget())

    @abstractmethod
    def vectors(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        """Vectors of all users and of all items."""

    def learned(self, batch: PairBatch) -> list[Float[Tensor, "rows dim"]]:
        """The learned vectors that this batch uses, for `decay`."""
        return [self.user[batch.user], self.item[batch.item], self.item[batch.negatives.flatten()]]

    def batches(self, data: Dataset, size: int, rng: torch.Generator) -> Iterator[PairBatch]:
        each = self.config.drawn if self.config.objective == "bpr" else 1
        return pairs(data, size, each, rng)

    def loss(self, batch: PairBatch) -> dict[str, Float[Tensor, ""]]:
        return self.loss_by(batch, partial(self.compared, batch))

    def loss_by(self, batch: PairBatch, compare: Compare) -> dict[str, Float[Tensor, ""]]:
        """Whatever `compare` makes of the vectors, and the model's own further terms: a model that
        builds on this one compares vectors of its own."""
        return compare(*self.vectors())

    def compared(
        self, batch: PairBatch, users: Tensor, items: Tensor
    ) -> dict[str, Float[Tensor, ""]]:
        """The loss that the settings name, and decay."""
        config, heat = self.config, self.config.temperature
        if config.objective == "bpr":
            loss = preferred(batch, users, items)
        else:
            user, item = users[batch.user], items[batch.item]
            seen = self.seen.nonzero()[:, 0]
            drawn = seen[torch.randint(len(seen), (config.drawn,), device=seen.device)]
            user, item = F.normalize(user, dim=1) / heat, F.normalize(item, dim=1)
            against = F.normalize(items[drawn], dim=1)
            loss = losses.shared_softmax(user, item, against, (batch.item, drawn))
        return {config.objective: loss, "decay": self.decayed(batch)}

    def decayed(self, batch: PairBatch) -> Float[Tensor, ""]:
        """`decay` times half the squared length of what the batch uses, by pair."""
        squares = torch.stack([part.pow(2).sum() for part in self.learned(batch)]).sum()
        return self.config.decay * squares / (2 * len(batch.user))

    def score(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch items"]:
        users, items = self.served()
        scores = dot(users[user], items)
        return torch.where(self.rankable(), scores, scores.amin(1, keepdim=True) - 1)

    def factors(self) -> Factors:
        vectors = self.served()[1]
        nothing = ~self.rankable()
        return vectors, vectors.new_zeros(len(vectors)).masked_fill(nothing, -torch.inf)

    def asking(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch dim"]:
        return self.served()[0][user]

    def rankable(self) -> Bool[Tensor, "items"]:
        """Items of which something is known; all others come last. Models that read features
        know something of items that training never saw."""
        return self.seen

    def item_vectors(self) -> Float[Tensor, "items dim"]:
        return self.served()[1]

    def train(self, mode: bool = True) -> "Pairwise":
        """Also forgets the vectors that were kept while the weights stood still."""
        self._forget()
        return super().train(mode)

    def served(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        """Vectors whose dot products are the scores of all users and items, but for those that
        are not `rankable`; kept while nothing is learned."""
        kept = self._kept
        if kept is None or self.training or torch.is_grad_enabled():
            kept = self.as_served(*self.vectors())
            self._kept = None if self.training or torch.is_grad_enabled() else kept
        return kept

    def as_served(
        self, users: Float[Tensor, "users dim"], items: Float[Tensor, "items dim"]
    ) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        """What `vectors` gives, as it is scored: a user that training saw nothing of has the mean
        of the others, and items have unit length where training looks at cosines."""
        if self.known_user.any() and not self.known_user.all():
            users = torch.where(self.known_user[:, None], users, users[self.known_user].mean(0))
        return users, items if self.config.objective == "bpr" else self._unit(items)

    def _unit(self, items: Float[Tensor, "items dim"]) -> Float[Tensor, "items dim"]:
        """Vectors of length 1; those of items that training never saw are shorter as far as what
        is known of them is less than of the others: it would count for more than all."""
        length = items.norm(dim=1, keepdim=True).clamp(min=1e-12)
        if not self.seen.any():
            return items / length
        usual = length[self.seen].mean()
        return items / torch.where(self.seen[:, None], length, length.clamp(min=usual))

    def _forget(self) -> None:
        self._kept = None


def preferred(
    batch: PairBatch, users: Float[Tensor, "users dim"], items: Float[Tensor, "items dim"]
) -> Float[Tensor, ""]:
    """bpr of a batch by dot products of these vectors."""
    user, item, against = users[batch.user], items[batch.item], items[batch.negatives]
    return losses.bpr((user * item).sum(1), (user[:, None] * against).sum(2))


def embedding(rows: int, dim: int) -> nn.Parameter:
    """Learned vectors at their start. Source: Glorot & Bengio 2010, as in LightGCN's code."""
    vectors = nn.Parameter(torch.empty(rows, dim))
    nn.init.xavier_uniform_(vectors)
    return vectors
