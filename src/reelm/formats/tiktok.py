"""TikTok as HKUDS prepared it: users, items, a given split, image and sound features.

Files: `interactions.parquet` (user, item, split 0/1/2) and `features.npz` (one array per feature,
row = item). No times and no titles, so the order of the file is the order of events.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl

from reelm.formats.base import VIDEOS, Format, ReadOptions, Tables
from reelm.formats.blocks import cleaning, reading


class TikTok(Format):
    """Every item of the feature arrays is a video, also those that nobody watched."""

    name: ClassVar[str] = "tiktok"

    def inputs(self, source: Path, options: ReadOptions) -> list[Path]:
        """Both files."""
        return reading.needed(source, "interactions.parquet", "features.npz")

    def read(self, source: Path, options: ReadOptions) -> Tables:
        """Interactions as watches with value 1, and one feature per array."""
        log, arrays = self.inputs(source, options)
        events = cleaning.events(reading.table(log)[0], log)
        with np.load(arrays, allow_pickle=False) as held:
            vectors = {name: held[name].astype(np.float32) for name in sorted(held.files)}
        ids = [str(row) for row in range(max(len(v) for v in vectors.values()))]
        videos = pl.DataFrame({"video_id": ids}).with_columns(
            pl.lit(None, kind).alias(name) for name, kind in VIDEOS.items() if name != "video_id"
        )
        told = {f"features.{name}": f"{name} of {arrays.name}" for name in vectors}
        return Tables(
            videos=videos,
            events=events.good,
            features={name: (ids[: len(v)], v) for name, v in vectors.items()},
            quarantine=events.bad,
            mapping=events.mapping | told,
            rows_in=events.good.height + events.bad.height,
        )
