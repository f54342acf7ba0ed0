"""RecBole's atomic files: `name.inter`, and if there are `name.item` and `name.user`.

Tab-separated text whose header gives each column a type, e.g. `user_id:token`.
"""

from pathlib import Path
from typing import ClassVar

import polars as pl

from reelm.errors import BadData
from reelm.formats.base import VIDEOS, Format, ReadOptions, Tables
from reelm.formats.blocks import cleaning, columns, reading


class RecBole(Format):
    """Columns are known by their names; their types are read from the values."""

    name: ClassVar[str] = "recbole"

    def inputs(self, source: Path, options: ReadOptions) -> list[Path]:
        """The atomic files of the folder's one data set."""
        log = atomic(source)
        beside = [log.with_suffix(ending) for ending in (".item", ".user")]
        return [log, *(path for path in beside if path.is_file())]

    def read(self, source: Path, options: ReadOptions) -> Tables:
        """Interactions, items and users."""
        files = {path.suffix: path for path in self.inputs(source, options)}
        log, told = files[".inter"], options.mapping
        parts = [cleaning.events(reading.table(log)[0], log, columns.wanted(told, ""))]
        items, people = files.get(".item"), files.get(".user")
        videos, users = pl.DataFrame(schema=VIDEOS), None
        if items:
            parts.append(
                cleaning.videos(reading.table(items)[0], items, columns.wanted(told, "videos."))
            )
            videos = parts[-1].good
        if people:
            parts.append(
                cleaning.users(reading.table(people)[0], people, columns.wanted(told, "users."))
            )
            users = parts[-1].good
        return Tables(
            videos=videos,
            events=parts[0].good,
            users=users,
            quarantine=pl.concat([part.bad for part in parts]),
            mapping={k: v for part in parts for k, v in part.mapping.items()},
            rows_in=parts[0].good.height + parts[0].bad.height,
        )


def atomic(source: Path) -> Path:
    """The one `.inter` file of a folder, or the file itself.

    Raises:
        BadData: there is none, or more than one to choose from.
    """
    if source.is_file():
        return source
    found = sorted(source.glob("*.inter"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise BadData(f"{source}: one .inter file is wanted, found: {names}. Name the file itself.")
    return found[0]
