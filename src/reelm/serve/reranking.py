"""Candidates in an order that trades score for variety, greedily: MMR, or the likeliest set of a
determinantal point process.

Source: Carbonell & Goldstein 1998, "The Use of MMR"; Chen, Zhang & Zhou 2018, "Fast Greedy MAP
Inference for Determinantal Point Process", arXiv:1709.05135.
Departures: MMR looks at the last places only, as `near` says, those of the page before too.
"""

import numpy as np
from jaxtyping import Float, Int

TINY = 1e-10
"""Volume that a candidate must add, relative to its own; less is what the chosen ones hold."""
JITTER = 1e-3
"""Added to the likeness of each with itself, so that two alike can both be chosen, late."""

Order = Int[np.ndarray, "_"]


def unit(vectors: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows dim"]:
    """Each vector with length 1; zeros stay zeros, and are like nothing."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)


def relevance(scores: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
    """Scores as numbers from 0, the lowest, to 1; all 1 if they do not differ."""
    span = np.ptp(scores)
    return (scores - scores.min()) / span if span > 0 else np.ones_like(scores)


def mmr(
    worth: Float[np.ndarray, "rows"], alike: Float[np.ndarray, "rows rows"], count: int,
    strength: float, near: int = 8, before: Float[np.ndarray, "before rows"] | None = None,
) -> Order:  # fmt: skip
    """At most `count` rows, one by one that of the best (1 - strength) * worth - strength * most.

    `most` is the greatest likeness to one of the `near` rows just chosen.

    Args:
        worth: 0..1.
        alike: likeness of all pairs, 1 for the same.
        before: likeness to what was shown before these, oldest first.
    """
    recent = [] if before is None else list(before)
    left = worth * (1 - strength)
    out: list[int] = []
    for _ in range(min(count, len(worth))):
        most = np.max(recent[-near:], axis=0) if recent else np.zeros(len(worth))
        out.append(int(np.argmax(left - strength * most)))
        left[out[-1]] = -np.inf
        recent.append(alike[out[-1]])
    return np.array(out, np.int64)


def dpp(
    worth: Float[np.ndarray, "rows"], alike: Float[np.ndarray, "rows rows"], count: int,
    strength: float,
) -> Order:  # fmt: skip
    """At most `count` rows, one by one that which adds most to log det of the kernel.

    The kernel is exp(a * worth_i) * alike_ij * exp(a * worth_j) with a = (1 - s) / (2 * s); at
    strength 0 the order is by worth. When nothing adds volume any more, the rest is by worth.

    Cost: O(count² * rows).
    """
    if strength <= 0:
        return np.argsort(-worth, kind="stable")[:count]
    rows = len(worth)
    log_quality = (1 - strength) / strength * worth  # of L_ii; twice that of one side
    made = np.zeros((min(count, rows), rows))
    own = np.full(rows, 1.0 + JITTER)
    taken = np.zeros(rows, bool)
    out: list[int] = []
    for step in range(len(made)):
        gain = np.where(own > TINY, log_quality + np.log(np.maximum(own, TINY)), -np.inf)
        gain[taken] = -np.inf
        if not np.isfinite(gain).any():
            break
        at = int(np.argmax(gain))
        row = (alike[at] - made[:step].T @ made[:step, at]) / np.sqrt(own[at])
        made[step] = row
        own, taken[at] = own - row**2, True
        out.append(at)
    rest = [i for i in np.argsort(-worth, kind="stable").tolist() if not taken[i]]
    return np.array((out + rest)[:count], np.int64)
