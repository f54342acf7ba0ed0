import numpy as np
import torch

from reelm.data.dataset import Dataset
from reelm.data.tables import Features
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
