"""The loops of the compiled scan: what numba turns into vector instructions when first called.

A channel is one lane. A work item is one row of the batch and `WIDTH` of its channels; items share
nothing, so that threads may take them in any order. Dimensions of the state are taken two at a
time, which spares half of the loads and stores of what all of them add to. What the inner loops
touch lies in few scratch arrays: the compiler must check that arrays do not overlap before it may
vectorise, and does not care to for many. Lanes beyond the last channel run along with zeros.
"""

from collections.abc import Callable
from functools import partial
from inspect import unwrap
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types

WIDTH = 128  # fewer lanes make loops so short that entering them costs more than running them

# 2**f for f in -.5 .. .5 is 1 + f * (C[0] + f * (C[1] + ...)), to 4e-9
C = tuple(
    np.float32(c)
    for c in (0.6931472, 0.2402265, 0.05550357, 0.009618057, 0.0013390867, 0.00015461448)
)
LOWEST, ONE, ZERO = np.float32(-126), np.float32(1), np.float32(0)
ROUND = np.float32(1.5 * 2**23)  # added, it leaves the nearest whole number in the lowest bits
PLACE = np.int32(23)  # of the exponent among the bits of a float32

# Scratch arrays, by their second axis; the last axis is the lane.
RATE, STATE, CARRY, TO_RATE = 0, 1, 1, 2  # per dimension of the state
STEP, DRIVE, OUT, ABOVE = 0, 1, 2, 2  # per place
TO_DRIVE, TO_STEP = 0, 1  # per place: slopes
DECAY, BEFORE = 0, 2  # per place: two dimensions of each

# Sums may be reordered and products fused; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}

intrinsic: Any = extending.intrinsic  # its type does not tell that it takes an argument away

Arrays = tuple[np.ndarray, ...]
Two = tuple[Any, Any, Any, Any]
"""Of one place and two dimensions of the state: b of the first and second, c of both."""
Item = tuple[int, int, int, int]
"""Row of the batch, number of the block of channels, its first channel, and how many there are."""


