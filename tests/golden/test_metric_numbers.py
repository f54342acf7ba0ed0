"""Numbers worked out by hand."""

import math

import numpy as np
import pytest

from reelm import metrics
from reelm.errors import ConfigError

LOG2_3 = math.log2(3)


def test_ranks_of_a_small_table():
    scores = np.array([[0.9, 0.5, 0.7, 0.1], [0.2, 0.2, 0.2, 0.9]], np.float32)
    question, target = np.array([0, 0, 1]), np.array([1, 3, 0])
    # first row: .9 and .7 stand before .5, and the other target comes after it
    # second row: .9 and two ties stand before
    assert metrics.ranks(scores, question, target).tolist() == [3, 4, 4]


def test_a_barred_item_takes_no_place_but_a_barred_target_does():
    scores = np.array([[0.9, 0.5, 0.7, 0.1]], np.float32)
    barred = np.array([0, 0]), np.array([0, 1])
    assert metrics.ranks(scores, np.array([0]), np.array([1]), barred).tolist() == [2]


def test_targets_of_one_question_take_places_among_themselves():
    scores = np.array([[0.5, 0.5, 0.4, 0.9]], np.float32)
    found = metrics.ranks(scores, np.array([0, 0, 0]), np.array([0, 1, 2]))
    assert found.tolist() == [2, 3, 4]


def test_one_target_in_third_place():
    found = metrics.per_question(np.array([3]), np.array([0, 1]), (2, 5))
    assert found["recall@2"] == [0.0]
    assert found["recall@5"] == [1.0]
    assert found["ndcg@5"] == [0.5]  # 1 / log2(4)
    assert found["mrr"] == pytest.approx([1 / 3])


def test_three_targets_of_which_two_are_in_the_list():
    found = metrics.per_question(np.array([1, 3, 8]), np.array([0, 3]), (2, 4))
    assert found["recall@2"] == [0.5]  # one hit, and a list of two could hold two
    assert found["recall@4"] == pytest.approx([2 / 3])
    assert found["ndcg@2"] == pytest.approx([1 / (1 + 1 / LOG2_3)])
    assert found["ndcg@4"] == pytest.approx([1.5 / (1.5 + 1 / LOG2_3)])
    assert found["hit@2"] == [1.0]
    assert found["mrr"] == [1.0]


def test_questions_are_kept_apart():
    found = metrics.per_question(np.array([1, 9, 2, 7]), np.array([0, 2, 3, 4]), (3,))
    assert found["recall@3"].tolist() == [0.5, 1.0, 0.0]
    assert found["mrr"].tolist() == [1.0, 0.5, pytest.approx(1 / 7)]


def test_chance():
    # 10 of 40 places hold a quarter of the targets, whether 1 or 2 are sought
    one = metrics.chance_recall(np.array([40]), np.array([1]), 10)
    two = metrics.chance_recall(np.array([40]), np.array([2]), 10)
    assert (one, two) == (0.25, 0.25)
    # 20 targets: 5 hits are expected, and a perfect list has 10
    assert metrics.chance_recall(np.array([40]), np.array([20]), 10) == 0.5
    # fewer candidates than places: everything is found
    assert metrics.chance_recall(np.array([5]), np.array([1]), 10) == 1.0


def test_only_the_pool_takes_places():
    scores = np.array([[0.9, 0.5, 0.7, 0.1]], np.float32)
    pool = np.array([False, True, True, True])
    found = metrics.ranks(scores, np.array([0, 0]), np.array([1, 3]), None, pool)
    assert found.tolist() == [2, 3]  # .9 is no candidate


def test_ranks_among_a_few():
    scores = np.array([[0.9, 0.5, 0.7, 0.5, 0.1], [0.0, 1.0, 2.0, 3.0, 4.0]], np.float32)
    others = np.array([1, 0, 0, 0]), np.array([4, 3, 4, 2])
    found = metrics.ranks_among(scores, np.array([0, 1]), np.array([1, 3]), others)
    # first row: .7 and the tie .5 stand before; second row: 4 does
    assert found.tolist() == [3, 2]


def test_the_best_of_a_small_table():
    scores = np.array([[0.9, 0.5, 0.7, 0.5, 0.1], [0.0, 9.0, 2.0, 3.0, 4.0]], np.float32)
    barred = np.array([1, 0]), np.array([1, 0])
    pool = np.array([True, True, True, True, False])
    assert metrics.top(scores, 3).tolist() == [[0, 2, 1], [1, 4, 3]]  # of two .5 the first column
    assert metrics.top(scores, 3, barred, pool).tolist() == [[2, 1, 3], [3, 2, 0]]
    assert metrics.top(scores, 5, barred, pool)[0].tolist() == [2, 1, 3, -1, -1]


@pytest.mark.parametrize("k", [0, -3])
def test_lists_have_a_place_at_least(k):
    with pytest.raises(ConfigError, match=rf"k = {k}"):
        metrics.per_question(np.array([1, 2]), np.array([0, 1, 2]), (5, k))
