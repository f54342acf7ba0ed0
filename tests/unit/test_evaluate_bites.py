"""Evaluation gives nothing away: each test is a way in which a report could flatter a model."""

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from reelm import metrics
from reelm.config import Config
from reelm.data.dataset import Dataset
from reelm.data.split import Questions
from reelm.errors import NonFinite
from reelm.evaluate import evaluate
from reelm.models.base import Retriever


class Given(Retriever):
    """Says the scores it was given to everyone."""

    Config = Config

    def __init__(self, scores, data):
        super().__init__(None, data)
        self.scores = nn.Parameter(torch.tensor(scores))
        self.noise = nn.Dropout(0.99)

    def batches(self, data, size, rng):
        return iter(())

    def loss(self, batch):
        return {}

    def score(self, user, history):
        return self.noise(self.scores.expand(len(history), -1))


@pytest.fixture
def data() -> Dataset:
    """One user who watched a, b and c of the catalogue a .. f."""
    events = pl.DataFrame({"user_id": ["u"] * 3, "video_id": list("abc")})
    return Dataset.build(events, videos=list("abcdef"))


def asked(data, *targets) -> Questions:
    rows = sorted(data.items.index(video) for video in targets)
    zero, whole = np.zeros(1, np.int64), np.array([len(data)])
    ends = np.array([0, len(rows)])
    return Questions(zero, data.item, zero, whole, np.array(rows, np.int32), ends)


def place(model, questions, pool="mixed") -> float:
    """The rank of the one target."""
    return 1 / evaluate(model, questions, (pool,), (1,))[f"{pool}/mrr"]


def test_a_model_that_says_nothing_is_last(data):
    assert place(Given([0.0] * 7, data), asked(data, "e")) == pytest.approx(3)


def test_what_was_watched_takes_no_place(data):
    model = Given([0.0, 9.0, 9.0, 9.0, 1.0, 5.0, 2.0], data)
    assert place(model, asked(data, "e")) == pytest.approx(1)


def test_padding_takes_no_place(data):
    model = Given([99.0, 0.0, 0.0, 0.0, 1.0, 5.0, 2.0], data)
    assert place(model, asked(data, "e")) == pytest.approx(1)


def test_the_cold_pool_holds_only_what_training_never_saw(data):
    model = Given([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], data)
    questions = asked(data, "e")
    table = evaluate(model, questions, ("cold",), (1,)).per_user
    assert table["candidates"].to_list() == [1]
    warm = Questions(
        questions.users, questions.item, questions.start, questions.start + 1,
        np.array([3, 5], np.int32), np.array([0, 2]),
    )  # fmt: skip
    table = evaluate(model, warm, ("cold",), (1,)).per_user
    assert table["candidates"].to_list() == [1] and table["targets"].to_list() == [1]


def test_dropout_is_off_while_asking_and_on_again_after(data):
    model = Given([0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 5.0], data).train()
    assert place(model, asked(data, "e")) == pytest.approx(1)
    assert model.training


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(wrong):
    scores = np.array([[0.0, wrong, 1.0]])
    with pytest.raises(NonFinite):
        metrics.ranks(scores, np.array([0]), np.array([2]))


def test_all_targets_first_is_perfect():
    found = metrics.per_question(np.array([1, 2, 3]), np.array([0, 3]), (2, 10))
    for name in ("recall@2", "ndcg@2", "recall@10", "ndcg@10"):
        assert found[name] == pytest.approx(1)
