import pytest

from reelm import sources
from reelm.data.dataset import DatasetConfig
from reelm.data.split import SplitConfig
from reelm.errors import BadData


def test_what_is_saved_is_loaded(tmp_path):
    before = sources.Sources(
        catalog=tmp_path / "catalog",
        features={"text": tmp_path / "f"},
        notes=(tmp_path / "n",),
        dataset=DatasetConfig(min_portion=0.25),
        split=SplitConfig(name="global_time", test_from=3.0),
    )
    before.save(tmp_path)
    assert sources.load(tmp_path) == before


def test_a_run_without_sources_says_what_to_do(tmp_path):
    with pytest.raises(BadData, match="--catalog"):
        sources.load(tmp_path)
