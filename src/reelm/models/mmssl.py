"""MMSSL: a graph for each kind of feature, judged by a critic and contrasted with the fused view.

Source: Wei et al. 2023, "Multi-Modal Self-Supervised Learning for Recommendation",
arXiv:2302.10632.
Departures: (the first five are from the authors' code, which does not do what the paper says)
- a kind's graph joins each user to the `graph_items` items he would like best by that kind, and is
  rebuilt every `rebuild_every` steps; in the code it is empty from the third batch on;
- attention between kinds makes its keys from what is attended to, and its scaling is used;
- layers are averaged as they are; the code takes a softmax over dimensions after the last one;
- the critic reads a row of the graph as the mean of its items' learned vectors, over the items
  drawn for the batch: its size does not depend on the number of items, where the code's first
  layer has items² / 4 weights;
- the critic has no batch norm, which breaks the penalty on the gradient of single rows, no dropout,
  and no sigmoid at its end; soft rows and fused scores count alike in a true row, where the code
  has 1 and 100, and kinds' scores of items a user chose stay in the false ones;
- edges are scaled symmetrically, not by the user's root alone;
- the critic takes one step with each of the model's, by the same optimiser: its loss reaches its
  own weights only, and the model's term reaches all others;
- a kind's view of a user is set against others' fused views alone, not against their views of its
  own kind too;
- items that training never saw have no learned vector, only what features give;
- projected features do not decay (1e-5 in the code) but by AdamW's own .01, which `train` sets.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from torch import Tensor, nn
from torch.func import functional_call

from reelm import losses
from reelm.data.dataset import Dataset
from reelm.data.pairs import PairBatch
from reelm.models.blocks.features import FeatureTables
from reelm.models.blocks.graph import Bipartite, Rows, by_rows, light_propagate, product
from reelm.models.pairwise import Compare, Pairwise, PairwiseConfig, embedding

TILE = 1024  # users whose scores of all items are held at once while graphs are rebuilt


class MMSSLConfig(PairwiseConfig):
    """Section [model] of an mmssl run."""

    features: tuple[str, ...] = ("text",)
    """Feature tables; each is a kind with a graph of its own."""
    layers: NonNegativeInt = 2
    """Rounds along who chose what."""
    heads: PositiveInt = 4
    """Heads of the attention between kinds; must divide `dim`."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of projected features set to zero while training."""
    feature_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of items whose features are left out of a step, each table's on its own."""
    graph_items: NonNegativeInt = 10
    """Items each user is joined to in a kind's graph; 0 leaves the graphs empty."""
    rebuild_every: PositiveInt = 30
    """Steps between two rebuildings of the kinds' graphs."""
    refine: NonNegativeFloat = 0.36
    """What is added to learned vectors: this much of the attention over the kinds' graphs."""
    content: NonNegativeFloat = 0.55
    """What is added in the end: this much of each kind's propagated features, of unit length."""
    contrast: NonNegativeFloat = 0.03
    """Weight of the contrast of each kind's view of a user with the fused one."""
    contrast_temperature: PositiveFloat = 0.5
    """What cosines are divided by in that contrast."""
    adversarial: NonNegativeFloat = 1e-4
    """Weight with which kinds' rows should please the critic."""
    critic: NonNegativeFloat = 1.0
    """Weight of the critic's own loss; with 0 there is none, and no adversarial term."""
    penalty: NonNegativeFloat = 0.3
    """Weight, in the critic's loss, of how far its slopes are from 1."""
    critic_users: PositiveInt = 256
    """Users of a batch, at most, whose rows the critic is shown."""
    critic_items: PositiveInt = 256
    """Items drawn that these rows are looked at on, beside those the users chose just now."""
    contrast_users: PositiveInt = 512
    """Users of a batch, at most, that are contrasted with each other."""
    gumbel_temperature: PositiveFloat = 0.5
    """How soft true rows are made, so that they could not be told by being 0 and 1."""

    @model_validator(mode="after")
    def _fits(self) -> "MMSSLConfig":
        if len(self.features) > 1 and self.dim % self.heads:
            raise ValueError(f"heads = {self.heads} must divide dim = {self.dim}")
        return self


