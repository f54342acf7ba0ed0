"""MMRec's folders: `name.inter` with a given split, and features whose row is the item's number.

Files: one `.inter` (userID, itemID, rating, timestamp, x_label 0/1/2) and any `<name>_feat.npy`.
What is written has `u_id_mapping.csv` and `i_id_mapping.csv` beside it, which say whose number is
whose.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl

from reelm import files
from reelm.errors import BadData
from reelm.formats.base import VIDEOS, Format, Outgoing, ReadOptions, Tables
from reelm.formats.blocks import columns, log
from reelm.formats.blocks.writing import separated
from reelm.formats.recbole import atomic

FEATURE = "_feat.npy"


class MMRec(Format):
    """Every row of a feature array is a video."""

    name: ClassVar[str] = "mmrec"

    def inputs(self, source: Path, options: ReadOptions) -> list[Path]:
        """The log and the feature arrays beside it."""
        path, *more = atomic(source)
        if more:
            raise BadData(f"{path.parent}: MMRec keeps one .inter; these are RecBole's files.")
        return [path, *sorted(path.parent.glob("*" + FEATURE))]

    def read(self, source: Path, options: ReadOptions) -> Tables:
        """Interactions with their split, and features named by their files: image, text …

        Raises:
            BadData: an item's number lies outside a feature array, so rows do not match items.
        """
        path, *arrays = self.inputs(source, options)
        events = log.read(path, columns.wanted(options.mapping, ""))
        features = {}
        for array in arrays:
            vectors = np.load(array, allow_pickle=False).astype(np.float32)
            features[array.name.removesuffix(FEATURE)] = (
                [str(i) for i in range(len(vectors))],
                vectors,
            )
        most = max((len(ids) for ids, _ in features.values()), default=0)
        ids = pl.Series("video_id", [str(i) for i in range(most)], dtype=pl.String)
        named = events.good["video_id"].unique().cast(pl.String)
        stray = named.filter(~named.is_in(ids.implode())).sort()
        if most and len(stray):
            raise BadData(f"{path}: item {stray[0]} has no row in the features, which have {most}")
        empty = {n: pl.lit(None, kind).alias(n) for n, kind in VIDEOS.items() if n != "video_id"}
        return Tables(
            videos=pl.DataFrame({"video_id": ids}).with_columns(*empty.values()),
            events=events.good,
            features=features,
            quarantine=events.bad,
            mapping=events.mapping | {f"features.{n}": f"{n}{FEATURE}" for n in features},
            rows_in=events.rows,
            unused=events.unused,
        )

    def write(self, told: Outgoing, folder: Path) -> list[Path]:
        """The log, one array per feature, and the ids of the numbers. Portions are the ratings.

        Raises:
            BadData: the data was not cut, and MMRec wants to know the split.
        """
        rows = told.events
        if rows["split"].null_count():
            raise BadData("MMRec's layout holds a split; cut the data first (split.name).")
        timed = [] if rows["timestamp"].null_count() else ["timestamp"]
        numbered = rows.select(
            pl.col("user").alias("userID"),
            (pl.col("item") - 1).alias("itemID"),
            pl.col("value").alias("rating"),
            *timed,
            pl.col("split").alias("x_label"),
        )
        made = [separated(numbered, folder / f"{told.name}.inter")]
        for name, vectors in told.features.items():
            made.append(folder / f"{name}{FEATURE}")
            with files.atomic(made[-1]) as tmp:
                np.save(tmp, vectors)
        for column, number, table in (
            ("user_id", "userID", told.users),
            ("video_id", "itemID", told.videos),
        ):
            ids = table.select(column).with_row_index(number).select(column, number)
            made.append(separated(ids, folder / f"{number[0]}_id_mapping.csv"))
        return made
