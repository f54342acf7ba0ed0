"""What is special about LLMRec: edges, pruning and its direction, masks, the base it is put on."""

import numpy as np
import polars as pl
import pytest
import torch

from circle import circle_edges
from reelm import losses, train
from reelm.data.dataset import Dataset
from reelm.data.preferences import SCHEMA
from reelm.data.split import leave_last_two
from reelm.errors import BadData, ConfigError, MissingInput
from reelm.models.llmrec import LLMRecConfig, base_config

PROFILES = {"attributes": ("text",), "profiles": ("profile",)}


def built(data, **settings):
    return train.build("llmrec", LLMRecConfig(dim=8, **settings), data, 0)


def first(model, data, size=24):
    return next(iter(model.batches(data, size, torch.Generator().manual_seed(0))))


@pytest.mark.parametrize(("leave_out", "stay"), [("highest", [1, 2, 4]), ("lowest", [0, 3, 2])])
def test_the_direction_of_pruning(leave_out, stay):
    kept = losses.unpruned(torch.tensor([5.0, 1.0, 3.0, 4.0, 2.0]), 0.4, leave_out)
    assert set(kept.nonzero()[:, 0].tolist()) == set(stay)


def test_pruning_takes_the_highest_losses_or_keeps_them(two_tastes):
    def loss(**settings):
        model = built(two_tastes, **settings, mask=0.0, prune_rate=0.5, prune_after=0, prune_ramp=0)
        with torch.no_grad():
            model.base.user.mul_(30)  # losses that differ
        batch = first(model, two_tastes)
        return sum(float(v.detach()) for k, v in model.loss(batch).items() if k in ("bpr", "said"))

    every = loss(prune="none")
    assert loss(prune="highest", prune_on="all") < every
    assert loss(prune="keep_highest", prune_on="all") > every
    assert loss(prune="highest", prune_on="augmented") != every


def test_pruning_begins_late_and_rises(two_tastes):
    model = built(two_tastes, prune="highest", prune_rate=0.5, prune_after=10, prune_ramp=10)
    left = []
    for step in (0, 10, 15, 20, 99):
        model.steps.fill_(step)
        left.append(int((~model._stay(torch.arange(100.0))).sum()))
    assert left == [0, 0, 25, 50, 50]


def test_only_triples_can_be_pruned():
    with pytest.raises(ValueError, match="softmax has no triples"):
        LLMRecConfig(prune="highest", prune_on="all", objective="softmax")


def test_masks_are_new_at_every_step_and_the_table_stays(two_tastes):
    model = built(two_tastes, **PROFILES, mask=0.3).train()
    side = model.profiles[0]
    before, drawn = side.table.clone(), []
    with torch.no_grad():
        side.token.fill_(7.0)
    for _ in range(30):
        shown, hidden = side.masked()
        assert int(hidden.sum()) == 8  # .3 of 24, rounded up
        assert torch.equal(shown[~hidden], before[~hidden]) and bool((shown[hidden] == 7).all())
        drawn.append(hidden)
    assert torch.equal(side.table, before)
    assert torch.stack(drawn).any(0).all() and not torch.equal(drawn[0], drawn[1])
    shown, hidden = side.eval().masked()
    assert torch.equal(shown, before) and not hidden.any()


def test_the_decoder_learns_to_restore(two_tastes):
    model = built(two_tastes, **PROFILES, restore=1.0)
    start = model.profiles[0].decoder.weight.detach().clone()
    schedule = train.TrainConfig(epochs=30, batch_size=24, learning_rate=0.02)
    rows = train.train(model, two_tastes, schedule)
    assert rows[-1]["loss/restore"] < 0.5 * rows[0]["loss/restore"]
    assert not torch.equal(model.profiles[0].decoder.weight, start)


@pytest.mark.parametrize(
    "without",
    [{"share": 0.0}, {"profiles": ()}, {"attributes": ()}, {"mask": 0.0}, {"restore": 0.0},
     {"side_loss": 0.0}],
    ids=str,
)  # fmt: skip
def test_every_part_matters_to_the_loss(two_tastes, without):
    def total(settings):
        model = built(two_tastes, **settings)
        torch.manual_seed(1)
        return sum(v.detach() for v in model.loss(first(model, two_tastes)).values())

    assert total(PROFILES | {"share": 0.5}) != total(PROFILES | {"share": 0.5} | without)


