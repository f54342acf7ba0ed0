"""MovieLens-1M as CoLLM cut it: single ratings, liked or not, with their moments.

Files: `collm_train.parquet`, `collm_valid.parquet`, `collm_test.parquet` (uid, iid, label,
timestamp), `collm_items.parquet` (iid, title, item) and `movies.parquet` (item, genres). A label is
1 where the rating was above 3. To be read with dataset.exposures = true, which keeps the others.
Source: Zhang et al. 2023, "CoLLM", arXiv:2310.19488.
"""

from pathlib import Path
from typing import ClassVar

import polars as pl

from reelm.formats.base import SPLITS, Format, ReadOptions, Tables
from reelm.formats.blocks import cleaning, reading

PARTS = tuple(f"collm_{name}.parquet" for name in SPLITS.values())


class CoLLM(Format):
    """Each rating is a `like` or a `dislike`; videos have MovieLens's own ids."""

    name: ClassVar[str] = "collm"

    def inputs(self, source: Path, options: ReadOptions) -> list[Path]:
        """The three parts, titles and genres."""
        return reading.needed(source, *PARTS, "collm_items.parquet", "movies.parquet")

    def read(self, source: Path, options: ReadOptions) -> Tables:
        """Ratings as events of two kinds with the split they came in, genres as hashtags."""
        *logs, titles, movies = self.inputs(source, options)
        known = reading.table(titles)[0]
        found = [_part(path, number, known) for number, path in enumerate(logs)]
        genres = reading.table(movies)[0].select(
            "item", hashtags=pl.col("genres").str.replace_all("|", " ", literal=True)
        )
        listed = known.drop("iid").join(genres, on="item", how="left", maintain_order="left")
        videos = cleaning.videos(listed, titles)
        events = pl.concat([part.good for part in found])
        return Tables(
            videos=videos.good,
            events=events.with_columns(order=pl.int_range(pl.len(), dtype=pl.Int64)),
            quarantine=pl.concat([*(part.bad for part in found), videos.bad]),
            mapping=found[0].mapping | videos.mapping,
            rows_in=sum(part.good.height + part.bad.height for part in found),
        )


def _part(path: Path, number: int, titles: pl.DataFrame) -> cleaning.Cleaned:
    """One file's events; CoLLM's item numbers become MovieLens's, by the table of titles."""
    kind = pl.when(pl.col("label") == 1).then(pl.lit("like")).otherwise(pl.lit("dislike"))
    named = titles.select("iid", video_id="item")
    rows = reading.table(path)[0].join(named, on="iid", how="left", maintain_order="left")
    told = {"user_id": "uid", "timestamp": "timestamp"}
    return cleaning.events(
        rows.select(
            reading.ROW, "video_id", *told.values(), event=kind, split=pl.lit(number, pl.Int8)
        ),
        path,
        told,
    )
