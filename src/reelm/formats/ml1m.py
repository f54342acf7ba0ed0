"""MovieLens-1M in the order of time, with titles, genres, and what is known of its people.

Files: `interactions.parquet` (user, item, pos, split 0/1/2, rating, timestamp), `movies.parquet`
(item, title, genres) and `users.parquet`. Ratings and times are known for a tenth of the rows, so
the order is `pos`, and every rating counts as an interaction whatever its stars.
"""

from pathlib import Path
from typing import ClassVar

import polars as pl

from reelm.formats.base import Format, ReadOptions, Tables
from reelm.formats.blocks import cleaning, reading


class MovieLens1M(Format):
    """Movies that were never rated (or fewer than five times) are not in the catalogue."""

    name: ClassVar[str] = "ml1m"

    def inputs(self, source: Path, options: ReadOptions) -> list[Path]:
        """The three files."""
        return reading.needed(source, "interactions.parquet", "movies.parquet", "users.parquet")

    def read(self, source: Path, options: ReadOptions) -> Tables:
        """Ratings as events with value 1, genres as hashtags."""
        log, movies, people = self.inputs(source, options)
        rows = reading.table(log)[0].sort("user", "pos")
        events = cleaning.events(rows, log, untimed=True)
        known = reading.table(movies)[0]
        watched = known.filter(pl.col("item").is_in(rows["item"].unique().implode()))
        genres = pl.col("genres").str.replace_all("|", " ", literal=True)
        videos = cleaning.videos(watched.with_columns(genres), movies)
        users = cleaning.users(reading.table(people)[0], people)
        return cleaning.tables(events, videos, users)
