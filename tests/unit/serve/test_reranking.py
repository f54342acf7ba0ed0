from itertools import permutations

import numpy as np
import pytest

from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.reranking import JITTER, dpp, mmr, relevance, unit
from reelm.serve.store import Store

from .conftest import VIDEOS, kind, video


@pytest.fixture
def world():
    rng = np.random.default_rng(0)
    vectors = unit(rng.standard_normal((12, 3)))
    return relevance(rng.standard_normal(12)), vectors @ vectors.T


@pytest.mark.parametrize("method", [mmr, dpp])
def test_no_strength_is_the_order_of_scores(world, method):
    assert method(*world, 12, 0.0).tolist() == np.argsort(-world[0]).tolist()


def test_mmr_by_hand():
    alike = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    worth = np.array([1.0, 0.9, 0.5])
    assert mmr(worth, alike, 3, 0.5).tolist() == [0, 2, 1]
    assert mmr(worth, alike, 3, 0.1).tolist() == [0, 1, 2]
    before = np.array([[0.0, 0.0, 1.0]])
    assert mmr(np.array([1.0, 0.9, 1.0]), alike, 1, 0.5, before=before).tolist() == [0]


def test_dpp_takes_what_adds_most_volume(world):
    worth, alike = world
    for strength in (0.3, 0.7):
        quality = np.exp((1 - strength) / (2 * strength) * worth)
        kernel = quality[:, None] * (alike + JITTER * np.eye(12)) * quality
        chosen = []
        for _ in range(4):  # greedy by determinants
            left = [i for i in range(12) if i not in chosen]
            volume = [
                np.linalg.slogdet(kernel[np.ix_([*chosen, i], [*chosen, i])])[1] for i in left
            ]
            chosen.append(left[int(np.argmax(volume))])
        assert dpp(worth, alike, 4, strength).tolist() == chosen


def test_two_of_a_kind_come_late_and_all_come_once():
    alike = np.array([[1.0, 1.0, 0.1], [1.0, 1.0, 0.1], [0.1, 0.1, 1.0]])
    order = dpp(np.array([1.0, 0.99, 0.0]), alike, 3, 0.6).tolist()
    assert order == [0, 2, 1]
    assert order in map(list, permutations(range(3)))


@pytest.mark.parametrize("method", ["mmr", "dpp"])
def test_candidates_become_more_varied(run, catalog, notes, method):
    """The best eighteen are of two subjects in turn, the next are of others, hardly worse."""
    engine = Engine(run, catalog, notes, Store(), EngineConfig(rerank=method))
    numbers = sorted(range(6, VIDEOS), key=lambda n: (kind(n) > 1, n))
    found = [(engine.videos.row[video(n)], -0.01 * at) for at, n in enumerate(numbers)]
    subjects = []
    for strength in (0.0, 0.7):
        order = engine._picker.varied(found, [], 6, (method, strength))
        subjects.append(len({kind(numbers[at]) for at in order}))
    assert subjects[0] == 2 < 4 <= subjects[1]
    engine.store.close()


@pytest.mark.parametrize("method", ["mmr", "dpp"])
def test_a_feed_that_is_put_in_order_still_shows_all(run, catalog, notes, method):
    left = []
    for rerank in ("none", method):
        engine = Engine(run, catalog, notes, Store(), EngineConfig(rerank=rerank))
        left.append(sorted(i.video_id for i in engine.feed("u3", 100).items))
        engine.store.close()
    assert left[0] == left[1]
