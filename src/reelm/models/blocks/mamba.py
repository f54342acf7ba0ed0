"""The Mamba block: a gated selective scan behind a short causal convolution.

Source: Gu & Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
arXiv:2312.00752, figure 3 and section 3.6; initial values as in the authors' code.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from reelm.models.blocks.scan import ScanInputs, selective_scan

SHORTEST, LONGEST = 1e-3, 1e-1  # step lengths at the start, spread evenly on a logarithmic scale
BLANKET = 0.02  # deviation of all weights under the blanket start

Part = Int[Tensor, "batch length"] | None


@dataclass(frozen=True)
class MambaShape:
    """Sizes of a block, and how it starts."""

    dim: int
    """Width of what comes in and goes out."""
    state: int = 16
    """Numbers of state per channel."""
    conv: int = 4
    """Places the convolution sees, the current one included."""
    expand: int = 2
    """Channels of the scan per `dim`."""
    dt_start: Literal["mamba", "blanket"] = "mamba"
    """mamba: weights as its authors set them, steps .001 to .1; blanket: all weights normal with
    deviation .02 and no biases, which makes all steps start near ln 2."""

    @property
    def channels(self) -> int:
        """Channels of convolution and scan."""
        return self.expand * self.dim

    @property
    def rank(self) -> int:
        """Width of what step lengths are made of."""
        return math.ceil(self.dim / 16)


@dataclass(frozen=True)
class MambaState:
    """What a block keeps of everything it has read; its size does not depend on how much."""

    window: Float[Tensor, "batch window channels"]
    """Newest inputs of the convolution, one less than it sees."""
    state: Float[Tensor, "batch channels size"]
    """State of the scan."""


class Mamba(nn.Module):
    """Each place sees itself and those before it, through a state that content opens and decays."""

    undecayed = ("log_rate", "skip")
    """Weights that weight decay leaves alone: towards 0 all rates would become one."""

    def __init__(self, shape: MambaShape) -> None:
        super().__init__()
        self.shape = shape
        channels, size, rank = shape.channels, shape.state, shape.rank
        self.enter = nn.Linear(shape.dim, 2 * channels, bias=False)
        self.conv = nn.Conv1d(channels, channels, shape.conv, groups=channels)  # weights only
        self.select = nn.Linear(channels, rank + 2 * size, bias=False)
        self.step_length = nn.Linear(rank, channels)
        self.log_rate = nn.Parameter(torch.arange(1.0, size + 1).log().repeat(channels, 1))
        self.skip = nn.Parameter(torch.ones(channels))
        self.leave = nn.Linear(channels, shape.dim, bias=False)
        if shape.dt_start == "mamba":
            _spread(self.step_length)
        else:
            self.apply(_blanket)

    def forward(
        self, x: Float[Tensor, "batch length dim"], part: Part = None
    ) -> Float[Tensor, "batch length dim"]:
        """Place t depends on places 0..t, of its own part where parts are given.

        A part is a run of equal numbers, so its first place is where the number changes.
        """
        driven, gate = self.enter(x).chunk(2, dim=-1)
        u = F.silu(self._convolve(driven, part))
        reset = None if part is None else F.pad(part[:, 1:] != part[:, :-1], (1, 0), value=True)
        y, _ = selective_scan(self._inputs(u, None, reset))
        return self.leave(y * F.silu(gate))

    def begin(self, batch: int) -> MambaState:
        """The state before the first place."""
        channels, device = self.shape.channels, self.skip.device
        return MambaState(
            torch.zeros(batch, self.shape.conv - 1, channels, device=device),
            torch.zeros(batch, channels, self.shape.state, device=device),
        )

    def step(
        self, x: Float[Tensor, "batch dim"], state: MambaState
    ) -> tuple[Float[Tensor, "batch dim"], MambaState]:
        """One place on; gives what `forward` would for the last place of all that was read."""
        driven, gate = self.enter(x).chunk(2, dim=-1)
        window = torch.cat([state.window, driven[:, None].float()], dim=1)
        u = F.silu(self._convolve(window, None)[:, -1:])
        y, after = selective_scan(self._inputs(u, state.state, None))
        return self.leave(y[:, 0] * F.silu(gate)), MambaState(window[:, 1:], after)

    def _inputs(self, u: Tensor, state: Tensor | None, reset: Tensor | None) -> ScanInputs:
        size = self.shape.state
        low, b, c = self.select(u).split([self.shape.rank, size, size], dim=-1)
        dt = F.softplus(F.linear(low, self.step_length.weight).float() + self.step_length.bias)
        return ScanInputs(u, dt, -self.log_rate.exp(), b, c, self.skip, state, reset)

    def _convolve(self, x: Tensor, part: Part) -> Tensor:
        """Depthwise and causal, as shifted products: quicker on a CPU than moving channels."""
        weight = self.conv.weight[:, 0].to(x.dtype)
        assert self.conv.bias is not None
        out = torch.addcmul(self.conv.bias.to(x.dtype), x, weight[:, -1])
        for back in range(1, min(self.shape.conv, x.shape[1])):
            shifted = x[:, :-back]
            if part is not None:
                shifted = shifted * (part[:, back:] == part[:, :-back])[..., None]
            out[:, back:].addcmul_(shifted, weight[:, -1 - back])
        return out


def _spread(layer: nn.Linear) -> None:
    """Biases whose softplus is spread from `SHORTEST` to `LONGEST`, whatever comes in."""
    bound = layer.in_features**-0.5
    nn.init.uniform_(layer.weight, -bound, bound)
    with torch.no_grad():
        low, high = math.log(SHORTEST), math.log(LONGEST)
        step = torch.empty_like(layer.bias).uniform_(low, high).exp()
        layer.bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus


def _blanket(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=BLANKET)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
