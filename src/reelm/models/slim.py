"""SLIM: what a language model reasoned about users stands beside what a model of sequences read.

Source: Wang et al. 2024, "Can Small Language Models be Good Reasoners for Sequential
Recommendation?", arXiv:2403.04260, section 3.3.
Departures:
- **the cut**: a rationale was made from the first part of a history, and only what came after it is
  learned from; the paper makes it from all of the history it trains on, so that at each place but
  the last the answer may stand in the rationale (`after = false`);
- steps are encoded one by one and each is weighed by a gate; the paper encodes all three as one
  text, which its encoder cuts off;
- item vectors are a learned one plus one made of the text, which is what a linear layer over both
  side by side comes to, and so that items without training can do without the learned one;
- without ids (`items = "content"`) the history is still read, by the texts of its items; the paper
  reads the rationale alone;
- the layer over the state and the rationale is the state plus a linear layer over the rationale
  that begins at zero; who has no rationale, or is a stranger, gets the state alone;
- the loss is the backbone's; the paper's is logistic with one drawn item (`objective = "binary"`).
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from reelm.data.batches import SequenceBatch, sequences
from reelm.data.dataset import Dataset
from reelm.models.base import Factors, Retriever
from reelm.models.blocks.dropout import Dropout
from reelm.models.blocks.features import first_read, profile
from reelm.models.blocks.within import settings_within
from reelm.models.mamba4rec import Mamba4Rec
from reelm.models.sasrec import SASRec
from reelm.models.sequential import SequentialConfig

BACKBONES: dict[str, type[SASRec | Mamba4Rec]] = {"sasrec": SASRec, "mamba4rec": Mamba4Rec}


class SLIMConfig(SequentialConfig):
    """Section [model] of a slim run. `items` says which variant: both is the paper's with ids,
    content the one without."""

    items: Literal["id", "content", "both"] = "both"
    """What an item's vector is made of: a learned vector per item, its features, or their sum."""
    backbone: Literal["sasrec", "mamba4rec"] = "sasrec"
    """The model that reads histories; the paper has SASRec, GRU4Rec and SR-GNN."""
    backbone_settings: tuple[str, ...] = ()
    """Its settings where they are not its defaults, each as name=value; those that all models of
    sequences have are those of this section."""
    profiles: tuple[str, ...] = ()
    """Tables of users' vectors: the encoded steps of their rationales, one table each. None:
    the backbone alone."""
    profile_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of users whose rationale is left out of a step, so that histories do without it as
    they will for strangers."""
    after: bool = True
    """Learn only from what each user watched after what his profiles were made from. False is a
    leak, for comparison."""

    @model_validator(mode="after")
    def _own_histories(self) -> "SLIMConfig":
        if self.repeat == "foreign":
            raise ValueError("repeat = 'foreign' puts others' histories beside a user's rationale")
        return self


class Told(nn.Module):
    """Steps of users' rationales, and how they change states."""

    def __init__(self, tables: list[Float[Tensor, "users raw"]], config: SLIMConfig) -> None:
        super().__init__()
        for number, table in enumerate(tables):
            self.register_buffer(f"table_{number}", table)
        self.read = nn.ModuleList(nn.Linear(table.shape[1], config.dim) for table in tables)
        self.gate = nn.Linear(2 * config.dim, config.dim)
        self.out = nn.Linear(config.dim, config.dim, bias=False)
        nn.init.zeros_(self.out.weight)  # the backbone alone at first
        self.dropout, self.left_out = Dropout(config.dropout), config.profile_dropout

    def forward(
        self, states: Float[Tensor, "rows dim"], user: Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows dim"]:
        """The states, each changed by what was said of its user; -1 is a stranger."""
        users, place = user.unique(return_inverse=True)
        told = users >= 0
        if self.training and self.left_out:
            told &= torch.rand(len(users), device=users.device) >= self.left_out
        mixed = torch.zeros_like(states)
        for number, read in enumerate(self.read):
            rows = self.get_buffer(f"table_{number}")[users.clamp(min=0)]
            known = ((rows != 0).any(1) & told)[:, None]
            step = (self.dropout(read(rows)) * known)[place]
            mixed = mixed + torch.sigmoid(self.gate(torch.cat([states, step], dim=1))) * step
        return states + self.out(mixed)


class SLIM(Retriever):
    """A backbone whose states are told what was reasoned about the user."""

    Config = SLIMConfig
    uses_user = True
    stranger: ClassVar[int] = -1

    def __init__(self, config: SLIMConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.config = config
        kind = BACKBONES[config.backbone]
        own = settings_within(config, SequentialConfig, kind.Config, "backbone")
        self.backbone = kind(own, data)
        tables = [profile(data, name, "slim") for name in config.profiles]
        self.backbone.beside = Told(tables, config) if tables else None

    @classmethod
    def needs(cls, config: SLIMConfig) -> tuple[str, ...]:
        own = (f"profiles.{name}" for name in config.profiles)
        return (*BACKBONES[config.backbone].needs(config), *own)

    def batches(self, data: Dataset, size: int, rng: torch.Generator) -> Iterator[SequenceBatch]:
        """One epoch of places that no profile was made from.

        Raises:
            BadData: there are none.
        """
        config = self.config
        fill = (config.repeat, config.weigh)
        after = None
        if config.profiles and config.after:
            after = first_read(data, config.profiles, "slim")
        return sequences(data, size, config.max_length, rng, config.window, fill, after)

    def loss(self, batch: SequenceBatch) -> dict[str, Float[Tensor, ""]]:
        return self.backbone.loss(batch)

    def score(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch items"]:
        return self.backbone.score(user, history)

    def asking(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch dim"]:
        return self.backbone.asking(user, history)

    def factors(self) -> Factors:
        return self.backbone.factors()

    def item_vectors(self) -> Float[Tensor, "items dim"]:
        return self.backbone.item_vectors()
