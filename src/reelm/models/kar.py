"""KAR: what a language model said of users and of items enters a CTR model as two more fields.

Source: Xi et al. 2024, "Towards Open-World Recommendation with Knowledge Augmentation from Large
Language Models", arXiv:2306.10933, section 4.3.
Departures:
- knowledge is standardised, and who has none gets zeros in place of an answer to nothing;
- weights are chosen on validation; the authors' code has no validation set and keeps what was best
  on the test;
- the rate of AdamW stands still (`schedule`); in the code it falls along a cosine;
- `adaptor = "mlp"` is the control the paper calls MLP, here as wide as all experts of a tower.
"""

from typing import Literal, cast

import torch
from jaxtyping import Float, Int
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.errors import ConfigError
from reelm.models.blocks.features import profile
from reelm.models.blocks.fields import mlp
from reelm.models.blocks.items import standardised
from reelm.models.blocks.within import settings_within
from reelm.models.dcn import DCN
from reelm.models.din import DIN
from reelm.models.pointwise import Pointwise, PointwiseConfig

BACKBONES: dict[str, type[DIN | DCN]] = {"din": DIN, "dcn": DCN}


class KARConfig(PointwiseConfig):
    """Section [model] of a kar run."""

    backbone: Literal["din", "dcn"] = "din"
    """The CTR model that is added to."""
    backbone_settings: tuple[str, ...] = ()
    """Its settings where they are not its defaults, each as name=value; those that all CTR models
    have are those of this section."""
    user_knowledge: str = ""
    """Table of users' vectors: the encoded text of what was said of each; empty, none is read."""
    item_knowledge: str = "text"
    """Feature table: the encoded text of what was said of each video; empty, none is read."""
    adaptor: Literal["hybrid", "shared", "dedicated", "mlp"] = "hybrid"
    """hybrid: shared and dedicated experts; shared, dedicated: only these; mlp: no experts."""
    shared: PositiveInt = 2
    """Experts of both towers; the paper has 2 to 5."""
    dedicated: PositiveInt = 4
    """Experts of each tower; the paper has 2 to 6."""
    expert_hidden: PositiveInt = 128
    """Width of an expert's hidden layer."""
    expert_dim: PositiveInt = 32
    """Width of what a tower gives the backbone."""

    @model_validator(mode="after")
    def _knows(self) -> "KARConfig":
        if not self.user_knowledge and not self.item_knowledge:
            raise ValueError("set user_knowledge, item_knowledge or both")
        return self


class Tower(nn.Module):
    """One table of knowledge, and the experts that turn it into a field."""

    def __init__(
        self, table: Float[Tensor, "rows raw"], shared: int, dedicated: int, config: KARConfig
    ) -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.table: Tensor
        raw, hidden = table.shape[1], config.expert_hidden
        if config.adaptor == "mlp":
            hidden *= config.shared + config.dedicated
        self.own = nn.ModuleList(expert(raw, hidden, config.expert_dim) for _ in range(dedicated))
        self.gate = nn.Linear(raw, shared + dedicated) if shared + dedicated > 1 else None

    def forward(
        self, rows: Int[Tensor, "rows"], shared: nn.ModuleList
    ) -> Float[Tensor, "rows dim"]:
        """The field of these rows; zero where nothing is known."""
        known = self.table[rows]
        answers = torch.stack([one(known) for one in (*shared, *self.own)], dim=1)
        mixed = (self.weights(known)[:, :, None] * answers).sum(1)
        return mixed * (known != 0).any(1, keepdim=True)

    def weights(self, known: Float[Tensor, "rows raw"]) -> Float[Tensor, "rows experts"]:
        """What each expert counts."""
        if self.gate is None:
            return torch.ones(len(known), 1, device=known.device)
        return self.gate(known).softmax(1)


