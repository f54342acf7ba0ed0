from dataclasses import replace

import numpy as np
import pytest
import torch

from reelm import train
from reelm.data.dataset import Dataset
from reelm.data.split import leave_last_two
from reelm.data.tables import Features
from reelm.models import find
from reelm.models.blocks.features import FeatureTables


def tables(two_tastes, dropout=0.0):
    """Text of all videos, and sound of three of them."""
    sound = torch.zeros(len(two_tastes.items), 3)
    sound[1:4] = torch.randn(3, 3)
    has = np.zeros(len(two_tastes.items), bool)
    has[1:4] = True
    data = Dataset(
        two_tastes.users, two_tastes.items, two_tastes.offsets, two_tastes.item, two_tastes.time,
        two_tastes.value,
        features=dict(two_tastes.features) | {"sound": sound},
        has_feature=dict(two_tastes.has_feature) | {"sound": has},
    )  # fmt: skip
    return FeatureTables(data, ("sound", "text"), "a test", dropout)


def test_a_video_without_a_table_is_the_mean_video(two_tastes):
    sound = tables(two_tastes).eval().table(0)
    assert (sound[4:] == 0).all()
    torch.testing.assert_close(sound[1:4].mean(0), torch.zeros(3), atol=1e-5, rtol=0)


def test_known_is_what_any_table_has(two_tastes):
    assert tables(two_tastes).known.tolist() == [False] + [True] * 12


def test_dropout_leaves_out_whole_rows_of_each_table_while_training(two_tastes):
    made = tables(two_tastes, dropout=0.5)
    whole = made.eval().tables()
    assert [t.shape for t in whole] == [(13, 3), (13, 4)]
    made.train()
    for number, table in enumerate(whole):
        seen = set()
        for _ in range(40):
            left = made.table(number)
            gone = (left == 0).all(1)
            torch.testing.assert_close(left[~gone], table[~gone])
            seen |= set(gone.nonzero()[:, 0].tolist())
        assert seen == set(range(13))
    assert not all((a == b).all() for a, b in zip(made.tables(), whole, strict=True))


def test_a_table_that_nobody_has_is_all_zeros():
    empty = Features("text", (), np.zeros((0, 5), np.float32))
    import polars as pl

    log = pl.DataFrame({"user_id": ["a"], "video_id": ["x"], "event": ["like"]})
    made = FeatureTables(Dataset.build(log, [empty]), ("text",), "a test")
    assert made.table(0).shape == (2, 5) and not made.known.any()


@pytest.mark.parametrize("name", ["content", "freedom", "mmssl", "promptmm", "sasrec", "vbpr"])
def test_vectors_of_half_precision_are_learned_from(two_tastes, name):
    """As the encoder `states` keeps its wide ones."""
    text = two_tastes.features["text"].half()
    kind = find(name)
    settings = kind.Config(**({"items": "both"} if name == "sasrec" else {}))
    found = []
    for table in (text, text.float()):
        cut = leave_last_two(replace(two_tastes, features={"text": table}))
        run = train.fit(cut, name, settings, train.TrainConfig(epochs=1, batch_size=24))
        found.append(run.recommend(["u0", "u1"], k=5))
    assert found[0].equals(found[1])
