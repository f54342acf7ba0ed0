import numpy as np
import pytest
import torch

from reelm import train
from reelm.config import parse
from reelm.data.batches import SequenceBatch
from reelm.data.split import keep, leave_last_two
from reelm.errors import ConfigError, MissingInput
from reelm.evaluate import evaluate
from reelm.models import sequential
from reelm.models.blocks.dropout import Dropout
from reelm.models.sasrec import SASRec, SASRecConfig

LEARN = train.TrainConfig(epochs=60, batch_size=24, learning_rate=0.01, patience=60)


def test_learns_the_circle(two_tastes):
    split = leave_last_two(two_tastes)
    run = train.fit(split, "sasrec", SASRecConfig(layers=1, dim=32, feedforward=32), LEARN)
    assert evaluate(run, split.test, ("mixed",), (1,))["recall@1"] > 0.8


def test_a_history_longer_than_it_reads_is_cut(two_tastes):
    model = SASRec(SASRecConfig(max_length=3), two_tastes).eval()
    long, user = torch.tensor([[5, 6, 1, 2, 3]]), torch.tensor([0])
    torch.testing.assert_close(model.score(user, long), model.score(user, long[:, 2:]))


def test_learned_and_loaded_vectors_are_forgotten(two_tastes):
    model = SASRec(SASRecConfig(), two_tastes).eval()
    user, history = torch.tensor([0]), torch.tensor([[1, 2]])
    with torch.inference_mode():
        before = model.score(user, history).clone()
        model.load_state_dict({k: v * 2 for k, v in model.state_dict().items()})
        assert not torch.equal(model.score(user, history), before)
    with torch.no_grad():
        before = model.score(user, history)
        model.train().vectors.id.weight.mul_(2)
        assert not torch.equal(model.eval().score(user, history), before)


def test_features_beside_each_other_are_standardised(two_tastes):
    data = two_tastes
    data.features["more"] = data.features["text"] * 1000 + 5
    data.has_feature["more"] = data.has_feature["text"]
    model = SASRec(SASRecConfig(items="content", features=("text", "more")), data)
    table = model.vectors.content.table
    assert table.shape == (13, 8)
    torch.testing.assert_close(table[:, :4], table[:, 4:], rtol=1e-4, atol=1e-4)
    assert table[1:, :4].norm(dim=1).mean().item() == pytest.approx(8)
    assert not table[0].any()


def test_settings_that_do_not_fit_are_refused(two_tastes):
    with pytest.raises(ConfigError, match="heads = 3 does not divide dim = 64"):
        parse(SASRecConfig, {"heads": 3}, "model")
    with pytest.raises(MissingInput, match=r"features\.sound"):
        SASRec(SASRecConfig(items="both", features=("sound",)), two_tastes)
    assert SASRec.needs(SASRecConfig(items="both")) == ("features.text",)
    assert SASRec.needs(SASRecConfig()) == ()


def test_dropout_drops_its_share_and_keeps_the_mean():
    x = torch.ones(1001, 99)
    kept = Dropout(0.2)(x)
    assert (kept == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert kept.mean().item() == pytest.approx(1, abs=0.01)
    assert torch.equal(Dropout(0.2).eval()(x), x)


def test_the_loss_of_the_newest_place_is_that_of_its_scores(two_tastes):
    """Users with two interactions have one place, so the loss can be read off the scores."""
    data = keep(two_tastes, np.tile([True, True, False, False, False], 24))
    model = SASRec(SASRecConfig(objective="softmax", dropout=0), data)
    batch = next(model.batches(data, 24, torch.Generator()))
    found = model.loss(batch)["softmax"]
    scores = model.eval().score(torch.arange(24), batch.history)[:, model.seen]
    target = torch.searchsorted(model.seen.nonzero()[:, 0], batch.next_item[:, -1])
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(scores, target))


