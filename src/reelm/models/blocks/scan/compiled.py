"""The scan on a CPU, compiled by numba the first time and kept on disk from then on.

The backward pass starts from the state kept before each chunk and finds the others again, so that
besides inputs, outputs and slopes only those states need room. Compiling takes some ten processor
seconds once per machine; loading what was compiled takes half a second per process.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reelm.models.blocks.scan import kernels
from reelm.models.blocks.scan.inputs import Scanned, Slopes

LN2 = math.log(2)


def forward(tensors: tuple[Tensor, ...], chunk: int) -> Scanned:
    """Outputs, last state, and the states [batch, chunks, size, channels] before each chunk."""
    u, dt, a, b, c, d, state, reset = _laid_out(tensors)
    batch, length, channels = u.shape
    y, last = torch.empty_like(u), torch.empty_like(state)
    kept = u.new_empty((batch, -(-length // chunk), len(a), channels))
    given, found = _arrays(u, dt, a, b, c, d, state, reset), _arrays(y, kept, last)
    _in_parts(kernels.forward, batch * _blocks(channels), given, found, chunk)
    return Scanned(y, last[:, : tensors[2].shape[1]].transpose(1, 2), kept)


def backward(
    tensors: tuple[Tensor, ...], kept: Tensor, above: tuple[Tensor, Tensor], chunk: int
) -> Slopes:
    """Slopes by everything given; `above` are those by the outputs and by the last state."""
    u, dt, a, b, c, d, state, reset = _laid_out(tensors)
    (batch, _, channels), size = u.shape, tensors[2].shape[1]
    blocks = _blocks(channels)
    to_u, to_dt, to_a = torch.empty_like(u), torch.empty_like(dt), torch.empty_like(state)
    to_b, to_c = (b.new_empty((blocks, *b.shape)) for _ in range(2))
    to_d, to_state = u.new_zeros((batch, channels)), torch.empty_like(state)
    from_y, from_last = above[0].contiguous(), _even(above[1].transpose(1, 2), 1)
    given = _arrays(u, dt, a, b, c, d, kept, reset, from_y, from_last)
    found = _arrays(to_u, to_dt, to_a, to_b, to_c, to_d, to_state)
    _in_parts(kernels.backward, batch * blocks, given, found, chunk)
    to_b, to_c = (t.sum(0)[..., :size] for t in (to_b, to_c))
    return to_u, to_dt, to_a.sum(0)[:size].T, to_b, to_c, to_d.sum(0), to_state[:, :size].mT


def _laid_out(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """As the kernels take them: channels last, rates for powers of two, an even state size."""
    u, dt, a, b, c, d, state, reset = tensors
    rate = _even(a.T / LN2, 0)
    started = _even(state.transpose(1, 2), 1)
    b, c = _even(b, 2), _even(c, 2)
    return (
        u.contiguous(),
        dt.contiguous(),
        rate,
        b,
        c,
        d.contiguous(),
        started,
        reset.byte().contiguous(),
    )


def _even(x: Tensor, axis: int) -> Tensor:
    """With a row of zeros added where there is an odd number of rows."""
    if x.shape[axis] % 2:
        x = F.pad(x.movedim(axis, -1), (0, 1)).movedim(-1, axis)
    return x.contiguous()


def _arrays(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple(t.detach().numpy() for t in tensors)


def _blocks(channels: int) -> int:
    return -(-channels // kernels.WIDTH)


def _in_parts(
    kernel: Callable[..., None],
    items: int,
    given: tuple[Any, ...],
    found: tuple[Any, ...],
    chunk: int,
) -> None:
    """The kernel over all work items, in as many threads as torch may use."""
    threads = min(torch.get_num_threads(), items)
    if threads <= 1:
        kernel(given, found, (0, items), chunk)
        return
    ends = [items * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        spans = pairwise(ends)
        for done in [pool.submit(kernel, given, found, span, chunk) for span in spans]:
            done.result()
