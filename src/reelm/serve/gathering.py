"""What a service gathered goes back into a log, so that the next run learns from it.

The folder holds a log and tables as `reelm ingest` takes them: what the catalogue had, what users
did since, and the videos that came by the service.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl

from reelm import files
from reelm.data.tables import Catalog
from reelm.serve.store import Store
from reelm.serve.uploads import Told

STAGE, VERSION = "gather", 1
LOG = pl.Schema(
    {"user_id": pl.String, "video_id": pl.String, "event": pl.String, "timestamp": pl.Float64,
     "value": pl.Float64, "rating": pl.Float64}
)  # fmt: skip
SAME = ("user_id", "video_id", "event", "timestamp")
"""Events that agree in these are one."""
PAIR = ("user_id", "video_id")
STORED = pl.Schema(
    {"event_id": pl.String, "user_id": pl.String, "video_id": pl.String, "event": pl.String,
     "timestamp": pl.Float64, "value": pl.Float64, "feed_id": pl.String, "creator": pl.String}
)  # fmt: skip
"""A `StoredEvent` by columns, with the names of a log."""
SHOWN = pl.Schema(
    {"feed_id": pl.String, "position": pl.Int64, "user_id": pl.String, "video_id": pl.String,
     "source": pl.String, "score": pl.Float64, "timestamp": pl.Float64, "run": pl.String,
     "propensity": pl.Float64}
)  # fmt: skip
"""A row of `Store.every_impression` by columns."""
UNDOES = {"unlike": "like", "unfollow": "follow", "unblock": "block",
          "undo_less_like_this": "less_like_this"}  # fmt: skip
REFUSES = ("block", "less_like_this")
TABLED = ("path", "uploaded_at", *(told.name for told in fields(Told)))
"""Columns of the table of videos: what a source says of them, and not what `ingest` found out."""
LONG_AGO = float("-inf")
"""When something without a time happened."""


def gather(store: Store, catalog: Catalog, folder: Path) -> Path:
    """Write `events`, `videos`, `users` and `impressions` as Parquet into `folder`; return it.

    A watch that was broken off and taken up again in one feed is one watch. What a user took back
    (unlike) is left out, and so is what he did with a video before he refused it (block, less like
    this). Of users who were deleted in the service nothing from before is left. A catalogue of what
    was gathered before may be given: each event comes once.

    Raises:
        Unavailable: the store's database does not answer.
    """
    raw = _table(STORED, store.every_event())
    shown = _table(SHOWN, store.every_impression())
    base = _log_of(catalog)
    kept = base.join(raw, on=SAME, how="anti", maintain_order="left")
    log = pl.concat([kept, _watches_joined(raw).sort("timestamp", *PAIR)], how="diagonal")
    deleted = store.deleted(log["user_id"].unique())  # asked last: nobody slips through
    theirs = _of(deleted, log)
    events = _meant(log.filter(~theirs))
    videos = _videos(store, catalog)
    users = catalog.users
    tables = {
        "events": events.drop("rating") if not events["rating"].count() else events,
        "videos": videos,
        "users": users.filter(~pl.col("user_id").is_in([*deleted])) if users is not None else None,
        "impressions": shown.filter(~_of(deleted, shown)),
    }
    # first, so that nobody takes a mixture of two nights for whole
    (folder / files.MANIFEST).unlink(missing_ok=True)
    for name, table in tables.items():
        path = folder / f"{name}.parquet"
        if table is None:
            path.unlink(missing_ok=True)  # of another catalogue that was gathered here
            continue
        with files.atomic(path) as tmp:
            table.write_parquet(tmp)
    return files.finish(
        folder, stage=STAGE, version=VERSION, settings={}, failed=0,
        inputs={"store": store.address, "catalog": str(catalog.folder)},
        rows={
            "events": events.height, "of them of the catalogue": kept.height,
            "new videos": videos.height - catalog.videos.height,
            "left out, of deleted users": int(theirs.sum()),
            "left out, taken back or refused later": log.height - int(theirs.sum()) - events.height,
            "left out, about creators only": raw.filter(pl.col("video_id") == "").height,
        },
        cut=bool("split" in catalog.events.columns and catalog.events["split"].count()),
    )  # fmt: skip


def summary(folder: Path) -> str:
    """What was gathered, for people."""
    facts = files.manifest(folder)
    lines = [f"{name}: {count:,}" for name, count in facts["rows"].items()]
    if facts["cut"]:
        lines.append("the catalogue's own split is not kept: events of the service have none")
    return "\n".join(lines)


def _table(schema: Mapping[str, Any], pieces: Iterable[Sequence[tuple]]) -> pl.DataFrame:
    """Pieces of rows as one table."""
    tables = (pl.DataFrame(piece, schema=schema, orient="row") for piece in pieces)
    return pl.concat([pl.DataFrame(schema=schema), *tables])


def _log_of(catalog: Catalog) -> pl.DataFrame:
    """The catalogue's events, columns `LOG`."""
    events = catalog.events
    missing = [pl.lit(None, kind).alias(n) for n, kind in LOG.items() if n not in events.columns]
    return events.with_columns(*missing).select(*LOG).cast(LOG)


