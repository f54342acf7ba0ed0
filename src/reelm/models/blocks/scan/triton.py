"""The scan as two Triton kernels, for GPUs.

A program takes one row of the batch and a block of its channels and holds their states in
registers from the first place to the last, so that states go to memory only once per chunk. The
backward pass starts from those, finds the other states of a chunk again, and leaves them in a
scratch tensor until it has gone back over the chunk. Slopes by what rows or channels share are
left per program and added up afterwards: no atomic sums, so one seed gives one result.
"""

from collections.abc import Callable
from inspect import unwrap
from typing import Any

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

from reelm.models.blocks.scan.inputs import Scanned, Slopes

BLOCK = 16  # channels of a program


def forward(tensors: tuple[Tensor, ...], chunk: int) -> Scanned:
    """Outputs, last state, and the states [batch, chunks, channels, size] before each chunk."""
    u, dt, a, b, c, d, state, reset = (t.contiguous() for t in tensors)
    batch, length, channels = u.shape
    y, last = torch.empty_like(u), torch.empty_like(state)
    kept = u.new_empty((batch, -(-length // chunk), *a.shape))
    grid = (batch, triton.cdiv(channels, BLOCK))
    given = (u, dt, a, b, c, d, state, reset.to(torch.int8))
    sizes: dict[str, Any] = {"SIZE": triton.next_power_of_2(a.shape[1]), "BLOCK": BLOCK}
    if grid[0] and grid[1]:
        _forward[grid](*given, y, kept, last, length, channels, a.shape[1], chunk, **sizes)
    return Scanned(y, last, kept)


def backward(
    tensors: tuple[Tensor, ...], kept: Tensor, above: tuple[Tensor, Tensor], chunk: int
) -> Slopes:
    """Slopes by everything given; `above` are those by the outputs and by the last state."""
    u, dt, a, b, c, d, state, reset = (t.contiguous() for t in tensors)
    from_y, from_last = (t.contiguous() for t in above)
    batch, length, channels = u.shape
    grid = (batch, triton.cdiv(channels, BLOCK))
    to_u, to_dt, to_state = (torch.empty_like(t) for t in (u, dt, state))
    to_a, to_d = torch.empty_like(state), u.new_empty((batch, channels))
    to_b, to_c = (t.new_empty((grid[1], *t.shape)) for t in (b, c))
    given = (u, dt, a, b, c, d, kept, reset.to(torch.int8), from_y, from_last)
    found = (to_u, to_dt, to_a, to_b, to_c, to_d, to_state)
    past = u.new_empty((batch, chunk, *a.shape))
    sizes: dict[str, Any] = {"SIZE": triton.next_power_of_2(a.shape[1]), "BLOCK": BLOCK}
    if grid[0] and grid[1]:
        _backward[grid](*given, *found, past, length, channels, a.shape[1], chunk, **sizes)
    return to_u, to_dt, to_a.sum(0), to_b.sum(0), to_c.sum(0), to_d.sum(0), to_state


def kernel(function: Callable[..., None]) -> Any:
    """`function` for the GPU, without the type checks that tests put around every function."""
    return triton.jit(unwrap(function))


@kernel
def _decay(step, rate, reset):
    """What is left of the state before; nothing where a sequence starts."""
    return tl.where(tl.load(reset) != 0, 0.0, tl.exp(step[:, None] * rate))


@kernel
def _forward(
    u, dt, a, b, c, d, start, reset,
    y, kept, last,
    length, channels, size, chunk,
    SIZE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    dim = tl.arange(0, SIZE)
    real, held = channel < channels, dim < size
    tile = channel[:, None] * size + dim[None, :]
    within = real[:, None] & held[None, :]
    states, chunks = channels * size, (length + chunk - 1) // chunk
    rate = tl.load(a + tile, mask=within, other=0.0)
    skip = tl.load(d + channel, mask=real, other=0.0)
    state = tl.load(start + row * states + tile, mask=within, other=0.0)
    for t in range(length):
        if t % chunk == 0:
            tl.store(kept + (row * chunks + t // chunk) * states + tile, state, mask=within)
        place = row * length + t
        x = tl.load(u + place * channels + channel, mask=real, other=0.0)
        step = tl.load(dt + place * channels + channel, mask=real, other=0.0)
        enter = tl.load(b + place * size + dim, mask=held, other=0.0)
        read = tl.load(c + place * size + dim, mask=held, other=0.0)
        decay = _decay(step, rate, reset + place)
        state = decay * state + (step * x)[:, None] * enter[None, :]
        out = tl.sum(state * read[None, :], axis=1) + skip * x
        tl.store(y + place * channels + channel, out, mask=real)
    tl.store(last + row * states + tile, state, mask=within)


@kernel
def _backward(
    u, dt, a, b, c, d, kept, reset, from_y, from_last,
    to_u, to_dt, to_a, to_b, to_c, to_d, to_start,
    past, length, channels, size, chunk,
    SIZE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    channel = block * BLOCK + tl.arange(0, BLOCK)
    dim = tl.arange(0, SIZE)
    real, held = channel < channels, dim < size
    tile = channel[:, None] * size + dim[None, :]
    within = real[:, None] & held[None, :]
    states, chunks = channels * size, (length + chunk - 1) // chunk
    shared = (block * tl.num_programs(0) + row) * length
    rate = tl.load(a + tile, mask=within, other=0.0)
    skip = tl.load(d + channel, mask=real, other=0.0)
    carry = tl.load(from_last + row * states + tile, mask=within, other=0.0)
    by_rate, by_skip = tl.zeros((BLOCK, SIZE), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for back in range(chunks):
        begin = (chunks - 1 - back) * chunk
        steps = tl.minimum(chunk, length - begin)
        state = tl.load(kept + (row * chunks + begin // chunk) * states + tile, mask=within)
        tl.debug_barrier()  # nobody still reads what this chunk is about to write
        for q in range(steps):
            tl.store(past + (row * chunk + q) * states + tile, state, mask=within)
            place = row * length + begin + q
            x = tl.load(u + place * channels + channel, mask=real, other=0.0)
            step = tl.load(dt + place * channels + channel, mask=real, other=0.0)
            enter = tl.load(b + place * size + dim, mask=held, other=0.0)
            decay = _decay(step, rate, reset + place)
            state = decay * state + (step * x)[:, None] * enter[None, :]
        tl.debug_barrier()  # what threads wrote, others may read
        for ahead in range(steps):
            q = steps - 1 - ahead
            place = row * length + begin + q
            at, other = place * channels + channel, (shared + begin + q) * size + dim
            before = tl.load(past + (row * chunk + q) * states + tile, mask=within, other=0.0)
            x = tl.load(u + at, mask=real, other=0.0)
            step = tl.load(dt + at, mask=real, other=0.0)
            above = tl.load(from_y + at, mask=real, other=0.0)
            enter = tl.load(b + place * size + dim, mask=held, other=0.0)
            read = tl.load(c + place * size + dim, mask=held, other=0.0)
            decay = _decay(step, rate, reset + place)
            drive = step * x
            after = decay * before + drive[:, None] * enter[None, :]
            slope = carry + above[:, None] * read[None, :]
            tl.store(to_b + other, tl.sum(slope * drive[:, None], axis=0), mask=held)
            tl.store(to_c + other, tl.sum(after * above[:, None], axis=0), mask=held)
            by_drive = tl.sum(slope * enter[None, :], axis=1)
            carry = slope * decay
            by_power = carry * before
            by_rate += by_power * step[:, None]
            by_skip += above * x
            by_step = by_drive * x + tl.sum(by_power * rate, axis=1)
            tl.store(to_dt + at, by_step, mask=real)
            tl.store(to_u + at, by_drive * step + skip * above, mask=real)
    tl.store(to_a + row * states + tile, by_rate, mask=within)
    tl.store(to_d + row * channels + channel, by_skip, mask=real)
    tl.store(to_start + row * states + tile, carry, mask=within)
