from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from circle import circle_events
from reelm import train
from reelm.config import parse
from reelm.data.batches import sequences
from reelm.data.dataset import Dataset
from reelm.data.split import asked, keep
from reelm.data.tables import Features
from reelm.errors import ConfigError
from reelm.evaluate import evaluate
from reelm.models.sasrec import SASRec, SASRecConfig
from reelm.models.sequential import gelu


@pytest.fixture
def some_unseen(two_tastes):
    """The world of two tastes, of which training sees the first two interactions of the first 16
    users: the last videos are never seen."""
    shown = np.zeros(len(two_tastes), bool)
    for user in range(8):
        shown[two_tastes.offsets[user] : two_tastes.offsets[user] + 2] = True
    return keep(two_tastes, shown)


def test_a_bonus_is_added_to_unseen_items_only(some_unseen):
    plain = SASRec(SASRecConfig(items="both"), some_unseen).eval()
    torch.manual_seed(0)
    lifted = SASRec(SASRecConfig(items="both", cold_bonus=0.7), some_unseen).eval()
    lifted.load_state_dict(plain.state_dict())
    user, history = torch.arange(4), torch.tensor([[0, 1], [2, 3], [4, 5], [0, 0]])
    with torch.inference_mode():
        more = lifted.score(user, history) - plain.score(user, history)
    assert 0 < int(plain.seen.sum()) < 12
    assert more[:, plain.seen].abs().max() == 0
    torch.testing.assert_close(more[:, ~plain.seen], torch.full_like(more[:, ~plain.seen], 0.7))


def test_a_bonus_changes_the_mixed_list_and_no_other(two_tastes, some_unseen):
    shown = np.isin(two_tastes.time, some_unseen.time)
    questions = asked(two_tastes, shown, ~shown)
    model = SASRec(SASRecConfig(items="both"), some_unseen)
    found = []
    for bonus in (-20.0, 20.0):
        model.config = SASRecConfig(items="both", cold_bonus=bonus)
        found.append(evaluate(model, questions, ("mixed", "warm", "cold"), (3,)))
    low, high = found
    for name in ("warm/recall@3", "cold/recall@3"):
        assert low[name] == high[name] > 0
    assert low["mixed/mrr"] != high["mixed/mrr"]


@pytest.mark.parametrize("settings", [{"ages": 4}, {"cold_bonus": 0.5}])
def test_what_lifts_unseen_items_wants_features(settings):
    with pytest.raises(ConfigError, match="ages and cold_bonus need items"):
        parse(SASRecConfig, {"items": "id", **settings}, "model")
    assert parse(SASRecConfig, {"items": "content", **settings}, "model")


@pytest.mark.parametrize("objective", ["softmax", "sampled"])
def test_with_ages_the_loss_of_the_newest_place_is_that_of_its_scores(two_tastes, objective):
    """All last interactions lie in the last spell, so that the scores of today are theirs."""
    data = keep(two_tastes, np.tile([True, True, False, False, False], 24))
    config = SASRecConfig(objective=objective, items="content", dropout=0, ages=2)
    model = SASRec(config, data)
    with torch.no_grad():
        model.age.worth.copy_(torch.tensor([1.5, -2.0]))
    for part in (model.vectors.content.network[2],):
        part.eval()
    batch = next(model.batches(data, 24, torch.Generator()))
    found = model.loss(batch)[objective]
    scores = model.eval().score(torch.arange(24), batch.history)[:, model.seen]
    target = torch.searchsorted(model.seen.nonzero()[:, 0], batch.next_item[:, -1])
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(scores, target))


def test_batches_say_when_the_next_item_was_chosen(two_tastes):
    for batch in sequences(two_tastes, 5, 3, torch.Generator()):
        for history, following, when in zip(
            batch.history, batch.next_item, batch.when, strict=True
        ):
            for item, nxt, at in zip(history, following, when, strict=True):
                if nxt:
                    (row,) = np.flatnonzero(two_tastes.time == at.item())
                    assert two_tastes.item[row] == nxt
                    assert two_tastes.item[row - 1] == item
    unknown = replace(two_tastes, time=np.full(len(two_tastes), np.nan))
    assert all(b.when.isnan().any() for b in sequences(unknown, 5, 3, torch.Generator()))


@pytest.mark.parametrize("weigh", ["batch", "place", "user", "portion"])
def test_gradients_of_pieces_add_up_to_those_of_the_batch(two_tastes, weigh):
    window = "newest" if weigh == "user" else "all"
    config = SASRecConfig(objective="softmax", dropout=0, window=window, max_length=3, weigh=weigh)
    model = SASRec(config, two_tastes)
    batch = next(model.batches(two_tastes, 24, torch.Generator().manual_seed(0)))
    found = []
    for parts in ([batch], batch.pieces(9)):
        model.zero_grad()
        total = sum(model.loss(part)["softmax"] for part in parts)
        total.backward()
        found.append([total.detach(), *(p.grad for p in model.parameters())])
    assert len(batch.pieces(9)) > 5
    torch.testing.assert_close(*found)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
def test_gelu_is_torchs_and_asks_no_library_that_keeps_shapes(capfd):
    x = torch.randn(3, 5, 8, requires_grad=True)
    slopes, found = [], []
    for own in (True, False):
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
            y = gelu(x) if own else F.gelu(x)
            slopes.append(torch.autograd.grad(y, x, torch.ones_like(x))[0])
        found.append(y)
        assert own != ("eltwise_gelu" in capfd.readouterr().out)
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*slopes)
    assert found[0].stride() == x.stride()


@pytest.mark.parametrize("objective", ["gbce", "sampled", "binary"])
def test_videos_that_training_never_saw_come_last_where_only_their_row_is_known(objective):
    """Losses push down what was seen; without this the others would be recommended to everybody."""
    videos = [*(f"v{n}" for n in range(12)), *(f"new{n}" for n in range(30))]
    table = np.random.default_rng(0).normal(size=(42, 4)).astype(np.float32)
    data = Dataset.build(circle_events(), [Features("text", tuple(videos), table)], videos=videos)
    settings = {"dim": 8, "objective": objective, "negatives": 4}
    model = train.build("sasrec", SASRecConfig(**settings), data, 0)
    train.train(model, data, train.TrainConfig(epochs=3, batch_size=8, learning_rate=0.05))
    with torch.no_grad():
        history = torch.tensor([[1, 2, 3], [0, 0, 4]])
        scores = model.eval().score(torch.tensor([0, 1]), history)
        vectors, more = model.factors()
        found = model.asking(torch.tensor([0, 1]), history) @ vectors.T + more
    assert (scores[:, model.seen].amin(1) > scores[:, ~model.seen].amax(1)).all()
    assert scores[:, ~model.seen].std(1).min() > 0, "among themselves they are as they were"
    torch.testing.assert_close(found[:, model.seen], scores[:, model.seen])
    assert torch.isneginf(found[:, ~model.seen]).all()
    content = SASRecConfig(**settings, items="content")
    known = train.build("sasrec", content, data, 0).eval()
    with torch.no_grad():
        assert (
            known.score(torch.tensor([0]), history[:1])[:, ~known.seen].amax()
            > known.score(torch.tensor([0]), history[:1])[:, known.seen].amin()
        ), "features say something of them"


@pytest.mark.parametrize(("settings", "said"), [
    ({"weigh": "user", "window": "all"}, "pieces would count alike"),
    ({"taste": ("text",), "repeat": "isolated"}, "taste counts what is before"),
])  # fmt: skip
def test_settings_that_would_not_do_what_they_say_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        SASRecConfig(**settings)
