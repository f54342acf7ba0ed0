"""What all models that read a history have in common: item vectors, batches, losses and scores.

A sequential model turns the vectors of a history into one hidden state per place (`states`); the
rest is here, so that two of them differ in nothing else. Settings of the loss and of the item
vectors are therefore the same words for all of them.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from reelm import losses
from reelm.config import Config
from reelm.data.augment import Repeat
from reelm.data.batches import SequenceBatch, Weigh, Window, sequences
from reelm.data.dataset import Dataset
from reelm.data.pairs import REDRAWS, Chosen
from reelm.models.base import Factors, Retriever
from reelm.models.blocks.age import AgeWorth
from reelm.models.blocks.dot import dot
from reelm.models.blocks.items import ItemVectors
from reelm.models.blocks.taste import Taste

AT_ONCE = 128  # histories read at a time when scoring: bounds the memory of an evaluation


class SequentialConfig(Config):
    """What section [model] of every sequential model has."""

    items: Literal["id", "content", "both"] = "id"
    """What an item's vector is made of: a learned vector per item, its features, or their sum, in
    which the learned part begins at zero."""
    features: tuple[str, ...] = ("text",)
    """Feature tables that are read when `items` is content or both; side by side if several."""
    table: Literal["shared", "separate"] = "shared"
    """Whether the vectors a history is read with are also those that states are compared with."""
    dim: PositiveInt = 64
    """Width of item vectors and hidden states."""
    max_length: PositiveInt = 50
    """Newest items of a history that are read; older ones are cut."""
    window: Window = "newest"
    """What training makes of longer histories. newest: it learns from their newest interactions
    alone; all: it cuts them into pieces, at other places in each epoch, and learns from all."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of activations set to zero while training."""
    id_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of items whose learned vector is left out of a step, so that the features must do
    without it as they will for a new video. Only with `items = "both"`."""
    taste: tuple[str, ...] = ()
    """Feature tables of noted values (encoder `values`): how much oftener a history shows a value
    than the catalogue does is weighed and added to the scores of all items that show it.
    """
    ages: NonNegativeInt = 0
    """Spells of the log in which the age of an item is counted, 16 for example. What each age is
    worth is learned and added to the scores, which are then those of the log's end: for a split by
    time, and for a feed. An item never seen counts at the best age before it. 0: age is nothing.
    Wants the time of every interaction, and features."""
    cold_bonus: float = 0.0
    """Added to the scores of items that training never saw: at 0.7 each counts as if it were
    twice as likely to be chosen, at the cost of the others. Training is the same. Wants features.
    """
    objective: Literal["sampled", "softmax", "binary", "gbce"] = "sampled"
    """sampled: softmax against `negatives` drawn items; softmax: against all items that training
    has seen; binary: logistic loss against `negatives` items drawn for each place, none of them
    among those the user chose in training; gbce: calibrated logistic loss against `negatives` drawn
    items. Items drawn for sampled and gbce are shared by a batch."""
    negatives: PositiveInt | None = None
    """Items drawn; unset: 1 for binary, 256 for the others. Where training saw no more items than
    that, sampled and gbce use all."""
    draw: Literal["even", "counts"] = "even"
    """Whether all items are as likely to be drawn, or each as often as training saw it; the loss
    of `sampled` is corrected for that."""
    calibration: float = Field(default=0.75, ge=0, le=1)
    """t of gbce: 0 is the plain logistic loss, 1 gives probabilities of the whole catalogue."""
    repeat: Repeat = "no"
    """What training puts into places that a short history leaves empty. random: copies of the
    history, as many as drawn (RepPad); delimited: with an empty place between copies; fill: until
    it is full; isolated: copies that cannot see each other; foreign: another user's history."""
    weigh: Weigh = "batch"
    """What counts alike in the loss. batch: every step, and every place in it; since histories of
    like length share a batch, places of short ones then count more; place: every place; user:
    every user; portion: a place counts as much as was watched of its target."""

    @model_validator(mode="after")
    def _has_features(self) -> "SequentialConfig":
        if self.items != "id" and not self.features:
            raise ValueError(f"items = {self.items!r} needs at least one name in features")
        if self.weigh == "user" and self.window == "all":
            raise ValueError("weigh = 'user' needs window = 'newest': pieces would count alike")
        if self.taste and self.repeat == "isolated":
            raise ValueError("taste counts what is before a place, also copies that are isolated")
        if self.items == "id" and not self.taste and (self.ages or self.cold_bonus):
            raise ValueError(
                "ages and cold_bonus need items = 'content' or 'both', or taste: without features "
                "nothing is known of an item that training never saw"
            )
        return self

    @property
    def drawn(self) -> int:
        """How many items are set against a chosen one."""
        return self.negatives or (1 if self.objective == "binary" else 256)


