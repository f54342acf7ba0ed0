import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reelm.models.blocks import neighbours
from reelm.models.blocks.graph import alike


@pytest.fixture
def table():
    torch.manual_seed(1)
    made = torch.randn(40, 6)
    made[[0, 7]] = 0  # padding, and an item without features
    return made


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(neighbours, "_found", type(neighbours._found)())


def by_hand(table, k):
    cosine = F.normalize(table) @ F.normalize(table).T
    cosine.fill_diagonal_(-3)
    cosine[:, [0, 7]] = -3
    return cosine.topk(k)


def test_neighbours_have_the_largest_cosines(table, fresh):
    near, cosine = neighbours.nearest(table, 5)
    wanted = by_hand(table, 5)
    some = [row for row in range(40) if row not in (0, 7)]
    assert torch.equal(near[some].long(), wanted.indices[some])
    torch.testing.assert_close(cosine[some], wanted.values[some])
    assert not near[[0, 7]].any() and (cosine[[0, 7]] == -2).all()


def test_the_index_finds_nearly_the_same(fresh, monkeypatch):
    pytest.importorskip("faiss")
    torch.manual_seed(2)
    centres = torch.randn(20, 16)
    table = centres[torch.arange(600) % 20] + 0.3 * torch.randn(600, 16)
    table[3] = 0
    exact = neighbours.nearest(table, 8)[0]
    neighbours._found.clear()
    monkeypatch.setattr(neighbours, "EXACT", 100)
    near, cosine = neighbours.nearest(table, 8)
    same = [len(np.intersect1d(a, b)) / 8 for a, b in zip(near, exact, strict=True)]
    assert np.mean(same) > 0.95
    assert not near[3].any() and (cosine[3] == -2).all()
    assert (near != torch.arange(600)[:, None]).all()


def test_more_neighbours_than_there_are_items(table, fresh):
    near, cosine = neighbours.nearest(table[:4], 6)
    assert (cosine[1] > -2).sum() == 2 and near.shape == (4, 6)


def test_the_same_table_is_searched_once(table, fresh, monkeypatch):
    first = neighbours.nearest(table, 3)
    monkeypatch.setattr(neighbours, "_compared", None)
    assert torch.equal(neighbours.nearest(table.clone(), 3)[0], first[0])
    with pytest.raises(TypeError):
        neighbours.nearest(table + 1, 3)


def test_a_graph_of_alike_items_divides_by_both_ends(table, fresh):
    graph = alike(table, 4)
    out = graph(torch.ones(40, 2))
    assert (out[[0, 7]] == 0).all()
    torch.testing.assert_close(out[1], torch.ones(2))  # four neighbours, each 1 / sqrt(4 * 4)
