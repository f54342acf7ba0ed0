"""Places that learn: a new video is drawn, and the chance of the draw is kept.

Regret is bounded twice: by the share of places (`engine.new_share`) and by the candidates, which
are the best of the never-seen videos. With the chances, clicks on drawn videos can be weighed to
say what another way to choose would have earned.
Source: Horvitz & Thompson 1952; Li et al. 2011, arXiv:1003.5956, on why drawing must be logged.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

LEAST = 10
"""Candidates at least, where there are as many."""


@dataclass(frozen=True)
class Drawn:
    """One draw."""

    row: int
    score: float
    propensity: float
    """The chance that this row had, given what was shown before."""


class Draws:
    """Candidates of one page, from which its exploring places are drawn one by one."""

    def __init__(
        self,
        rows: Int[np.ndarray, "candidates"],
        scores: Float[np.ndarray, "candidates"],
        even: float,
        rng: np.random.Generator,
    ) -> None:
        """
        Args:
            scores: finite; in standard deviations, as the softmax takes them as they are.
            even: share of chance that all candidates have alike, so no chance is below
                even / candidates.
        """
        self._rows, self._scores, self._even, self._rng = rows, scores, even, rng

    def next(self, taken: Collection[int]) -> Drawn | None:
        """Draw one that is not taken; None if there is none."""
        left = np.array([row not in taken for row in self._rows.tolist()], bool)
        if not left.any():
            return None
        rows, scores = self._rows[left], self._scores[left]
        chance = chances(scores, self._even)
        at = int(self._rng.choice(len(rows), p=chance))
        return Drawn(int(rows[at]), float(scores[at]), float(chance[at]))


def chances(scores: Float[np.ndarray, "candidates"], even: float) -> np.ndarray:
    """A mixture of an even draw, of weight `even`, and a softmax of the scores."""
    weight = np.exp(scores - scores.max())
    mixed = even / len(scores) + (1 - even) * weight / weight.sum()
    return mixed / mixed.sum()


def within(scores: Float[np.ndarray, "candidates"], share: float) -> int:
    """How many of so many candidates are drawn from."""
    return min(len(scores), max(LEAST, int(np.ceil(share * len(scores)))))