@pytest.mark.parametrize("block", ["pre_norm", "paper", "gated"])
def test_attention_weights_are_dropped_in_training_only(two_tastes, block):
    settings = SASRecConfig(block=block, dropout=0, attention_dropout=0.5)
    model = train.build("sasrec", settings, two_tastes, 0)
    batch = next(model.batches(two_tastes, 24, torch.Generator()))
    x = model.vectors(batch.history.flatten()).unflatten(0, batch.history.shape)
    first, second = (model.states(x, batch.history > 0) for _ in range(2))
    assert not torch.allclose(first, second)
    first, second = (model.eval().states(x, batch.history > 0) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("block", ["pre_norm", "paper", "gated"])
def test_every_block_learns_the_circle(two_tastes, block):
    split = leave_last_two(two_tastes)
    settings = SASRecConfig(layers=1, dim=32, feedforward=32, block=block, dropout=0.1)
    run = train.fit(split, "sasrec", settings, LEARN)
    assert evaluate(run, split.test, ("mixed",), (1,))["recall@1"] > 0.8


@pytest.mark.parametrize("objective", ["binary", "gbce", "sampled", "softmax"])
@pytest.mark.parametrize("extra", [{"table": "separate"}, {"draw": "counts"}, {"negatives": 3}])
def test_every_loss_reaches_every_weight(two_tastes, objective, extra):
    settings = SASRecConfig(objective=objective, dropout=0, **extra)
    model = train.build("sasrec", settings, two_tastes, 0)
    batch = next(model.batches(two_tastes, 24, torch.Generator()))
    loss = model.loss(batch)[objective]
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_drawn_for_a_place_are_items_the_user_did_not_choose(two_tastes):
    """Neither in the window that is read nor before it."""
    settings = SASRecConfig(objective="binary", negatives=20, max_length=2, window="all")
    model = train.build("sasrec", settings, two_tastes, 0)
    drawn = np.zeros((len(two_tastes.users), len(two_tastes.items)), np.int64)
    for _ in range(5):
        for batch in model.batches(two_tastes, 8, torch.Generator().manual_seed(0)):
            places = batch.next_item != 0
            user = batch.user[places.nonzero()[:, 0]]
            target = batch.next_item[places]
            found = model._unchosen(model.seen.nonzero()[:, 0], user, target)
            assert not (found == target[:, None]).any()
            np.add.at(drawn, (user.numpy()[:, None], found.numpy()), 1)
    own = np.zeros_like(drawn, bool)
    own[two_tastes.user, two_tastes.item] = True
    assert drawn[own].sum() <= 1e-3 * drawn.sum(), "but for those drawn eleven times in a row"
    assert (drawn[~own].reshape(len(drawn), -1)[:, 1:] > 0).all(), "and all others are"


def test_isolated_copies_read_like_the_history_alone(two_tastes):
    """With every copy in a part of its own, places apart, states are those of one copy."""
    model = train.build("sasrec", SASRecConfig(dropout=0), two_tastes, 0).eval()
    with torch.no_grad():
        model.place.weight.zero_()
        one = model.vectors(torch.tensor([3, 5, 7]))[None]
        two, real = one.repeat(1, 2, 1), torch.ones(1, 6, dtype=torch.bool)
        parts = torch.tensor([[1, 1, 1, 0, 0, 0]])
        alone = model.states(one, real[:, :3])
        apart, joined = model.states(two, real, parts), model.states(two, real)
    torch.testing.assert_close(apart[:, 3:], alone)
    torch.testing.assert_close(apart[:, :3], alone)
    assert not torch.allclose(joined[:, 3:], alone)


def test_a_delimiter_within_a_history_keeps_its_place(two_tastes):
    model = train.build("sasrec", SASRecConfig(objective="sampled", dropout=0), two_tastes, 0)
    history = torch.tensor([[0, 3, 5, 0, 3, 5]])
    batch = SequenceBatch(history, torch.tensor([[0, 5, 7, 0, 5, 7]]))
    assert torch.isfinite(model.loss(batch)["sampled"])
    first, real = sequential._first(history)
    assert sequential._left(history, first).tolist() == [[3, 5, 0, 3, 5, 0]]
    assert real.tolist() == [[True] * 5 + [False]]


def test_a_learned_part_beside_features_begins_at_zero(two_tastes):
    both = SASRec(SASRecConfig(items="both"), two_tastes).eval()
    rows = torch.arange(1, 13)
    with torch.inference_mode():
        torch.testing.assert_close(both.vectors(rows), both.vectors.content(rows))
