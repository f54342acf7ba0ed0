"""ONCE: an item is read token by token, by layers of a language model that may learn with the rest.

Source: Liu et al. 2024, "ONCE: Boosting Content-based Recommendation with Both Open- and
Closed-source Large Language Models", arXiv:2305.06566: DIRE (section 3.1) with user encoders of
NRMS and NAML, and of GENRE (section 3.2) the fusion of profiles and the generated items.
Departures:
- binary cross-entropy on what was shown and liked or not; the paper draws four items for each
  chosen one from the same list and takes a softmax over the five;
- what the lower layers give is kept as at most `tokens` states per item, neighbours averaged, so
  that the tables of a catalogue fit; texts of no more tokens lose nothing;
- states are standardised over the catalogue before the linear layer: they have much in common, and
  a few columns a hundred times as large as the others;
- profiles and generated items come from a part of a history, and only what came after it is learned
  from; the paper makes them from all of it;
- topics and regions of a profile are whatever `profiles` tables hold, not learned embeddings; they
  are joined by PReLU in place of ReLU, and what comes of it is added to the user's vector, which
  the paper replaces (`joined = "replaced"`): a vector that is learned anew from a network is far
  from those of items;
- what was generated for a user is read as one event; it may be snapped to the nearest real one;
- tables of further features (pictures, sound) are read beside the states, as one state each;
- AdamW with a decay of .01 unless `[train]` says otherwise; the paper has Adam.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from reelm import files, halves
from reelm.data.dataset import Dataset
from reelm.errors import ConfigError
from reelm.models.blocks.fields import UserFields, mlp
from reelm.models.blocks.states import Additive, Reader, must_fit, nearest
from reelm.models.pointwise import Pointwise, PointwiseConfig

AT_ONCE = 256  # items that are read together between trainings


class ONCEConfig(PointwiseConfig):
    """Section [model] of a once run."""

    dim: PositiveInt = 64
    """Width of vectors of items and users; the paper has 64."""
    hidden: tuple[PositiveInt, ...] = (64,)
    """Widths of the layers that join a user's vector and profiles; not used without profiles."""
    joined: Literal["replaced", "added"] = "added"
    """What these layers give stands in the place of the user's vector, as in the paper, or is added
    to it, and is nothing at first."""
    states: str = "states"
    """Feature table that the encoder `states` made of each item; empty, none is read, which with
    `features` is the control that averages before it learns."""
    tokens: PositiveInt = 32
    """States of an item in that table, as its encoder was told."""
    top: NonNegativeInt = 0
    """Layers of the language model that are read and tuned here, as its encoder was told; the
    paper has 0, 1 and 2. With 0 no language model is needed any more."""
    language_model: str | None = None
    """Folder or hub id of the language model; unset: the pocket model's."""
    rank: PositiveInt = 8
    """Width of the low-rank adapters that the top layers are tuned by."""
    alpha: PositiveInt = 16
    """Their strength; what they add is multiplied by alpha / rank."""
    user_encoder: Literal["nrms", "naml"] = "nrms"
    """nrms: self-attention over the history, then additive attention; naml: the latter alone."""
    heads: PositiveInt = 4
    """Heads of the self-attention; must divide `dim`."""
    generated: str = ""
    """Table of users' states, made by the same encoder of descriptions of a video that each would
    like; a user of few events reads it as one more. Empty: none."""
    few: NonNegativeInt = 5
    """Events of a history up to which `generated` is read; the paper has 5."""
    generated_as: Literal["text", "nearest"] = "text"
    """text: the description is read as an item is; nearest: in its place the item of training whose
    mean state is nearest."""

    @model_validator(mode="after")
    def _reads(self) -> "ONCEConfig":
        if not self.states and not self.features:
            raise ValueError("set states, features or both")
        if not self.states and (self.top or self.generated):
            raise ValueError("top and generated are read like states: set states")
        if self.user_encoder == "nrms" and self.dim % self.heads:
            raise ValueError(f"heads = {self.heads} must divide dim = {self.dim}")
        return self


