from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from clean_world import events, text_features, vectors, videos

from reelm import files
from reelm.data.dataset import Dataset
from reelm.data.split import Split, SplitConfig, split
from reelm.data.tables import Catalog, read_catalog


@pytest.fixture
def data() -> Dataset:
    return Dataset.build(events(), [text_features(vectors())], videos=videos())


@pytest.fixture
def cut(data) -> Split:
    return split(data, SplitConfig(name="leave_last_two"))


@pytest.fixture
def catalog(tmp_path) -> Catalog:
    return Catalog(tmp_path, videos(), events())


@pytest.fixture
def written(tmp_path) -> Callable[..., Path]:
    """Writes a finished catalogue folder."""

    def write(name: str = "catalog", log: pl.DataFrame | None = None) -> Path:
        folder = tmp_path / "catalog" / name
        folder.mkdir(parents=True)
        videos().write_parquet(folder / "videos.parquet")
        (events() if log is None else log).write_parquet(folder / "events.parquet")
        files.finish(folder, stage="ingest", key=name)
        assert read_catalog(folder).events.height
        return folder

    return write
