"""Mamba4Rec: a selective state space reads the history in place of attention.

Source: Liu et al. 2024, "Mamba4Rec: Towards Efficient Sequential Recommendation with Selective
State Space Models", arXiv:2403.03900; the block from Gu & Dao 2023 (Mamba), arXiv:2312.00752.
Departures:
- every place of a history is learned from in one pass; the authors' code makes a row of each
  prefix and learns from its last place alone;
- steps of the scan start between .001 and .1 as in Mamba; the authors' code overwrites that, and
  with it makes all steps start near ln 2, which is `dt_start = "blanket"`;
- an item's vector may come from frozen features of the video (`items`), and other losses than
  the softmax over all items are settings, as for all sequential models;
- AdamW with a decay of .01, but for the scan's rates and skips, a rate of .002 and gradients of
  length 1 at most, unless `[train]` says otherwise; the authors have Adam without decay and .001.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.errors import ConfigError
from reelm.models.blocks.dot import dot
from reelm.models.blocks.dropout import Dropout
from reelm.models.blocks.mamba import Mamba, MambaShape, MambaState, Part
from reelm.models.sequential import Sequential, SequentialConfig, gelu


class Mamba4RecConfig(SequentialConfig):
    """Section [model] of a mamba4rec run; the paper's values, those for ML-1M."""

    layers: PositiveInt = 1
    """Mamba layers, each with a feed-forward network. A single one adds nothing to its input's
    path; of several, each adds to what it was given."""
    state: PositiveInt = 32
    """Numbers of state per channel."""
    conv: PositiveInt = 4
    """Places that the convolution before the scan sees."""
    expand: PositiveInt = 2
    """Channels of the scan per `dim`."""
    dt_start: Literal["mamba", "blanket"] = "mamba"
    """How steps of the scan start. mamba: .001 to .1; blanket: near ln 2, as in the authors' code,
    where all weights are normal with deviation .02."""
    objective: Literal["sampled", "softmax", "binary", "gbce"] = "softmax"
    """As for every sequential model; the paper's is softmax, against all items training has
    seen."""
    max_length: PositiveInt = 200
    """Newest items of a history that are read; older ones are cut. The paper has 50 for Amazon."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of activations set to zero while training; the paper has 0.4 for Amazon."""


@dataclass(frozen=True)
class UserState:
    """What is kept of a batch of users between two items; the same size after any number."""

    layers: tuple[MambaState, ...]
    hidden: Float[Tensor, "batch dim"]
    """After the newest item; zeros before the first."""


class MambaLayer(nn.Module):
    """A Mamba block, then a feed-forward network, each followed by a norm."""

    def __init__(self, shape: MambaShape, dropout: float, alone: bool) -> None:
        super().__init__()
        self.alone = alone
        self.mamba = Mamba(shape)
        self.norm_mamba, self.norm_forward = nn.LayerNorm(shape.dim), nn.LayerNorm(shape.dim)
        self.wide = nn.Linear(shape.dim, 4 * shape.dim)
        self.narrow = nn.Linear(4 * shape.dim, shape.dim)
        for layer in (self.wide, self.narrow):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch length dim"], part: Part = None
    ) -> Float[Tensor, "batch length dim"]:
        """Item t sees items 0..t; padding must stand after the last item."""
        return self._finish(x, self.mamba(x, part))

    def step(
        self, x: Float[Tensor, "batch dim"], state: MambaState
    ) -> tuple[Float[Tensor, "batch dim"], MambaState]:
        """One item on."""
        mixed, state = self.mamba.step(x, state)
        return self._finish(x, mixed), state

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        mixed = self.dropout(mixed).float()  # what is added up stays precise under autocast
        hidden = self.norm_mamba(mixed if self.alone else mixed + x)
        wide = self.dropout(gelu(self.wide(hidden)))
        return self.norm_forward(hidden + self.dropout(self.narrow(wide)))


class Mamba4Rec(Sequential):
    """Item vectors, Mamba layers, dot product with the item vectors; no place is told."""

    Config = Mamba4RecConfig

    def __init__(self, config: Mamba4RecConfig, data: Dataset) -> None:
        super().__init__(config, data)
        shape = MambaShape(config.dim, config.state, config.conv, config.expand, config.dt_start)
        alone = config.layers == 1
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(
            MambaLayer(shape, config.dropout, alone) for _ in range(config.layers)
        )

    def states(
        self,
        x: Float[Tensor, "batch length dim"],
        real: Bool[Tensor, "batch length"],
        part: Part = None,
    ) -> Float[Tensor, "batch length dim"]:
        x = self.norm(self.dropout(x))
        for layer in self.layers:
            x = layer(x, part)
        return x

    def begin(self, batch: int) -> UserState:
        """The state of users of whom nothing is known.

        Raises:
            ConfigError: the model also reads what a state does not hold.
        """
        if self.taste is not None or self.beside is not None:
            raise ConfigError(
                "mamba4rec: a state that goes on item by item has neither the taste (model.taste) "
                "nor the rationales of a user. Use score() with the whole history."
            )
        layers = tuple(layer.mamba.begin(batch) for layer in self._layers())
        hidden = torch.zeros(batch, self.config.dim, device=self.counts.device)
        return UserState(layers, hidden)

    @torch.no_grad()
    def advance(
        self, state: UserState, item: Int[Tensor, "batch"]
    ) -> tuple[UserState, Float[Tensor, "batch items"]]:
        """Users one item on, and what they are then recommended: scores as of `score` on the whole
        history, at a cost that does not grow with it. Nothing older is cut, whatever `max_length`.

        Args:
            item: the newest item of each user; 0 leaves a user as before.

        Call it in eval mode.
        """
        read, compared = self._all()
        x = self.norm(self.dropout(read[item]))
        after = []
        for layer, kept in zip(self._layers(), state.layers, strict=True):
            x, one = layer.step(x, kept)
            after.append(_where(item != 0, one, kept))
        hidden = torch.where((item != 0)[:, None], x, state.hidden)
        scores = self._known_first(self._tilted(dot(hidden, compared)))
        return UserState(tuple(after), hidden), scores

    def _layers(self) -> list[MambaLayer]:
        return [layer for layer in self.layers if isinstance(layer, MambaLayer)]


def _where(moved: Bool[Tensor, "batch"], new: MambaState, old: MambaState) -> MambaState:
    rows = moved[:, None, None]
    window = torch.where(rows, new.window, old.window)
    return MambaState(window, torch.where(rows, new.state, old.state))
