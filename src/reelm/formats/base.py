"""The contract of a format: files in, four tables and features out, every bad row accounted for."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
from jaxtyping import Float32
from pydantic import Field

from reelm.config import Config
from reelm.errors import BadData

VIDEOS = pl.Schema(
    {
        "video_id": pl.String,
        "path": pl.String,
        "title": pl.String,
        "hashtags": pl.String,
        "creator": pl.String,
        "uploaded_at": pl.Float64,
        "licence": pl.String,
        "language": pl.String,
        "age_rating": pl.String,
    }
)
"""Columns of `Tables.videos`; `uploaded_at` in seconds UTC, `path` absolute or null, `age_rating`
as the source writes it: 12, "16+"."""

SPLITS = {0: "train", 1: "valid", 2: "test"}
"""How data sets of this field number their splits."""

EVENTS = pl.Schema(
    {
        "user_id": pl.Categorical(),
        "video_id": pl.Categorical(),
        "timestamp": pl.Float64,
        "event": pl.Categorical(),
        "value": pl.Float64,
        "rating": pl.Float64,
        "split": pl.Enum([*SPLITS.values()]),
        "order": pl.Int64,
    }
)
"""Columns of `Tables.events`: `timestamp` in seconds UTC, `value` the portion of a watch and 1 for
every other event, `rating` where one was given, `order` the place in the source. Words are
numbered, since a log of ten million events would not fit otherwise; the catalogue has text."""

QUARANTINE = pl.Schema(dict.fromkeys(["table", "id", "place", "reason", "detail"], pl.String))
"""Columns of `Tables.quarantine`: `place` is file:row, rows counted as a text editor would."""


class ReadOptions(Config):
    """What the caller knows about the files."""

    mapping: dict[str, str] = Field(default_factory=dict)
    """Which column to take for what, e.g. {user_id = "who", timestamp = "seen at"}; an empty name
    says that there is none."""
    items: Path | None = None
    """Table of videos: video_id and any of path, title, hashtags, creator, uploaded_at, licence,
    language, age_rating."""
    users: Path | None = None
    """Table of users: user_id and anything else."""
    videos: Path | None = None
    """Folder of video files, or a text file with one path per line; a file's stem is its id, or
    its path in the folder where others have the same stem."""


@dataclass(frozen=True)
class Tables:
    """What a format read."""

    videos: pl.DataFrame
    """Columns `VIDEOS`, each id once; videos that occur only in events may be left out."""
    events: pl.DataFrame
    """Columns `EVENTS`, and `watch_s` where a watch's portion must still be measured."""
    users: pl.DataFrame | None = None
    """`user_id` and whatever else is known."""
    features: Mapping[str, tuple[Sequence[str], Float32[np.ndarray, "items dim"]]] = field(
        default_factory=dict
    )
    """Name to (video ids, one vector each)."""
    quarantine: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=QUARANTINE))
    """Rows that were left out, columns `QUARANTINE`."""
    mapping: Mapping[str, str] = field(default_factory=dict)
    """What was taken for what, for people to read."""
    rows_in: int = 0
    """Rows of the log that were looked at; events plus quarantined ones."""
    unused: Sequence[str] = ()
    """Columns of the log that were taken for nothing."""


@dataclass(frozen=True)
class Outgoing:
    """What a format writes: interactions by rows, and what is known of users and videos."""

    name: str
    """What files are called."""
    events: pl.DataFrame
    """Columns of `OUTGOING`, by user, oldest first."""
    users: pl.DataFrame
    """`user_id` and whatever else is known, by row."""
    videos: pl.DataFrame
    """Columns `VIDEOS`; item row 1 first."""
    features: Mapping[str, Float32[np.ndarray, "items dim"]] = field(default_factory=dict)
    """Vectors by name; item row 1 first, zeros where a video has none."""


OUTGOING = pl.Schema(
    {"user": pl.Int64, "item": pl.Int64, "timestamp": pl.Float64, "value": pl.Float32,
     "split": pl.Int8}
)  # fmt: skip
"""Columns of `Outgoing.events`: rows of users (from 0) and items (from 1), null times where they
are not known, portions, and 0, 1, 2 for train, valid and test, null where nothing was cut."""


class Format(ABC):
    """Reads one layout of files, and may write it. Ids become strings here; nothing is computed
    from them."""

    name: ClassVar[str]

    @abstractmethod
    def inputs(self, source: Path, options: ReadOptions) -> list[Path]:
        """The files that `read` would open (video files aside), to tell whether they changed.

        Raises:
            BadData: one that must be there is not.
        """

    def clips(self, source: Path, options: ReadOptions) -> list[Path]:
        """Video files that the catalogue would point to; none for sets of features or titles."""
        return []

    @abstractmethod
    def read(self, source: Path, options: ReadOptions) -> Tables:
        """All tables; bad rows are quarantined with place and reason.

        Raises:
            BadData: a file cannot be read at all, or a column that is needed is not there.
        """

    def write(self, told: Outgoing, folder: Path) -> list[Path]:
        """Write the files of one data set; `read` finds in them what was told.

        Raises:
            BadData: this layout cannot be written, or cannot hold what it is told.
        """
        raise BadData(f"the format {self.name!r} can be read and not written; recbole, mmrec can.")
