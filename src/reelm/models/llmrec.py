"""LLMRec: a graph model that also learns from what a language model said: which of two videos a
user would like better, what videos show, what users like.

Source: Wei et al. 2024, "LLMRec: Large Language Models with Graph Augmentation for
Recommendation", arXiv:2311.00423.
Departures: (the first nine are from the authors' code, 169f361, which they repair)
- which triples are pruned is a setting: the paper says that those of high loss are noise, its
  formula and the code keep just those (.29 of all) and leave out the easy ones;
- features are masked on a copy, anew for every step; in the code masks pile up in the table;
- the decoder learns: its weights are the optimizer's like all others, which the code never steps;
- decay is the squared length of what a batch uses; the code's term is one over the length, and
  drives lengths up, while AdamW's own decay of .01 goes on unseen;
- no softmax over the dimensions in the last round; edges are scaled symmetrically, not by row;
- gradients are clipped after they were found (train.clip); in the code before, to no effect;
- every pair is met once in an epoch; the code draws users, and one pair of each;
- weights are chosen on validation; the code stops on the test;
- candidates of edges are without what the user watched in training (reelm.dossiers);
- edges weigh as much as whoever said them was sure; losses on side vectors are not pruned;
- users keep their own profile, and videos their own attributes, beside what comes back along the
  edges, so that profiles differ and videos nobody watched have vectors;
- attributes of a kind are one table; frames and sound may be further ones, with the same weight.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from math import ceil
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator
from torch import Tensor, nn

from reelm import losses
from reelm.data.dataset import Dataset
from reelm.data.pairs import EdgeBatch, PairBatch, with_edges
from reelm.data.preferences import Preferences
from reelm.errors import BadData, MissingInput
from reelm.models.blocks.features import profile
from reelm.models.blocks.graph import Bipartite
from reelm.models.blocks.items import standardised, unit
from reelm.models.blocks.within import settings_within
from reelm.models.lightgcn import LightGCN
from reelm.models.mmssl import MMSSL
from reelm.models.pairwise import Compare, Pairwise, PairwiseConfig, preferred

BASES: dict[str, type[LightGCN | MMSSL]] = {"lightgcn": LightGCN, "mmssl": MMSSL}
FIX = (
    "reelm annotate --prompt preference_edges, then reelm train --edges <its folder>; from Python "
    "Dataset.with_preferences(edges) on the training data; or set model.share to 0"
)

Sides = tuple[Tensor, Tensor]
"""Vectors of users and of items."""


class LLMRecConfig(PairwiseConfig):
    """Section [model] of an llmrec run."""

    base: Literal["lightgcn", "mmssl"] = "lightgcn"
    """The graph model that is added to."""
    base_settings: tuple[str, ...] = ()
    """Its settings where they are not its defaults, each as name=value; dim, objective, negatives,
    temperature and decay are those of this section."""
    attributes: tuple[str, ...] = ("text",)
    """Feature tables of videos that are read, such as vectors of their notes."""
    profiles: tuple[str, ...] = ()
    """Tables of users' vectors that are read."""
    attribute_weight: PositiveFloat = 0.5
    """Length of each attribute table's vectors in the sum that is scored; the code has .005."""
    profile_weight: PositiveFloat = 0.5
    """Length of each profile table's; the code has 2.8."""
    share: float = Field(default=0.1, ge=0, le=1)
    """Share of a batch's pairs beside which an edge of the same user is learned; 0: no edges."""
    prune: Literal["none", "highest", "keep_highest"] = "none"
    """highest: triples of the highest losses are left out of a step; keep_highest: those of the
    lowest, as the paper's formula has it."""
    prune_on: Literal["augmented", "all"] = "augmented"
    """Whether edges alone are pruned, or pairs too (bpr only)."""
    prune_rate: float = Field(default=0.1, ge=0, lt=1)
    """Share of triples that is left out in the end; the paper has .71."""
    prune_after: NonNegativeInt = 100
    """Steps before pruning begins."""
    prune_ramp: NonNegativeInt = 400
    """Steps from there on in which its share rises evenly to `prune_rate`."""
    mask: float = Field(default=0.1, ge=0, lt=1)
    """Share of users' profiles and of videos' attributes that a step must do without; 0, which is
    what the code has, also turns their restoration off."""
    restore: NonNegativeFloat = 0.1
    """Weight of restoring those from what flows along the edges."""
    gamma: PositiveFloat = 2.0
    """Power of how far a restored vector is from the true one."""
    side_loss: NonNegativeFloat = 0.01
    """Weight of bpr on the side vectors alone; the code has .012."""

    @model_validator(mode="after")
    def _prunable(self) -> "LLMRecConfig":
        if self.prune != "none" and self.prune_on == "all" and self.objective != "bpr":
            raise ValueError('prune_on = "all" needs objective = "bpr": softmax has no triples')
        return self


