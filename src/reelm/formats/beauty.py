"""Amazon Beauty (or Sports) as S3-Rec prepared it: sequences and anonymous attributes.

Files: `sequences.parquet` (user, items in the order of time) and `item_attributes.parquet` (item,
list of attribute numbers), which become hashtags `a173 a1 …`.
"""

from pathlib import Path
from typing import ClassVar

import polars as pl

from reelm.formats.base import Format, ReadOptions, Tables
from reelm.formats.blocks import cleaning, reading
from reelm.formats.blocks.sequences import sequences


class Beauty(Format):
    """Each place of a sequence is a watch with value 1."""

    name: ClassVar[str] = "beauty"

    def inputs(self, source: Path, options: ReadOptions) -> list[Path]:
        """Both files."""
        return reading.needed(source, "sequences.parquet", "item_attributes.parquet")

    def read(self, source: Path, options: ReadOptions) -> Tables:
        """Watches in their order; attributes as hashtags."""
        log, items = self.inputs(source, options)
        events = sequences(log)
        numbered = pl.col("attributes").list.eval("a" + pl.element().cast(pl.String))
        frame = reading.table(items)[0].with_columns(numbered.alias("hashtags"))
        videos = cleaning.videos(frame, items, {"hashtags": "hashtags"})
        return cleaning.tables(events, videos)