class Critic(nn.Module):
    """Tells rows of the true graph from those of a kind's scores."""

    def __init__(self, items: int, dim: int) -> None:
        super().__init__()
        self.item = nn.Parameter(torch.randn(items, dim) / dim**0.5)
        self.judge = nn.Sequential(
            nn.Linear(dim, dim), nn.LeakyReLU(0.2), nn.Linear(dim, dim // 2), nn.LeakyReLU(0.2),
            nn.Linear(dim // 2, 1, bias=False),
        )  # fmt: skip

    def forward(
        self, rows: Float[Tensor, "batch some"], items: Int[Tensor, "some"]
    ) -> Float[Tensor, "batch"]:
        """Higher is truer; rows are of unit length, one number for each of these items."""
        return self.judge(rows @ self.item[items])[:, 0]


class Attention(nn.Module):
    """Each kind's view of a node asks all kinds' views of it; the mean answer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)

    def forward(self, views: Float[Tensor, "nodes kinds dim"]) -> Float[Tensor, "nodes dim"]:
        """Values are the views themselves."""
        query, key, value = (
            one.unflatten(-1, (self.heads, -1))
            for one in (self.query(views), self.key(views), views)
        )
        # A product per pair of kinds: there are few, and many tiny matrix products are slow.
        heat = query.shape[-1] ** 0.5
        logits = (query[:, :, None] * key[:, None]).sum(-1, keepdim=True) / heat
        weight = logits.softmax(2).mean(1)  # nodes kinds heads 1
        return (weight * value).sum(1).flatten(1)


class MMSSL(Pairwise):
    """Learned vectors refined by the kinds' graphs, propagated, plus each kind's features."""

    Config = MMSSLConfig

    def __init__(self, config: MMSSLConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.config: MMSSLConfig = config
        self.graph = Bipartite(data)
        self.tables = FeatureTables(data, config.features, "mmssl", config.feature_dropout)
        self.kinds = range(len(self.tables))
        self.project = nn.ModuleList(nn.Linear(w, config.dim) for w in self.tables.widths)
        self.user = embedding(len(data.users), config.dim)
        self.item = embedding(len(data.items), config.dim)
        self.joins = config.graph_items > 0 and config.refine > 0
        several = self.joins and len(self.tables) > 1
        self.attention = Attention(config.dim, config.heads) if several else None
        self.judge = Critic(len(data.items), config.dim) if config.critic else None
        k = min(config.graph_items, max(len(data.items) - 1, 1))
        near = torch.zeros(len(self.tables), len(data.users), k, dtype=torch.int32)
        self.register_buffer("near", near)
        self.register_buffer("built", torch.zeros((), dtype=torch.long))  # steps so far
        self.near: Tensor
        self.built: Tensor
        self._joined: tuple[Tensor, list[tuple[Rows, Rows]]] | None = None

    @classmethod
    def needs(cls, config: MMSSLConfig) -> tuple[str, ...]:
        return tuple(f"features.{name}" for name in config.features)

    def vectors(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        return self._views()[:2]

    def loss_by(self, batch: PairBatch, compare: Compare) -> dict[str, Float[Tensor, ""]]:
        self._age()
        users, items, shown, views = self._views()
        terms = compare(users, items)
        if self.config.contrast:
            some = batch.user[: self.config.contrast_users]
            terms["contrast"] = self.config.contrast * self._contrast(
                some, users, views or [user for user, _ in shown]
            )
        if self.judge is not None:
            terms |= self._judged(self.judge, batch, users.detach(), items.detach(), shown)
        return terms

    def rankable(self) -> Bool[Tensor, "items"]:
        return self.seen | self.tables.known

    def _views(self) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]], list[Tensor]]:
        """Final vectors of users and items; each kind's features of both; each kind's users as its
        graph sees them."""
        config = self.config
        shown = [self._shown(kind) for kind in self.kinds]
        known = self.item * self.seen[:, None]
        users, items, views = self.user, known, []
        if self.joins:
            joined = self._graphs()
            views = [product(*graph, known) for graph in joined]
            back = [product(graph[1], graph[0], self.user) for graph in joined]
            users = users + config.refine * self._refinement(views)
            items = items + config.refine * self._refinement(back) * self.seen[:, None]
        users, items = light_propagate(self.graph, users, items, config.layers)
        for user, item in shown:
            users = users + config.content * F.normalize(user, dim=1)
            items = items + config.content * F.normalize(item, dim=1)
        return users, items, shown, views

    def _refinement(self, views: list[Float[Tensor, "nodes dim"]]) -> Float[Tensor, "nodes dim"]:
        """What all kinds' graphs say of each node, of unit length."""
        if self.attention is None:
            return F.normalize(views[0], dim=1)
        return F.normalize(self.attention(torch.stack(views, 1)), dim=1)

    def _shown(self, kind: int) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        """A kind's features of users, and of items after one round; an item nobody chose keeps
        its own."""
        own = self.project[kind](self.tables.table(kind))
        own = F.dropout(own, self.config.dropout, self.training)
        users = self.graph.to_users(own)
        return users, torch.where(self.seen[:, None], self.graph.to_items(users), own)

    def _contrast(
        self, user: Int[Tensor, "batch"], users: Tensor, views: list[Tensor]
    ) -> Float[Tensor, ""]:
        """How well each kind's view of a user can be told by the fused one."""
        heat = self.config.contrast_temperature
        return torch.stack(
            [losses.in_batch_softmax(view[user], users[user], user, heat) for view in views]
        ).sum()

    def _judged(
        self,
        judge: Critic,
        batch: PairBatch,
        users: Tensor,
        items: Tensor,
        shown: list[tuple[Tensor, Tensor]],
    ) -> dict[str, Float[Tensor, ""]]:
        """The critic's loss, for its own weights; and what kinds lose by not pleasing it."""
        config = self.config
        user = batch.user[: config.critic_users]
        some = self._looked_at(batch.item[: config.critic_users])
        fake = torch.cat([F.normalize(u[user] @ i[some].T, dim=1) for u, i in shown])
        true = self._true_rows(user, some, users, items).repeat(len(shown), 1)
        told = judge(fake.detach(), some).mean() - judge(true, some).mean()
        frozen: dict[str, Tensor] = {k: p.detach() for k, p in judge.named_parameters()}
        pleased: Tensor = functional_call(judge, frozen, (fake, some))
        slope = _steepness(judge, true, fake.detach(), some)
        return {
            "critic": config.critic * (told + config.penalty * slope),
            "adversarial": -config.adversarial * pleased.mean(),
        }

    def _looked_at(self, chosen: Int[Tensor, "batch"]) -> Int[Tensor, "some"]:
        """These items and some drawn ones, sorted."""
        seen = self.seen.nonzero()[:, 0]
        drawn = seen[torch.randint(len(seen), (self.config.critic_items,), device=seen.device)]
        return torch.cat([chosen, drawn]).unique()

    def _true_rows(
        self, user: Int[Tensor, "batch"], some: Int[Tensor, "some"], users: Tensor, items: Tensor
    ) -> Float[Tensor, "batch some"]:
        """What these users chose of these items, made soft by noise, beside the fused scores, which
        are as dense as a kind's; of unit length."""
        chosen = self.graph.rows(user, some)
        noise = -torch.empty_like(chosen).exponential_().log()
        soft = ((chosen + 0.1 * noise) / self.config.gumbel_temperature).softmax(1)
        fused = F.normalize(users[user] @ items[some].T, dim=1)
        return F.normalize(F.normalize(soft, dim=1) + fused, dim=1)

    def _age(self) -> None:
        """Count a step, and rebuild the kinds' graphs when it is time. The count and the graphs
        are saved with the weights, so that a killed training goes on with the same ones."""
        if not self.joins:
            return
        if int(self.built) % self.config.rebuild_every == 0:
            with torch.no_grad():
                found = [self._best(kind) for kind in self.kinds]
            self.near.copy_(torch.stack(found))
            self._joined = None
        self.built += 1

    def _best(self, kind: int) -> Int[Tensor, "users k"]:
        """The items each user would like best by one kind, of those that training saw; 0, which is
        no item, where nothing of this kind is known of what a user chose."""
        users, items = (F.normalize(side, dim=1) for side in self._shown(kind))
        has = (self.tables.whole[kind] != 0).any(1, keepdim=True)
        known = self.graph.to_users(has.float())[:, 0] > 0
        k, found = self.near.shape[2], []
        for part in users.split(TILE):
            scores = (part @ items.T).masked_fill(~self.seen, -torch.inf)
            found.append(scores.topk(min(k, int(self.seen.sum())), dim=1).indices)
        best = torch.cat(found).int()
        best[~known] = 0  # they would all be given the same few, those alike to the mean video
        return F.pad(best, (0, k - best.shape[1]))

    def _forget(self) -> None:
        """Also the graphs by rows: weights that are put back bring graphs of their own."""
        super()._forget()
        self._joined = None

    def _graphs(self) -> list[tuple[Rows, Rows]]:
        """Each kind's graph by rows, and its transpose; empty before the first is built."""
        if self._joined is None or self._joined[0] is not self.near:
            self._joined = self.near, [self._rows(near) for near in self.near.long()]
        return self._joined[1]

    def _rows(self, near: Int[Tensor, "users k"]) -> tuple[Rows, Rows]:
        user = torch.arange(len(near), device=near.device).repeat_interleave(near.shape[1])
        item = near.flatten()
        user, item = user[item > 0], item[item > 0]
        degree = torch.bincount(item, minlength=len(self.counts))[item].float()
        value = (degree * near.shape[1]).rsqrt()
        users, items = len(near), len(self.counts)
        return by_rows(user, item, value, users), by_rows(item, user, value, items)


def _steepness(
    judge: Critic, true: Tensor, fake: Tensor, some: Int[Tensor, "some"]
) -> Float[Tensor, ""]:
    """How far the critic's slope between true and fake rows is from 1: mean square.

    Source: Gulrajani et al. 2017, arXiv:1704.00028, equation 3.
    """
    part = torch.rand(len(true), 1, device=true.device)
    mixed: Any = (part * true + (1 - part) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(judge(mixed, some).sum(), mixed, create_graph=True)
    return ((slope.norm(dim=1) - 1) ** 2).mean()
