"""What the leak detector says, and what it looks at."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Int64

from reelm.data.dataset import Dataset
from reelm.data.split import Questions, Split
from reelm.data.tables import Catalog

Pairs = Int64[np.ndarray, "pairs"]
Severity = Literal["leak", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that a reader of the figures must know about the data."""

    kind: str
    severity: Severity
    """leak: the figures are wrong; warning: look at it; note: a property of the protocol."""
    count: int
    """How many targets, pairs, columns or texts it is about."""
    example: str
    """One of them, with the ids of user and video."""
    means: str
    do: str
    """What to do about it."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Evidence:
    """All that can be looked at; what was not given is not checked."""

    split: Split
    data: Dataset | None = None
    """The dataset that was cut: only it knows the times of the targets."""
    catalog: Catalog | None = None
    notes: Sequence[pl.DataFrame] = ()

    @property
    def asked(self) -> list[tuple[str, Questions]]:
        """The questions of both parts that have any."""
        parts = [("validation", self.split.valid), ("test", self.split.test)]
        return [(name, questions) for name, questions in parts if len(questions)]

    @property
    def width(self) -> int:
        """Items, padding included: what user * width + item needs to be one number per pair."""
        return len(self.split.train.items)

    def named(self, pair: int | np.integer) -> str:
        """A pair in words."""
        user, item = divmod(int(pair), self.width)
        train = self.split.train
        return f"user {train.users[user]}, video {train.items[item]}"

    def columns(self, numbers: bool = False) -> dict[str, pl.Series]:
        """The catalogue's texts about videos, or its numbers, one value per item row; null where
        the catalogue does not know the item."""
        if self.catalog is None:
            return {}
        ids = pl.DataFrame({"video_id": pl.Series(self.split.train.items, dtype=pl.String)})
        known = self.catalog.videos.with_columns(pl.col("video_id").cast(pl.String))
        table = ids.join(known.unique("video_id"), on="video_id", how="left", maintain_order="left")
        kinds = table.drop("video_id").schema
        if numbers:
            return {name: table[name] for name, kind in kinds.items() if kind.is_numeric()}
        return {name: table[name] for name, kind in kinds.items() if kind == pl.String}


def targets(questions: Questions) -> tuple[Pairs, Pairs]:
    """The question and the item of every target."""
    sizes = np.diff(questions.target_offsets)
    return np.repeat(np.arange(len(questions)), sizes), questions.target.astype(np.int64)


def histories(questions: Questions) -> tuple[Pairs, Pairs]:
    """The question and the item of everything that questions show."""
    sizes = questions.stop - questions.start
    question = np.repeat(np.arange(len(questions)), sizes)
    begins = np.repeat(questions.start - (np.cumsum(sizes) - sizes), sizes)
    return question, questions.item[np.arange(len(question)) + begins].astype(np.int64)


def shared(part: int | float, whole: int) -> str:
    """A share in percent."""
    return f"{100 * part / whole:.1f} %" if whole else "0 %"
