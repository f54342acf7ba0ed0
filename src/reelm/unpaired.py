"""Statistics of two groups of independent units, such as the users of two arms of a trial."""

import math

import numpy as np
from jaxtyping import Float

from reelm.paired import Interval, t_quantile

MOST = 10_000
"""Degrees of freedom; beyond them the normal distribution is met to four digits."""

Values = Float[np.ndarray, "_"]


def welch_interval(one: Values, other: Values, confidence: float = 0.95) -> Interval:
    """Interval of mean(one) - mean(other), for groups of any size and spread.

    Degrees of freedom are rounded down, which makes it a little wider.

    Raises:
        ValueError: a group has fewer than two units, or a value is not finite.

    Source: Welch 1947, "The Generalization of Student's Problem".
    """
    if min(len(one), len(other)) < 2:
        raise ValueError("two units in each group at least")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise ValueError("a value is NaN or infinite; leave such units out")
    errors = [np.var(group, ddof=1) / len(group) for group in (one, other)]
    mean, total = np.mean(one) - np.mean(other), sum(errors)
    half = 0.0
    if total > 0:
        parts = zip(errors, (one, other), strict=True)
        freedom = total**2 / sum(error**2 / (len(group) - 1) for error, group in parts)
        half = t_quantile(confidence, min(MOST, max(1, int(freedom)))) * math.sqrt(total)
    return Interval(*(np.asarray(value) for value in (mean, mean - half, mean + half)))


def mismatch_p(one: int, other: int, share: float) -> float:
    """How likely a division at least as far from `share` is if it was made by chance.

    Args:
        one, other: units of each group; `share` (0..1, neither end) of all were to be in `other`.

    Source: Fabijan et al. 2019, "Diagnosing Sample Ratio Mismatch in Online Controlled
        Experiments", KDD.
    """
    from scipy.stats import binomtest

    return float(binomtest(other, one + other, share).pvalue) if one + other else 1.0
