import numpy as np
import pytest
import torch

from reelm import train
from reelm.data.split import keep
from reelm.errors import ConfigError
from reelm.models import find


def model(data, **settings):
    return train.build("ease", find("ease").Config(**settings), data, seed=0).eval()


def test_weights_minimise_the_ridge_regression_without_a_diagonal(two_tastes):
    """Each column is the ridge regression of an item on all others."""
    found = model(two_tastes, ridge=3.0).weight.numpy()
    users, items = len(two_tastes.users), len(two_tastes.items)
    x = np.zeros((users, items))
    x[two_tastes.user, two_tastes.item] = 1
    for item in (1, 7):
        rest = np.delete(np.arange(items), item)
        others = x[:, rest]
        gram = others.T @ others + 3.0 * np.eye(items - 1)
        np.testing.assert_allclose(
            found[rest, item], np.linalg.solve(gram, others.T @ x[:, item]), atol=1e-5
        )
    assert (np.diag(found) == 0).all()


def test_what_was_chosen_twice_counts_once(two_tastes):
    ease = model(two_tastes)
    user = torch.tensor([0])
    once, twice = torch.tensor([[0, 1, 3]]), torch.tensor([[3, 1, 3]])
    torch.testing.assert_close(ease.score(user, once), ease.score(user, twice))


def test_of_equal_scores_the_more_popular_comes_first(two_tastes):
    data = keep(two_tastes, (two_tastes.item != 2) | (two_tastes.user < 3))
    nothing = torch.zeros(1, 1, dtype=torch.long)
    scores = model(data).score(torch.tensor([0]), nothing)[0]
    order = np.argsort(-scores.numpy(), kind="stable")
    assert (np.diff(data.counts[order]) <= 0).all()


def test_a_catalogue_that_is_too_large_is_refused(two_tastes):
    with pytest.raises(ConfigError, match="most_items"):
        model(two_tastes, most_items=5)
