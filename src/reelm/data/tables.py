"""Readers of the folders that stages leave behind: catalogue, features and notes.

Ids are still strings here. Each reader refuses a folder whose parts do not agree with each other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int64

from reelm import files
from reelm.data.corrections import Applied, Corrections
from reelm.errors import BadData

EVENT_COLUMNS = ("user_id", "video_id", "event")
VIDEO_COLUMNS = ("video_id",)
PIECE = 1_000_000  # events that are taken in at once


@dataclass(frozen=True)
class Catalog:
    """What `ingest` left: videos, events and, if the source had any, users."""

    folder: Path
    videos: pl.DataFrame
    """One row per video: video_id, path, title, ... ; path is null for feature-only videos."""
    log: pl.DataFrame | pl.LazyFrame
    """One row per event: user_id, video_id, timestamp (s, UTC), event, value, split, order. Lazy
    where it lies in a file, so that nobody reads it who does not need it."""
    users: pl.DataFrame | None = None
    """user_id and whatever else the source knew about its users."""

    @cached_property
    def events(self) -> pl.DataFrame:
        """The whole log in memory."""
        return self.log.collect() if isinstance(self.log, pl.LazyFrame) else self.log

    def pieces(self, *columns: str) -> Iterator[pl.DataFrame]:
        """The log in its order, some rows at a time and at least once, with those of `columns`
        that it has."""
        lazy = self.log.lazy()
        names = [name for name in lazy.collect_schema().names() if name in columns]
        empty = True
        for piece in lazy.select(names).collect_batches(chunk_size=PIECE, maintain_order=True):
            empty = False
            yield piece
        if empty:
            yield lazy.select(names).head(0).collect()


@dataclass(frozen=True)
class Features:
    """Frozen vectors of videos, or of users; row i of `vectors` belongs to `ids[i]`."""

    name: str
    ids: tuple[str, ...]
    vectors: Float[np.ndarray, "videos dim"]
    """float32, or float16 where an encoder's vectors are so wide that it keeps them so."""
    read: Int64[np.ndarray, "users"] | None = None
    """Of users: how many of the first training interactions of each were looked at for the vector;
    None where nobody says, so that it may have been all."""
    encoder: Mapping[str, Any] = field(default_factory=dict)
    """What made them, as its `identity` says; empty where nobody does."""


def read_catalog(folder: Path, work: Path | None = None) -> Catalog:
    """The catalogue in `folder`.

    Args:
        work: the work folder, below which a catalogue lies that was moved with it since.

    Raises:
        BadData: the stage did not finish, or a table lacks a column that everything needs.
    """
    moved = work / "catalog" / folder.name if work else folder
    folder = moved if moved.is_dir() else folder
    files.manifest(files.of(folder, "a catalogue"))
    users = folder / "users.parquet"
    return Catalog(
        folder,
        _table(folder / "videos.parquet", VIDEO_COLUMNS),
        _lazy(folder / "events.parquet", EVENT_COLUMNS),
        _table(users, ("user_id",)) if users.is_file() else None,
    )


def read_features(folder: Path, name: str | None = None) -> Features:
    """The vectors in a features folder, called `name` or else after the encoder.

    Single vectors with NaN are taken as they are; a dataset leaves them out and counts them.

    Raises:
        BadData: no vectors, or another number of ids than of vectors, or no finite one.
    """
    parts = sorted(files.of(folder, "features").glob("part-*.npy"))
    if not parts:
        raise BadData(f"{folder}: no part-*.npy in this features folder. Run encode again.")
    vectors = np.concatenate([np.load(part, mmap_mode="r") for part in parts])
    ids, read = _ids(folder)
    if len(ids) != len(vectors):
        raise BadData(
            f"{folder}: {len(ids)} ids for {len(vectors)} vectors. "
            "The folder was changed after it was written; run encode again."
        )
    kept = np.float16 if vectors.dtype == np.float16 else np.float32
    vectors = np.ascontiguousarray(vectors, dtype=kept)
    if len(vectors) and not np.isfinite(vectors).all(axis=1).any():
        raise BadData(f"{folder}: every vector holds NaN or infinity. Run encode again.")
    facts = files.manifest(folder) if files.finished(folder) else {}
    encoder = facts.get("inputs", {}).get("encoder") or {}
    return Features(name or _stem(folder), ids, vectors, read, encoder)


def read_notes(folder: Path) -> pl.DataFrame:
    """All parts of a notes folder, one row per video, in the order they were written.

    What people corrected has taken the place of what the model said; `correction` holds the key
    of the version that won, or null.

    Raises:
        BadData: the stage did not finish, or left no part.
    """
    table = read_said(folder)
    version = files.manifest(folder).get("settings", {}).get("prompt", {}).get("version")
    return applied(folder, table).corrected(table, version)


def read_said(folder: Path) -> pl.DataFrame:
    """A notes folder as the model left it, whatever people corrected since.

    Raises:
        BadData: the stage did not finish, or left no part.
    """
    files.manifest(files.of(folder, "notes"))
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise BadData(f"{folder}: no part-*.parquet in this notes folder. Run annotate again.")
    return pl.concat([pl.read_parquet(part) for part in parts], how="diagonal_relaxed")


def applied(folder: Path, table: pl.DataFrame) -> Applied:
    """The corrections that apply to the rows of a notes folder."""
    return Applied.to(table, Corrections.of(folder).all())


def _ids(folder: Path) -> tuple[tuple[str, ...], Int64[np.ndarray, "users"] | None]:
    """Ids in the order of the vectors, of videos or users: by part and row where both are given;
    and how much was read of each user, where that is known."""
    path = folder / "ids.parquet"
    users = "user_id" in _lazy(path, ()).collect_schema().names()
    name = "user_id" if users else "video_id"
    table = _table(path, (name,))
    if {"part", "row"} <= set(table.columns):
        table = table.sort("part", "row")
    read = table["read"].cast(pl.Int64).to_numpy() if "read" in table.columns else None
    return tuple(table[name].cast(pl.String).to_list()), read


def _stem(folder: Path) -> str:
    """`minilm` for a folder called `minilm-41d0c2...`."""
    stem, dash, _ = folder.name.rpartition("-")
    return stem if dash else folder.name


def _table(path: Path, needed: tuple[str, ...]) -> pl.DataFrame:
    return _lazy(path, needed).collect()


def _lazy(path: Path, needed: tuple[str, ...]) -> pl.LazyFrame:
    if not path.is_file():
        raise BadData(f"{path}: missing. Run the stage that fills {path.parent} again.")
    table = pl.scan_parquet(path)
    columns = table.collect_schema().names()
    missing = [name for name in needed if name not in columns]
    if missing:
        raise BadData(f"{path}: no column {', '.join(missing)}; it has {', '.join(columns)}.")
    return table
