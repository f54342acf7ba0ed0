from dataclasses import replace

import numpy as np
import pytest
import torch

from reelm import models, train
from reelm.evaluate import places
from reelm.models.dcn import DCNConfig
from reelm.models.din import DINConfig


def built(name, config, passed_by):
    return train.build(name, config, passed_by.train, seed=0).eval()


def test_attention_depends_on_the_candidate(passed_by):
    model = built("din", DINConfig(dim=8), passed_by)
    shown, rated = model.items(torch.tensor([[1, 2]])), model.items(torch.tensor([[3, 4]]))
    weight = model.unit(shown, rated)
    assert weight.shape == (1, 2, 2)
    assert not torch.allclose(weight[:, 0], weight[:, 1])


def test_much_of_a_kind_counts_for_more_than_little(passed_by):
    """Weights are not normalised: a history twice as long is not the same history."""
    model = built("din", DINConfig(dim=8), passed_by)
    once, twice = torch.tensor([[1]]), torch.tensor([[1, 1]])
    user, rated = torch.tensor([0]), torch.tensor([[3]])
    assert not torch.allclose(model.score(user, once, rated), model.score(user, twice, rated))


def test_cross_layers_are_the_equation(passed_by):
    config = DCNConfig(dim=4, layers=1, hidden=(6,), dropout=0.0)
    model = built("dcn", config, passed_by)
    user, history, rated = torch.tensor([0]), torch.tensor([[1, 2]]), torch.tensor([[3]])
    first = torch.cat([model.items(rated)[0, 0], model.items(history)[0].mean(0)])
    crossed = first * (model.cross[0].weight @ first + model.cross[0].bias) + first
    wanted = model.out(torch.cat([crossed, model.network(first)]))
    torch.testing.assert_close(model.score(user, history, rated)[0], wanted)


def test_an_item_training_never_met_counts_by_its_features_alone(passed_by):
    model = built("din", DINConfig(dim=8, features=("text",)), passed_by)
    model.items.met[5] = False
    fields = model.items(torch.tensor([5, 6]))
    assert not fields[0, :8].any()
    assert fields[0, 8:].any()
    assert fields[1, :8].any()


def test_only_the_newest_of_a_long_history_are_read(passed_by):
    model = built("dcn", DCNConfig(dim=8, max_length=2), passed_by)
    user, rated = torch.tensor([0]), torch.tensor([[3]])
    long, short = torch.tensor([[9, 1, 2]]), torch.tensor([[1, 2]])
    assert torch.equal(model.score(user, long, rated), model.score(user, short, rated))


def test_places_are_judged_by_as_much_of_a_history_as_the_model_reads(passed_by):
    model = built("din", DINConfig(dim=8, max_length=300), passed_by)
    shown, past = passed_by.test_shown.take(np.array([0])), np.full(250, 2, np.int32)
    shown = replace(shown, past=past, start=np.array([0]), stop=np.array([250]))
    item, history = torch.tensor([[int(shown.item[0])]]), torch.from_numpy(past).long()[None]
    with torch.inference_mode():
        wanted = model.score(torch.from_numpy(shown.user), history, item)[0]
    torch.testing.assert_close(torch.from_numpy(places(model, shown).score), wanted)


@pytest.mark.parametrize("name", ["din", "dcn", "kar"])
def test_a_stranger_is_one_of_whom_nothing_was_said(passed_by, name):
    more = {"user_knowledge": "profile", "item_knowledge": ""} if name == "kar" else {}
    config = models.find(name).Config(**{"dim": 8, "profiles": ("profile",)} | more)
    with_silent = passed_by.train.profiles["profile"].clone()
    with_silent[5] = 0  # a user without a profile
    data = replace(passed_by.train, profiles={"profile": with_silent})
    model = train.build(name, config, data, seed=0).eval()
    history, rated = torch.tensor([[1, 2]]), torch.tensor([[3, 4]])
    scores = [model.score(torch.tensor([user]), history, rated) for user in (-1, 5, 0)]
    torch.testing.assert_close(scores[0], scores[1])
    assert not torch.allclose(scores[0], scores[2])
    with torch.no_grad():
        torch.testing.assert_close(model.score(torch.tensor([-1]), history, rated), scores[0])
        alike = model.similar(torch.tensor([3]))
        alone = model.score_all(torch.tensor([-1]), torch.tensor([[3]]))
    torch.testing.assert_close(alike, alone)
