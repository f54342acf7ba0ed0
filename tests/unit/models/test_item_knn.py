import numpy as np
import polars as pl
import torch
from scipy import sparse

from reelm.data.dataset import Dataset
from reelm.models import item_knn
from reelm.models.item_knn import ItemKNN, ItemKNNConfig


def world(users=30, videos=20):
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"v{v}") for u in range(users) for v in rng.permutation(videos)[:4]]
    return Dataset.build(pl.DataFrame(rows, schema=["user_id", "video_id"], orient="row"))


def plain(data):
    """The same cosines, the slow way."""
    chosen = np.zeros((len(data.users), len(data.items)))
    chosen[data.user, data.item] = 1
    norm = np.maximum(np.linalg.norm(chosen, axis=0), 1e-9)
    cosine = chosen.T @ chosen / np.outer(norm, norm)
    np.fill_diagonal(cosine, 0)
    return cosine


def test_scores_are_sums_of_cosines():
    data = world()
    history = torch.tensor([[0, 3, 7], [1, 2, 4]])
    cosine = plain(data)
    expected = np.stack([cosine[3] + cosine[7], cosine[1] + cosine[2] + cosine[4]])
    found = ItemKNN(ItemKNNConfig(), data).score(torch.zeros(2, dtype=torch.long), history)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_sparse_way_and_the_plain_way_agree(monkeypatch):
    data = world()
    history, user = torch.tensor([[0, 3, 7], [0, 0, 0]]), torch.tensor([0, 1])
    dense = ItemKNN(ItemKNNConfig(), data).score(user, history)
    monkeypatch.setattr(item_knn, "DENSE_ITEMS", 0)
    thin = ItemKNN(ItemKNNConfig(), data)
    torch.testing.assert_close(thin.score(user, history), dense)
    assert sparse.issparse(thin._matrix())


def test_rows_in_pieces_are_the_same_rows(monkeypatch):
    data = world()
    whole = ItemKNN(ItemKNNConfig(), data).cosine
    monkeypatch.setattr(item_knn, "ROWS", 7)
    torch.testing.assert_close(ItemKNN(ItemKNNConfig(), data).cosine, whole)


def test_only_the_nearest_are_kept():
    data = world()
    model = ItemKNN(ItemKNNConfig(neighbours=3), data)
    assert (model.starts.diff() <= 3).all()
    kept = model.cosine[model.starts[5] : model.starts[6]].sort(descending=True).values
    best = np.sort(plain(data)[5])[::-1][:3]
    np.testing.assert_allclose(kept, best, atol=1e-6)


def test_what_was_chosen_twice_counts_once(monkeypatch):
    data = world()
    user, once, twice = torch.tensor([0]), torch.tensor([[0, 3, 7]]), torch.tensor([[3, 7, 3]])
    for dense in (12_000, 0):
        monkeypatch.setattr(item_knn, "DENSE_ITEMS", dense)
        model = ItemKNN(ItemKNNConfig(), data)
        torch.testing.assert_close(model.score(user, once), model.score(user, twice))
