import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelm import metrics
from reelm.errors import NonFinite

rankings = st.lists(st.integers(1, 500), min_size=1, max_size=20, unique=True)
numbers = st.floats(-1e6, 1e6, width=32)


@given(rankings, st.integers(1, 100), st.integers(0, 100))
def test_every_metric_is_a_share_and_hits_grow_with_the_list(ranks, k, more):
    found = metrics.per_question(np.array(ranks), np.array([0, len(ranks)]), (k, k + more))
    assert all(0 <= value[0] <= 1 + 1e-12 for value in found.values())
    assert found[f"hit@{k}"] <= found[f"hit@{k + more}"]


@given(st.integers(1, 50), st.integers(1, 50))
def test_a_perfect_list_has_one(targets, k):
    found = metrics.per_question(np.arange(1, targets + 1), np.array([0, targets]), (k,))
    assert all(value[0] == pytest.approx(1) for value in found.values())


@given(st.integers(2, 200), st.data())
def test_a_constant_model_ranks_its_target_last(items, data):
    target = np.array([data.draw(st.integers(0, items - 1))])
    scores = np.zeros((1, items), np.float32)
    assert metrics.ranks(scores, np.array([0]), target).tolist() == [items]


@given(st.lists(numbers, min_size=2, max_size=60, unique=True), st.data())
def test_a_rank_is_the_place_in_the_sorted_list(scores, data):
    target = data.draw(st.integers(0, len(scores) - 1))
    place = sorted(scores, reverse=True).index(scores[target]) + 1
    row = np.array([scores], np.float32)
    assert metrics.ranks(row, np.array([0]), np.array([target])).tolist() == [place]


@given(st.lists(numbers, min_size=3, max_size=30), st.data())
def test_targets_of_a_question_have_places_of_their_own(scores, data):
    places = st.integers(0, len(scores) - 1)
    targets = data.draw(st.lists(places, min_size=1, max_size=len(scores), unique=True))
    row = np.array([scores], np.float32)
    found = metrics.ranks(row, np.zeros(len(targets), np.int64), np.array(targets))
    assert len(set(found.tolist())) == len(targets)
    assert found.min() >= 1
    assert found.max() <= len(scores)


@given(st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 2))
def test_a_number_that_is_none_is_refused(wrong, place):
    scores = np.zeros((1, 3), np.float32)
    scores[0, place] = wrong
    with pytest.raises(NonFinite):
        metrics.ranks(scores, np.array([0]), np.array([1]))


@given(st.integers(1, 2000), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_list_is_the_head_of_the_sorted_row(items, k, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-5, rng.integers(1, 10**6), (2, items)).astype(np.float32)  # ties
    pool, row = rng.random(items) < 0.7, rng.integers(0, 2, items // 3)
    barred = row, rng.integers(0, items, items // 3)
    found = metrics.top(scores, k, barred, pool)
    for q in range(2):
        allowed = pool.copy()
        allowed[barred[1][row == q]] = False
        left = np.flatnonzero(allowed)
        head = left[np.argsort(-scores[q, left], kind="stable")][:k]
        assert found[q].tolist() == head.tolist() + [-1] * (k - len(head))


@given(st.integers(2, 50), st.data())
def test_a_target_is_in_the_list_if_its_rank_says_so(items, data):
    """But for ties: there the rank is the worst place that the list could give."""
    scores = np.array([data.draw(st.lists(numbers, min_size=items, max_size=items))], np.float32)
    target = data.draw(st.integers(0, items - 1))
    rank = metrics.ranks(scores, np.array([0]), np.array([target]))[0]
    place = metrics.top(scores, items)[0].tolist().index(target) + 1
    assert place <= rank
    assert place == rank or np.count_nonzero(scores == scores[0, target]) > 1


@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_ranks_in_a_pool_are_ranks_without_the_rest(items, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 10, (3, items)).astype(np.float32)
    pool = rng.random(items) < 0.6
    pool[rng.integers(items)] = True
    inside = np.flatnonzero(pool)
    target = rng.choice(inside, 3)
    barred = rng.integers(0, 3, 20), rng.choice(inside, 20)
    found = metrics.ranks(scores, np.arange(3), target, barred, pool)
    column = np.cumsum(pool) - 1
    again = (barred[0], column[barred[1]])
    alone = metrics.ranks(scores[:, pool], np.arange(3), column[target], again)
    assert found.tolist() == alone.tolist()


@given(st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 2))
def test_among_a_few_a_number_that_is_none_is_refused_too(wrong, place):
    scores = np.zeros((1, 3), np.float32)
    scores[0, place] = wrong
    with pytest.raises(NonFinite):
        metrics.ranks_among(scores, np.array([0]), np.array([1]), metrics.NOTHING)


def test_large_numbers_whose_squares_overflow_are_numbers():
    scores = np.array([[1e30, 3e38, -3e38]], np.float32)
    assert metrics.ranks(scores, np.array([0]), np.array([0])).tolist() == [2]


@given(st.lists(st.integers(-5, 5), max_size=30))
def test_distinct(values):
    assert metrics.distinct(np.array(values, np.int64)).tolist() == sorted(set(values))
