"""RecBole's atomic files: `name.inter`, and if there are `name.item` and `name.user`.

Tab-separated text whose header gives each column a type, e.g. `user_id:token`. A data set that
was cut has `name.train.inter`, `name.valid.inter` and `name.test.inter` instead of the first.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import polars as pl

from reelm.errors import BadData
from reelm.formats.base import EVENTS, SPLITS, VIDEOS, Format, Outgoing, ReadOptions, Tables
from reelm.formats.blocks import cleaning, columns, log, reading
from reelm.formats.blocks.writing import returning, separated

ITEM_TYPES = {"title": "token_seq", "hashtags": "token_seq", "creator": "token",
              "uploaded_at": "float", "licence": "token", "language": "token",
              "age_rating": "token"}  # fmt: skip


class RecBole(Format):
    """Columns are known by their names; their types are read from the values."""

    name: ClassVar[str] = "recbole"

    def inputs(self, source: Path, options: ReadOptions) -> list[Path]:
        """The atomic files of the folder's one data set."""
        logs = atomic(source)
        stem = _stem(logs[0])
        beside = [logs[0].with_name(stem + ending) for ending in (".item", ".user")]
        return [*logs, *(path for path in beside if path.is_file())]

    def read(self, source: Path, options: ReadOptions) -> Tables:
        """Interactions, items and users."""
        inputs, told = self.inputs(source, options), options.mapping
        logs = [path for path in inputs if path.suffix not in (".item", ".user")]
        events = _logs(logs, columns.wanted(told, ""))
        beside = {path.suffix: path for path in inputs if path not in logs}
        videos, users = pl.DataFrame(schema=VIDEOS), None
        bad, mapping, unused = [events.bad], dict(events.mapping), list(events.unused)
        if ".item" in beside:
            path = beside[".item"]
            items = cleaning.videos(reading.table(path)[0], path, columns.wanted(told, "videos."))
            videos = items.good
            bad.append(items.bad)
            mapping |= items.mapping
            unused += items.unused
        if ".user" in beside:
            path = beside[".user"]
            people = cleaning.users(reading.table(path)[0], path, columns.wanted(told, "users."))
            users = people.good
            bad.append(people.bad)
            mapping |= people.mapping
        return Tables(
            videos=videos,
            events=events.good,
            users=users,
            quarantine=pl.concat(bad),
            mapping=mapping,
            rows_in=events.rows,
            unused=unused,
        )

    def write(self, told: Outgoing, folder: Path) -> list[Path]:
        """`name.inter`, or three of them where the data was cut; `name.item` and `name.user`."""
        user_ids = returning(told.users["user_id"], "users")
        video_ids = returning(told.videos["video_id"], "videos")
        rows = told.events.select(
            user_ids.gather(told.events["user"]).alias("user_id:token"),
            video_ids.gather(told.events["item"] - 1).alias("item_id:token"),
            pl.col("timestamp").alias("timestamp:float"),
            pl.col("value").alias("portion:float"),
        )
        if told.events["timestamp"].null_count():  # RecBole takes no gaps; the order says enough
            rows = rows.drop("timestamp:float")
        if (told.events["value"] == 1).all():
            rows = rows.drop("portion:float")
        where = told.events["split"]
        parts = {f".{name}": rows.filter(where == number) for number, name in SPLITS.items()}
        if where.null_count():
            parts = {"": rows}
        made = [separated(t, folder / f"{told.name}{p}.inter") for p, t in parts.items()]
        made.append(separated(_typed_videos(told.videos), folder / f"{told.name}.item"))
        return [*made, separated(_typed_users(told.users), folder / f"{told.name}.user")]


def atomic(source: Path) -> list[Path]:
    """The `.inter` file of a folder's one data set, or the three that it was cut into, or the
    file itself.

    Raises:
        BadData: there is none, or more than one to choose from, or one of three is missing.
    """
    if source.is_file():
        return [source]
    found = sorted(source.glob("*.inter"))
    stems = {_stem(path) for path in found}
    if len(stems) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise BadData(f"{source}: one .inter file is wanted, found: {names}. Name the file itself.")
    stem = stems.pop()
    cut = [source / f"{stem}.{name}.inter" for name in SPLITS.values()]
    there = [path for path in cut if path in found]
    if not there:
        return found
    if len(there) < len(cut):
        lost = ", ".join(path.name for path in cut if path not in found)
        raise BadData(f"{source}: {there[0].name} is here, and {lost} is not.")
    return cut


def _stem(path: Path) -> str:
    """`name` of `name.inter` and of `name.train.inter`."""
    stem, _, part = path.stem.rpartition(".")
    return stem if part in SPLITS.values() and stem else path.stem


def _logs(paths: list[Path], wanted: Mapping[str, str]) -> log.Log:
    """One log, or the three parts of one; each interaction then has the split of its file."""
    parts = [log.read(path, wanted) for path in paths]
    if len(parts) == 1:
        return parts[0]
    good = [
        part.good.with_columns(split=pl.lit(name).cast(EVENTS["split"]))
        for part, name in zip(parts, SPLITS.values(), strict=True)
    ]
    events = pl.concat(good, how="diagonal")
    return log.Log(
        events.with_columns(order=pl.int_range(pl.len(), dtype=pl.Int64)),
        pl.concat([part.bad for part in parts]),
        parts[0].mapping | {"split": "the names of the files"},
        parts[0].unused,
    )


def _typed_videos(videos: pl.DataFrame) -> pl.DataFrame:
    """What is known of videos, with RecBole's types in the header."""
    known = {c: kind for c, kind in ITEM_TYPES.items() if videos[c].count()}
    return videos.select(
        pl.col("video_id").alias("item_id:token"),
        *(pl.col(column).alias(f"{column}:{kind}") for column, kind in known.items()),
    )


def _typed_users(users: pl.DataFrame) -> pl.DataFrame:
    """What is known of users, with RecBole's types in the header; lists stay away."""
    more = [c for c, kind in users.schema.items() if c != "user_id" and not kind.is_nested()]
    kinds = {c: "float" if users[c].dtype.is_numeric() else "token" for c in more}
    return users.select(
        pl.col("user_id").alias("user_id:token"),
        *(pl.col(column).alias(f"{column}:{kind}") for column, kind in kinds.items()),
    )
