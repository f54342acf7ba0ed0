"""Packed logs kept beside their catalogue, so that the next reader maps them into memory.

They lie in `<catalogue>/packed/<key>`; the key hangs on the tables of the catalogue and on the
rules, so that arrays of another log or of other rules are never read.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from reelm import files
from reelm.data.packing import COLUMNS, DatasetConfig, Packed, pack
from reelm.data.tables import Catalog
from reelm.errors import BadData

STAGE, VERSION = "pack", 4
ARRAYS = ("offsets", "item", "time", "value", "split", "uploaded")  # the last two not always


def packed(catalog: Catalog, config: DatasetConfig) -> Packed:
    """The packed log of a catalogue, from its folder where it was kept before.

    A catalogue that was put together in memory is packed and not kept, nor is one in a folder
    that cannot be written.

    Raises:
        BadData: the log cannot be packed; or an array is not what its manifest says.
    """
    if not isinstance(catalog.log, pl.LazyFrame):
        return fresh(catalog, config)
    settings = config.model_dump(mode="json")
    inputs = {name: _stamp(catalog.folder / name) for name in ("videos.parquet", "events.parquet")}
    key = files.key(STAGE, VERSION, settings, inputs)
    folder = catalog.folder / "packed" / key
    if not files.finished(folder):
        made = fresh(catalog, config)
        try:
            keep(made, folder, key=key, settings=settings, inputs=inputs)
        except OSError:  # a catalogue that only others may write; everything is in memory anyway
            return made
        del made
    return read(folder)


def fresh(catalog: Catalog, config: DatasetConfig) -> Packed:
    """Pack a catalogue's log; events on a copy of a file count for the first one."""
    videos, copies = catalog.videos, None
    if "duplicate_of" in videos.columns:
        copies = videos.filter(pl.col("duplicate_of").is_not_null())
        videos = videos.filter(pl.col("duplicate_of").is_null())
    if "ok" in videos.columns:
        videos = videos.filter(pl.col("ok").fill_null(True))
    return pack(_originals(catalog, copies), videos, config)


def keep(packed: Packed, folder: Path, **facts: Any) -> Path:
    """Write the arrays and ids of a packed log, the manifest last."""
    arrays = {name: getattr(packed, name) for name in ARRAYS}
    there = {name: array for name, array in arrays.items() if array is not None}
    for name, array in there.items():
        with files.atomic(folder / f"{name}.npy") as tmp:
            np.save(tmp, array)
    with files.atomic(folder / "ids.json") as tmp:
        ids = {"users": list(packed.users), "items": list(packed.items)}
        tmp.write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    rows = {"interactions": len(packed.item), "users": len(packed.users)}
    rows["videos"] = len(packed.items) - 1
    return files.finish(
        folder, stage=STAGE, version=VERSION, rows=rows, removed=packed.removed,
        arrays=sorted(there), exposures=packed.exposures, **facts,
    )  # fmt: skip


def read(folder: Path) -> Packed:
    """A packed log; its arrays are mapped, and changes to them stay in this process.

    Raises:
        BadData: an array is missing or has another length than the manifest says.
    """
    facts = files.manifest(folder)
    try:
        arrays = {
            # "c" and not "r": torch does not take arrays that cannot be written
            name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False))
            for name in facts["arrays"]
        }
        ids = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
        sizes = {len(arrays[name]) for name in ("item", "time", "value", "split") if name in arrays}
        if sizes != {facts["rows"]["interactions"]}:
            raise ValueError(f"arrays of {sorted(sizes)} rows")
    except (OSError, ValueError, KeyError) as error:
        raise BadData(
            f"{folder}: the packed log was changed or is not whole ({error}). "
            "Delete this folder; it is made anew from the catalogue."
        ) from error
    return Packed(
        users=ids["users"],
        items=ids["items"],
        offsets=arrays["offsets"],
        item=arrays["item"],
        time=arrays["time"],
        value=arrays["value"],
        split=arrays.get("split"),
        uploaded=arrays.get("uploaded"),
        removed=facts["removed"],
        exposures=facts["exposures"],
    )


def _originals(catalog: Catalog, copies: pl.DataFrame | None) -> Iterator[pl.DataFrame]:
    for piece in catalog.pieces(*COLUMNS):
        if copies is None or not copies.height:
            yield piece
        else:
            first = pl.col("video_id").replace(copies["video_id"], copies["duplicate_of"])
            yield piece.with_columns(first)


def _stamp(path: Path) -> list[int]:
    """Size and age of a file."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]
