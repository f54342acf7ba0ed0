"""MMRec's folders: `name.inter` with a given split, and features whose row is the item's number.

Files: one `.inter` (userID, itemID, rating, timestamp, x_label 0/1/2) and any `<name>_feat.npy`.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl

from reelm.errors import BadData
from reelm.formats.base import VIDEOS, Format, ReadOptions, Tables
from reelm.formats.blocks import cleaning, columns, reading
from reelm.formats.recbole import atomic

FEATURE = "_feat.npy"


class MMRec(Format):
    """Every row of a feature array is a video."""

    name: ClassVar[str] = "mmrec"

    def inputs(self, source: Path, options: ReadOptions) -> list[Path]:
        """The log and the feature arrays beside it."""
        log = atomic(source)
        return [log, *sorted(log.parent.glob("*" + FEATURE))]

    def read(self, source: Path, options: ReadOptions) -> Tables:
        """Interactions with their split, and features named by their files: image, text …

        Raises:
            BadData: an item's number lies outside a feature array, so rows do not match items.
        """
        log, *arrays = self.inputs(source, options)
        chosen = columns.wanted(options.mapping, "")
        events = cleaning.events(reading.table(log)[0], log, chosen)
        features = {}
        for path in arrays:
            vectors = np.load(path, allow_pickle=False).astype(np.float32)
            features[path.name.removesuffix(FEATURE)] = (
                [str(i) for i in range(len(vectors))],
                vectors,
            )
        most = max((len(ids) for ids, _ in features.values()), default=0)
        ids = pl.Series("video_id", [str(i) for i in range(most)], dtype=pl.String)
        stray = events.good.filter(~pl.col("video_id").is_in(ids.implode()))["video_id"]
        if most and len(stray):
            raise BadData(f"{log}: item {stray[0]} has no row in the features, which have {most}")
        empty = {n: pl.lit(None, kind).alias(n) for n, kind in VIDEOS.items() if n != "video_id"}
        return Tables(
            videos=pl.DataFrame({"video_id": ids}).with_columns(*empty.values()),
            events=events.good,
            features=features,
            quarantine=events.bad,
            mapping=events.mapping | {f"features.{n}": f"{n}{FEATURE}" for n in features},
            rows_in=events.good.height + events.bad.height,
        )
