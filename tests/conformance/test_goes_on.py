"""Every model: a training that is killed ends with the weights of one that was not."""

import pytest
import test_models
import test_rankers
import torch

from killing import killed_after
from reelm import runs, train
from reelm.data.split import leave_last_two
from reelm.models import find
from reelm.models.base import Ranker

SCHEDULE = train.TrainConfig(epochs=3, batch_size=8, checkpoint_s=0)
AFTER = 7  # steps
CLOSED = ("popularity", "ease", "item_knn", "content")
"""There are no steps to learn in, so there is nothing to go on with."""


@pytest.mark.parametrize(
    "case", [c for c in (*test_models.CASES, *test_rankers.CASES) if c.values[0][0] not in CLOSED]
)
def test_a_killed_training_ends_with_the_same_weights(
    case, two_tastes, passed_by, tmp_path, monkeypatch
):
    """Between two steps, after the first epoch."""
    name, settings = case[0], find(case[0]).Config(**case[1])
    split = passed_by if issubclass(find(name), Ranker) else leave_last_two(two_tastes)
    whole = train.train_run(split, name, settings, SCHEDULE, tmp_path / "whole")
    with killed_after(AFTER, monkeypatch):
        train.train_run(split, name, settings, SCHEDULE, tmp_path / "cut")
    torch.manual_seed(99)  # the second process starts from other chance
    cut = train.train_run(split, name, settings, SCHEDULE, tmp_path / "cut")
    one, other = (runs.load(folder).model.state_dict() for folder in (whole, cut))
    assert one.keys() == other.keys()
    different = [key for key in one if not torch.equal(one[key], other[key])]
    assert not different
