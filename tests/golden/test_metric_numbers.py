"""Numbers worked out by hand."""

import math

import numpy as np
import pytest

from reelm import metrics

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


def test_as_another_library_has_it():
    measures = pytest.importorskip("ir_measures", reason="ir_measures is not installed")
    rng = np.random.default_rng(0)
    scores = rng.permutation(600).reshape(20, 30).astype(np.float32)  # no ties
    sizes = rng.integers(1, 5, 20)
    question = np.repeat(np.arange(20), sizes)
    target = np.concatenate([rng.permutation(30)[:n] for n in sizes])
    rank = metrics.ranks(scores, question, target)
    found = metrics.per_question(rank, np.concatenate([[0], np.cumsum(sizes)]), (10,))
    asked = [measures.Qrel(str(q), str(t), 1) for q, t in zip(question, target, strict=True)]
    run = [measures.ScoredDoc(str(q), str(i), float(s)) for (q, i), s in np.ndenumerate(scores)]
    names = {
        "recall@10": measures.R @ 10,  # the same while there are at most 10 targets
        "ndcg@10": measures.nDCG @ 10,
        "hit@10": measures.Success @ 10,
        "mrr": measures.RR,
    }
    theirs = measures.calc_aggregate(list(names.values()), asked, run)
    for name, measure in names.items():
        assert found[name].mean() == pytest.approx(theirs[measure]), name
