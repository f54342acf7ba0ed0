"""Every video that the service knows, by row: the run's items first, then what came later."""

import mimetypes
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from reelm.serve.facets import Facets, tags_of
from reelm.serve.notes import Notes

SUFFIXES = {".mp4", ".m4v", ".mov", ".webm"}
CODECS = {"h264", "av1", "vp8", "vp9"}
"""What browsers play without help; other files would show a black slide."""
SHOWN = ("title", "hashtags", "creator", "uploaded_at", "licence", "language", "age_rating",
         "duration_s", "fps", "width", "height", "has_audio", "video_codec", "sha256")  # fmt: skip
"""Catalogue columns that the service tells; never the path."""


class Videos:
    """Facts of all videos as columns. Rows below `trained` are the run's own item rows."""

    def __init__(
        self,
        items: Sequence[str],
        counts: Int[np.ndarray, "items"],
        table: pl.DataFrame | None = None,
        notes: Notes | None = None,
    ) -> None:
        """Args:
        items: the run's ids by row; the padding row has an empty id.
        counts: how often each was interacted with in training; 0 is "never seen".
        table: the catalogue's videos; None if there is no catalogue.
        """
        self.notes = notes or Notes()
        given = _once(table)
        copies = _copies(given)
        known = {*items, *copies}
        self.trained = len(items)
        self.ids = (*items, *(v for v in given["video_id"] if v not in known))
        self.row = {video: row for row, video in enumerate(self.ids) if video}
        beyond = [copy for copy in copies if copy not in self.row]
        self._place = {copy: self.row.get(copy, 0) for copy in copies}  # of its own facts
        self._place |= {copy: len(self.ids) + n for n, copy in enumerate(beyond)}
        self.row |= {copy: self.row[first] for copy, first in copies.items() if first in self.row}
        table = _aligned(given, [*self.ids, *beyond])
        self.counts = np.concatenate([counts, np.zeros(len(self.ids) - len(items), counts.dtype)])
        self.path = _playable(table)
        self._facts = {column.name: column for column in table}
        self.has_files = bool((self._column("path", pl.String).fill_null("") != "").any())
        self.usable = self._usable()
        self._passing = np.ones(len(self.ids), bool)
        self.uploaded = self._column("uploaded_at", pl.Float64).fill_null(-np.inf).to_numpy()
        creators = self._column("creator", pl.String)
        self._creators = _Groups(creators)
        hashtags = self._column("hashtags", pl.String)
        self.facets = Facets.of_rows(self.ids, self.notes.facets, hashtags, creators)

    def show_only(self, passing: Bool[np.ndarray, "rows"]) -> None:
        """Leave out the other rows; see `rules.Rules`."""
        self._passing = passing
        self.usable &= passing

    def fact(self, video: str, name: str) -> Any:
        """One catalogue value, or None."""
        return self.facts(video, (name,)).get(name)

    def facts(self, video: str, names: Iterable[str] = SHOWN) -> dict[str, Any]:
        """What may be told of a video: catalogue values that are known, of these columns."""
        place = self._place.get(video, self.row.get(video))
        if place is None:
            return {}
        told = {name: self._facts[name].item(place) for name in names if name in self._facts}
        return {name: value for name, value in told.items() if value is not None}

    def column(self, name: str) -> list[Any]:
        """The catalogue values of all rows; None where unknown."""
        if name not in self._facts:
            return [None] * len(self.ids)
        return self._facts[name].head(len(self.ids)).to_list()

    def answers(self, video: str) -> dict[str, Any]:
        """What the notes say of a video; empty when they say nothing."""
        return dict(self.notes.answers.get(video, {}))

    def hashtags(self, video: str) -> list[str]:
        """Its hashtags, each with its #."""
        return tags_of(self.fact(video, "hashtags"))

    def by(self, creators: Iterable[str]) -> list[int]:
        """Rows of all videos of these creators."""
        return [row for creator in creators for row in self._creators.rows(creator)]

    def media_type(self, video: str) -> str:
        """The MIME type of its file."""
        path = self.path[video]
        return mimetypes.guess_type(path.name)[0] or "video/mp4"

    def summary(self) -> str:
        """How many videos can be shown, and why the others cannot, for people."""
        named = np.fromiter(map(bool, self.ids), bool, len(self.ids))
        told = f"{int(self.usable.sum()):,} of {int(named.sum()):,} videos can be shown"
        left, said = named & ~self.usable, []
        for reason, holds in self._reasons().items():
            count = int((left & holds).sum())
            left &= ~holds
            said += [f"{count:,} {reason}"] if count else []
        return told + (f" (left out: {', '.join(said)})" if said else "")

    def hidden(self, video: str) -> str | None:
        """Why a video is not shown; None for one that can be."""
        row = self.row[video]
        if self.usable[row]:
            return None
        return next((why for why, holds in self._reasons().items() if holds[row]), None)

    def _reasons(self) -> dict[str, Bool[np.ndarray, "rows"]]:
        """Why a video cannot be shown, the plainest reason first, and of which rows that holds."""

        def empty(name: str) -> np.ndarray:
            return (self._column(name, pl.String).fill_null("") == "").to_numpy()

        plays = self._column("video_codec", pl.String).is_in(sorted(CODECS)).fill_null(value=True)
        gone = self._without_playable()
        return {
            "copies of others": ~empty("duplicate_of"),
            "broken": ~self._column("ok", pl.Boolean).fill_null(value=True).to_numpy(),
            "without a file": gone & empty("path"),
            "of a codec that browsers do not play": gone & ~plays.to_numpy(),
            f"whose file is gone or is none of {', '.join(sorted(SUFFIXES))}": gone,
            "by the filters of [engine]": ~self._passing,
        }

    def _without_playable(self) -> Bool[np.ndarray, "rows"]:
        """Has no file that can be played, where there are files."""
        missing = np.fromiter((v not in self.path for v in self.ids), bool, len(self.ids))
        return missing & self.has_files

    def with_file(self, sha256: str) -> str | None:
        """The video of the catalogue that has this file, unless the file is broken."""
        if "sha256" not in self._facts:
            return None
        found = self._facts["video_id"].filter(self._facts["sha256"] == sha256)
        return next((one for one in found if self.fact(one, "ok") is not False), None)

    def _usable(self) -> Bool[np.ndarray, "rows"]:
        """Can be shown: has a playable file where there are files, is no duplicate, is not bad."""
        good = self._column("ok", pl.Boolean).fill_null(True).to_numpy().copy()
        good &= (self._column("duplicate_of", pl.String).fill_null("") == "").to_numpy()
        good &= np.fromiter(map(bool, self.ids), bool, len(self.ids))
        return good & ~self._without_playable()

    def _column(self, name: str, kind: Any) -> pl.Series:
        """A column of all rows; nulls where the catalogue has none."""
        if name not in self._facts:
            return pl.repeat(None, len(self.ids), dtype=kind, eager=True)
        return self._facts[name].head(len(self.ids)).cast(kind)


