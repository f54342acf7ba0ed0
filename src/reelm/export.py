"""A catalogue's interactions, cut and counted, in the files of other libraries."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from reelm import files
from reelm.config import Config
from reelm.data.dataset import Dataset
from reelm.data.split import Split, SplitConfig, given, joined, split
from reelm.data.tables import Catalog, read_catalog, read_features
from reelm.formats import FORMATS
from reelm.formats.base import OUTGOING, VIDEOS, Format, Outgoing
from reelm.registry import find
from reelm.sources import Sources

STAGE, VERSION = "export", 1
PARTS = ("valid", "test")


class ExportConfig(Config):
    """Section [export]: how files are called and whether they tell the split."""

    name: str = Field(default="reelm", pattern=r"^[\w-]+$")
    """What the files are called, e.g. reelm.inter."""
    cut: bool = True
    """Whether training, validation and test are told apart. Files hold interactions, not
    questions; the command says by which settings of [split] the same is asked when they are read
    back: of users without a history, whom other splits do not ask, `strangers` decides."""


def export(
    layout: str,
    data: Dataset,
    folder: Path,
    cut: Split | None = None,
    catalog: Catalog | None = None,
    name: str = "reelm",
) -> Path:
    """Write `data` into `folder` as the format `layout` and return the folder. Files of an export
    that was there before and are not written anew are taken away.

    Args:
        cut: a split of `data`, if it is to be told.
        catalog: where titles and what is known of users come from.

    Raises:
        UnknownName: there is no such format.
        BadData: the format cannot be written, or cannot hold these ids.
        StaleFolder: the folder holds something else than an export.
    """
    files.vacant(folder, STAGE)
    before = set(files.manifest(folder)["files"]) if files.finished(folder) else set[str]()
    format: Format = find("formats", FORMATS, layout)()
    told = Outgoing(
        name=name,
        events=_events(data, cut),
        users=_users(data, catalog),
        videos=_videos(data, catalog),
        features={n: vectors.numpy()[1:] for n, vectors in data.features.items()},
    )
    made = format.write(told, folder)
    for name in before - {path.name for path in made}:
        (folder / name).unlink(missing_ok=True)
    labels = told.events["split"].drop_nulls().value_counts().sort("split")
    return files.finish(
        folder, stage=STAGE, version=VERSION, settings={"format": layout, "name": name},
        inputs={"data": data.fingerprint, "split": cut and cut.name},
        rows={"interactions": len(data), "users": len(data.users), "videos": len(data.items) - 1},
        failed=0, files=sorted(path.name for path in made), split=dict(labels.iter_rows()),
        untimed=int(told.events["timestamp"].null_count()), read_back=_read_back(data, cut),
    )  # fmt: skip


def export_folders(layout: str, found: Sources, config: ExportConfig, folder: Path) -> Path:
    """Export what is in these folders by these rules; see `export`."""
    catalog = read_catalog(found.catalog)
    vectors = [read_features(path, name) for name, path in found.features.items()]
    data = Dataset.load(catalog, vectors, found.dataset)
    cut = split(data, found.split) if config.cut else None
    return export(layout, data, folder, cut, catalog, config.name)


def summary(folder: Path) -> str:
    """What was written, for people."""
    facts = files.manifest(folder)
    lines = [f"{name}: {count:,}" for name, count in facts["rows"].items()]
    lines += [f"file: {name}" for name in facts["files"]]
    if facts["untimed"]:
        lines.append(f"no times written: {facts['untimed']:,} interactions have none")
    cut, same = facts["inputs"]["split"], facts.get("read_back")
    if cut and same is None:
        lines.append(f"read back as a given split it asks other questions than {cut} does")
    elif same is not None:
        told = (f"{n}={v if isinstance(v, str) else json.dumps(v)}" for n, v in same.items())
        lines.append(
            f"read back it asks what {cut} asks: {' '.join(f'--set split.{t}' for t in told)}"
        )
    return "\n".join(lines)


def _events(data: Dataset, cut: Split | None) -> pl.DataFrame:
    """The interactions by rows, columns `OUTGOING`."""
    label = None if cut is None else cut.label
    frame = pl.DataFrame(
        {
            "user": data.user,
            "item": data.item,
            "timestamp": data.time,
            "value": data.value,
            "split": np.full(len(data), -1, np.int8) if label is None else label,
        }
    )
    frame = frame.with_columns(
        pl.col("timestamp").fill_nan(None),
        pl.when(pl.col("split") >= 0).then("split"),
    )
    return frame.cast(OUTGOING)


def _read_back(data: Dataset, cut: Split | None) -> dict[str, Any] | None:
    """Settings of [split] by which the files, read back, ask what the split asks; None if none do.

    A target that stands in its own history is no question of a given split, and each test question
    of one shows what was held out for validation.
    """
    if cut is None or cut.label is None:
        return None
    told = replace(data, split=cut.label, exposures=None)
    for strangers in (True, False):
        again = given(told, SplitConfig(name="given", strangers=strangers))
        for join in (False, True):
            found = joined(again) if join else again
            if all(getattr(found, p).digest() == getattr(cut, p).digest() for p in PARTS):
                more = {"strangers": strangers, "join_valid": join}
                usual = SplitConfig().model_dump()
                return {"name": "given", **{k: v for k, v in more.items() if v != usual[k]}}
    return None


def _videos(data: Dataset, catalog: Catalog | None) -> pl.DataFrame:
    """What the catalogue knows of each item."""
    ids = pl.DataFrame({"video_id": data.items[1:]}, schema={"video_id": pl.String})
    return _known(ids, catalog.videos if catalog else None, VIDEOS)


def _users(data: Dataset, catalog: Catalog | None) -> pl.DataFrame:
    """What the catalogue knows of each user."""
    ids = pl.DataFrame({"user_id": data.users}, schema={"user_id": pl.String})
    if catalog is None or catalog.users is None:
        return ids
    return _known(ids, catalog.users, catalog.users.schema)


def _known(
    ids: pl.DataFrame, table: pl.DataFrame | None, schema: Mapping[str, Any]
) -> pl.DataFrame:
    """A table's rows for these ids, in their order, with the columns of `schema`."""
    key = ids.columns[0]
    if table is not None:
        ids = ids.join(table, on=key, how="left", maintain_order="left")
    missing = [pl.lit(None, kind).alias(n) for n, kind in schema.items() if n not in ids.columns]
    return ids.with_columns(*missing).select(key, *(n for n in schema if n != key))
