"""What mf, lightgcn, vbpr, freedom and mmssl share, and what each adds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reelm import train
from reelm.data.dataset import Dataset
from reelm.data.pairs import PairBatch
from reelm.data.split import keep
from reelm.models import find

BATCH = PairBatch(torch.tensor([0, 1, 3]), torch.tensor([1, 2, 4]), torch.tensor([[2], [1], [1]]))


def built(name, data, **settings):
    return train.build(name, find(name).Config(**settings), data, seed=0)


@pytest.fixture
def one_cold(two_tastes):
    """The world without the interactions of its last video, which keeps its features."""
    cold = len(two_tastes.items) - 1
    return keep(two_tastes, two_tastes.item != cold)


def cold_row(data: Dataset) -> int:
    return int(np.flatnonzero(data.counts[1:] == 0)[0]) + 1


@pytest.mark.parametrize("name", ["mf", "lightgcn"])
def test_a_video_nobody_chose_comes_last_where_nothing_is_known_of_it(name, one_cold):
    model = built(name, one_cold).eval()
    scores = model.score(torch.arange(24), torch.zeros(24, 1, dtype=torch.long))[:, 1:]
    assert (scores.argmin(1) + 1 == cold_row(one_cold)).all()


@pytest.mark.parametrize("name", ["vbpr", "freedom", "mmssl"])
def test_a_video_nobody_chose_is_placed_by_its_features(name, one_cold):
    config = train.TrainConfig(epochs=60, batch_size=24, learning_rate=0.01)
    chosen = find(name).Config(decay=0.1)
    model = train.fit(one_cold, name, chosen, config).model
    cold = cold_row(one_cold)
    parity = [int(one_cold.items[row][1:]) % 2 for row in range(1, len(one_cold.items))]
    scores = model.score(torch.arange(24), torch.zeros(24, 1, dtype=torch.long))[:, cold]
    own = torch.tensor([user % 2 == parity[cold - 1] for user in range(24)])
    assert scores[own].mean() > scores[~own].mean()


@pytest.mark.parametrize("name", ["vbpr", "freedom", "mmssl"])
def test_an_untrained_vector_of_a_video_counts_for_nothing(name, one_cold):
    model = built(name, one_cold).eval()
    user, history = torch.arange(24), torch.zeros(24, 1, dtype=torch.long)
    before = model.score(user, history)
    with torch.no_grad():
        model.item[cold_row(one_cold)] += 100.0
    model.train().eval()
    torch.testing.assert_close(model.score(user, history), before)


def test_a_user_that_training_did_not_know_has_the_mean_taste(two_tastes):
    data = keep(two_tastes, two_tastes.user != 5)
    model = built("mf", data).eval()
    scores = model.score(torch.arange(24), torch.zeros(24, 1, dtype=torch.long))
    others = torch.arange(24) != 5
    torch.testing.assert_close(scores[5, 1:], scores[others, 1:].mean(0))


@pytest.mark.parametrize("objective", ["bpr", "softmax"])
def test_decay_is_half_the_squared_length_per_pair(objective, two_tastes):
    model = built("mf", two_tastes, objective=objective, decay=0.5)
    found = model.loss(BATCH)["decay"]
    rows = [model.user[BATCH.user], model.item[BATCH.item], model.item[BATCH.negatives[:, 0]]]
    wanted = 0.5 * sum(r.detach().pow(2).sum().item() for r in rows) / 2 / 3
    assert found.item() == pytest.approx(wanted)


def test_cosines_are_what_softmax_compares(two_tastes):
    """Items ten times as long get no higher score."""
    model = built("mf", two_tastes, objective="softmax", negatives=12).eval()
    user, history = torch.arange(4), torch.zeros(4, 1, dtype=torch.long)
    before = model.score(user, history)
    with torch.no_grad():
        model.item *= 10
    model.train().eval()
    torch.testing.assert_close(model.score(user, history), before)


def test_lightgcn_without_layers_is_mf(two_tastes):
    light, plain = built("lightgcn", two_tastes, layers=0), built("mf", two_tastes)
    torch.testing.assert_close(light.loss(BATCH)["bpr"], plain.loss(BATCH)["bpr"])


def test_lightgcn_is_the_mean_of_powers_of_the_normalised_graph(two_tastes):
    model = built("lightgcn", two_tastes, layers=3)
    users, items = len(two_tastes.users), len(two_tastes.items)
    whole = torch.zeros(users + items, users + items)
    user, item = torch.from_numpy(two_tastes.user), torch.from_numpy(two_tastes.item).long()
    whole[user, users + item] = whole[users + item, user] = 1.0
    root = whole.sum(0).clamp(min=1).rsqrt()
    whole = root[:, None] * whole * root
    start = torch.cat([model.user, model.item])
    wanted = sum(torch.linalg.matrix_power(whole, n) @ start for n in range(4)) / 4
    torch.testing.assert_close(torch.cat(model.vectors()), wanted)


def test_freedom_thins_its_graph_only_while_training(two_tastes):
    model = built("freedom", two_tastes, edge_dropout=0.5)
    first, second = model.vectors()[0], model.vectors()[0]
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model.vectors()[0], model.vectors()[0])


def test_freedom_wants_a_weight_for_each_table():
    with pytest.raises(ValueError, match="one number for each"):
        find("freedom").Config(features=("image", "text"), graph_weights=(1.0,))


def test_vbpr_scores_are_those_of_the_paper(two_tastes):
    model = built("vbpr", two_tastes).eval()
    with torch.no_grad():
        model.bias.normal_()
    table = torch.cat(model.shown.tables(), dim=1)
    wanted = (
        model.user @ model.item.T
        + model.bias.T
        + model.taste @ model.project(table).T
        + model.worth(table).T
    )
    found = model.score(torch.arange(24), torch.zeros(24, 1, dtype=torch.long))
    torch.testing.assert_close(found[:, 1:], wanted[:, 1:])


def test_a_video_without_features_does_no_harm(two_tastes):
    table = two_tastes.features["text"].clone()
    table[3] = 0
    has = two_tastes.has_feature["text"].copy()
    has[3] = False
    data = replace(two_tastes, features={"text": table}, has_feature={"text": has})
    for name in ("vbpr", "freedom", "mmssl"):
        model = train.fit(data, name, None, train.TrainConfig(epochs=2, batch_size=8)).model
        scores = model.score(torch.arange(4), torch.zeros(4, 1, dtype=torch.long))
        assert scores.isfinite().all(), name


def test_little_known_of_a_new_video_is_not_made_much_of(one_cold):
    """Known videos count by direction alone; a new one of a shorter vector by less."""
    model = built("vbpr", one_cold, objective="softmax", negatives=8).eval()
    user, history = torch.arange(24), torch.zeros(24, 1, dtype=torch.long)
    cold = cold_row(one_cold)
    unit = torch.nn.functional.normalize(model.vectors()[1], dim=1)
    with torch.no_grad():
        wanted = (model.vectors()[0] @ unit.T)[:, cold].abs()
    found = model.score(user, history)[:, cold].abs()
    length = model.vectors()[1].norm(dim=1)
    shorter = bool(length[cold] < length[model.seen].mean())
    assert ((found < wanted) if shorter else torch.isclose(found, wanted)).all()
    with torch.no_grad():
        model.shown.get_buffer("table_0")[cold] *= 1e-3
    model.train().eval()
    assert (model.score(user, history)[:, cold].abs() < 0.1 * wanted).all()
