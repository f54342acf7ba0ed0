"""PromptMM's teacher: LightGCN with feature vectors, both tuned by a prompt made of the features.

Source: Wei et al. 2024, "PromptMM: Multi-Modal Knowledge Distillation for Recommendation with
Prompt-Tuning", arXiv:2402.17188; the distillation itself is `reelm.distill`.
Departures:
- the authors' code (70da100) was followed for the order of steps, the paper for what they mean;
- principal components of the tables lie side by side before the linear layer, not averaged: axes
  of different tables have nothing in common;
- features go along the edges once, before their projection, which is linear, and not at every
  step; the prompt tunes them after it, on both sides;
- no softmax over the dimensions in the last round, which would make that round nearly constant;
- one symmetric scale for all rounds; the code scales rows only;
- items keep their own features beside what comes back from their users, so that items that training
  never saw have vectors; their learned vector does not count;
- any number of tables, sound included; the code has pictures and text;
- weights are chosen on validation; the code stops on the test;
- AdamW's own decay is .01 unless `[train]` says otherwise; the code's teachers have 1e-3.
"""

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.data.pairs import PairBatch
from reelm.models.blocks.dropout import Dropout
from reelm.models.blocks.graph import Bipartite, light_propagate
from reelm.models.blocks.items import LENGTH, standardised, unit
from reelm.models.pairwise import Pairwise, PairwiseConfig, embedding, preferred

Rows = Int[Tensor, "_"] | slice
Sides = tuple[Tensor, Tensor]
"""Vectors of users and of items."""


