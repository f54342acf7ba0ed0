"""Every video that the service knows, by row: the run's items first, then what came later."""

import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from reelm.serve.facets import Facet, Facets, facets_of, tags_of
from reelm.serve.notes import Notes

SUFFIXES = {".mp4", ".m4v", ".mov", ".webm"}
CODECS = {"h264", "av1", "vp8", "vp9"}
"""What browsers play without help; other files would show a black slide."""
SHOWN = ("title", "hashtags", "creator", "uploaded_at", "licence", "duration_s", "fps", "width",
         "height", "has_audio", "video_codec", "sha256")  # fmt: skip
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
        self._facts = {r["video_id"]: r for r in table.to_dicts()} if table is not None else {}
        copies = {v: f["duplicate_of"] for v, f in self._facts.items() if f.get("duplicate_of")}
        known = {*items, *copies}
        self.trained = len(items)
        self.ids = (*items, *(v for v in self._facts if v not in known))
        self.row = {video: row for row, video in enumerate(self.ids) if video}
        self.row |= {copy: self.row[first] for copy, first in copies.items() if first in self.row}
        self.counts = np.concatenate([counts, np.zeros(len(self.ids) - len(items), counts.dtype)])
        self.path = {v: p for v, f in self._facts.items() if (p := _playable(f))}
        self.has_files = any(f.get("path") for f in self._facts.values())
        self.usable = self._usable()
        self.uploaded = self._uploaded()
        self._by: dict[str, list[int]] = {}
        for row, video in enumerate(self.ids):
            if (creator := self.fact(video, "creator")) is not None:
                self._by.setdefault(creator, []).append(row)
        self.facets = Facets([self._facets(video) for video in self.ids])

    def fact(self, video: str, name: str) -> Any:
        """One catalogue value, or None."""
        return self._facts.get(video, {}).get(name)

    def facts(self, video: str) -> dict[str, Any]:
        """What may be told of a video: catalogue values that are known."""
        row = self._facts.get(video, {})
        return {name: row[name] for name in SHOWN if row.get(name) is not None}

    def answers(self, video: str) -> dict[str, Any]:
        """What the notes say of a video; empty when they say nothing."""
        return dict(self.notes.answers.get(video, {}))

    def hashtags(self, video: str) -> list[str]:
        """Its hashtags, each with its #."""
        return tags_of(self.fact(video, "hashtags"))

    def by(self, creators: Iterable[str]) -> list[int]:
        """Rows of all videos of these creators."""
        return [row for creator in creators for row in self._by.get(creator, ())]

    def media_type(self, video: str) -> str:
        """The MIME type of its file."""
        path = self.path[video]
        return mimetypes.guess_type(path.name)[0] or "video/mp4"

    def _usable(self) -> Bool[np.ndarray, "rows"]:
        """Can be shown: has a playable file where there are files, is no duplicate, is not bad."""
        out = np.zeros(len(self.ids), bool)
        for row, video in enumerate(self.ids):
            good = bool(video) and self.fact(video, "ok") is not False
            good = good and not self.fact(video, "duplicate_of")
            out[row] = good and (not self.has_files or video in self.path)
        return out

    def _uploaded(self) -> Float[np.ndarray, "rows"]:
        """Upload times in seconds UTC; -inf where unknown."""
        times = [self.fact(video, "uploaded_at") for video in self.ids]
        return np.array([-np.inf if t is None else t for t in times], np.float64)

    def _facets(self, video: str) -> list[Facet]:
        tags, creator = self.fact(video, "hashtags"), self.fact(video, "creator")
        return facets_of(self.notes.answers.get(video, {}), tags, creator)


def _playable(facts: Mapping[str, Any]) -> Path | None:
    """The file of a video if a browser can play it and it is there."""
    if not facts.get("path") or facts.get("ok") is False:
        return None
    path = Path(facts["path"])
    codec = facts.get("video_codec")
    fits = path.suffix.lower() in SUFFIXES and (codec is None or codec in CODECS)
    return path if fits and path.is_file() else None
