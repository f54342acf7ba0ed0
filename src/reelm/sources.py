"""Where a run's data came from: the folders and rules that its dataset and split are made of.

Kept beside a run as `sources.json`, so that `evaluate` and `serve` find what `train` read.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from reelm import files
from reelm.config import Config, parse
from reelm.data import split as splits
from reelm.data.dataset import Dataset, DatasetConfig
from reelm.data.preferences import read_edges
from reelm.data.tables import Catalog, Features, read_catalog, read_features
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
    edges: Path | None = None
    """Notes folder of preference edges that training may learn from."""
    profiles: dict[str, Path] = Field(default_factory=dict)
    """Features folders of users by the name that models know them by."""
    dataset: DatasetConfig = DatasetConfig()
    """Which events count as interactions."""
    split: splits.SplitConfig = splits.SplitConfig()
    """What is held out."""

    def read(self) -> splits.Split:
        """Read the folders and cut the log.

        Raises:
            BadData: edges or profiles were made from other training data, or name no user of it;
                or of a log with events none is left to learn from.
        """
        tables = [read_features(folder, name) for name, folder in self.features.items()]
        catalog = read_catalog(self.catalog)
        data = Dataset.load(catalog, tables, self.dataset)
        cut = splits.split(data, self.split)
        if not len(cut.train):
            _nothing_left(catalog, data, cut.name)
        return self._with_what_was_said(cut)

    def _with_what_was_said(self, cut: splits.Split) -> splits.Split:
        """The split with edges and profiles on its training data."""
        train = cut.train
        if self.profiles:
            told = [_profiles(name, folder, train) for name, folder in self.profiles.items()]
            train = train.with_profiles(told)
        if self.edges is not None:
            train = train.with_preferences(_edges(self.edges, train))
        return replace(cut, train=train)

    def save(self, run: Path) -> None:
        """Write `sources.json` into a run's folder."""
        files.write_text(run / NAME, self.model_dump_json(indent=2) + "\n")


def interactions(data: Dataset) -> str:
    """Twelve hex digits that change with who watched what, in which order."""
    seen = hashlib.sha256()
    for ids in (data.users, data.items):
        seen.update("\0".join(ids).encode())
    for array in (data.offsets, data.item):
        seen.update(np.ascontiguousarray(array).data)
    return seen.hexdigest()[:12]


def _nothing_left(catalog: Catalog, data: Dataset, split: str) -> None:
    """
    Raises:
        BadData: the log has events; says which section leaves none of them to learn from.
    """
    events = catalog.log.lazy().select(pl.len()).collect().item()
    if not events:
        return  # a service may begin before anybody has watched
    if not len(data):
        raise BadData(
            f"{catalog.folder}: none of its {events:,} events counts as an interaction by "
            "[dataset]. Look at min_portion, positive, rating_above, min_user and min_item."
        )
    raise BadData(
        f"{catalog.folder}: split.name = {split!r} holds out all {len(data):,} interactions and "
        "leaves none to learn from. Change [split]; events of one moment can only be cut by "
        "leave_last_two or random."
    )


def _edges(folder: Path, train: Dataset) -> pl.DataFrame:
    """Edges of users.

    Raises:
        BadData: they are of other training data, or there are none.
    """
    facts = files.manifest(folder)
    _same(folder, facts, train)
    found = read_edges(folder)
    if found.is_empty():
        raise BadData(
            f"{folder}: no edge; of {facts.get('rows')} users none had an answer that both orders "
            f"agree on ({facts.get('failures') or 'no failures'}). Take another backend, or notes "
            "whose values videos share, such as those of --prompt details."
        )
    return found


def _profiles(name: str, folder: Path, train: Dataset) -> Features:
    """Vectors of users.

    Raises:
        BadData: they are of other training data, or of nobody in it.
    """
    facts = files.manifest(folder)
    if facts.get("stage") == "annotate":
        raise BadData(
            f"{folder}: notes, not vectors. Make them with `reelm encode --encoder text --input "
            f"notes --notes {folder}` and name the folder that it prints."
        )
    _same(folder, facts, train)
    found = read_features(folder, name)
    if not set(found.ids) & set(train.users):
        raise BadData(
            f"{folder}: none of its {len(found.ids)} vectors is of a user of the training data. "
            "Profiles are made with `reelm encode --input notes --notes <notes about users>`."
        )
    return found


def _same(folder: Path, facts: Mapping[str, Any], train: Dataset) -> None:
    """
    Raises:
        BadData: what is said in the folder was said of other training data.
    """
    told = facts.get("inputs", {}).get("train")
    if told is not None and told != interactions(train):
        raise BadData(
            f"{folder}: said of other training data than this split gives, so it may tell of what "
            "is held out here. Run `reelm annotate` about users again with the same catalogue and "
            "the same sections [dataset] and [split]."
        )


def load(run: Path) -> Sources:
    """The sources that the folder of a run, or of notes about people, names; those that are not
    where it says are looked for in the work folder that it lies in.

    Raises:
        BadData: there is no such folder, it holds no run, or nobody noted the sources of a run made
            from Python.
    """
    path = run / NAME
    if not path.is_file():
        files.of(run, "a run")
        raise BadData(
            f"{run}: no {NAME}, so the run's catalogue is not known. Is it the folder of one run, "
            "as `reelm train` printed it? From Python, `Sources.save` notes them."
        )
    found = parse(Sources, json.loads(path.read_text(encoding="utf-8")), NAME)
    beside = run.resolve().parent.parent  # the work folder

    def there(folder: Path) -> Path:
        """Where it is: named as seen from another place, or moved with the whole work folder."""
        other = beside.joinpath(*folder.parts[-2:])
        return other if not folder.is_dir() and other.is_dir() else folder

    return found.model_copy(
        update={
            "catalog": there(found.catalog),
            "features": {name: there(folder) for name, folder in found.features.items()},
            "notes": tuple(map(there, found.notes)),
            "edges": found.edges and there(found.edges),
            "profiles": {name: there(folder) for name, folder in found.profiles.items()},
        }
    )
