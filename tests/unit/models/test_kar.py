from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from reelm import models, train
from reelm.data.tables import Features
from reelm.errors import BadData, ConfigError, MissingInput
from reelm.models.kar import KARConfig

BOTH = {"user_knowledge": "profile", "dim": 8, "expert_dim": 4, "expert_hidden": 8}


def built(passed_by, **settings):
    config = KARConfig(**{**BOTH, **settings})
    return train.build("kar", config, passed_by.train, seed=0).eval()


def asked():
    return torch.tensor([0, 1]), torch.tensor([[1, 3], [2, 4]]), torch.tensor([[5, 6], [7, 8]])


def test_a_tower_is_the_mean_of_its_experts_by_its_gate(passed_by):
    model = built(passed_by)
    tower = model.towers["item"]
    rows = torch.tensor([1, 5])
    known = tower.table[rows]
    weight = torch.softmax(tower.gate(known), 1)
    experts = [*model.shared, *tower.own]
    assert len(experts) == 2 + 4
    wanted = sum(weight[:, n, None] * one(known) for n, one in enumerate(experts))
    torch.testing.assert_close(tower(rows, model.shared), wanted)


@pytest.mark.parametrize(
    ("adaptor", "shared", "own"), [("shared", 2, 0), ("dedicated", 0, 4), ("mlp", 0, 1)]
)
def test_the_controls_have_the_experts_they_say(passed_by, adaptor, shared, own):
    model = built(passed_by, adaptor=adaptor)
    assert len(model.shared) == shared
    assert [len(tower.own) for tower in model.towers.values()] == [own, own]
    if adaptor == "mlp":
        assert model.towers["item"].own[0][0][0][0].out_features == 8 * 6
        assert all(gates.shape[1] == 1 for gates in model.gates().values())


def test_shared_experts_are_the_same_for_both_towers(passed_by):
    model = built(passed_by, adaptor="shared")
    whole = model.score(*asked()).sum()
    whole.backward()
    for side in ("user", "item"):
        alone = built(passed_by, adaptor="shared")
        alone.towers[side].table.zero_()  # the other tower still teaches them
        alone.score(*asked()).sum().backward()
        assert any(p.grad.any() for p in alone.shared.parameters())


def test_who_has_no_knowledge_gets_zeros(passed_by):
    model = built(passed_by)
    tower = model.towers["item"]
    tower.table[3] = 0
    assert not tower(torch.tensor([3]), model.shared).any()
    assert tower(torch.tensor([4]), model.shared).any()


def test_kept_fields_give_the_same_scores_and_are_dropped_when_weights_move(passed_by):
    model = built(passed_by)
    fresh = model.score(*asked()).detach()
    with torch.inference_mode():
        kept = model.score(*asked())
        assert set(model._kept) == {"user", "item"}
        torch.testing.assert_close(kept, fresh)
        model.towers["item"].own[0][1].bias.add_(100)
        assert torch.equal(model.score(*asked()), kept)  # nobody asked the towers again
    model.train()
    model.eval()
    with torch.inference_mode():
        assert not torch.allclose(model.score(*asked()), kept)


def test_gates_speak_of_those_of_whom_something_is_known(passed_by):
    gates = built(passed_by).gates()
    assert gates["user"].shape == (24, 6)
    assert gates["item"].shape == (12, 6)
    torch.testing.assert_close(gates["item"].sum(1), torch.ones(12))


def test_knowledge_of_two_widths_needs_experts_of_its_own(passed_by):
    wide = replace(passed_by.train, profiles={"profile": torch.randn(24, 7)})
    split = replace(passed_by, train=wide)
    with pytest.raises(ConfigError, match="4 and 7"):
        built(split)
    assert built(split, adaptor="dedicated").score(*asked()).shape == (2, 2)


def read_by(passed_by, read):
    """The same people, with a profile made from the first `read` interactions of each."""
    data, seen = passed_by.train, np.full(24, read)
    table = data.profiles["profile"].numpy()
    return replace(
        passed_by, train=data.with_profiles([Features("profile", data.users, table, seen)])
    )


def places(split, **settings):
    model = built(split, **settings)
    batches = list(model.batches(split.train, 7, torch.Generator().manual_seed(0)))
    return {
        (user, item, int((history != 0).sum()))
        for b in batches
        for user, item, history in zip(b.user.tolist(), b.item.tolist(), b.history, strict=True)
    }


def test_no_place_is_learned_that_the_knowledge_has_seen(passed_by):
    every = places(passed_by)
    assert len(every) == len(passed_by.train.exposures)
    later = places(read_by(passed_by, 2))
    assert later == {place for place in every if place[2] >= 2}
    assert 0 < len(later) < len(every)
    assert places(read_by(passed_by, 2), user_knowledge="") == every, "videos have no moment"
    assert places(read_by(passed_by, 2), after=False) == every, "the leak, for comparison"


@pytest.mark.parametrize("name", ["din", "dcn"])
def test_no_click_model_learns_places_that_a_profile_has_seen(passed_by, name):
    def learned(split, **settings):
        config = models.find(name).Config(profiles=("profile",), **settings)
        model = train.build(name, config, split.train, seed=0)
        rng = torch.Generator().manual_seed(0)
        return sum(len(b.item) for b in model.batches(split.train, 7, rng))

    cut = read_by(passed_by, 2)
    shown = cut.train.exposures
    assert learned(cut) == int((shown.stop - shown.start >= 2).sum())
    assert learned(cut, after=False) == len(shown)
    with pytest.raises(BadData, match=rf"{name}: profiles profile may .*annotate\.cut"):
        learned(read_by(passed_by, 3))


def test_knowledge_that_may_know_everything_is_refused(passed_by):
    for split in (
        read_by(passed_by, 3),
        replace(passed_by, train=replace(passed_by.train, profiles_read={})),
    ):
        with pytest.raises(BadData, match=r"kar: profiles profile may .*annotate\.cut"):
            places(split)


def test_settings_that_cannot_be(passed_by):
    with pytest.raises(ValidationError, match="user_knowledge"):
        KARConfig(user_knowledge="", item_knowledge="")
    with pytest.raises(ConfigError, match="dim"):
        built(passed_by, backbone_settings=("dim=3",))
    with pytest.raises(MissingInput, match=r"features\.said"):
        built(passed_by, item_knowledge="said")
    assert (
        built(passed_by, backbone="dcn", backbone_settings=("layers=1",)).backbone.config.layers
        == 1
    )


def test_the_backbone_reads_both_fields(passed_by):
    model = built(passed_by)
    before = model.score(*asked()).detach()
    for side in ("user", "item"):
        table = model.towers[side].table
        table.copy_(table[torch.from_numpy(np.random.default_rng(0).permutation(len(table)))])
        after = model.score(*asked()).detach()
        assert not torch.allclose(before, after)
        before = after
