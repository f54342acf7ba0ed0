"""Edges that were said and not watched: which of two videos a user would like better.

Somebody who has read about a user gives them, as a rule a language model (`reelm.dossiers`). They
belong to training data: an edge that names somebody or something training knows nothing of is left
out and counted.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Int64

from reelm.data.tables import read_notes
from reelm.errors import BadData

log = logging.getLogger(__name__)

LETTERS = "ABCDEFGHIJKLMNOPQRST"
"""Names of candidates, in the order shown."""

SCHEMA = {
    "user_id": pl.String,
    "liked": pl.String,
    "disliked": pl.String,
    "weight": pl.Float64,
}
"""Columns of a table of edges; ids of videos, and how much an edge counts, above 0."""


@dataclass(frozen=True)
class Preferences:
    """Edges as integer rows, by user."""

    user: Int64[np.ndarray, "edges"]
    liked: Int64[np.ndarray, "edges"]
    disliked: Int64[np.ndarray, "edges"]
    weight: Float32[np.ndarray, "edges"]
    """How much each counts beside an interaction, which counts 1."""

    @staticmethod
    def of(table: pl.DataFrame, users: Sequence[str], items: Sequence[str]) -> "Preferences":
        """Edges by ids as rows of these users and items; those with an unknown id have row -1.

        Raises:
            BadData: a column is missing, or a weight is not a positive number.
        """
        missing = [name for name in SCHEMA if name not in table.columns]
        if missing:
            raise BadData(
                f"edges: no column {', '.join(missing)}; the table has "
                f"{', '.join(table.columns) or 'none'}. Needed: {', '.join(SCHEMA)}."
            )
        table = table.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
        weight = table["weight"].fill_null(float("nan")).to_numpy()
        wrong = ~(np.isfinite(weight) & (weight > 0))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise BadData(
                f"edges: the weight of row {row} is {weight[row]}; weights must be above 0. "
                "Leave an edge that counts nothing out."
            )
        people = {user: row for row, user in enumerate(users)}
        videos = {video: row for row, video in enumerate(items) if row}
        user = _rows(table["user_id"], people)
        order = np.argsort(user, kind="stable")
        return Preferences(
            user[order],
            _rows(table["liked"], videos)[order],
            _rows(table["disliked"], videos)[order],
            weight.astype(np.float32)[order],
        )

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Bool[np.ndarray, "edges"] | Int64[np.ndarray, "some"]) -> "Preferences":
        """These edges only."""
        return Preferences(
            self.user[rows], self.liked[rows], self.disliked[rows], self.weight[rows]
        )

    def known(
        self, users: Bool[np.ndarray, "users"], items: Bool[np.ndarray, "items"]
    ) -> Bool[np.ndarray, "edges"]:
        """Edges all of whose ends are among these, and whose two videos differ."""
        named = (self.user >= 0) & (self.liked > 0) & (self.disliked > 0)
        ends = users[self.user] & items[self.liked] & items[self.disliked]
        return named & ends & (self.liked != self.disliked)

    def digest(self) -> bytes:
        """Changes with any edge."""
        seen = hashlib.sha256()
        for array in (self.user, self.liked, self.disliked, self.weight):
            seen.update(np.ascontiguousarray(array).data)
        return seen.digest()


def read_edges(folder: Path) -> pl.DataFrame:
    """The edges of a notes folder to the prompt preference_edges, columns as SCHEMA. Corrections
    have taken the place of answers; where the model gave none, they weigh 1. A letter that names
    no candidate is left out and told of in the log.

    Raises:
        BadData: the folder is not finished, or holds no notes about candidates.
    """
    table = read_notes(folder)
    missing = [name for name in ("user_id", "candidates") if name not in table.columns]
    if missing:
        raise BadData(
            f"{folder}: no column {', '.join(missing)}, so these are no edges. Make some with "
            "`reelm annotate --prompt preference_edges`."
        )
    rows = []
    for user, answer, shown in table.select("user_id", "answer", "candidates").iter_rows():
        said = json.loads(answer) if answer else None
        named = _named(said, shown or []) if said else None
        if said and named is None:
            log.warning("%s: %s: %s names no candidate and is left out", folder, user, answer)
        elif said and named:
            rows.append((user, *named, float(said.get("weight", 1.0))))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _named(said: Mapping[str, Any], shown: Sequence[str]) -> tuple[str, str] | None:
    """The videos that the letters of an answer stand for."""
    letters = [str(said.get(name, "")) for name in ("liked", "disliked")]
    known = dict(zip(LETTERS, shown, strict=False))
    if not all(letter in known for letter in letters):
        return None
    return known[letters[0]], known[letters[1]]


def _rows(ids: pl.Series, row: dict[str, int]) -> Int64[np.ndarray, "edges"]:
    return np.array([row.get(name, -1) for name in ids.to_list()], np.int64)