class Sequential(Retriever):
    """Reads a history with item vectors; a state is compared with item vectors by dot product."""

    def __init__(self, config: SequentialConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.config = config
        made = (config.items, data, config.features, config.dim, config.id_dropout)
        self.vectors = ItemVectors(*made)
        self.apart = ItemVectors(*made) if config.table == "separate" else None
        self.age = AgeWorth(data, config.ages) if config.ages else None
        self.taste = Taste(data, config.taste) if config.taste else None
        self.beside: nn.Module | None = None
        """Changes states by whose they are, (states, user rows) -> states; of a model around this
        one that knows more of users than their histories."""
        self._kept: tuple[Tensor, Tensor] | None = None  # while the weights stay as they are
        pairs = Chosen.of(data).keys if config.objective == "binary" else np.zeros(0, np.int64)
        self.register_buffer("chosen", torch.from_numpy(pairs), persistent=False)
        self.chosen: Tensor
        self.register_load_state_dict_post_hook(lambda model, keys: model._forget())

    @property
    def output(self) -> ItemVectors:
        """What states are compared with."""
        return self.vectors if self.apart is None else self.apart

    @classmethod
    def needs(cls, config: SequentialConfig) -> tuple[str, ...]:
        read = () if config.items == "id" else config.features
        return tuple(f"features.{name}" for name in dict.fromkeys((*read, *config.taste)))

    @abstractmethod
    def states(
        self,
        x: Float[Tensor, "batch length dim"],
        real: Bool[Tensor, "batch length"],
        part: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """The hidden state after each item of a history, given the items' vectors.

        Histories stand on the left and padding after them, so a model that is causal needs no
        further mask. What it gives for padding is never looked at.

        Args:
            real: where there is an item.
            part: where given, a state may depend on the items of its own part only.
        """

    def batches(self, data: Dataset, size: int, rng: torch.Generator) -> Iterator[SequenceBatch]:
        config = self.config
        fill = (config.repeat, config.weigh)
        return sequences(data, size, config.max_length, rng, config.window, fill)

    def loss(self, batch: SequenceBatch) -> dict[str, Float[Tensor, ""]]:
        first, real = _first(batch.history)
        history, goal = _left(batch.history, first), _left(batch.next_item, first)
        places = (goal != 0) & real
        target = goal[places]
        part = None if batch.part is None else _left(batch.part, first)
        weight = None if batch.weight is None else _left(batch.weight, first)[places]
        others = self._others(batch, target, places)
        read, wanted, against = self._read(history, target, others)
        states = self.states(read, real, part)[places].float()
        if self.beside is not None:
            assert batch.user is not None
            states = self.beside(states, batch.user[places.nonzero()[:, 0]])
        if self.taste is not None:
            states = torch.cat([states, self.taste.places(history)[places]], dim=-1)
            wanted = torch.cat([wanted, self.taste.items(target)], dim=-1)
            against = torch.cat([against, self.taste.items(others)], dim=-1)
        if self.age is not None:
            assert batch.when is not None
            when = _left(batch.when, first)[places]
            states = torch.cat([states, self.age.places(when)], dim=-1)
            wanted = torch.cat([wanted, self.age.items(target)], dim=-1)
            against = torch.cat([against, self.age.items(others)], dim=-1)
        loss = self._compare(states, wanted, against, target, others, weight)
        return {self.config.objective: loss * batch.share}

    def score(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch items"]:
        return self._known_first(self._tilted(dot(self.asking(user, history), self._all()[1])))

    def asking(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch dim"]:
        history = history[:, -self.config.max_length :]
        newest = self._newest(history)
        if self.beside is not None:
            newest = self.beside(newest, user)
        if self.taste is not None:
            newest = torch.cat([newest, self.taste.newest(history)], dim=-1)
        return newest

    def factors(self) -> Factors:
        vectors = self._all()[1]
        more = self._tilted(vectors.new_zeros(1, len(vectors)))[0]
        return vectors, more if self._all_known else more.masked_fill(~self.seen, -torch.inf)

    def item_vectors(self) -> Float[Tensor, "items dim"]:
        return self._all()[1]

    def train(self, mode: bool = True) -> "Sequential":
        """Also forgets the item vectors that were kept while the weights stood still."""
        self._forget()
        return super().train(mode)

    def _newest(self, history: Int[Tensor, "batch length"]) -> Float[Tensor, "batch dim"]:
        """The state after the newest item of each history."""
        read = self._all()[0]
        if len(history) == 1 and history.all():  # as a service asks: there is nothing to sort
            return self.states(read[history], torch.ones_like(history, dtype=torch.bool))[:, -1]
        size = _first(history)[1].sum(1)
        newest = read.new_zeros(len(history), self.config.dim)
        for rows in size.argsort().split(AT_ONCE):  # of like length, so that little is padding
            part = history[rows, -max(1, int(size[rows].max())) :]
            first, real = _first(part)
            states = self.states(read[_left(part, first)], real)
            last = (real.sum(1) - 1).clamp(min=0)
            newest[rows] = states[torch.arange(len(rows), device=rows.device), last]
        return newest

    @property
    def _all_known(self) -> bool:
        """Whether anything is known of every item: by its features, or as training saw it."""
        features = self.config.items != "id" or self.taste is not None
        return features or not self.seen.any() or bool(self.seen[1:].all())

    def _known_first(self, scores: Float[Tensor, "batch items"]) -> Float[Tensor, "batch items"]:
        """Items of which only the vector is known that they began with come after all others, in
        the order they had: losses push down what was seen, and them never."""
        if self._all_known:
            return scores
        low = scores.masked_fill(~self.seen, torch.inf).amin(1, keepdim=True)
        high = scores.masked_fill(self.seen, -torch.inf).amax(1, keepdim=True)
        return torch.where(self.seen, scores, scores - (high - low + 1))

    def _tilted(self, scores: Float[Tensor, "batch items"]) -> Float[Tensor, "batch items"]:
        """Scores plus what age and novelty are worth."""
        if self.age is not None:
            scores = scores + self.age.today(self.seen)
        if self.config.cold_bonus:
            scores = scores + self.config.cold_bonus * ~self.seen
        return scores

    def _read(
        self, history: Int[Tensor, "batch length"], target: Tensor, others: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of the history, of the targets and of the items set against them."""
        compared = torch.cat([target, others.flatten()])
        if self.apart is None:
            rows = self.vectors(torch.cat([history.flatten(), compared]))
            read, found = rows[: history.numel()], rows[history.numel() :]
        else:
            read, found = self.vectors(history.flatten()), self.output(compared)
        against = found[len(target) :].view(*others.shape, -1)
        return read.view(*history.shape, -1), found[: len(target)], against

    def _others(
        self, batch: SequenceBatch, target: Tensor, places: Tensor
    ) -> Int[Tensor, "*others"]:
        """Items to set against the targets, each known to training: [rows, drawn] or shared."""
        seen = self.seen.nonzero()[:, 0]
        config = self.config
        if config.objective == "binary":
            assert batch.user is not None
            return self._unchosen(seen, batch.user[places.nonzero()[:, 0]], target)
        if config.objective == "softmax" or config.drawn >= len(seen):
            return seen
        if config.draw == "counts":
            return torch.multinomial(self.counts.float(), config.drawn, replacement=True)
        return seen[torch.randint(len(seen), (config.drawn,), device=seen.device)]

    def _unchosen(
        self, seen: Tensor, user: Int[Tensor, "rows"], target: Int[Tensor, "rows"]
    ) -> Int[Tensor, "rows drawn"]:
        """Items drawn for each place that its user did not choose, unless he chose nearly all."""

        def draw(count: int) -> Tensor:
            return seen[torch.randint(len(seen), (count,), device=seen.device)]

        count = self.config.drawn
        drawn = draw(len(user) * count)
        first, own = (
            (user * len(self.counts)).repeat_interleave(count),
            target.repeat_interleave(count),
        )
        wrong = torch.arange(len(drawn), device=seen.device)
        for _ in range(REDRAWS):
            keys = first[wrong] + drawn[wrong]
            place = torch.searchsorted(self.chosen, keys).clamp(max=len(self.chosen) - 1)
            wrong = wrong[(self.chosen[place] == keys) | (drawn[wrong] == own[wrong])]
            if not len(wrong):
                break
            drawn[wrong] = draw(len(wrong))
        return drawn.view(len(user), count)

    def _compare(
        self,
        states: Float[Tensor, "rows dim"],
        wanted: Float[Tensor, "rows dim"],
        against: Float[Tensor, "*others dim"],
        target: Int[Tensor, "rows"],
        others: Int[Tensor, "*others"],
        weight: Float[Tensor, "rows"] | None,
    ) -> Float[Tensor, ""]:
        """The loss that the settings name."""
        config = self.config
        if config.objective == "softmax":
            place = torch.searchsorted(others, target)
            return losses.softmax(states, against, place, weight)
        if config.objective == "binary":
            negative = (states[:, None] * against).sum(2)
            return losses.binary((states * wanted).sum(1), negative, weight)
        items = (target, others)
        if config.objective == "gbce":
            power = losses.calibrated_power(len(others), int(self.seen.sum()), config.calibration)
            return losses.shared_binary(states, wanted, against, items, power, weight)
        uneven = config.draw == "counts" and config.drawn < int(self.seen.sum())
        chance = self.counts.clamp(min=1).float().log()
        log_chance = (chance[target], chance[others]) if uneven else None
        return losses.shared_softmax(states, wanted, against, items, log_chance, weight)

    def _all(self) -> tuple[Float[Tensor, "items dim"], Float[Tensor, "items wide"]]:
        """Vectors of all items, to read with and to compare with."""
        kept = self._kept
        if kept is None or self.training or torch.is_grad_enabled():
            read = self.vectors()
            compared = read if self.apart is None else self.apart()
            if self.taste is not None:
                compared = torch.cat([compared, self.taste.table], dim=-1)
            kept = read, compared
            self._kept = None if self.training or torch.is_grad_enabled() else kept
        return kept

    def _forget(self) -> None:
        self._kept = None


def gelu(x: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape width"]:
    """`F.gelu` by torch's own kernel.

    For numbers that lie one behind the other torch asks oneDNN, which keeps something for every
    shape it ever saw; batches have so many that the heap falls to pieces between them. Of a
    transposed view it is not asked.
    """
    return F.gelu(x.mT).mT


def _first(
    history: Int[Tensor, "batch length"],
) -> tuple[Int[Tensor, "batch 1"], Bool[Tensor, "batch length"]]:
    """The column of each row's oldest item; and where, once pushed to the left, a place is."""
    begun = (history != 0).cumsum(1) > 0
    size = begun.sum(1, keepdim=True)
    length = history.shape[1]
    return length - size, torch.arange(length, device=history.device) < size


def _left(
    rows: Float[Tensor, "batch length"] | Int[Tensor, "batch length"], first: Int[Tensor, "batch 1"]
) -> Float[Tensor, "batch length"] | Int[Tensor, "batch length"]:
    """Rows pushed to the left by `first` columns; what comes in from the right is zero."""
    length = rows.shape[1]
    place = torch.arange(length, device=rows.device) + first
    return rows.gather(1, place.clamp(max=length - 1)) * (place < length)
