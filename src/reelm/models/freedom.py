"""FREEDOM: LightGCN on a thinned graph, plus item vectors smoothed over a frozen graph of items
that look or sound alike.

Source: Zhou & Shen 2023, "A Tale of Two Graphs: Freezing and Denoising Graph Structures for
Multimodal Recommendation", arXiv:2211.06924.
Departures:
- any number of feature tables, with a weight each (`graph_weights`); the paper has pictures .1 and
  text .9;
- edges are drawn anew for every step instead of every epoch, so that a killed training goes on as
  if it had not been killed;
- items that training never saw have no learned vector: theirs is their neighbours' mean;
- AdamW, whose own decay of .01 comes on top of `decay` unless train.weight_decay is 0; the paper
  has Adam.
"""

import torch
from jaxtyping import Bool, Float
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from reelm import losses
from reelm.data.dataset import Dataset
from reelm.data.pairs import PairBatch
from reelm.models.blocks.features import FeatureTables
from reelm.models.blocks.graph import Bipartite, ItemGraph, alike, light_propagate
from reelm.models.pairwise import Compare, Pairwise, PairwiseConfig, embedding


class FREEDOMConfig(PairwiseConfig):
    """Section [model] of a freedom run."""

    features: tuple[str, ...] = ("text",)
    """Feature tables; each gives a graph of items."""
    feature_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of items whose features are left out of a step, each table's on its own."""
    graph_weights: tuple[NonNegativeFloat, ...] = ()
    """What each table's graph counts, in their order; unset: all alike."""
    neighbours: PositiveInt = 10
    """Most alike items that each item is joined to, by each table."""
    layers: NonNegativeInt = 2
    """Rounds along who chose what."""
    item_layers: PositiveInt = 1
    """Rounds along which items are alike."""
    edge_dropout: float = Field(default=0.8, ge=0, lt=1)
    """Share of edges left out of a training step; those of popular items and busy users go first.
    The paper has .8."""
    content_weight: NonNegativeFloat = 1e-3
    """Weight of the same loss on vectors made of features alone; the paper tries 0 to .1."""

    @model_validator(mode="after")
    def _as_many(self) -> "FREEDOMConfig":
        if self.graph_weights and len(self.graph_weights) != len(self.features):
            raise ValueError("graph_weights needs one number for each of features")
        return self


class FREEDOM(Pairwise):
    """Two graphs over the same learned vectors, added up."""

    Config = FREEDOMConfig

    def __init__(self, config: FREEDOMConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.config: FREEDOMConfig = config
        self.graph = Bipartite(data)
        self.tables = FeatureTables(data, config.features, "freedom", config.feature_dropout)
        self.near = _merged(self.tables.whole, config)
        self.user = embedding(len(data.users), config.dim)
        self.item = embedding(len(data.items), config.dim)
        widths = self.tables.widths if config.content_weight else []
        self.project = nn.ModuleList(nn.Linear(width, config.dim) for width in widths)

    @classmethod
    def needs(cls, config: FREEDOMConfig) -> tuple[str, ...]:
        return tuple(f"features.{name}" for name in config.features)

    def vectors(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        known = self.item * self.seen[:, None]
        near = known
        for _ in range(self.config.item_layers):
            near = self.near(near)
        thin = self.training and self.config.edge_dropout > 0
        graph = self.graph.dropped(self.config.edge_dropout) if thin else self.graph
        users, items = light_propagate(graph, self.user, known, self.config.layers)
        return users, items + near

    def loss_by(self, batch: PairBatch, compare: Compare) -> dict[str, Float[Tensor, ""]]:
        users, items = self.vectors()
        terms = compare(users, items)
        if self.config.content_weight:
            shown = [self._shown(users, batch, m) for m in range(len(self.project))]
            terms["content"] = self.config.content_weight * torch.stack(shown).sum()
        return terms

    def rankable(self) -> Bool[Tensor, "items"]:
        return self.seen | (self.near.value != 0).any(1)

    def _shown(self, users: Tensor, batch: PairBatch, m: int) -> Float[Tensor, ""]:
        """bpr where an item's vector is made of one feature table alone."""
        rows = torch.cat([batch.item, batch.negatives.flatten()])
        found = self.project[m](self.tables.table(m)[rows])
        item, against = found[: len(batch.item)], found[len(batch.item) :]
        against = against.view(*batch.negatives.shape, -1)
        user = users[batch.user]
        return losses.bpr((user * item).sum(1), (user[:, None] * against).sum(2))


def _merged(tables: list[Tensor], config: FREEDOMConfig) -> ItemGraph:
    """The graphs of all tables side by side, weighted to add up to 1."""
    weights = config.graph_weights or (1.0,) * len(tables)
    found = [alike(table, config.neighbours) for table in tables]
    share = [w / max(sum(weights), 1e-12) for w in weights]
    near = torch.cat([graph.near for graph in found], dim=1)
    value = torch.cat([graph.value * w for graph, w in zip(found, share, strict=True)], dim=1)
    return ItemGraph(near, value)
