"""Two groups: against scipy, and by simulation."""

import numpy as np
import pytest
from scipy import stats

from reelm.unpaired import mismatch_p, welch_interval


def test_welch_is_scipys_but_for_the_rounding_of_its_freedom():
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.2, 1, 40), rng.normal(0, 3, 70)
    found = welch_interval(one, other)
    ends = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert found.mean == pytest.approx(one.mean() - other.mean())
    assert found.low == pytest.approx(ends.low, abs=2e-3) and found.low <= ends.low
    assert found.high == pytest.approx(ends.high, abs=2e-3) and found.high >= ends.high


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(500):
        found = welch_interval(rng.exponential(1.0, 60), rng.exponential(1.5, 30))
        inside += found.low <= -0.5 <= found.high
    assert 0.91 <= inside / 500 <= 0.98


def test_groups_that_do_not_vary():
    found = welch_interval(np.full(3, 2.0), np.full(4, 1.5))
    assert (found.low, found.mean, found.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("bad", [np.ones(1), np.array([1.0, np.nan])])
def test_what_cannot_be_compared(bad):
    with pytest.raises(ValueError, match=r"group|finite"):
        welch_interval(bad, np.ones(5))


def test_mismatch_of_many():
    assert mismatch_p(50_200, 49_800, 0.5) > 0.1
    assert mismatch_p(51_000, 49_000, 0.5) < 1e-8
    assert mismatch_p(0, 0, 0.5) == 1.0
