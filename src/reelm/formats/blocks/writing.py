"""Frames into the text files of other libraries, so that they come back as they were."""

from pathlib import Path

import polars as pl

from reelm import files
from reelm.errors import BadData
from reelm.formats.blocks.values import identifier


def separated(frame: pl.DataFrame, path: Path) -> Path:
    """Tab-separated text with a header; fields with tabs, line ends or quotes stand in quotes."""
    with files.atomic(path) as tmp:
        frame.write_csv(tmp, separator="\t")
    return path


def returning(ids: pl.Series, where: str) -> pl.Series:
    """Ids that read as they are written.

    Raises:
        BadData: naming the first that would come back as another one, or as none.
    """
    back = identifier(ids)
    lost = ids.filter(back.ne_missing(ids))
    if len(lost):
        raise BadData(
            f"{where}: the id {lost[0]!r} would be read as {identifier(lost)[0]!r}. Ids must be "
            "text without blanks around, not a word for nothing, and whole numbers without a point."
        )
    return ids
