"""Small worlds whose right answer is known, so tests ask for meaning and not only for shapes."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from circle import circle_edges, circle_events, circle_features, circle_profiles, circle_shown
from reelm.data.dataset import Dataset, DatasetConfig
from reelm.data.packing import pack
from reelm.data.split import Split, SplitConfig, split

torch.set_num_threads(1)  # small tensors: threads only get in each other's way
settings.register_profile("patient", deadline=None)  # on a busy machine any example may take long
settings.load_profile("patient")


@pytest.fixture
def two_tastes() -> Dataset:
    """24 users, 12 videos, five interactions each; see `circle_events`."""
    data = Dataset.build(circle_events(), [circle_features()])
    return data.with_profiles([circle_profiles()]).with_preferences(circle_edges())


@pytest.fixture
def passed_by() -> Split:
    """The same people, and what they were shown and passed by; steps 0 to 2 are training."""
    packed = pack([circle_shown()], None, DatasetConfig(exposures=True))
    data = Dataset.of(packed, [circle_features()]).with_profiles([circle_profiles()])
    return split(data, SplitConfig(name="global_time", valid_from=300.0, test_from=400.0))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets, or a skip."""
    folder = os.environ.get("REELM_DATA")
    if not folder:
        pytest.skip("set REELM_DATA to the folder that holds the real data sets")
    return Path(folder)


@pytest.fixture(autouse=True)
def same_start() -> None:
    torch.manual_seed(0)
