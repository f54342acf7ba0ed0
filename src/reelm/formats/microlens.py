"""MicroLens as sequences with titles.

Files: `sequences.parquet` (user, items in the order they were watched) and `titles.parquet`
(item, title). No times, so the order within a user is all that is known.
"""

from pathlib import Path
from typing import ClassVar

from reelm.formats.base import Format, ReadOptions, Tables
from reelm.formats.blocks import cleaning, reading
from reelm.formats.blocks.sequences import sequences


class MicroLens(Format):
    """Each place of a sequence is a watch with value 1."""

    name: ClassVar[str] = "microlens"

    def inputs(self, source: Path, options: ReadOptions) -> list[Path]:
        """Both files."""
        return reading.needed(source, "sequences.parquet", "titles.parquet")

    def read(self, source: Path, options: ReadOptions) -> Tables:
        """Watches in their order and one video per title."""
        log, titles = self.inputs(source, options)
        events = sequences(log)
        videos = cleaning.videos(reading.table(titles)[0], titles)
        return cleaning.tables(events, videos)
