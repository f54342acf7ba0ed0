"""Whole evaluations, masks and ties included, against two libraries that know nothing of ours.

Neither knows that ties count against a model, so it is told in its own words: to ir_measures by
names that put targets behind what they tie with, to scikit-learn by measures that take the last
place of a tie.
"""

import numpy as np
import pytest

from reelm.evaluate import Sampled, evaluate


def left_over(asked, q):
    """Candidates of one question."""
    return np.setdiff1d(np.arange(1, len(asked.data.items)), asked.questions.history(q))


@pytest.mark.parametrize("seed", range(3))
def test_ir_measures(asked, seed):
    measures = pytest.importorskip("ir_measures", reason="ir_measures is not installed")
    some = asked(seed)
    questions, scores = some.questions, some.model.scores.numpy()
    judged, run = [], []
    for q in range(len(questions)):
        targets = set(questions.targets(q).tolist())
        # of equal scores, trec_eval takes the name that comes later in the alphabet first
        names = {i: f"{'a' if i in targets else 'z'}{i}" for i in left_over(some, q)}
        judged += [measures.Qrel(str(q), names[i], 1) for i in targets]
        run += [measures.ScoredDoc(str(q), name, float(scores[q, i])) for i, name in names.items()]
    names = {
        "recall@10": measures.R @ 10,  # the same while there are at most 10 targets
        "ndcg@10": measures.nDCG @ 10,
        "ndcg@5": measures.nDCG @ 5,
        "hit@5": measures.Success @ 5,
        "mrr": measures.RR,
    }
    theirs = {
        (m.query_id, m.measure): m.value for m in measures.iter_calc(names.values(), judged, run)
    }
    ours = evaluate(some.model, questions, ("mixed",), (5, 10)).per_user
    for name, measure in names.items():
        expected = [theirs[str(user), measure] for user in ours["user"]]
        assert ours[name].to_list() == pytest.approx(expected), name


@pytest.mark.parametrize("seed", range(3))
def test_scikit_learn_with_ties(asked, seed):
    rank = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    some = asked(seed, most=1)
    ours = evaluate(some.model, some.questions, ("mixed",), (5,))
    scores = some.model.scores.double().numpy()
    for q, user in enumerate(ours.per_user["user"]):
        candidates = left_over(some, user)
        truth = np.isin(candidates, some.questions.targets(user))[None]
        said = scores[None, user, candidates]
        # the last place of a tie; with one target the average precision is 1 / rank
        assert ours.per_user["mrr"][q] == pytest.approx(
            rank.label_ranking_average_precision_score(truth, said)
        )
        assert ours.targets["rank"][q] == rank.coverage_error(truth, said)


@pytest.mark.parametrize("seed", range(3))
def test_scikit_learn_without_ties(asked, seed):
    rank = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    some = asked(seed)
    noise = np.random.default_rng(seed).random(some.model.scores.shape)
    some.model.scores.copy_(some.model.scores.new_tensor(noise))
    ours = evaluate(some.model, some.questions, ("mixed",), (5, 10)).per_user
    for q, user in enumerate(ours["user"]):
        candidates = left_over(some, user)
        truth = np.isin(candidates, some.questions.targets(user))[None]
        said = some.model.scores.double().numpy()[None, user, candidates]
        for k in (5, 10):
            assert ours[f"ndcg@{k}"][q] == pytest.approx(rank.ndcg_score(truth, said, k=k))


def test_among_all_others_the_shortened_protocol_is_the_full_one(asked):
    some = asked(4)
    found = evaluate(some.model, some.questions, ("mixed",), (5,), sampled=Sampled(1000))
    for name in ("recall@5", "ndcg@5", "hit@5", "mrr"):
        assert found[f"sampled1000_{name}"] == found[name]
    assert found.chance["mixed"]["sampled1000_recall@5"] == found.chance["mixed"]["recall@5"]
