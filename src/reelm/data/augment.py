"""Augmentation of training histories: RepPad, and the control arms that tell why it helps.

Source: Dang et al. 2024, "Repeated Padding for Sequential Recommendation", arXiv:2403.06372.
A history that is shorter than what a model reads leaves places empty. RepPad fills them, while
training only, with copies of the history, each with its own true next items; no label is made up:
at the seam between two copies the target is what came next, not the first item of the copy.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int64

Repeat = Literal["no", "random", "delimited", "fill", "isolated", "foreign"]


@dataclass(frozen=True)
class Places:
    """For each row and column of a batch: where in the packed array its item stands."""

    source: Int64[np.ndarray, "batch length"]
    """The place of the item; what comes next stands one further."""
    real: Bool[np.ndarray, "batch length"]
    part: Int64[np.ndarray, "batch length"]
    """0 for the history itself, 1, 2, ... for what was put in front of it."""


def filled(
    size: Int64[np.ndarray, "users"], max_length: int, repeat: Repeat, rng: torch.Generator
) -> Int64[np.ndarray, "users"]:
    """How many places each history takes up, with its copies.

    random, delimited, isolated, foreign: 1 to max_length // size copies more, each number equally
    likely (Dang et al. 2024: uniform on 1..max), the oldest cut where it does not fit; fill: all
    places are taken.
    """
    own = np.minimum(size, max_length)
    if repeat == "no":
        return own
    most = max_length // np.maximum(own, 1)
    if repeat == "fill":
        return np.where(most >= 1, max_length, own)
    drawn = torch.rand(len(size), generator=rng, dtype=torch.float64).numpy()
    copies = 1 + np.floor(drawn * most).astype(np.int64)
    copies[own >= max_length] = 0
    period = own + (repeat == "delimited")
    return np.minimum(own + copies * period, max_length)


def places(
    start: Int64[np.ndarray, "batch"],
    size: Int64[np.ndarray, "batch"],
    taken: Int64[np.ndarray, "batch"],
    repeat: Repeat,
) -> Places:
    """Where the items of a batch stand; newest in the last column, empty places to the left.

    Args:
        start, size: first place and length of each history in the packed array.
        taken: places each row takes up, from `filled`.

    Of a copy that does not fit the newest items are kept. With `foreign` the copies are of the
    history of the row above, so that only the filling is there and not its meaning.
    """
    back = np.arange(int(taken.max(initial=1)) - 1, -1, -1)[None, :]  # 0 for the newest
    own = size[:, None]
    last = start[:, None] + own - 1
    if repeat == "foreign":
        other_size, other_last = np.roll(own, 1, 0), np.roll(last, 1, 0)
        beyond = np.maximum(back - own, 0)
        source = np.where(back < own, last - back, other_last - beyond % other_size)
        return Places(source, back < taken[:, None], np.minimum(back // own, 1))
    period = own + (repeat == "delimited")
    inside = back % period
    real = (back < taken[:, None]) & (inside < own)
    return Places(last - np.minimum(inside, own - 1), real, back // period)


def learned(
    start: Int64[np.ndarray, "batch"],
    size: Int64[np.ndarray, "batch"],
    taken: Int64[np.ndarray, "batch"],
    repeat: Repeat,
    before: Int64[np.ndarray, "ends"],
) -> Int64[np.ndarray, "batch"]:
    """How many of each row's `places` are learned from, counted without placing them.

    Args:
        start, size, taken: as in `places`.
        before: of each interaction, and of the end, how many before it may be targets.
    """
    end = start + size + 1  # what follows the newest item is the last target

    def newest(end: np.ndarray, count: np.ndarray) -> np.ndarray:
        return before[end] - before[end - count]

    if repeat == "foreign":
        other, its_end = np.roll(size, 1), np.roll(end, 1)
        copies, rest = np.divmod(np.maximum(taken - size, 0), other)
        filling = copies * newest(its_end, other) + newest(its_end, rest)
        return newest(end, np.minimum(taken, size)) + filling
    copies, rest = np.divmod(taken, size + (repeat == "delimited"))
    return copies * newest(end, size) + newest(end, np.minimum(rest, size))
