"""Goodreads histories with titles, as ONCE published them, in order and without times.

Files: `users.parquet` (uid, history_bids) and `books.parquet` (bid, title). What a language model
said of books and people lies in further files that this format does not read. Nothing is known of
books that were not chosen.
Source: Liu et al. 2024, "ONCE", arXiv:2305.06566.
"""

from pathlib import Path
from typing import ClassVar

from reelm.formats.base import Format, ReadOptions, Tables
from reelm.formats.blocks import cleaning, reading


class Goodreads(Format):
    """Each place of a history is a watch with value 1."""

    name: ClassVar[str] = "goodreads"

    def inputs(self, source: Path, options: ReadOptions) -> list[Path]:
        """Both files."""
        return reading.needed(source, "users.parquet", "books.parquet")

    def read(self, source: Path, options: ReadOptions) -> Tables:
        """Choices in their order and one video per book."""
        log, books = self.inputs(source, options)
        rows = reading.table(log)[0].explode("history_bids", empty_as_null=False)
        events = cleaning.events(rows, log, {"user_id": "uid", "video_id": "history_bids"})
        titles = reading.table(books)[0].select(reading.ROW, "title", video_id="bid")
        videos = cleaning.videos(titles, books)
        return cleaning.tables(events, videos)
