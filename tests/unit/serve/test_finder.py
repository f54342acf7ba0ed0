import numpy as np
import pytest

from reelm.errors import ConfigError
from reelm.serve import finder
from reelm.serve.finder import Finder

NONE = np.zeros(0, np.int64)


@pytest.fixture
def table(monkeypatch):
    """Clusters that an index should see, one bias, and an index from 500 rows on."""
    monkeypatch.setattr(finder, "LEAST", 500)
    monkeypatch.setattr(finder, "WIDTH", 200)
    monkeypatch.setattr(finder, "_kept", [])
    rng = np.random.default_rng(0)
    centre = rng.standard_normal((40, 16), dtype=np.float32)
    vectors = centre[rng.integers(0, 40, 6000)]
    vectors += 0.4 * rng.standard_normal((6000, 16), dtype=np.float32)
    bias = np.zeros(6000, np.float32)
    bias[::3] = 3.0
    return vectors, bias


def exact(table, query, rows, gone, count):
    left = np.setdiff1d(rows, gone)
    scores = table[0][left] @ query + table[1][left]
    return left[np.argsort(-scores, kind="stable")[:count]]


def test_nearly_all_of_the_best_are_found_with_exact_scores(table):
    pytest.importorskip("faiss")
    rows = np.arange(1, 6000)
    made, hits = Finder(*table, rows), 0
    for n in range(20):
        query = table[0][100 + n]
        found, scores = made.best(query, 50, NONE)
        np.testing.assert_allclose(scores, table[0][found] @ query + table[1][found], rtol=1e-5)
        assert (np.diff(scores) <= 0).all()
        hits += len(np.intersect1d(found, exact(table, query, rows, NONE, 50)))
    assert hits / 1000 > 0.95


def test_what_is_gone_is_not_found_and_its_place_is_filled(table):
    rows = np.arange(1, 6000)
    query, made = table[0][5], Finder(*table, rows)
    gone = np.sort(exact(table, query, rows, NONE, 30))
    found, _ = made.best(query, 50, gone)
    assert len(found) == 50
    assert not np.isin(found, gone).any()


@pytest.mark.parametrize("nearest", [False, True])
def test_a_long_past_is_looked_through_only_where_it_is_near(table, monkeypatch, nearest):
    pytest.importorskip("faiss")
    rows, query, asked = np.arange(1, 6000), table[0][5], []
    made = Finder(*table, rows)
    search = made._searched
    monkeypatch.setattr(made, "_searched", lambda q, n: asked.append(n) or search(q, n))
    order = exact(table, query, rows, NONE, len(rows))
    gone = np.sort(order[:1200] if nearest else order[-1200:])
    found, _ = made.best(query, 50, gone)
    assert asked == ([400, 1400] if nearest else [400])
    assert len(found) == 50 and not np.isin(found, gone).any()
    hits = len(np.intersect1d(found, exact(table, query, rows, gone, 50)))
    assert hits > (20 if nearest else 45), "far from the query an index sees less"


def test_where_little_is_left_all_are_compared(table):
    rows = np.arange(1, 6000)
    gone = np.arange(1, 5990)
    found, _ = Finder(*table, rows).best(table[0][5], 50, gone)
    assert sorted(found.tolist()) == list(range(5990, 6000))


def test_a_small_table_is_compared_exactly(table):
    rows = np.arange(0, 400, 2)
    found, _ = Finder(*table, rows).best(table[0][5], 7, NONE)
    assert found.tolist() == exact(table, table[0][5], rows, NONE, 7).tolist()


def test_rows_that_are_added_need_no_new_index(table, monkeypatch):
    pytest.importorskip("faiss")
    Finder(*table, np.arange(1, 5000))
    monkeypatch.setattr(finder, "_built", None)  # would fail if it were called
    later = Finder(*table, np.arange(1, 6000))
    query = 10 * table[0][5500]
    assert 5500 in later.best(query, 100, NONE)[0]


def test_without_faiss_it_says_what_to_do(table, monkeypatch):
    monkeypatch.setattr(finder, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"reelm\[ann\]"):
        Finder(*table, np.arange(1, 5000))


def test_the_spread_is_that_of_all_scores():
    rng = np.random.default_rng(0)
    vectors, bias = rng.normal(size=(300, 5)).astype(np.float32), rng.normal(size=300) + 3
    rows, query = np.arange(10, 300), rng.normal(size=5).astype(np.float32)
    found = Finder(vectors, bias, rows)
    assert found.spread(query) == pytest.approx(found.score(query, rows).std(), rel=1e-5)
