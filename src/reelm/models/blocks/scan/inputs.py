"""What a selective scan takes, and how its engines hand results over."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class ScanInputs:
    """The recurrence h[t] = exp(dt[t] a) h[t-1] + dt[t] b[t] u[t], y[t] = c[t] . h[t] + d u[t].

    Each channel has its own state of `size` numbers. Source: Gu & Dao 2023, "Mamba",
    arXiv:2312.00752, algorithm 2; b enters by Euler's rule, as in the authors' code.
    """

    u: Float[Tensor, "batch length channels"]
    """What drives the states."""
    dt: Float[Tensor, "batch length channels"]
    """Step lengths, not negative: a softplus has been taken already."""
    a: Float[Tensor, "channels size"]
    """Rates of decay, not positive."""
    b: Float[Tensor, "batch length size"]
    """How the input enters the state."""
    c: Float[Tensor, "batch length size"]
    """How the output is read from the state."""
    d: Float[Tensor, "channels"]
    """Share of the input that goes straight to the output."""
    state: Float[Tensor, "batch channels size"] | None = None
    """State before the first place; zeros if None."""
    reset: Bool[Tensor, "batch length"] | None = None
    """Places where a sequence starts: the state before them is not looked at."""

    def precise(self) -> "ScanInputs":
        """The same in float32, or in float64 where that is what came in; nothing is None."""
        kind = torch.float64 if self.u.dtype == torch.float64 else torch.float32
        batch, length, channels = self.u.shape
        state, reset = self.state, self.reset
        if state is None:
            state = self.u.new_zeros((batch, channels, self.a.shape[1]), dtype=kind)
        if reset is None:
            reset = torch.zeros(batch, length, dtype=torch.bool, device=self.u.device)
        u, dt, a, b, c, d = (t.to(kind) for t in (self.u, self.dt, self.a, self.b, self.c, self.d))
        return replace(self, u=u, dt=dt, a=a, b=b, c=c, d=d, state=state.to(kind), reset=reset)

    def tensors(self) -> tuple[Tensor, ...]:
        """All fields in order; call `precise` first."""
        assert self.state is not None and self.reset is not None
        return self.u, self.dt, self.a, self.b, self.c, self.d, self.state, self.reset


@dataclass(frozen=True)
class Scanned:
    """What a forward pass hands over."""

    y: Float[Tensor, "batch length channels"]
    state: Float[Tensor, "batch channels size"]
    """After the last place."""
    kept: Tensor
    """States at the start of each chunk, laid out as the engine likes; for its backward pass."""


Slopes = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""By u, dt, a, b, c, d and the first state, each in the shape of what it belongs to."""