class SelfAttention(nn.Module):
    """Each event of a history gathers from all."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.mix = heads, nn.Linear(dim, 3 * dim)

    def forward(
        self, x: Float[Tensor, "batch length dim"], real: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length dim"]:
        """What is not real is gathered from by itself alone, so that nothing is divided by zero."""
        parts = self.mix(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        seen = (real[:, None] | itself)[:, None]
        return F.scaled_dot_product_attention(*parts, attn_mask=seen).transpose(1, 2).flatten(2)


class ONCE(Pointwise):
    """A user's vector, made of what was liked, times the vector of the item."""

    Config = ONCEConfig
    stranger: ClassVar[int] = -1

    def __init__(self, config: ONCEConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.config: ONCEConfig = config
        self.said += (config.generated,) if config.generated else ()
        self.register_buffer("vectors", torch.zeros(len(data.items), config.dim))
        self.vectors: Tensor
        """Of all items, as they are between trainings."""
        self.reader = self._reader(data) if len(data) else None
        self.mix = (
            SelfAttention(config.dim, config.heads) if config.user_encoder == "nrms" else None
        )
        self.attention = Additive(config.dim)
        self.users = UserFields(data, config.profiles, config.dim, "once")
        widths = (config.dim + self.users.width, *config.hidden)
        self.fuse = None
        if config.profiles:
            last = nn.Linear(widths[-1], config.dim)
            if config.joined == "added":
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
            self.fuse = nn.Sequential(mlp(widths, config.dropout), last)
        liked = 0.5 if data.exposures is None else float(data.exposures.label.mean())
        self.bias = nn.Parameter(torch.logit(torch.tensor(liked), eps=1e-3))
        self.wanted = Wanted(config, data) if config.generated else None
        self._fresh = False
        self.register_state_dict_pre_hook(lambda model, *_: model.refresh())
        self.register_load_state_dict_pre_hook(_taken_over)

    @classmethod
    def needs(cls, config: ONCEConfig) -> tuple[str, ...]:
        own = [f"features.{config.states}"] if config.states else []
        own += [f"profiles.{config.generated}"] if config.generated else []
        return (*super().needs(config), *own)

    def rate(
        self,
        user: Int[Tensor, "batch"],
        history: Int[Tensor, "batch length"],
        candidates: Int[Tensor, "batch candidates"],
    ) -> Float[Tensor, "batch candidates"]:
        wanted = self._wanted(user, history)
        if self.wanted is not None and self.config.generated_as == "nearest":
            history = torch.cat([history, self.wanted.nearest[user, None] * wanted[:, None]], 1)
        rows, place = torch.cat([history, candidates], 1).unique(return_inverse=True)
        vectors = self._items(rows)[place]
        read, rated = vectors[:, : history.shape[1]], vectors[:, history.shape[1] :]
        real = history != 0
        if self.wanted is not None and self.config.generated_as == "text":
            read = torch.cat([read, self._described(user)[:, None]], 1)
            real = torch.cat([real, wanted[:, None]], 1)
        about = self._about(user, read, real)
        return (rated @ about[:, :, None])[..., 0] + self.bias

    def train(self, mode: bool = True) -> "ONCE":
        """Also has the vectors made anew when they are next asked for."""
        self._fresh = False
        return super().train(mode)

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the vectors of all items, and those of generated ones, once the weights stand still;
        a loaded run has them and nothing to make them of."""
        if self.training or self._fresh or self.reader is None:
            return
        self._fresh = True
        every = torch.arange(len(self.vectors), device=self.vectors.device)
        self.vectors.copy_(torch.cat([self.reader(some) for some in every.split(AT_ONCE)]))
        if self.wanted is not None and self.wanted.states is not None:
            parts = self.wanted.states.split(AT_ONCE)
            self.wanted.vectors.copy_(torch.cat([self.reader.described(some) for some in parts]))

    def _reader(self, data: Dataset) -> Reader:
        config = self.config
        _check(config, data)
        adapters = (_source(config), config.top, config.rank, config.alpha)
        top = halves.adapted_top(*adapters) if config.top else None
        states = config.states, config.tokens
        return Reader(data, states, config.features, config.dim, config.dropout, top)

    def _items(self, rows: Int[Tensor, "rows"]) -> Float[Tensor, "rows dim"]:
        if self.reader is not None and (self.training or torch.is_grad_enabled()):
            return self.reader(rows)
        self.refresh()
        return self.vectors[rows]

    def _described(self, user: Int[Tensor, "batch"]) -> Float[Tensor, "batch dim"]:
        """Vectors of what was generated for these users."""
        assert self.wanted is not None
        if self.reader is None or not (self.training or torch.is_grad_enabled()):
            return self.wanted.vectors[user]
        assert self.wanted.states is not None
        rows, place = user.unique(return_inverse=True)
        return self.reader.described(self.wanted.states[rows])[place]

    def _wanted(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Bool[Tensor, "batch"]:
        """Who reads something generated: people of few events for whom there is any."""
        if self.wanted is None:
            return torch.zeros_like(user, dtype=torch.bool)
        few = (history != 0).sum(1) <= self.config.few
        return few & (user >= 0) & self.wanted.known[user]

    def _about(
        self,
        user: Int[Tensor, "batch"],
        read: Float[Tensor, "batch length dim"],
        real: Bool[Tensor, "batch length"],
    ) -> Float[Tensor, "batch dim"]:
        """The user's vector; a stranger's profiles count as zeros."""
        gathered = read if self.mix is None else self.mix(read, real)
        about = self.attention(gathered, real)
        if self.fuse is None:
            return about
        told = self.users(user.clamp(min=0)) * (user >= 0)[:, None]
        made = self.fuse(torch.cat([about, told], 1))
        return about + made if self.config.joined == "added" else made


class Wanted(nn.Module):
    """What was generated for users: never an item, so never a target, a negative or a count."""

    def __init__(self, config: ONCEConfig, data: Dataset) -> None:
        super().__init__()
        states = data.profile(config.generated, "once")
        self.register_buffer("states", states if len(data) else None, persistent=False)
        self.states: Tensor | None
        self.register_buffer("known", (states != 0).any(1))
        self.known: Tensor
        self.register_buffer("nearest", torch.zeros(len(states), dtype=torch.long))
        self.nearest: Tensor
        self.register_buffer("vectors", torch.zeros(len(states), config.dim))
        self.vectors: Tensor
        if len(data) and config.generated_as == "nearest":
            table = data.feature(config.states, "once")
            seen = torch.from_numpy(data.counts > 0)
            self.nearest.copy_(nearest(states, table, seen, config.tokens))


def _source(config: ONCEConfig) -> str:
    return config.language_model or str(halves.POCKET)


def _wanted_of(config: ONCEConfig) -> dict[str, Any]:
    """What the encoder of states must have been told."""
    wanted: dict[str, Any] = {"encoder": "states", "top": config.top, "tokens": config.tokens}
    if config.top and Path(_source(config)).is_dir():
        wanted["weights"] = files.weights_hash(_source(config))
    return wanted


def _check(config: ONCEConfig, data: Dataset) -> None:
    """See that tables of states are what the settings take them for.

    Raises:
        ConfigError: their encoder was told otherwise; or, where layers are to be tuned, nobody says
            what made them.
    """
    read = {
        f"features.{config.states}": config.states,
        f"profiles.{config.generated}": config.generated,
    }
    for name in (whole for whole, short in read.items() if short):
        made = data.encoders.get(name)
        if made is not None:
            must_fit(made, _wanted_of(config), name)
        elif config.top:
            raise ConfigError(
                f"once: nobody says what made {name}, so top = {config.top} may read states of "
                "another layer. Read it with `read_features`, or give Features its encoder's "
                "identity."
            )


def _taken_over(model: ONCE, found: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Before weights are loaded: a run without its data reads no item, it has their vectors."""
    model._fresh = False
    if model.reader is None:
        for name in [name for name in found if name.startswith(f"{prefix}reader.")]:
            del found[name]
