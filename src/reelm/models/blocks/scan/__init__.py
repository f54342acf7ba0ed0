"""The selective scan, exact and differentiable, by the quickest engine at hand.

| engine | where | needs |
|---|---|---|
| compiled | CPU | numba: pip install 'reelm[fast]' |
| triton | CUDA | triton, which comes with torch there |
| chunked | anywhere | torch |
| loop | anywhere | torch; the definition |
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reelm.errors import MissingPackage
from reelm.models.blocks.scan import loop
from reelm.models.blocks.scan.inputs import ScanInputs

__all__ = ["Engine", "ScanInputs", "engine_for", "selective_scan"]

Engine = Literal["compiled", "triton", "chunked", "loop"]
PACKAGES = {"compiled": ("numba", "fast"), "triton": ("triton", "gpu")}
CHUNKS = {"compiled": 16, "triton": 16, "chunked": 8}


def selective_scan(
    given: ScanInputs, engine: Engine | None = None, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs [batch, length, channels], and the state [batch, channels, size] after the last.

    Computed in float32 whatever comes in (chunked and loop: in float64 where that comes in), also
    within torch.autocast; outputs have the kind of `u`, the state that of the computation.
    Gradients reach every input and both outputs, once: they cannot be differentiated again except
    with `loop`.

    Args:
        engine: the quickest there is for the device, unless named.
        chunk: places between two kept states; more of them cost time once and memory less.

    Raises:
        MissingPackage: the engine named is not installed.
        ValueError: `a` is positive or `dt` negative somewhere, on a CPU: states would grow.

    Cost: O(batch * length * channels * size) time; O(batch * channels * size * length / chunk)
    extra memory.
    """
    chosen = engine or engine_for(given)
    with torch.autocast(given.u.device.type, enabled=False):
        if chosen == "loop":
            y, state = loop.scan(given)
        else:
            _check(given, chosen)
            length = chunk or CHUNKS[chosen]
            y, state = _Scan.apply(chosen, length, *given.precise().tensors())
    return y.to(given.u.dtype), state


def engine_for(given: ScanInputs) -> Engine:
    """The quickest engine that can take these."""
    kind = given.u.device.type
    if given.u.shape[1] == 1 and not torch.is_grad_enabled():
        return "loop"
    if kind == "cpu" and given.u.dtype != torch.float64 and find_spec("numba"):
        return "compiled"
    if kind == "cuda" and given.u.dtype != torch.float64 and find_spec("triton"):
        return "triton"
    return "chunked"


def _check(given: ScanInputs, engine: Engine) -> None:
    package, extra = PACKAGES.get(engine, ("torch", ""))
    if not find_spec(package):
        raise MissingPackage(package, extra, f"the scan by {engine}")
    if given.u.device.type != "cpu" or not given.u.numel():
        return  # looking would make the device wait
    if given.a.max() > 0 or given.dt.min() < 0:
        raise ValueError("a must not be positive, nor dt negative: states would grow at each step")


class _Scan(torch.autograd.Function):
    """One engine's forward and backward pass as a single operation."""

    @staticmethod
    def forward(ctx: Any, engine: str, chunk: int, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        ctx.engine = import_module(f"reelm.models.blocks.scan.{engine}")
        ctx.chunk = chunk
        found = ctx.engine.forward(tensors, chunk)
        ctx.save_for_backward(*tensors, found.kept)
        return found.y, found.state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator's
        *tensors, kept = ctx.saved_tensors
        with torch.autocast(above[0].device.type, enabled=False):
            slopes = ctx.engine.backward(tuple(tensors), kept, above, ctx.chunk)
        return None, None, *slopes, None
