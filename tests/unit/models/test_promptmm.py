"""What is special about PromptMM's teacher: prompts, features of users, videos without features."""

import numpy as np
import pytest
import torch

from circle import circle_events, circle_features
from reelm import train
from reelm.data.dataset import Dataset
from reelm.data.tables import Features
from reelm.errors import MissingInput
from reelm.models.promptmm import PromptMMConfig, components

QUICK = train.TrainConfig(epochs=2, batch_size=8)
LEARN = train.TrainConfig(epochs=30, batch_size=24, learning_rate=0.02)


def sounds(videos):
    vectors = np.random.default_rng(0).normal(size=(len(videos), 5)).astype(np.float32)
    return Features("audio", tuple(videos), vectors)


@pytest.fixture
def gaps():
    """v12 has features and was never chosen, v13 has none either; of v0 and v1 only the text, of v2
    only the sound is known."""
    text = circle_features(13)
    kept = [row for row in range(13) if row != 2]
    text = Features("text", tuple(text.ids[r] for r in kept), text.vectors[kept])
    audio = sounds([f"v{v}" for v in range(2, 13)])
    videos = [f"v{v}" for v in range(14)]
    return Dataset.build(circle_events(), [text, audio], videos=videos)


def built(data, **settings):
    return train.build("promptmm", PromptMMConfig(dim=8, **settings), data, 0).eval()


def test_principal_components_are_those_of_the_table():
    table = torch.randn(40, 6) * torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.1])
    found = components(table, 3)
    left, values, _ = torch.linalg.svd(table, full_matrices=False)
    torch.testing.assert_close(found.abs(), (left * values)[:, :3].abs(), atol=1e-4, rtol=1e-3)
    assert components(table, 9).shape == (40, 6)


def test_a_users_hard_prompt_is_the_mean_of_what_he_chose(two_tastes):
    model = built(two_tastes)
    chosen = torch.from_numpy(np.unique(two_tastes.history(3))).long()
    torch.testing.assert_close(model.hard_user[3], model.hard_item[chosen].mean(0))


def test_missing_features_leave_everything_finite_and_learnable(gaps):
    model = built(gaps, features=("text", "audio"))
    rows = train.train(model, gaps, QUICK)
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    assert all(torch.isfinite(side).all() for side in model.vectors())


def test_a_table_that_no_video_has_says_nothing():
    none = Features("audio", (), np.zeros((0, 5), np.float32))
    data = Dataset.build(circle_events(), [circle_features(), none])
    model = built(data, features=("text", "audio"))
    train.train(model, data, QUICK)
    users, items = model.vectors()
    assert torch.isfinite(users).all()
    assert torch.isfinite(items).all()


def test_a_video_nobody_chose_competes_by_its_features_alone(gaps):
    model = built(gaps, features=("text", "audio"))
    row = {video: at for at, video in enumerate(gaps.items)}
    assert model.rankable()[row["v12"]]
    assert not model.rankable()[row["v13"]]
    before = model.vectors()[1][row["v12"]].clone()
    with torch.no_grad():
        model.item[row["v12"]] += 100
    assert torch.equal(model.vectors()[1][row["v12"]], before)


def test_a_new_video_goes_to_those_whose_taste_it_is():
    """v12 is like the even videos, v13 like the odd ones."""
    data = Dataset.build(
        circle_events(), [circle_features(14)], videos=[f"v{v}" for v in range(14)]
    )
    model = built(data, content_loss=1.0)
    train.train(model, data, LEARN)
    scores = model.score(torch.arange(24), torch.zeros(24, 1, dtype=torch.long))
    new = [data.items.index(video) for video in ("v12", "v13")]
    taste = torch.tensor([int(user[1:]) % 2 for user in data.users])
    assert torch.equal(scores[:, new].argmax(1), taste)


@pytest.mark.parametrize("objective", ["bpr", "softmax"])
def test_rows_of_a_batch_are_those_of_all(two_tastes, objective):
    """Training makes the content of a batch's rows only; it must be what serving makes of all."""
    model = built(two_tastes, content_dropout=0.0, objective=objective)
    batch = next(model.batches(two_tastes, 7, torch.Generator().manual_seed(0)))
    torch.manual_seed(1)
    own = model.loss(batch)[objective]
    torch.manual_seed(1)
    torch.testing.assert_close(own, model.compared(batch, *model.vectors())[objective])


def test_prompts_tune_ids_and_features(two_tastes):
    plain = built(two_tastes, id_prompt=0.0, feature_prompt=0.0)
    for settings in ({"id_prompt": 0.5, "feature_prompt": 0.0}, {"id_prompt": 0.0}):
        tuned = built(two_tastes, **settings)
        assert torch.equal(tuned.item, plain.item)
        assert not torch.allclose(tuned.vectors()[1], plain.vectors()[1], atol=1e-4)


def test_a_missing_table_is_named():
    data = Dataset.build(circle_events())
    with pytest.raises(MissingInput, match=r"features\.text"):
        built(data)


def test_it_reads_any_number_of_tables():
    tables = [circle_features(), sounds([f"v{v}" for v in range(12)])]
    data = Dataset.build(
        circle_events(), [*tables, Features("image", tables[1].ids, tables[1].vectors)]
    )
    model = built(data, features=("text", "audio", "image"))
    assert len(model.project) == 3
