"""Figures of single places, worked out by hand."""

from math import log

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from reelm import probabilities
from reelm.errors import NonFinite

LABEL = np.array([1, 0, 1, 0, 1], np.float32)
SCORE = np.array([0.9, 0.8, 0.8, 0.1, 0.3], np.float32)


def test_auc_counts_ties_half():
    # of 3 x 2 pairs: .9 beats both; .8 ties .8 and beats .1; .3 loses to .8 and beats .1
    assert probabilities.auc(LABEL, SCORE) == pytest.approx((2 + 1.5 + 1) / 6)
    assert probabilities.auc(LABEL, np.ones(5, np.float32)) == 0.5


def test_auc_within_users():
    user = np.array([7, 7, 3, 3, 3])
    # user 7: 1 of 1 pair, 2 places; user 3: .8 and .3 beat .1, 2 of 2 pairs, 3 places
    assert probabilities.grouped_auc(LABEL, SCORE, user) == (1.0, 1.0)
    worse = np.array([0.9, 0.8, 0.8, 0.5, 0.3], np.float32)  # user 3: 1 of 2 pairs
    gauc, uauc = probabilities.grouped_auc(LABEL, worse, user)
    assert gauc == pytest.approx((2 * 1 + 3 * 0.5) / 5)
    assert uauc == pytest.approx(0.75)


def test_users_whose_places_all_went_alike_are_left_out():
    user = np.array([0, 0, 1, 2, 2])
    label = np.array([1, 0, 1, 0, 0], np.float32)
    assert probabilities.grouped_auc(label, SCORE, user) == (1.0, 1.0)
    assert np.isnan(probabilities.grouped_auc(np.ones(5, np.float32), SCORE, user)).all()


def test_logloss():
    given = np.array([0.8, 0.25])
    found = probabilities.log_loss(np.array([1.0, 0.0]), given)
    assert found == pytest.approx(-(log(0.8) + log(0.75)) / 2)
    assert np.isfinite(probabilities.log_loss(np.array([1.0, 0.0]), np.array([0.0, 1.0])))


def test_reliability_and_ece():
    label = np.array([1, 0, 0, 1, 1], np.float32)
    given = np.array([0.05, 0.05, 0.15, 0.95, 1.0])
    bins = probabilities.reliability(label, given)
    assert [part["places"] for part in bins] == [2, 1, 2]
    assert [part["liked"] for part in bins] == [0.5, 0.0, 1.0]
    assert [part["predicted"] for part in bins] == pytest.approx([0.05, 0.15, 0.975])
    assert probabilities.ece(bins) == pytest.approx((2 * 0.45 + 0.15 + 2 * 0.025) / 5)


def test_as_scikit_learn_has_them():
    rng = np.random.default_rng(0)
    label = (rng.random(500) < 0.4).astype(np.float32)
    score = np.round(rng.normal(size=500) + label, 1)
    given = probabilities.sigmoid(score)
    assert probabilities.auc(label, score) == pytest.approx(roc_auc_score(label, score))
    assert probabilities.log_loss(label, given) == pytest.approx(log_loss(label, given))


def test_what_was_bent_is_straightened():
    rng = np.random.default_rng(1)
    true = rng.normal(size=20000)
    label = (rng.random(20000) < probabilities.sigmoid(true)).astype(np.float32)
    slope, shift = probabilities.fitted(label, 3 * true + 2)
    assert slope == pytest.approx(1 / 3, abs=0.02)
    assert shift == pytest.approx(-2 / 3, abs=0.05)
    heat, none = probabilities.fitted(label, 3 * true, shift=False)
    assert heat == pytest.approx(1 / 3, abs=0.02)
    assert none == 0


def test_calibration_never_turns_an_order_round():
    label = np.array([1, 1, 0, 0] * 10, np.float32)
    slope, shift = probabilities.fitted(label, np.array([0.0, 1.0, 2.0, 3.0] * 10))
    assert slope > 0
    assert probabilities.sigmoid(np.array([shift])) == pytest.approx(0.5)
    for none in (np.ones(3, np.float32), np.zeros(3, np.float32), np.ones(0, np.float32)):
        assert probabilities.fitted(none, SCORE[: len(none)]) == (1.0, 0.0)


def test_scores_that_part_the_labels_stay_finite():
    found = probabilities.fitted(np.array([1, 0] * 5, np.float32), np.array([1.0, -1.0] * 5))
    assert np.isfinite(found).all()


def test_what_is_not_finite_is_refused():
    bad = np.array([np.nan, 0, 0, 0, 0], np.float32)
    with pytest.raises(NonFinite):
        probabilities.rate(LABEL, bad, bad, np.zeros(5, np.int64))