class _Groups:
    """Which rows have which value, packed."""

    def __init__(self, values: pl.Series) -> None:
        table = pl.DataFrame({"value": values}).with_row_index("row").drop_nulls()
        table = table.sort("value", maintain_order=True)
        self._row = table["row"].to_numpy()
        sizes = table.group_by("value", maintain_order=True).len()
        ends = sizes["len"].cum_sum()
        spans = zip((ends - sizes["len"]).to_list(), ends.to_list(), strict=True)
        self._span = dict(zip(sizes["value"], spans, strict=True))

    def rows(self, value: str) -> list[int]:
        """Ascending; none for a value that no row has."""
        start, end = self._span.get(value, (0, 0))
        return self._row[start:end].tolist()


def _once(table: pl.DataFrame | None) -> pl.DataFrame:
    """The catalogue's videos, each once; of two lines about one the later wins."""
    if table is None:
        return pl.DataFrame(schema={"video_id": pl.String})
    named = table.with_columns(pl.col("video_id").cast(pl.String))
    return named.unique("video_id", keep="last", maintain_order=True)


def _copies(table: pl.DataFrame) -> dict[str, str]:
    """Videos that are a copy of another one's file."""
    if "duplicate_of" not in table.columns:
        return {}
    found = table.filter(pl.col("duplicate_of").cast(pl.String).fill_null("") != "")
    return dict(zip(found["video_id"], found["duplicate_of"].cast(pl.String), strict=True))


def _aligned(table: pl.DataFrame, ids: Sequence[str]) -> pl.DataFrame:
    """The table with a line for each of these, in their order."""
    wanted = pl.DataFrame({"video_id": pl.Series(ids, dtype=pl.String)})
    return wanted.join(table, on="video_id", how="left", maintain_order="left")


def _playable(table: pl.DataFrame) -> dict[str, Path]:
    """The file of each video that has one which a browser can play and which is there."""
    if "path" not in table.columns:
        return {}
    fits = pl.col("path").cast(pl.String).fill_null("") != ""
    if "ok" in table.columns:
        fits &= pl.col("ok").cast(pl.Boolean).fill_null(True)
    if "video_codec" in table.columns:
        fits &= pl.col("video_codec").is_null() | pl.col("video_codec").is_in(sorted(CODECS))
    named = table.filter(fits).select("video_id", pl.col("path").cast(pl.String))
    paths = ((video, Path(path)) for video, path in named.iter_rows())
    return {v: path for v, path in paths if path.suffix.lower() in SUFFIXES and path.is_file()}
