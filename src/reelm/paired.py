"""Paired statistics: is one model better than another, on the same questions, seeds or both?

Everything takes differences that were paired already: one row per unit (a user, or a seed), one
column per metric, or no columns. What the units are decides what an interval speaks about: over
users it speaks about other users of these very models, over seeds about other trainings.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

TILE = 1 << 22  # numbers of resampled units held at once
EXACT = 12  # units up to which every sign pattern is tried: 4096 of them

Differences = Float[np.ndarray, "units"] | Float[np.ndarray, "units columns"]
Values = Float[np.ndarray, ""] | Float[np.ndarray, "columns"]


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its interval; arrays of one number per column."""

    mean: Values
    low: Values
    high: Values


def bootstrap_interval(
    difference: Differences, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile interval of a mean paired difference: units are drawn again with replacement.

    All columns are resampled by the same draws. Right for hundreds of units or more; below about
    thirty the interval is too narrow, and `t_interval` is the better one.

    Args:
        confidence: share of such intervals that hold the true mean, 0..1.
        resamples: how often all units are drawn.

    Raises:
        ValueError: no units, or a difference that is not finite.

    Cost: O(resamples * units * columns) time, memory for a few TILE numbers.
    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.
    """
    table, shape = _table(difference)
    units = len(table)
    rng = np.random.default_rng(seed)
    small = table.astype(np.float32)
    means = np.empty((resamples, table.shape[1]))
    step = max(1, TILE // units)
    for at in range(0, resamples, step):
        rows = min(step, resamples - at)
        drawn = rng.integers(0, units, (rows, units))
        drawn += np.arange(rows)[:, None] * units
        times = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)
        means[at : at + rows] = times.astype(np.float32) @ small / units
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail), axis=0)
    return Interval(table.mean(0).reshape(shape), low.reshape(shape), high.reshape(shape))


def t_interval(difference: Differences, confidence: float = 0.95) -> Interval:
    """Student's interval of a mean paired difference: for few units, such as five seeds.

    Raises:
        ValueError: fewer than two units, or a difference that is not finite.

    Source: Student 1908, "The Probable Error of a Mean".
    """
    table, shape = _table(difference, least=2)
    half = t_quantile(confidence, len(table) - 1) * _error_of_mean(table)
    mean = table.mean(0)
    return Interval(mean.reshape(shape), (mean - half).reshape(shape), (mean + half).reshape(shape))


def t_p(difference: Differences) -> Values:
    """Two-sided p-value of the paired t-test: could the mean difference be 0?

    Differences that are all 0 give 1; all alike and not 0 give 0.

    Raises:
        ValueError: fewer than two units, or a difference that is not finite.

    Source: Student 1908, "The Probable Error of a Mean".
    """
    table, shape = _table(difference, least=2)
    mean, error = np.abs(table.mean(0)), _error_of_mean(table)
    t = np.divide(mean, error, out=np.where(mean > 0, np.inf, 0.0), where=error > 0)
    freedom = len(table) - 1
    angles = np.arctan(t / math.sqrt(freedom))
    found = [max(0.0, 1 - _t_inside(float(angle), freedom)) for angle in angles]
    return np.array(found).reshape(shape)


def sign_flip_p(difference: Differences, resamples: int = 10_000, seed: int = 0) -> Values:
    """Two-sided p-value of the paired permutation test on the mean.

    If the two models were alike, each unit's difference could as well have the other sign. The
    p-value is the share of sign patterns whose mean is at least as far from 0. With at most
    EXACT units that differ, all patterns are tried; else `resamples` random ones, and the
    observed pattern counts as one more, so that p is never 0 and never too small.

    Five seeds cannot give less than 2 / 2**5 = 0.0625: test over users.

    Raises:
        ValueError: no units, or a difference that is not finite.

    Cost: O(resamples * units * columns) time, memory for a few TILE numbers.
    Source: Fisher 1935, "The Design of Experiments", section 21; the count of the observed
        pattern: Phipson & Smyth 2010, "Permutation P-values Should Never Be Zero".
    """
    table, shape = _table(difference)
    table = table[np.any(table != 0, axis=1)]  # zeros have no sign
    if not len(table):
        return np.ones(shape)
    total, room = np.abs(table.sum(0)), 1e-6 * np.abs(table).sum(0)  # room for rounding
    least = total - room
    if len(table) <= EXACT:
        return _far(_all_signs(len(table)), table, least).mean(0).reshape(shape)
    rng = np.random.default_rng(seed)
    small, hits = table.astype(np.float32), np.ones(table.shape[1])
    step = max(1, TILE // len(table))
    for at in range(0, resamples, step):
        bits = _bits(rng, min(step, resamples - at), len(table))
        hits += _far(bits, small, least).sum(0)
    return (hits / (resamples + 1)).reshape(shape)


def holm(p: Float[np.ndarray, "tests"]) -> Float[np.ndarray, "tests"]:
    """P-values made larger so that calling all below 0.05 errs at all in at most 5 % of cases.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none is smaller than the
    one before it, none larger than 1.

    Raises:
        ValueError: a p-value outside 0..1.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    p = np.asarray(p, np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values lie between 0 and 1")
    order = np.argsort(p, kind="stable")
    raised = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    adjusted = np.empty_like(p)
    adjusted[order] = raised
    return adjusted


def t_quantile(confidence: float, freedom: int) -> float:
    """The t for which a share `confidence` of Student's distribution lies between -t and t.

    Args:
        freedom: degrees of freedom, 1 or more.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(80):  # halves the angle's uncertainty each time, to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, freedom) < confidence else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _t_inside(angle: float, freedom: int) -> float:
    """P(|T| < sqrt(freedom) * tan(angle)) for whole degrees of freedom.

    Source: Abramowitz & Stegun 1964, 26.7.3 and 26.7.4.
    """
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    steps = np.arange(2 + odd, freedom - 1 + odd, 2)  # of which each term has one more
    terms = np.cumprod(np.concatenate([[1.0], cosine**2 * (steps - 1) / steps]))
    if not odd:
        return sine * float(terms.sum())
    series = sine * cosine * float(terms.sum()) if freedom > 1 else 0.0
    return 2 / math.pi * (angle + series)


def _table(
    difference: Differences, least: int = 1
) -> tuple[Float[np.ndarray, "units columns"], tuple[int, ...]]:
    """Differences as a table, and the shape that answers take."""
    given = np.asarray(difference, np.float64)
    if len(given) < least:
        raise ValueError(f"{len(given)} units: at least {least} needed")
    if not np.isfinite(given).all():
        raise ValueError("a difference is NaN or infinite; leave such units or columns out")
    return given.reshape(len(given), -1), given.shape[1:]


def _error_of_mean(table: Float[np.ndarray, "units columns"]) -> Float[np.ndarray, "columns"]:
    return table.std(0, ddof=1) / math.sqrt(len(table))


def _all_signs(units: int) -> Float[np.ndarray, "patterns units"]:
    """Every pattern of 0 and 1."""
    return ((np.arange(2**units)[:, None] >> np.arange(units)) & 1).astype(np.float64)


def _bits(rng: np.random.Generator, rows: int, units: int) -> Float[np.ndarray, "rows units"]:
    """Zeros and ones by chance."""
    raw = np.frombuffer(rng.bytes(-(-rows * units // 8)), np.uint8)
    return np.unpackbits(raw, count=rows * units).reshape(rows, units).astype(np.float32)


def _far(
    bits: Float[np.ndarray, "rows units"],
    table: Float[np.ndarray, "units columns"],
    least: Float[np.ndarray, "columns"],
) -> Bool[np.ndarray, "rows columns"]:
    """Whether the sum under each pattern, 1 for a sign kept, is at least so far from 0."""
    return np.abs(2 * (bits @ table) - table.sum(0, dtype=np.float64)) >= least
