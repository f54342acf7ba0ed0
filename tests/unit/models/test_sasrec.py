import numpy as np
import pytest
import torch

from reelm import train
from reelm.config import parse
from reelm.data.split import keep, leave_last_two
from reelm.errors import ConfigError, MissingInput
from reelm.evaluate import evaluate
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
