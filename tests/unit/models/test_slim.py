"""Rationales stand beside states; none of them may know what is learned from."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

from reelm import train
from reelm.data.dataset import Dataset
from reelm.data.split import leave_last_two
from reelm.data.tables import Features
from reelm.errors import BadData, ConfigError, MissingInput
from reelm.evaluate import evaluate
from reelm.models.slim import SLIMConfig
from reelm.runs import Run

USERS, ITEMS, WATCHED = 120, 40, 12
LEARN = train.TrainConfig(epochs=20, batch_size=40, learning_rate=0.01, patience=40)
ALONE = {"items": "content", "objective": "softmax", "dim": 16, "dropout": 0.0}
SHARE = 0.5  # of training that is read


@pytest.fixture(scope="module")
def chance():
    """Everybody watches what the dice say: there is nothing to know of anybody, only answers to be
    read off a text that tells them."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u:03}", f"v{v}") for u in range(USERS) for v in rng.permutation(ITEMS)[:WATCHED]]
    log = pl.DataFrame(rows, schema=["user_id", "video_id"], orient="row")
    log = log.with_columns(event=pl.lit("like"), order=pl.int_range(pl.len()))
    codes = rng.normal(size=(ITEMS, 16)).astype(np.float32)
    text = Features("text", tuple(f"v{v}" for v in range(ITEMS)), codes)
    return leave_last_two(Dataset.build(log, [text]))


def told(data, share, dealt=False):
    """What the first part of each history is about: the mean of its items' features."""
    table, read = data.features["text"].numpy(), []
    rows = np.zeros((len(data.users), table.shape[1]), np.float32)
    for row in range(len(data.users)):
        read.append(int(share * len(data.history(row))))
        rows[row] = table[data.history(row)[: read[-1]]].mean(0)
    if dealt:
        rows = np.roll(rows, 1, 0)
    return data.with_profiles([Features("said", data.users, rows, np.array(read))])


def learned(split, data, **settings):
    """Loss of training and recall of the test."""
    config = SLIMConfig(**{**ALONE, "profiles": ("said",), **settings})
    fitted = train.fit(data, "slim", config, LEARN)  # to the end: nothing chooses an epoch
    model = fitted.model.eval()
    with torch.no_grad():
        batches = model.batches(data, 1000, torch.Generator())
        lost = [float(model.loss(batch)["softmax"]) for batch in batches]
    return float(np.mean(lost)), evaluate(model, split.test, ("mixed",), (10,))["recall@10"]


def test_without_the_cut_the_answers_are_read_and_with_it_they_are_not(chance):
    """Loss against that of others' rationales, which tell nothing of the answers."""
    data = chance.train
    fair, fair_recall = learned(chance, told(data, 1.0, dealt=True), after=False)
    leak, leak_recall = learned(chance, told(data, 1.0), after=False)
    assert leak < fair - 0.3
    assert leak_recall < fair_recall + 0.05, "what was read off is of no use afterwards"
    fair_after, _ = learned(chance, told(data, SHARE, dealt=True))
    cut, cut_recall = learned(chance, told(data, SHARE))
    assert cut > fair_after - 0.1, "nothing can be read off what it has not seen"
    assert abs(cut_recall - fair_recall) < 0.1


def test_no_place_is_learned_that_a_rationale_has_seen(chance):
    data = told(chance.train, SHARE)
    model = train.build("slim", SLIMConfig(**ALONE, profiles=("said",)), data, seed=0)
    read = data.profiles_read["said"]
    places = 0
    for batch in model.batches(data, 16, torch.Generator()):
        for user, following in zip(batch.user.tolist(), batch.next_item, strict=True):
            wanted = following[following != 0].tolist()
            assert wanted == data.history(user)[read[user] :].tolist()
            places += len(wanted)
    assert places == int((np.diff(data.offsets) - read).sum())


def test_profiles_that_may_know_everything_are_refused(chance):
    data = told(chance.train, 1.0)
    config = SLIMConfig(**ALONE, profiles=("said",))
    with pytest.raises(BadData, match=r"annotate\.cut"):
        train.fit(data, "slim", config, LEARN)
    unknown = replace(data, profiles_read={})
    with pytest.raises(BadData, match="may have been made from all"):
        train.fit(unknown, "slim", config, LEARN)


def test_the_profile_that_read_most_counts(chance):
    data = chance.train
    some = told(data, 0.2).profiles["said"].numpy()
    both = [Features(str(n), data.users, some, np.full(USERS, n)) for n in (2, 7)]
    told_twice = data.with_profiles(both)
    model = train.build("slim", SLIMConfig(**ALONE, profiles=("2", "7")), told_twice, seed=0)
    batches = list(model.batches(told_twice, 50, torch.Generator()))
    assert all(int((batch.next_item != 0).sum(1).max()) == WATCHED - 2 - 7 for batch in batches)


def test_strangers_and_users_without_a_rationale_get_the_history_alone(chance):
    data = chance.train
    said = told(data, SHARE)
    few = Features("said", data.users[:5], said.profiles["said"].numpy()[:5], np.full(5, 5))
    split = replace(chance, train=data.with_profiles([few]))
    model = train.fit(split, "slim", SLIMConfig(**ALONE, profiles=("said",)), LEARN).model.eval()
    history = torch.tensor([[3, 4, 5]]).expand(3, 3)
    with torch.no_grad():
        known, without, stranger = model.score(torch.tensor([0, 9, -1]), history)
        backbone = model.backbone.states  # as it is without what stands beside it
        beside, model.backbone.beside = model.backbone.beside, None
        alone = model.score(torch.tensor([9]), history[:1])[0]
        model.backbone.beside = beside
    assert backbone is not None
    torch.testing.assert_close(without, stranger)
    torch.testing.assert_close(without, alone)
    assert (known - without).abs().max() > 0.01
    run = Run.of("slim", model, split.train)
    torch.testing.assert_close(run.score([[3, 4, 5]], ["nobody"])[0], stranger)


def test_a_rationale_that_knows_the_taste_helps(two_tastes):
    """Histories are hidden from the model: of two items it is told the half by the rationale."""
    split = leave_last_two(two_tastes)
    settings = {"items": "content", "max_length": 1, "profile_dropout": 0.0}
    found = {}
    for profiles in ((), ("profile",)):
        config = SLIMConfig(**settings, profiles=profiles)
        model = train.fit(split, "slim", config, LEARN).model
        found[profiles] = evaluate(model, split.test, ("mixed",), (1,))["recall@1"]
    assert found["profile",] >= found[()]


def test_what_is_wrong_with_settings_is_said(chance):
    with pytest.raises(ValidationError, match="foreign"):
        SLIMConfig(repeat="foreign")
    with pytest.raises(ConfigError, match="in \\[model\\] itself"):
        train.build("slim", SLIMConfig(**ALONE, backbone_settings=("dim=3",)), chance.train, 0)
    with pytest.raises(MissingInput, match=r"profiles\.said"):
        train.build("slim", SLIMConfig(**ALONE, profiles=("said",)), chance.train, 0)