class KAR(Pointwise):
    """A hybrid-expert adaptor in front of a CTR model; both are learned together."""

    Config = KARConfig

    def __init__(self, config: KARConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.said += (config.user_knowledge,) if config.user_knowledge else ()
        tables = knowledge(config, data)
        shared = config.shared if config.adaptor in ("hybrid", "shared") else 0
        dedicated = {"shared": 0, "mlp": 1}.get(config.adaptor, config.dedicated)
        raw = next(iter(tables.values())).shape[1]
        self.shared = nn.ModuleList(
            expert(raw, config.expert_hidden, config.expert_dim) for _ in range(shared)
        )
        self.towers = nn.ModuleDict(
            {side: Tower(table, shared, dedicated, config) for side, table in tables.items()}
        )
        more = config.expert_dim * len(tables)
        kind = BACKBONES[config.backbone]
        own = settings_within(config, PointwiseConfig, kind.Config, "backbone")
        self.backbone = kind(own, data, more)
        self._kept: dict[str, Tensor] = {}  # while the weights stay as they are
        self.register_load_state_dict_post_hook(lambda model, keys: model._kept.clear())

    @classmethod
    def needs(cls, config: KARConfig) -> tuple[str, ...]:
        item = [f"features.{config.item_knowledge}"] if config.item_knowledge else []
        user = [f"profiles.{config.user_knowledge}"] if config.user_knowledge else []
        return tuple(dict.fromkeys((*super().needs(config), *item, *user)))

    def rate(
        self,
        user: Int[Tensor, "batch"],
        history: Int[Tensor, "batch length"],
        candidates: Int[Tensor, "batch candidates"],
    ) -> Float[Tensor, "batch candidates"]:
        rows = {"user": user[:, None].expand_as(candidates), "item": candidates}
        told = torch.cat([self._field(side, rows[side]) for side in self.towers], dim=2)
        return self.backbone.rate(user, history, candidates, told)

    def train(self, mode: bool = True) -> "KAR":
        """Also forgets the fields that were kept while the weights stood still."""
        self._kept.clear()
        return super().train(mode)

    def gates(self) -> dict[str, Float[Tensor, "rows experts"]]:
        """What each expert counts for each user and item of whom anything is known."""
        found = {}
        for side in self.towers:
            tower = self._tower(side)
            with torch.no_grad():
                found[side] = tower.weights(tower.table[(tower.table != 0).any(1)])
        return found

    def _tower(self, side: str) -> Tower:
        return cast(Tower, self.towers[side])

    def _field(self, side: str, rows: Int[Tensor, "batch candidates"]) -> Tensor:
        """A tower's answers, zeros for a stranger (row -1). Between trainings those of all rows are
        made once and kept, so that serving costs what the backbone costs."""
        tower, known = self._tower(side), (rows >= 0)[..., None]
        rows = rows.clamp(min=0)
        if self.training or torch.is_grad_enabled():
            some, place = rows.unique(return_inverse=True)
            return tower(some, self.shared)[place] * known
        if side not in self._kept:
            every = torch.arange(len(tower.table), device=rows.device)
            parts = [tower(some, self.shared) for some in every.split(4096)]
            self._kept[side] = torch.cat(parts)
        return self._kept[side][rows] * known


def expert(raw: int, hidden: int, dim: int) -> nn.Sequential:
    """One expert: a hidden layer and an answer."""
    return nn.Sequential(mlp((raw, hidden), 0.0), nn.Linear(hidden, dim))


def knowledge(config: KARConfig, data: Dataset) -> dict[str, Float[Tensor, "rows raw"]]:
    """The tables by side, standardised.

    Raises:
        MissingInput: the dataset was loaded without one.
        ConfigError: their widths differ, and experts are to be shared.
    """
    found = {}
    if config.user_knowledge:
        found["user"] = profile(data, config.user_knowledge, "kar")
    if config.item_knowledge:
        found["item"] = standardised(data, config.item_knowledge, "kar")
    widths = {table.shape[1] for table in found.values()}
    if len(widths) > 1 and config.adaptor in ("hybrid", "shared"):
        raise ConfigError(
            f"kar: knowledge of users and of items is {' and '.join(map(str, sorted(widths)))} "
            "wide, so that no expert can read both. Encode both with one encoder, or set "
            'model.adaptor = "dedicated".'
        )
    return found
