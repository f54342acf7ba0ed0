"""TRAWL: knowledge told in texts is fitted to who chose what by an adapter that learns by contrast.

Source: Luo et al. 2024, "Knowledge-Enhanced Large Language Models for Recommendation"
(arXiv:2403.06642; its second version is called TRAWL).
Departures: the paper's losses, temperatures and sizes are not public to us; what is here was built
from its abstract: an adapter over frozen vectors, trained together with the recommender by
contrasting users with what they chose, items with others that the same user chose, and an item's
text with its learned vector. Items that a user chose too are no negatives of his, and items are
corrected for how often they are met. The recommender is a dot product, not a click model. Where
there are no profiles of users, the mean of what they chose stands for them. A contrast of a user
with an item leaves that item out of the mean, and items that a profile was made from are not
contrasted, since the answer would stand in the question; the recommender's loss sees all.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from reelm import losses
from reelm.data.dataset import Dataset
from reelm.data.pairs import Chosen, MateBatch, PairBatch, with_mates
from reelm.models.blocks.features import FeatureTables, first_read, profile
from reelm.models.blocks.graph import Bipartite
from reelm.models.pairwise import Compare, Pairwise, PairwiseConfig, embedding


class TRAWLConfig(PairwiseConfig):
    """Section [model] of a trawl run."""

    features: tuple[str, ...] = ("text",)
    """Vectors of what is known of videos, side by side."""
    profiles: tuple[str, ...] = ()
    """Vectors of what is known of users, side by side; unset: the mean of their videos'."""
    feature_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of items whose features are left out of a step, each table's on its own."""
    hidden: PositiveInt = 256
    """Width of the adapters' hidden layer."""
    adapted: PositiveInt = 64
    """Width of what the adapters give."""
    adapter_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the hidden layer that is left out of a step."""
    contrast_user: NonNegativeFloat = 0.1
    """Weight of the contrast of users with items they chose."""
    contrast_item: NonNegativeFloat = 0.1
    """Weight of the contrast of items with items that the same user chose."""
    align: NonNegativeFloat = 0.1
    """Weight of the contrast of an item's text with its learned vector, which is not moved by it;
    needs `adapted` = `dim`."""
    contrast_temperature: PositiveFloat = 0.1
    """What cosines are divided by in the contrasts."""
    contrast_rows: PositiveInt = 512
    """Pairs of a batch that are contrasted with each other."""
    mask: bool = True
    """Leave what a user chose too out of his negatives."""
    dealt: bool = False
    """Placebo: users and items are contrasted with partners of others. Partners and what is left
    out of the negatives stay where they are: else these alone would tell who chose what."""

    @model_validator(mode="after")
    def _as_wide(self) -> "TRAWLConfig":
        if self.align and self.adapted != self.dim:
            raise ValueError("align compares adapted with learned vectors: adapted must equal dim")
        return self


class TRAWL(Pairwise):
    """Learned vectors beside adapted ones."""

    Config = TRAWLConfig

    def __init__(self, config: TRAWLConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.config: TRAWLConfig = config
        self.tables = FeatureTables(data, config.features, "trawl", config.feature_dropout)
        if config.profiles:
            table = torch.cat([profile(data, name, "trawl") for name in config.profiles], dim=1)
        else:
            table = Bipartite(data, "mean").to_users(torch.cat(self.tables.whole, dim=1))
        self.register_buffer("told", table)
        self.told: Tensor
        chose = np.bincount(Chosen.of(data).user, minlength=len(data.users))
        self.register_buffer("chose", torch.from_numpy(chose), persistent=False)
        self.chose: Tensor
        self.user = embedding(len(data.users), config.dim)
        self.item = embedding(len(data.items), config.dim)
        width = sum(self.tables.widths)
        self.adapt_item = _adapter(width, config)
        self.adapt_user = _adapter(self.told.shape[1], config)

    @classmethod
    def needs(cls, config: TRAWLConfig) -> tuple[str, ...]:
        features = (f"features.{name}" for name in config.features)
        return (*features, *(f"profiles.{name}" for name in config.profiles))

    def batches(self, data: Dataset, size: int, rng: torch.Generator) -> Iterator[PairBatch]:
        chosen, read = Chosen.of(data), self._read(data)
        for batch in super().batches(data, size, rng):
            count = self.config.contrast_rows
            if read is not None:
                behind = ~read.holds(batch.user.numpy(), batch.item.numpy())
                first = torch.from_numpy(np.argsort(~behind, kind="stable"))
                batch = PairBatch(batch.user[first], batch.item[first], batch.negatives[first])
                count = min(count, int(behind.sum()))
            yield with_mates(batch, chosen, count, rng)

    def vectors(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        known = self.item * self.seen[:, None]
        features = torch.cat(self.tables.tables(), dim=1)
        return (
            torch.cat([self.user, self.adapt_user(self.told)], dim=1),
            torch.cat([known, self.adapt_item(features)], dim=1),
        )

    def loss_by(self, batch: PairBatch, compare: Compare) -> dict[str, Float[Tensor, ""]]:
        users, items = self.vectors()
        terms = compare(users, items)
        assert isinstance(batch, MateBatch)
        return terms | self._contrasts(batch, items)

    def rankable(self) -> Bool[Tensor, "items"]:
        return self.seen | self.tables.known

    def _read(self, data: Dataset) -> Chosen | None:
        """Pairs that the profiles were made from.

        Raises:
            BadData: that is all of them.
        """
        if not self.config.profiles:
            return None
        place = np.arange(len(data)) - data.offsets[data.user]
        read = place < first_read(data, self.config.profiles, "trawl")[data.user]
        return Chosen.of(data, read)

    def _contrasts(self, batch: MateBatch, items: Tensor) -> dict[str, Tensor]:
        """The three terms, those whose weight is 0 left out."""
        config, count = self.config, len(batch.mate)
        if not count:
            return {}
        user, item, mate = batch.user[:count], batch.item[:count], batch.mate
        adapted, learned = items[:, config.dim :], items[:, : config.dim].detach()
        likes, likes_mate = batch.likes, batch.likes_mate
        own = torch.arange(count, device=item.device)
        if config.dealt:
            own = own[torch.randperm(count, device=item.device)]
        if not config.mask:
            likes = likes_mate = torch.zeros_like(likes)
        chance = (self.counts.float() / self.counts.sum()).clamp(min=1e-12).log()
        heat, terms = config.contrast_temperature, {}
        if config.contrast_user:
            who = self.adapt_user(self._told_but(user, item))[own]
            lost = losses.contrast(who, adapted[item], likes, heat, chance[item])
            terms["contrast_user"] = config.contrast_user * lost
        if config.contrast_item:
            lost = losses.contrast(
                adapted[item][own], adapted[mate], likes_mate, heat, chance[mate]
            )
            terms["contrast_item"] = config.contrast_item * lost
        if config.align:
            lost = losses.in_batch_softmax(adapted[item][own], learned[item], item, heat)
            terms["align"] = config.align * lost
        return terms

    def _told_but(
        self, user: Int[Tensor, "rows"], item: Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows raw"]:
        """What is told of users; where it is the mean of what they chose, without these items."""
        told = self.told[user]
        if self.config.profiles:
            return told
        count = self.chose[user][:, None]
        return (told * count - torch.cat(self.tables.whole, dim=1)[item]) / (count - 1).clamp(min=1)


def _adapter(width: int, config: TRAWLConfig) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, config.hidden),
        nn.ReLU(),
        nn.Dropout(config.adapter_dropout),
        nn.Linear(config.hidden, config.adapted),
    )