def _watches_joined(raw: pl.DataFrame) -> pl.DataFrame:
    """Events on videos, columns `LOG`; a video's watches in one feed are one, at its last time."""
    named = raw.filter(pl.col("video_id") != "")
    parts = (pl.col("event") == "watch") & pl.col("feed_id").is_not_null()
    whole = named.filter(parts).group_by(*PAIR, "event", "feed_id", maintain_order=True)
    joined = whole.agg(pl.col("timestamp").max(), pl.col("value").sum())
    others = named.filter(~parts).with_columns(
        pl.when(pl.col("event") == "watch").then(pl.col("value").fill_null(0.0)).otherwise(1.0)
    )
    both = pl.concat([joined, others], how="diagonal")
    return both.select(*(n for n in LOG if n != "rating"))


def _of(deleted: Mapping[str, float], table: pl.DataFrame) -> pl.Series:
    """Which rows are of users who were deleted since."""
    known = {"user_id": [*deleted], "deleted_at": [*deleted.values()]}
    ends = pl.DataFrame(known, schema={"user_id": pl.String, "deleted_at": pl.Float64})
    joined = table.join(ends, on="user_id", how="left", maintain_order="left")
    before = pl.col("timestamp").fill_null(LONG_AGO) <= pl.col("deleted_at")
    return joined.select(before.fill_null(value=False)).to_series()


def _meant(log: pl.DataFrame) -> pl.DataFrame:
    """Without what was taken back, and without what was done with a video before its refusal."""
    undone = log.filter(pl.col("event").is_in([*UNDOES])).with_columns(
        pl.col("event").replace(UNDOES)
    )
    stays = log.filter(~pl.col("event").is_in([*UNDOES]))
    stays = _unless_before(stays, undone, [*PAIR, "event"])
    refused = stays.filter(pl.col("event").is_in(REFUSES))
    others = ~pl.col("event").is_in(REFUSES)
    return _unless_before(stays, refused, [*PAIR], others)


def _unless_before(
    log: pl.DataFrame, ends: pl.DataFrame, key: Sequence[str], which: pl.Expr | None = None
) -> pl.DataFrame:
    """Rows of a log, but for those (of `which`) up to the last of `ends` that shares their key."""
    last = ends.group_by(key).agg(pl.col("timestamp").fill_null(LONG_AGO).max().alias("end"))
    joined = log.join(last, on=key, how="left", maintain_order="left")
    over = pl.col("timestamp").fill_null(LONG_AGO) <= pl.col("end")
    over = over.fill_null(value=False)
    return joined.filter(~(over if which is None else over & which)).drop("end")


def _videos(store: Store, catalog: Catalog) -> pl.DataFrame:
    """The catalogue's videos as their table was, then those that came by the service."""
    known = set(catalog.videos["video_id"])
    ready = [one for one in store.uploads() if one.status == "ready"]
    paths = {one.video_id: str(Path(one.row["path"]).resolve()) for one in ready}
    rows = [{**one.row, "path": paths[one.video_id]} for one in ready if one.video_id not in known]
    table = catalog.videos.select(n for n in catalog.videos.columns if n in TABLED)
    if paths and "path" in table.columns:  # those of other nights may have been moved since
        now = {Path(path).name: path for path in paths.values()}  # files are named by their hashes
        name = pl.col("path").str.replace(r".*[/\\]", "")
        table = table.with_columns(path=name.replace_strict(now, default=pl.col("path")))
    if not rows:
        return table
    came = pl.DataFrame([{n: row.get(n) for n in TABLED} for row in rows], infer_schema_length=None)
    return pl.concat([table, came], how="diagonal_relaxed")