def quick(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`function` compiled at its first call; kept on disk where there is a folder to keep it in."""
    function = unwrap(function)  # of the type checks that tests put around every function
    settings = {"nogil": True, "fastmath": FAST, "error_model": "numpy", **options}
    try:
        return njit(cache=True, **settings)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return njit(**settings)(function)


@intrinsic
def as_float(typing: Any, bits: Any) -> Any:
    """The float32 that these 32 bits are."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def as_bits(typing: Any, x: Any) -> Any:
    """The 32 bits that this float32 is."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.IntType(32))

    return types.int32(types.float32), generate


@partial(quick, fastmath={"contract", "nsz"})  # reordered sums would undo the rounding
def power(x: Any) -> Any:
    """2**x for x <= 0; 0 below 2**-126."""
    x = LOWEST if x < LOWEST else x
    shifted = x + ROUND
    f = x - (shifted - ROUND)
    part = ONE + f * (C[0] + f * (C[1] + f * (C[2] + f * (C[3] + f * (C[4] + f * C[5])))))
    return as_float(as_bits(part) + (as_bits(shifted) << PLACE))


@quick
def item_at(number: int, channels: int) -> Item:
    """The work item of this number."""
    blocks = (channels + WIDTH - 1) // WIDTH
    low = number % blocks * WIDTH
    return number // blocks, number % blocks, low, min(WIDTH, channels - low)


@quick
def clear(lanes: np.ndarray) -> None:
    """Zeros everywhere: no trace of the item before, in lanes that the next does not fill."""
    for n in range(lanes.shape[0]):
        for axis in range(lanes.shape[1]):
            for i in range(WIDTH):
                lanes[n, axis, i] = ZERO


@quick
def fetch(source: np.ndarray, item: Item, dims: np.ndarray, axis: int) -> None:
    """One number per dimension and lane from [size, channels]."""
    for n in range(len(dims)):
        for i in range(item[3]):
            dims[n, axis, i] = source[n, item[2] + i]


@quick
def store(dims: np.ndarray, axis: int, target: np.ndarray, item: Item) -> None:
    """The reverse of `fetch`."""
    for n in range(len(dims)):
        for i in range(item[3]):
            target[n, item[2] + i] = dims[n, axis, i]


@quick
def two(b: np.ndarray, c: np.ndarray, n: int) -> Two:
    """Of the dimensions n and n + 1."""
    return b[n], b[n + 1], c[n], c[n + 1]


@quick
def advance(dims: np.ndarray, rows: np.ndarray, now: Two, n: int) -> None:
    """Two dimensions of the state one step on, and what they add to the output."""
    b0, b1, c0, c1 = now
    for i in range(WIDTH):
        step, drive = rows[0, STEP, i], rows[0, DRIVE, i]
        first = power(step * dims[n, RATE, i]) * dims[n, STATE, i] + b0 * drive
        second = power(step * dims[n + 1, RATE, i]) * dims[n + 1, STATE, i] + b1 * drive
        dims[n, STATE, i] = first
        dims[n + 1, STATE, i] = second
        rows[0, OUT, i] += c0 * first + c1 * second


@quick
def place(given: Arrays, item: Item, t: int, dims: np.ndarray, rows: np.ndarray) -> None:
    """All dimensions one step on; leaves the output in `rows`."""
    u, dt, b, c, d, reset = given
    row, _, low, width = item
    if reset[row, t]:
        for n in range(len(dims)):
            for i in range(WIDTH):
                dims[n, STATE, i] = ZERO
    for i in range(width):
        x = u[row, t, low + i]
        rows[0, STEP, i] = dt[row, t, low + i]
        rows[0, DRIVE, i] = rows[0, STEP, i] * x
        rows[0, OUT, i] = d[low + i] * x
    for n in range(0, len(dims), 2):
        advance(dims, rows, two(b[row, t], c[row, t], n), n)


@quick
def forward(given: Arrays, found: Arrays, items: tuple[int, int], every: int) -> None:
    """Outputs, states before every `every`th step, and last states, of some work items."""
    u, dt, a, b, c, d, start, reset = given
    y, kept, last = found
    dims = np.zeros((len(a), 2, WIDTH), np.float32)
    rows = np.zeros((1, 3, WIDTH), np.float32)
    for number in range(items[0], items[1]):
        item = item_at(number, u.shape[2])
        row, _, low, width = item
        if width < WIDTH:
            clear(dims)
            clear(rows)
        fetch(a, item, dims, RATE)
        fetch(start[row], item, dims, STATE)
        for t in range(u.shape[1]):
            if t % every == 0:
                store(dims, STATE, kept[row, t // every], item)
            place((u, dt, b, c, d, reset), item, t, dims, rows)
            for i in range(width):
                y[row, t, low + i] = rows[0, OUT, i]
        store(dims, STATE, last[row], item)


@quick
def rebuild(dims: np.ndarray, rows: np.ndarray, past: np.ndarray, now: Two, at: Any) -> None:
    """Two dimensions of the state one step on, as `advance`, kept with their decay."""
    q, n, start = at
    for i in range(WIDTH):
        step, drive = rows[q, STEP, i], rows[q, DRIVE, i]
        first, second = power(step * dims[n, RATE, i]), power(step * dims[n + 1, RATE, i])
        past[q, DECAY, i] = first
        past[q, DECAY + 1, i] = second
        past[q + 1, BEFORE, i] = first * past[q, BEFORE, i] + now[0] * drive
        past[q + 1, BEFORE + 1, i] = second * past[q, BEFORE + 1, i] + now[1] * drive
    if start:  # of a sequence: nothing of the state before is left
        for i in range(WIDTH):
            past[q, DECAY, i] = ZERO
            past[q, DECAY + 1, i] = ZERO
            past[q + 1, BEFORE, i] = now[0] * rows[q, DRIVE, i]
            past[q + 1, BEFORE + 1, i] = now[1] * rows[q, DRIVE, i]


@quick
def step_back(scratch: Arrays, now: Two, q: int, n: int) -> Two:
    """Slopes by b and c of one place and two dimensions, summed over channels; adds all others."""
    dims, rows, past, sums = scratch
    b0, b1, c0, c1 = now
    to_b0 = to_b1 = to_c0 = to_c1 = ZERO
    for i in range(WIDTH):
        above, drive, step = rows[q, ABOVE, i], rows[q, DRIVE, i], rows[q, STEP, i]
        first = c0 * above + dims[n, CARRY, i]
        second = c1 * above + dims[n + 1, CARRY, i]
        sums[q, TO_DRIVE, i] += b0 * first + b1 * second
        to_b0 += first * drive
        to_b1 += second * drive
        to_c0 += above * past[q + 1, BEFORE, i]
        to_c1 += above * past[q + 1, BEFORE + 1, i]
        first *= past[q, DECAY, i]
        second *= past[q, DECAY + 1, i]
        dims[n, CARRY, i] = first
        dims[n + 1, CARRY, i] = second
        first *= past[q, BEFORE, i]
        second *= past[q, BEFORE + 1, i]
        dims[n, TO_RATE, i] += first * step
        dims[n + 1, TO_RATE, i] += second * step
        sums[q, TO_STEP, i] += first * dims[n, RATE, i] + second * dims[n + 1, RATE, i]
    return to_b0, to_b1, to_c0, to_c1


@quick
def load(given: Arrays, item: Item, span: tuple[int, int], scratch: Arrays) -> None:
    """The places of a chunk into `rows`, zeros into `sums`; a span is a start and a length."""
    u, dt, from_y = given
    row, _, low, width = item
    _, rows, _, sums = scratch
    for q in range(span[1]):
        t = span[0] + q
        for i in range(width):
            rows[q, STEP, i] = dt[row, t, low + i]
            rows[q, DRIVE, i] = rows[q, STEP, i] * u[row, t, low + i]
            rows[q, ABOVE, i] = from_y[row, t, low + i]
            sums[q, TO_DRIVE, i] = ZERO
            sums[q, TO_STEP, i] = ZERO


@quick
def recall(kept: np.ndarray, item: Item, n: int, past: np.ndarray) -> None:
    """Two dimensions of the state before a chunk."""
    for i in range(item[3]):
        past[0, BEFORE, i] = kept[n, item[2] + i]
        past[0, BEFORE + 1, i] = kept[n + 1, item[2] + i]


@quick
def through(
    given: Arrays, found: Arrays, item: Item, span: tuple[int, int], scratch: Arrays
) -> None:
    """A chunk forward and back again, for all dimensions; arrays are those of the item's row."""
    b, c, reset, kept = given
    to_b, to_c = found
    dims, rows, past, _ = scratch
    start, steps = span
    for n in range(0, len(dims), 2):
        recall(kept, item, n, past)
        for q in range(steps):
            t = start + q
            rebuild(dims, rows, past, two(b[t], c[t], n), (q, n, reset[t]))
        for q in range(steps - 1, -1, -1):
            t = start + q
            slopes = step_back(scratch, two(b[t], c[t], n), q, n)
            to_b[t, n], to_b[t, n + 1], to_c[t, n], to_c[t, n + 1] = slopes


@quick
def unload(
    given: Arrays, found: Arrays, item: Item, span: tuple[int, int], scratch: Arrays
) -> None:
    """The slopes of a chunk's places by u and dt, and what they add to those by d."""
    u, d = given
    to_u, to_dt, to_d = found
    row, _, low, width = item
    _, rows, _, sums = scratch
    for q in range(span[1]):
        t = span[0] + q
        for i in range(width):
            x, drive = u[row, t, low + i], sums[q, TO_DRIVE, i]
            to_u[row, t, low + i] = drive * rows[q, STEP, i] + d[low + i] * rows[q, ABOVE, i]
            to_dt[row, t, low + i] = drive * x + sums[q, TO_STEP, i] * C[0]
            to_d[row, low + i] += rows[q, ABOVE, i] * x


@quick
def backward(given: Arrays, found: Arrays, items: tuple[int, int], every: int) -> None:
    """Slopes by everything given, of some work items.

    Those by a and d, which all rows share, come per row; those by b and c, which all channels
    share, per block of channels. `to_d` must be zeros at first.
    """
    u, dt, a, b, c, d, kept, reset, from_y, from_last = given
    to_u, to_dt, to_a, to_b, to_c, to_d, to_start = found
    length = u.shape[1]
    dims = np.zeros((len(a), 3, WIDTH), np.float32)
    rows, sums = np.zeros((every, 3, WIDTH), np.float32), np.zeros((every, 2, WIDTH), np.float32)
    past = np.zeros((every + 1, 4, WIDTH), np.float32)
    scratch = (dims, rows, past, sums)
    for number in range(items[0], items[1]):
        item = item_at(number, u.shape[2])
        row, block, _, width = item
        clear(dims)
        if width < WIDTH:
            clear(rows)
            clear(past)
        fetch(a, item, dims, RATE)
        fetch(from_last[row], item, dims, CARRY)
        for start in range((length - 1) // every * every, -1, -every):
            span = (start, min(every, length - start))
            load((u, dt, from_y), item, span, scratch)
            shared = (b[row], c[row], reset[row], kept[row, start // every])
            through(shared, (to_b[block, row], to_c[block, row]), item, span, scratch)
            unload((u, d), (to_u, to_dt, to_d), item, span, scratch)
        store(dims, TO_RATE, to_a[row], item)
        store(dims, CARRY, to_start[row], item)
