"""Lists and draws that an evaluation makes beside the ranks."""

import numpy as np
import pytest
import torch

from reelm.errors import NonFinite
from reelm.evaluate import Lists, Sampled, evaluate, ranking
from reelm.evaluate.ranking import Wanted, place


def whole(asked):
    pool = np.ones(len(asked.data.items), bool)
    pool[0] = False
    return {"mixed": pool}


def test_a_list_holds_the_best_that_was_not_watched(asked):
    some = asked()
    found = place(some.model, some.questions, whole(some), Wanted(listed=7))["mixed"]
    for q, listed in zip(found.question.tolist(), found.listed, strict=True):
        watched = set(some.questions.history(q).tolist())
        left = [i for i in range(1, len(some.data.items)) if i not in watched]
        best = sorted(left, key=lambda i: (-some.model.scores[q, i].item(), i))[:7]
        assert listed.tolist() == best


def test_a_list_of_a_small_pool_ends_with_zeros(asked):
    some = asked()
    pool = np.zeros(len(some.data.items), bool)
    pool[[1, 2, 3]] = True
    found = place(some.model, some.questions, {"few": pool}, Wanted(listed=5))["few"]
    assert len(found.question) and not found.listed[:, 3:].any()
    assert set(np.unique(found.listed)) <= {0, 1, 2, 3}


def test_drawn_videos_are_neither_watched_nor_sought(asked):
    """With scores by which every such video would be seen to stand before the target."""
    some = asked()
    scores = torch.zeros_like(some.model.scores)
    for q in range(len(some.questions)):
        scores[q, some.questions.history(q).astype(np.int64)] = 9
        scores[q, some.questions.targets(q).astype(np.int64)] = 1
    some.model.scores.copy_(scores)
    found = evaluate(some.model, some.questions, ("mixed",), (5,), sampled=Sampled(10))
    assert found["sampled10_mrr"] == found["sampled10_ndcg@5"] == 1
    assert set(found.per_user["drawn"]) == {10}


def test_a_draw_depends_on_seed_and_user_alone(asked, monkeypatch):
    some = asked()
    name = "sampled10_mrr"

    def ask(questions, seed=0):
        report = evaluate(some.model, questions, ("mixed",), (5,), sampled=Sampled(10, seed))
        return dict(zip(report.per_user["user"], report.per_user[name], strict=True))

    first = ask(some.questions)
    assert ask(some.questions) == first
    assert ask(some.questions, seed=1) != first
    monkeypatch.setattr(ranking, "TILE", 7 * len(some.data.items))
    backwards = some.questions.take(np.arange(len(some.questions))[::-1][:9])
    assert ask(backwards) == {user: first[user] for user in backwards.users}


def test_draws_are_even(asked):
    """Each of the others is drawn as often as any, and none twice for one question."""
    some = asked(users=2, items=12)
    questions, pool = some.questions.take(np.array([0])), whole(some)["mixed"][1:]
    barred = np.zeros(1, np.int64), np.array([4])
    times = np.zeros(12)
    for seed in range(600):
        row, column = ranking._drawn(Sampled(5, seed), questions.users, pool, (barred,))
        assert len(row) == len(set(column)) == 5
        times[column] += 1
    assert times[4] == 0
    assert np.abs(np.delete(times, 4) / 600 - 5 / 11).max() < 0.08  # 4 deviations


def test_chance_among_a_few_is_what_a_random_order_gets(asked):
    some = asked(users=400, most=1)
    found = []
    for seed in range(5):
        drawn = np.random.default_rng(seed).random(some.model.scores.shape)
        some.model.scores.copy_(some.model.scores.new_tensor(drawn))
        report = evaluate(some.model, some.questions, ("mixed",), (3,), sampled=Sampled(9))
        found.append(report["sampled9_recall@3"])
    assert report.chance["mixed"]["sampled9_recall@3"] == pytest.approx(0.3)
    assert np.mean(found) == pytest.approx(0.3, abs=0.04)


def test_nothing_asked_needs_no_model(asked):
    some = asked()
    some.model.score = None  # an empty batch is more than many a model bargained for
    none = some.questions.take(np.zeros(0, np.int64))
    report = evaluate(some.model, none, lists=Lists.of(some.data), sampled=Sampled(5))
    assert report.asked == 0 and report.pools["mixed"] == {}


def test_a_model_that_fails_is_left_as_it_was(asked):
    some = asked()
    some.model.scores[3, 5] = float("nan")
    some.model.train()
    with pytest.raises(NonFinite):
        evaluate(some.model, some.questions)
    assert some.model.training


def test_memory_is_that_of_a_tile(asked, monkeypatch):
    some = asked()
    sizes = []
    score = some.model.score
    some.model.score = lambda user, history: sizes.append(len(user)) or score(user, history)
    monkeypatch.setattr(ranking, "TILE", 8 * len(some.data.items))
    evaluate(some.model, some.questions, ("mixed",))
    assert max(sizes) == 8 and sum(sizes) == len(some.questions)


def test_a_target_that_was_watched_before_takes_a_place_all_the_same():
    """Else chance would divide by no candidates where everything was watched."""
    barred = np.array([0, 0, 1]), np.array([1, 2, 3])
    targets = np.array([0, 1]), np.array([2, 0])
    assert ranking._barred(barred, targets, 5, 2).tolist() == [1, 1]