class Side(nn.Module):
    """One table of what was said of users or of videos, and the vectors it gives both sides."""

    def __init__(self, table: Float[Tensor, "rows raw"], config: LLMRecConfig) -> None:
        super().__init__()
        raw = table.shape[1]
        self.register_buffer("table", table)
        self.table: Tensor
        self.mask = config.mask
        self.project = nn.Linear(raw, config.dim, bias=False)
        restored = config.mask > 0 and config.restore > 0
        self.token = nn.Parameter(torch.zeros(raw)) if config.mask else None
        self.decoder = nn.Linear(config.dim, raw) if restored else None

    @property
    def known(self) -> Bool[Tensor, "rows"]:
        """Rows of which anything was said."""
        return (self.table != 0).any(1)

    def masked(self) -> tuple[Float[Tensor, "rows raw"], Bool[Tensor, "rows"]]:
        """The table with the token in some rows, drawn now, and which rows these are: none while
        nothing is learned. The table itself stays as it is."""
        hidden = torch.zeros_like(self.known)
        if self.token is None or not self.training:
            return self.table, hidden
        known = self.known.nonzero()[:, 0]
        drawn = torch.randperm(len(known), device=known.device)[: ceil(self.mask * len(known))]
        hidden[known[drawn]] = True
        return torch.where(hidden[:, None], self.token, self.table), hidden

    def restored(
        self, shown: Float[Tensor, "rows dim"], hidden: Bool[Tensor, "rows"], gamma: float
    ) -> Float[Tensor, ""]:
        """How far hidden rows, told from their vectors, are from the true ones."""
        assert self.decoder is not None
        return losses.restoration(self.decoder(shown[hidden]), self.table[hidden], gamma)