class PromptMMConfig(PairwiseConfig):
    """Section [model] of a promptmm run."""

    features: tuple[str, ...] = ("text",)
    """Feature tables that are read."""
    layers: NonNegativeInt = 2
    """Rounds along who chose what; the paper has 2."""
    prompt_dim: PositiveInt = 32
    """Principal components of each table that the prompts are made of; the paper has 32."""
    content_weight: PositiveFloat = 0.3
    """Length of each table's vectors in the sum that is scored; the code has .028 to .8."""
    id_prompt: NonNegativeFloat = 0.1
    """Length of the prompt that learned vectors are raised by; the code has .005 to .1."""
    feature_prompt: NonNegativeFloat = 1.0
    """Length of what the prompt adds to projected features; the code has .01 to 9."""
    content_loss: NonNegativeFloat = 0.01
    """Weight of bpr on each table's vectors alone; the code has 0 to 1."""
    prompt_loss: PositiveFloat = 0.1
    """Weight of bpr on the prompts alone."""
    content_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of projected features set to zero while training; the paper has .4 and .6."""


class PromptMM(Pairwise):
    """Learned vectors smoothed along who chose what, plus those of each feature table.

    Cost: lightgcn's, and O(users * raw) numbers for each table beside the features.
    """

    Config = PromptMMConfig

    def __init__(self, config: PromptMMConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.config: PromptMMConfig = config
        self.graph = Bipartite(data)
        tables = [standardised(data, name, "promptmm") for name in config.features]
        self.register_buffer("known", torch.cat(tables, dim=1).any(1))
        self.known: Tensor
        for number, table in enumerate(tables):
            for side, shown in zip(("user", "item"), _shown(self.graph, table), strict=True):
                self.register_buffer(f"{side}_{number}", shown)
        hard = torch.cat([components(table, config.prompt_dim) for table in tables], dim=1)
        self.register_buffer("hard_item", hard)
        self.register_buffer("hard_user", Bipartite(data, "mean").to_users(hard))
        self.hard_item: Tensor
        self.hard_user: Tensor
        self.prompt = nn.Linear(hard.shape[1], config.dim, bias=False)
        self.project = nn.ModuleList(
            nn.Linear(table.shape[1], config.dim, bias=False) for table in tables
        )
        self.dropout = Dropout(config.content_dropout)
        self.user = embedding(len(data.users), config.dim)
        self.item = embedding(len(data.items), config.dim)

    @classmethod
    def needs(cls, config: PromptMMConfig) -> tuple[str, ...]:
        return tuple(f"features.{name}" for name in config.features)

    def vectors(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        prompt = self._prompt()
        users, items = self._smoothed(prompt)
        for of_users, of_items in self._content(prompt, slice(None), slice(None)):
            users = users + self.config.content_weight * of_users
            items = items + self.config.content_weight * of_items
        return users, items

    def loss(self, batch: PairBatch) -> dict[str, Float[Tensor, ""]]:
        """Content is made of the batch's rows alone where no others are looked at."""
        prompt = self._prompt()
        users, items = self._smoothed(prompt)
        named = torch.cat([batch.item, batch.negatives.flatten()])
        user, of_user = batch.user.unique(return_inverse=True)
        item, of_item = named.unique(return_inverse=True)
        if self.config.objective == "softmax":  # which draws from all items
            item, of_item = torch.arange(len(items), device=named.device), named
        content = self._content(prompt, user, item)
        for of_users, of_items in content:
            users = users.index_add(0, user, self.config.content_weight * of_users)
            items = items.index_add(0, item, self.config.content_weight * of_items)
        terms = self.compared(batch, users, items)
        chosen, negatives = of_item.split([len(batch.user), batch.negatives.numel()])
        placed = PairBatch(of_user, chosen, negatives.view_as(batch.negatives))
        shown = torch.stack([preferred(placed, *sides) for sides in content]).sum()
        terms["content"] = self.config.content_loss * shown
        terms["prompt"] = self.config.prompt_loss * preferred(batch, *prompt)
        return terms

    def rankable(self) -> Bool[Tensor, "items"]:
        return self.seen | self.known

    def _prompt(self) -> Sides:
        """Of users, from what they chose, and of items, from their features."""
        return self.prompt(self.hard_user), self.prompt(self.hard_item)

    def _smoothed(self, prompt: Sides) -> Sides:
        """Learned vectors and prompts after the rounds."""
        user = self.user + self.config.id_prompt * unit(prompt[0])
        item = self.item * self.seen[:, None] + self.config.id_prompt * unit(prompt[1])
        return light_propagate(self.graph, user, item, self.config.layers)

    def _content(self, prompt: Sides, user: Rows, item: Rows) -> list[Sides]:
        """Unit vectors of these users and items by each table."""
        parts = []
        for number, project in enumerate(self.project):
            tables = self.get_buffer(f"user_{number}"), self.get_buffer(f"item_{number}")
            shared = project(prompt[1].T @ tables[1])  # of all items, by what prompts point to
            users = self._tuned(project(tables[0][user]), prompt[0][user] @ shared)
            parts.append((users, self._tuned(project(tables[1][item]), prompt[1][item] @ shared)))
        return parts

    def _tuned(
        self, own: Float[Tensor, "rows dim"], like: Float[Tensor, "rows dim"]
    ) -> Float[Tensor, "rows dim"]:
        """Projected features, and what items of like prompts show."""
        return unit(self.dropout(own + self.config.feature_prompt * unit(like)))


def _shown(graph: Bipartite, table: Float[Tensor, "items raw"]) -> Sides:
    """A table as users see it through what they chose, and as items do: half their own, half what
    comes back from their users. Rows have length LENGTH or, where nothing is known, 0."""
    users = graph.to_users(table)
    back = graph.to_items(users)
    return LENGTH * unit(users), LENGTH * unit(unit(table) + unit(back))


def components(table: Float[Tensor, "items raw"], count: int) -> Float[Tensor, "items count"]:
    """A standardised table along its first principal axes; items without a vector stay zero.

    Raw widths below `count` give as many columns as they are wide. Cost: O(items * raw²) time.
    """
    axes = torch.linalg.eigh(table.T @ table).eigenvectors
    return table @ axes.flip(1)[:, :count]
