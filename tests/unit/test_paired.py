"""Paired statistics against scipy, against hand-worked examples, and on simulated worlds."""

import numpy as np
import pytest
from scipy import stats

from reelm import paired


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 30, 101])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_t_quantile_is_scipys(freedom, confidence):
    expected = stats.t.ppf((1 + confidence) / 2, freedom)
    assert paired.t_quantile(confidence, freedom) == pytest.approx(expected, rel=1e-9)


def test_t_interval_and_p_are_scipys(rng):
    one, other = rng.normal(0.1, 1, (5, 3)), rng.normal(0, 1, (5, 3))
    found = paired.t_interval(one - other)
    test = stats.ttest_rel(one, other)
    ends = test.confidence_interval(0.95)
    assert found.mean == pytest.approx((one - other).mean(0))
    assert found.low == pytest.approx(ends.low)
    assert found.high == pytest.approx(ends.high)
    assert paired.t_p(one - other) == pytest.approx(test.pvalue)


def test_t_p_without_spread():
    alike = np.array([[0.0, 0.25], [0.0, 0.25]])
    assert paired.t_p(alike).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("units", [4, 9, 12])
def test_few_units_are_tested_exactly(rng, units):
    difference = rng.normal(0.5, 1, units)
    expected = _scipy_flips(difference, 2**units)
    assert paired.sign_flip_p(difference) == pytest.approx(expected, abs=1e-12)


def test_fishers_example():
    """Darwin's fifteen pairs of maize, in eighths of an inch: 1,726 of 32,768 patterns reach the
    sum of 314 or go beyond it on either side (Fisher 1935, section 21)."""
    pairs = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], float)
    drawn = paired.sign_flip_p(pairs, resamples=60_000)
    assert drawn == pytest.approx(1726 / 32768, abs=0.003)


def test_many_units_are_tested_by_chance_as_scipy_does(rng):
    difference = rng.normal(0.15, 1, (200, 2))
    found = paired.sign_flip_p(difference, resamples=20_000, seed=1)
    for column in range(2):
        expected = _scipy_flips(difference[:, column], 20_000)
        assert found[column] == pytest.approx(expected, abs=0.01)


def test_p_is_never_zero_and_repeats_by_seed(rng):
    difference = rng.normal(3, 1, 100)
    first = paired.sign_flip_p(difference, resamples=500, seed=4)
    assert first == pytest.approx(1 / 501)
    weak = rng.normal(0.1, 1, 100)
    same = [float(paired.sign_flip_p(weak, 500, seed)) for seed in (4, 4, 5)]
    assert same[0] == same[1] != same[2]


def test_users_who_do_not_differ_say_nothing():
    """Nine users differ and a thousand do not: still exact, and the thousand change nothing."""
    nine = np.array([1.0, 1, 1, 1, 1, 1, 1, 1, -1])
    padded = np.concatenate([nine, np.zeros(1000)])
    assert paired.sign_flip_p(nine) == pytest.approx(20 / 512)  # 1 + 9 patterns on each side
    assert paired.sign_flip_p(padded) == pytest.approx(20 / 512)
    assert paired.sign_flip_p(np.zeros((5, 2))).tolist() == [1.0, 1.0]


def test_ties_with_the_observed_sum_count():
    """All sums are multiples of 0.2, which binary numbers only come near to."""
    difference = np.resize([0.2, -0.2, 0.2], 60)
    expected = stats.binomtest(40, 60).pvalue
    assert paired.sign_flip_p(difference, 50_000) == pytest.approx(expected, rel=0.1)


def test_bootstrap_is_scipys(rng):
    one, other = rng.exponential(1, 300), rng.exponential(0.9, 300)
    found = paired.bootstrap_interval(one - other, resamples=5000)
    expected = stats.bootstrap(
        (one, other),
        lambda a, b, axis: (a - b).mean(axis),
        paired=True,
        method="percentile",
        n_resamples=5000,
        rng=1,
    ).confidence_interval
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.06 * width)
    assert found.high == pytest.approx(expected.high, abs=0.06 * width)
    assert found.mean == pytest.approx((one - other).mean())


def test_columns_are_resampled_together_and_tiles_change_nothing(rng, monkeypatch):
    difference = rng.normal(0, 1, (150, 3))
    whole = paired.bootstrap_interval(difference, resamples=200)
    alone = paired.bootstrap_interval(difference[:, 1], resamples=200)
    assert whole.low.shape == (3,) and alone.low.shape == ()
    assert whole.low[1] == pytest.approx(alone.low)
    monkeypatch.setattr(paired, "TILE", 150 * 7)
    tiled = paired.bootstrap_interval(difference, resamples=200)
    assert tiled.high == pytest.approx(whole.high)


@pytest.mark.parametrize(
    ("units", "interval"), [(200, paired.bootstrap_interval), (5, paired.t_interval)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(rng, units, interval):
    """400 worlds as columns; hits of a rare event, so skewed for users; noise for seeds."""
    if units == 200:
        worlds = rng.binomial(1, 0.15, (units, 400)) - rng.binomial(1, 0.10, (units, 400)) * 1.0
        truth = 0.05
    else:
        worlds, truth = rng.normal(0.02, 0.01, (units, 400)), 0.02
    found = interval(worlds)
    share = np.mean((found.low <= truth) & (truth <= found.high))
    assert 0.92 <= share <= 0.98


def test_a_test_of_nothing_is_rarely_significant(rng):
    worlds = rng.normal(0, 1, (60, 400)) ** 3  # long tails
    share = np.mean(paired.sign_flip_p(worlds, resamples=999) <= 0.05)
    assert 0.02 <= share <= 0.08


def test_holm_by_hand():
    """Holm 1979: 0.01*4, 0.02*3, 0.03*2, 0.04*1, none below the one before."""
    found = paired.holm(np.array([0.04, 0.01, 0.03, 0.02]))
    assert found == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert paired.holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert paired.holm(np.zeros(0)).shape == (0,)


def test_holm_rejects_what_the_definition_rejects(rng):
    """Step down through the sorted p-values until one exceeds 0.05 / (tests left)."""
    for _ in range(50):
        p = rng.uniform(0, 0.06, 6)
        rejected = np.zeros(6, bool)
        for left, place in zip(range(6, 0, -1), np.argsort(p), strict=True):
            if p[place] > 0.05 / left:
                break
            rejected[place] = True
        assert ((paired.holm(p) <= 0.05) == rejected).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: paired.t_interval(np.array([0.1])),
        lambda: paired.bootstrap_interval(np.zeros(0)),
        lambda: paired.sign_flip_p(np.array([0.1, np.nan])),
        lambda: paired.holm(np.array([0.1, 1.2])),
    ],
)
def test_what_cannot_be_tested_is_refused(call):
    with pytest.raises(ValueError, match=r"needed|NaN|between"):
        call()


def _scipy_flips(difference: np.ndarray, resamples: int) -> float:
    return stats.permutation_test(
        (difference,), lambda x, axis: x.mean(axis), permutation_type="samples",
        n_resamples=resamples, vectorized=True, rng=2,
    ).pvalue  # fmt: skip
