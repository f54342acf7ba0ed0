"""Taste against counts done by hand."""

import math

import numpy as np
import polars as pl
import pytest
import torch

from reelm import train
from reelm.data.dataset import Dataset
from reelm.data.split import leave_last_two
from reelm.data.tables import Features
from reelm.errors import MissingInput
from reelm.models.blocks.taste import DOUBT, START, Taste
from reelm.models.sasrec import SASRecConfig

VIDEOS = ("cat1", "cat2", "cat3", "dog1")
SHOWN = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]], np.float32)


@pytest.fixture
def data():
    events = pl.DataFrame({"user_id": ["a", "a"], "video_id": ["cat1", "cat2"]})
    return Dataset.build(events, [Features("noted", VIDEOS, SHOWN)], videos=VIDEOS)


def by_hand(count: int, size: int, share: float) -> float:
    return START * math.log((count + DOUBT * share) / ((size + DOUBT) * share))


def test_each_place_weighs_what_was_read_up_to_it(data):
    taste = Taste(data, ["noted"])
    assert taste.used.tolist() == [0, 2], "the column that no video has is left out"
    places = taste.places(torch.tensor([[1, 4, 0]]))[0]
    expected = [
        [by_hand(1, 1, 0.75), by_hand(0, 1, 0.25)],
        [by_hand(1, 2, 0.75), by_hand(1, 2, 0.25)],
    ]
    torch.testing.assert_close(places[:2].detach(), torch.tensor(expected))
    torch.testing.assert_close(places[2], places[1], msg="padding shows nothing")
    torch.testing.assert_close(taste.newest(torch.tensor([[0, 1, 4]]))[0], places[1])


def test_without_a_history_nothing_is_preferred(data):
    taste = Taste(data, ["noted"])
    none = taste.newest(torch.zeros(1, 3, dtype=torch.long))
    assert none.abs().max() < 1e-6


def test_a_table_that_was_not_loaded_is_named(data):
    with pytest.raises(MissingInput, match="never"):
        Taste(data, ["never"])


def test_users_of_one_kind_find_its_never_seen_videos(two_tastes):
    """Even rows and odd ones are two kinds; a model of ids with `taste` ranks what training never
    saw by kind, and without it cannot."""
    names = two_tastes.items[1:]
    kind = np.arange(1, len(names) + 1) % 2
    told = Features("noted", names, np.eye(2, dtype=np.float32)[kind])
    events = pl.DataFrame(
        [(f"u{u}", names[(2 * n + u) % 8], n) for u in range(24) for n in range(4)],
        schema=["user_id", "video_id", "order"],
        orient="row",
    )
    data = Dataset.build(events, [told], videos=list(names))
    config = SASRecConfig(taste=("noted",), dim=8)
    model = train.fit(leave_last_two(data), "sasrec", config, train.TrainConfig(epochs=5)).model
    history = torch.tensor([[1, 3, 5], [2, 4, 6]])
    with torch.inference_mode():
        cold = model.score(torch.tensor([0, 1]), history)[:, 9:]
    odd = torch.arange(9, 9 + cold.shape[1]) % 2 == 1
    assert cold[0, odd].min() > cold[0, ~odd].max()
    assert cold[1, ~odd].min() > cold[1, odd].max()