class LLMRec(Pairwise):
    """The base's vectors, plus side vectors of unit length times their weights."""

    Config = LLMRecConfig

    def __init__(self, config: LLMRecConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.config: LLMRecConfig = config
        self.base = BASES[config.base](base_config(config), data)
        tables = [standardised(data, name, "llmrec") for name in config.attributes]
        self.attributes = nn.ModuleList(Side(table, config) for table in tables)
        people = [profile(data, name, "llmrec") for name in config.profiles]
        self.profiles = nn.ModuleList(Side(table, config) for table in people)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.steps: Tensor

    @classmethod
    def needs(cls, config: LLMRecConfig) -> tuple[str, ...]:
        base = BASES[config.base].needs(base_config(config))
        own = [f"features.{name}" for name in config.attributes]
        return (*dict.fromkeys((*base, *own)), *(f"profiles.{name}" for name in config.profiles))

    def vectors(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        return self._fused(*self.base.vectors(), *self._sides()[:2])

    def learned(self, batch: PairBatch) -> list[Float[Tensor, "rows dim"]]:
        return self.base.learned(batch)

    def rankable(self) -> Bool[Tensor, "items"]:
        said = [cast(Side, side).known for side in self.attributes]
        return torch.stack([self.base.rankable(), *said]).any(0)

    def batches(self, data: Dataset, size: int, rng: torch.Generator) -> Iterator[EdgeBatch]:
        """Pairs, with an edge beside `share` of them.

        Raises:
            MissingInput: `share` is above 0 and nobody said anything.
            BadData: an edge names a user or a video without an interaction in `data`.
        """
        said = self._said(data)
        for batch in super().batches(data, size, rng):
            yield with_edges(batch, said, self.config.share, rng)

    def loss_by(self, batch: PairBatch, compare: Compare) -> dict[str, Float[Tensor, ""]]:
        terms = self.base.loss_by(batch, partial(self._terms, batch, compare))
        self.steps += 1
        return terms

    def _said(self, data: Dataset) -> Preferences:
        said = data.preferences
        if self.config.share == 0:
            none = np.zeros(0, np.int64)
            return Preferences(none, none, none, none.astype(np.float32))
        if said is None or not len(said):
            have = () if said is None else ("preferences, all of which were left out",)
            raise MissingInput("llmrec", "preferences", have, FIX)
        stray = int((~said.known(np.diff(data.offsets) > 0, data.counts > 0)).sum())
        if stray:
            raise BadData(
                f"llmrec: {stray} of {len(said)} edges name a user or a video that has no "
                "interaction in the training data: they were said of other data, or before the "
                "split. Call with_preferences on split.train; it leaves such edges out."
            )
        return said

    def _terms(
        self, batch: PairBatch, compare: Compare, users: Tensor, items: Tensor
    ) -> dict[str, Tensor]:
        """All terms but the base's further ones, from the base's vectors."""
        profiles, attributes, restored = self._sides()
        terms = compare(*self._fused(users, items, profiles, attributes))
        if self.config.side_loss and attributes:
            terms["side"] = self.config.side_loss * _told(batch, profiles, attributes)
        if restored:
            terms["restore"] = self.config.restore * torch.stack(restored).sum()
        return terms

    def _sides(self) -> tuple[list[Sides], list[Sides], list[Tensor]]:
        """Vectors by each profile and each attribute table; losses of restoring what was hidden."""
        graph, restored, found = self.base.graph, [], []
        for sides, of_users in ((self.profiles, True), (self.attributes, False)):
            one = []
            for side in cast(Sequence[Side], sides):
                shown, hidden = side.masked()
                vectors = _along(graph, side.project(shown), of_users)
                one.append(vectors)
                if self.training and side.decoder is not None:
                    own = vectors[0] if of_users else vectors[1]
                    restored.append(side.restored(own, hidden, self.config.gamma))
            found.append(one)
        return found[0], found[1], restored

    def _fused(
        self, users: Tensor, items: Tensor, profiles: list[Sides], attributes: list[Sides]
    ) -> Sides:
        config = self.config
        weighted = [(config.profile_weight, side) for side in profiles]
        weighted += [(config.attribute_weight, side) for side in attributes]
        for weight, (user, item) in weighted:
            users, items = users + weight * user, items + weight * item
        return users, items

    def compared(
        self, batch: PairBatch, users: Tensor, items: Tensor
    ) -> dict[str, Float[Tensor, ""]]:
        """The loss of pairs and that of edges, over the number of both that was not pruned."""
        assert isinstance(batch, EdgeBatch)
        config = self.config
        edges = self._edge_losses(batch, users, items)
        if config.objective == "softmax":
            kept = self._stay(edges)
            said = (edges * batch.weight * kept).sum() / len(batch.user)
            return super().compared(batch, users, items) | {"said": said}
        user = users[batch.user]
        lead = (user * items[batch.item]).sum(1)[:, None]
        rows = F.softplus((user[:, None] * items[batch.negatives]).sum(2) - lead).mean(1)
        everything = torch.cat([rows, edges])
        weight = torch.cat([torch.ones_like(rows), batch.weight])
        if config.prune_on == "all":
            kept = self._stay(everything)
        else:
            kept = torch.cat([torch.ones_like(rows, dtype=torch.bool), self._stay(edges)])
        share = weight * kept / (weight * kept).sum().clamp(min=1e-6)
        counted = everything * share
        terms = {"bpr": counted[: len(rows)].sum(), "said": counted[len(rows) :].sum()}
        return terms | {"decay": self.decayed(batch)}

    def _edge_losses(
        self, batch: EdgeBatch, users: Tensor, items: Tensor
    ) -> Float[Tensor, "edges"]:
        """bpr of every edge, by scores as they are served."""
        user, apart = users[batch.owner], items[batch.liked] - items[batch.disliked]
        if self.config.objective == "softmax":
            user = F.normalize(user, dim=1) / self.config.temperature
            liked, disliked = (F.normalize(items[i], dim=1) for i in (batch.liked, batch.disliked))
            apart = liked - disliked
        return F.softplus(-(user * apart).sum(1))

    def _stay(self, loss: Float[Tensor, "triples"]) -> Bool[Tensor, "triples"]:
        """The triples that this step learns from."""
        config = self.config
        if config.prune == "none":
            return torch.ones_like(loss, dtype=torch.bool)
        past = int(self.steps) - config.prune_after
        on = 0.0 if past < 0 else min(past / config.prune_ramp, 1.0) if config.prune_ramp else 1.0
        out = "highest" if config.prune == "highest" else "lowest"
        return losses.unpruned(loss, on * config.prune_rate, out)


def base_config(given: LLMRecConfig) -> Any:
    """The settings of the base."""
    return settings_within(given, PairwiseConfig, BASES[given.base].Config, "base")


def _along(graph: Bipartite, own: Tensor, of_users: bool) -> Sides:
    """Unit vectors of both sides by a table of one: there its own and what comes back along the
    edges, on the other side what goes there."""
    if of_users:
        there = graph.to_items(own)
        return unit(own + graph.to_users(there)), unit(there)
    there = graph.to_users(own)
    return unit(there), unit(own + graph.to_items(there))


def _told(batch: PairBatch, profiles: list[Sides], attributes: list[Sides]) -> Float[Tensor, ""]:
    """bpr of each attribute table alone against profiles, or against what users watched."""
    found = []
    for of_users, of_items in attributes:
        user = torch.stack([side[0] for side in profiles]).sum(0) if profiles else of_users
        found.append(preferred(batch, user, of_items))
    return torch.stack(found).sum()