def test_an_edge_raises_the_liked_above_the_disliked(two_tastes):
    edges = pl.DataFrame([("u0", "v3", "v1", 1.0)], schema=SCHEMA, orient="row")
    data = two_tastes.with_preferences(edges)
    model = built(data, attributes=(), share=1.0, decay=0.0)
    train.train(model, data, train.TrainConfig(epochs=40, batch_size=24, learning_rate=0.02))
    score = model.eval().score(torch.tensor([0]), torch.zeros(1, 3, dtype=torch.long))[0]
    liked, disliked = (data.items.index(v) for v in ("v3", "v1"))
    assert score[liked] > score[disliked] + 1


def test_the_share_of_edges_in_a_batch(two_tastes):
    batch = first(built(two_tastes, share=0.25), two_tastes)
    assert len(batch.owner) == 6
    owners = set(two_tastes.preferences.user.tolist())
    assert set(batch.owner.tolist()) <= owners & set(batch.user.tolist())


def test_without_edges_says_what_to_do(two_tastes):
    bare = two_tastes.with_preferences(circle_edges().head(0))
    with pytest.raises(MissingInput, match=r"with_preferences.*model\.share to 0"):
        first(built(bare), bare)
    assert len(first(built(bare, share=0.0), bare).owner) == 0


def test_edges_from_outside_training_are_an_error(two_tastes):
    rare = pl.DataFrame({"user_id": ["u0"], "video_id": ["late"], "event": ["like"],
                         "value": [1.0], "timestamp": [1e6]})  # fmt: skip
    from circle import circle_events, circle_features

    whole = Dataset.build(pl.concat([circle_events(), rare], how="diagonal"), [circle_features()])
    edges = pl.DataFrame([("u0", "late", "v1", 1.0)], schema=SCHEMA, orient="row")
    cut = leave_last_two(whole.with_preferences(edges)).train
    with pytest.raises(BadData, match=r"1 of 1 edges.*split\.train"):
        first(built(cut), cut)
    again = leave_last_two(whole).train.with_preferences(edges)
    assert len(again.preferences) == 0 and again.removed["preferences"] == 1


def test_a_video_nobody_watched_is_ranked_by_its_attributes(two_tastes):
    assert built(two_tastes).rankable().tolist() == [False] + [True] * 12


def test_settings_of_the_base():
    made = base_config(LLMRecConfig(base="mmssl", base_settings=("heads=2", "content=0.1"), dim=8))
    assert (made.heads, made.content, made.dim) == (2, 0.1, 8)
    with pytest.raises(ConfigError, match=r"base_settings\.head.*heads"):
        base_config(LLMRecConfig(base="mmssl", base_settings=("head=2",)))
    with pytest.raises(ConfigError, match="dim: set it in"):
        base_config(LLMRecConfig(base_settings=("dim=2",)))


def test_mmssls_own_terms_stay(two_tastes):
    model = built(two_tastes, base="mmssl", **PROFILES)
    terms = model.loss(first(model, two_tastes))
    assert {"contrast", "critic", "adversarial", "bpr", "said", "side", "restore"} <= set(terms)


def test_without_what_was_said_it_is_its_base(two_tastes):
    plain = built(two_tastes, attributes=(), share=0.0, base_settings=("layers=2",))
    base = train.build("lightgcn", base_config(plain.config), two_tastes, 0)
    schedule = train.TrainConfig(epochs=3, batch_size=24, learning_rate=0.02)
    for model in (plain, base):
        train.train(model, two_tastes, schedule)
    user, history = torch.arange(4), torch.zeros(4, 1, dtype=torch.long)
    scores = [model.eval().score(user, history) for model in (plain, base)]
    np.testing.assert_allclose(*(s.detach().numpy() for s in scores), rtol=1e-3, atol=1e-4)
