from collections import Counter

import numpy as np
import pytest

from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.exploring import Draws, chances
from reelm.serve.store import Store

from .conftest import WATCHED

# 0.999 quantiles of chi-square
LIMIT = {9: 27.88}


def chi_square(counts, expected):
    return float(((counts - expected) ** 2 / expected).sum())


def test_no_chance_is_below_its_floor_and_better_ones_have_more():
    chance = chances(np.array([3.0, 0.0, -50.0]), 0.3)
    assert chance.sum() == pytest.approx(1)
    assert (chance >= 0.1 - 1e-12).all()
    assert chance[0] > chance[1] > chance[2]


def test_nothing_is_drawn_twice_and_the_chances_are_of_what_is_left():
    draws = Draws(np.arange(3), np.zeros(3), 0.5, np.random.default_rng(0))
    taken, found = {1}, []
    while one := draws.next(taken):
        found.append(one)
        taken.add(one.row)
    assert sorted(one.row for one in found) == [0, 2]
    assert [one.propensity for one in found] == [0.5, 1.0]


def test_videos_are_drawn_as_often_as_their_chances_say(run, catalog, notes):
    engine = Engine(run, catalog, notes, Store(), EngineConfig(new_share=0.2, explore=0.2))
    counts, logged, feeds = Counter(), {}, 300
    for _ in range(feeds):
        shown = [i for i in engine.feed("u3", 3, again=True).items if i.propensity is not None]
        assert [i.source for i in shown] == ["new"]
        assert int(shown[0].video_id[1:]) >= WATCHED
        counts[shown[0].video_id] += 1
        logged.setdefault(shown[0].video_id, shown[0].propensity)
        assert logged[shown[0].video_id] == pytest.approx(shown[0].propensity)
    assert len(logged) == 10  # the best ten of twelve
    assert sum(logged.values()) == pytest.approx(1)
    expected = feeds * np.array([logged[v] for v in logged])
    assert chi_square(np.array([counts[v] for v in logged]), expected) < LIMIT[9]
    engine.store.close()


def test_drawn_videos_say_what_another_policy_would_earn():
    """Inverse propensities: the mean reward of a fixed choice, from draws of another policy."""
    rng, reward = np.random.default_rng(1), np.array([0.1, 0.9, 0.4])
    scores, estimates = np.array([1.0, -1.0, 0.0]), []
    for _ in range(20_000):
        one = Draws(np.arange(3), scores, 0.2, rng).next(set())
        clicked = rng.random() < reward[one.row]
        estimates.append((one.row == 1) * clicked / one.propensity)
    error = np.std(estimates) / len(estimates) ** 0.5
    assert abs(np.mean(estimates) - 0.9) < 4 * error


def test_places_that_are_not_drawn_have_no_chance(engine):
    shown = engine.feed("u3", 10).items
    assert {i.propensity for i in shown} == {None}
    assert {i.run for i in shown} == {"item_knn"}
