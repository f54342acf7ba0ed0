"""Where a run's data came from: the folders and rules that its dataset and split are made of.

Kept beside a run as `sources.json`, so that `evaluate` and `serve` find what `train` read.
"""

import json
from pathlib import Path

from pydantic import Field

from reelm import files
from reelm.config import Config, parse
from reelm.data import split as splits
from reelm.data.dataset import Dataset, DatasetConfig
from reelm.data.tables import read_catalog, read_features
from reelm.errors import BadData

NAME = "sources.json"


class Sources(Config):
    """Folders and rules of one dataset."""

    catalog: Path
    """The catalogue folder."""
    features: dict[str, Path] = Field(default_factory=dict)
    """Features folders by the name that models know them by."""
    notes: tuple[Path, ...] = ()
    """Notes folders that the service may cite; later ones win."""
    dataset: DatasetConfig = DatasetConfig()
    """Which events count as interactions."""
    split: splits.SplitConfig = splits.SplitConfig()
    """What is held out."""

    def read(self) -> splits.Split:
        """Read the folders and cut the log."""
        tables = [read_features(folder, name) for name, folder in self.features.items()]
        data = Dataset.load(read_catalog(self.catalog), tables, self.dataset)
        return splits.split(data, self.split)

    def save(self, run: Path) -> None:
        """Write `sources.json` into a run's folder."""
        files.write_text(run / NAME, self.model_dump_json(indent=2) + "\n")


def load(run: Path) -> Sources:
    """The sources that a run's folder names.

    Raises:
        BadData: the run was made from Python and nobody noted its sources.
    """
    path = run / NAME
    if not path.is_file():
        raise BadData(
            f"{run}: no {NAME}, so the run's catalogue is not known. "
            "Name it with --catalog, or train the run with `reelm train`."
        )

    return parse(Sources, json.loads(path.read_text(encoding="utf-8")), NAME)
