"""Numbers worked out by hand: two users, four videos, lists of two."""

import math

import numpy as np
import polars as pl
import pytest
import torch

from reelm.data.dataset import Dataset
from reelm.data.tables import Features
from reelm.errors import MissingInput
from reelm.evaluate import Lists, evaluate
from reelm.evaluate.ranking import Placed

EVENTS = [("u", "a"), ("u", "b"), ("u", "a"), ("w", "a"), ("x", "c")]


@pytest.fixture
def data():
    """a has three interactions of two users, b and c one, d and e none; e has no feature."""
    table = pl.DataFrame(EVENTS, schema=["user_id", "video_id"], orient="row")
    vectors = np.array([[3, 0], [0, 2], [-1, 0], [1, 0]], np.float32)
    return Dataset.build(table, [Features("look", tuple("abcd"), vectors)], videos=list("abcde"))


def placed(*lists):
    rows = np.arange(len(lists))
    none, items = np.ones_like(rows), np.array(lists, np.int32)
    return Placed(rows, none, none, items[:, 0], none, items, none, none)


def test_popularity_and_novelty(data):
    told = Lists.of(data).per_question(placed([1, 2], [3, 4], [5, 0]), (1, 2))
    assert told["popularity@1"].tolist() == [3, 1, 0]
    assert told["popularity@2"].tolist() == [2, 0.5, 0]
    bits_a, bits_b, unseen = -math.log2(2 / 3), math.log2(3), math.log2(4)
    expected = [(bits_a + bits_b) / 2, (bits_b + unseen) / 2, unseen]
    assert told["novelty@2"] == pytest.approx(expected)
    assert "diversity@2" not in told


def test_diversity(data):
    lists = placed([1, 2, 4], [1, 3, 5], [4, 5, 0], [1, 4, 0])
    told = Lists.of(data, "look").per_question(lists, (2, 3))
    # at right angles; opposite; one has no feature; alike, whatever their lengths
    assert told["diversity@2"][[0, 1, 3]] == pytest.approx([1, 2, 0])
    assert np.isnan(told["diversity@2"][2])
    assert told["diversity@3"][:2] == pytest.approx([1 - (0 + 1 + 0) / 3, 2])


def test_a_feature_that_was_not_loaded(data):
    with pytest.raises(MissingInput, match=r"features\.sound; loaded: look"):
        Lists.of(data, "sound")


def test_coverage_and_the_ratio_of_popularity(data, table):
    from reelm.data.split import Questions

    # u watched a, b, a and w watched a: histories of mean (3 + 1 + 3) / 3 and 3
    users, ends = np.array([0, 1]), np.array([0, 1, 2])
    start, stop = data.offsets[:-1][users], data.offsets[1:][users]
    questions = Questions(users, data.item, start, stop, np.array([3, 3], np.int32), ends)
    scores = [[9, 0, 0, 3, 2, 1], [9, 0, 0, 3, 2, 1], [0] * 6]
    report = evaluate(table(scores, data), questions, ("mixed",), (1, 2), Lists.of(data))
    assert report["coverage@1"] == 1 / 5  # c for both
    assert report["coverage@2"] == 2 / 5  # c, d
    assert report["popularity@2"] == 0.5
    assert report["popularity_ratio@2"] == pytest.approx(0.5 / ((7 / 3 + 3) / 2))
    assert "coverage@1" not in report.margins["mixed"]
    assert report.margins["mixed"]["popularity@2"] == 0


def test_without_lists_nothing_is_kept(asked, monkeypatch):
    from reelm import metrics

    monkeypatch.setattr(metrics, "top", None)
    some = asked()
    report = evaluate(some.model, some.questions, ("mixed",), (5,))
    assert not [name for name in report.pools["mixed"] if "popularity" in name]


def test_lists_change_no_rank(asked):
    some = asked()
    scores = some.model.scores.clone()
    plain = evaluate(some.model, some.questions, ks=(5,))
    judged = evaluate(some.model, some.questions, ks=(5,), lists=Lists.of(some.data))
    assert judged.targets.equals(plain.targets)
    assert judged.per_user.select(plain.per_user.columns).equals(plain.per_user)
    assert torch.equal(some.model.scores, scores)  # nor what the model holds
