"""The world as files: the tables anyone may read, and the truth that only tests may."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from reelm import files
from reelm.errors import BadData
from reelm.world.clips import DURATION_S, sentence
from reelm.world.people import COLUMNS, QUALITY, SPLIT_DAY, Tastes, Watches
from reelm.world.titles import Upload

EPOCH_S = 1767225600.0
"""Day 0 of the log: 2026-01-01 00:00 UTC."""
DAY_S = 86400.0
SKIPPED = 0.15  # a smaller portion counts as skipped


def user_id(number: int) -> str:
    """0 is "u0001"."""
    return f"u{number + 1:04d}"


def video_id(number: int) -> str:
    """0 is "v0001"."""
    return f"v{number + 1:04d}"


def video_path(number: int) -> str:
    """Where the video lies, relative to the world's folder."""
    return f"videos/{video_id(number)}.mp4"


def videos_table(uploads: Sequence[Upload]) -> pl.DataFrame:
    """One row per video: what a platform knows about it without watching."""
    return pl.DataFrame(
        {
            "video_id": video_id(number),
            "path": video_path(number),
            "title": upload.title,
            "hashtags": " ".join(upload.hashtags),
            "creator": f"c{upload.creator + 1:03d}",
            "uploaded_at": EPOCH_S + upload.day * DAY_S,
            "licence": "CC0-1.0",
        }
        for number, upload in enumerate(uploads)
    )


def events_table(watches: Watches, seed: int) -> pl.DataFrame:
    """The log, by time: every watch, and the skip, like or share that some of them led to.

    `value` is the portion for watch and skip, 1 for like and share. A video watched to its end
    is liked by about half and shared by one in six; below 60 % nobody does either.
    """
    watched = _events(watches, np.arange(len(watches.user)), "watch", 0.0)
    rng = np.random.RandomState(seed)
    rise = np.clip((watches.portion - 0.6) / 0.4, 0, 1)
    liked = np.flatnonzero(rng.rand(len(rise)) < 0.5 * rise)
    shared = np.flatnonzero(rng.rand(len(rise)) < 0.16 * rise**2)
    skipped = np.flatnonzero(watches.portion < SKIPPED)
    tables = [
        watched,
        _events(watches, skipped, "skip", 0.1),
        _events(watches, liked, "like", 0.2),
        _events(watches, shared, "share", 0.3),
    ]
    return pl.concat(tables).sort("timestamp", "user_id", "event", maintain_order=True)


def _events(watches: Watches, rows: np.ndarray, event: str, after_s: float) -> pl.DataFrame:
    """The watches at `rows` as events; what follows a watch comes `after_s` after its end."""
    portion = watches.portion[rows]
    seen_s = portion * DURATION_S if after_s else 0.0
    return pl.DataFrame(
        {
            "user_id": [user_id(user) for user in watches.user[rows].tolist()],
            "video_id": [video_id(video) for video in watches.video[rows].tolist()],
            "timestamp": EPOCH_S + watches.day[rows] * DAY_S + seen_s + after_s,
            "event": [event] * len(rows),
            "value": portion if event in ("watch", "skip") else np.ones(len(rows)),
        },
        schema={
            "user_id": pl.String,
            "video_id": pl.String,
            "timestamp": pl.Float64,
            "event": pl.String,
            "value": pl.Float64,
        },
    )


def write_table(path: Path, table: pl.DataFrame) -> Path:
    """Write a parquet file atomically."""
    with files.atomic(path) as tmp:
        table.write_parquet(tmp)
    return path


def write_truth(folder: Path, uploads: Sequence[Upload], tastes: Tastes) -> Path:
    """Write `attributes.parquet` (per video) and `tastes.npz` (per user) into `folder`."""
    rows = [
        {
            "video_id": video_id(number),
            **upload.clip.attributes(),
            "seed": upload.clip.seed,
            "sentence": sentence(upload.clip),
            "quality": upload.quality,
        }
        for number, upload in enumerate(uploads)
    ]
    write_table(folder / "attributes.parquet", pl.DataFrame(rows))
    users = [user_id(number) for number in range(len(tastes.start))]
    with files.atomic(folder / "tastes.npz") as tmp:
        np.savez(
            tmp,
            users=np.array(users),
            columns=np.array([f"{name}={value}" for name, value in COLUMNS]),
            taste=tastes.on(SPLIT_DAY),
            drift=tastes.drift,
            split_at=np.array(EPOCH_S + SPLIT_DAY * DAY_S),
        )
    return folder


def true_utility(
    truth: Path, user_ids: Sequence[str], video_ids: Sequence[str]
) -> Float[np.ndarray, "users videos"]:
    """How much each user would like each video at the split, noise and fashion left out.

    No model can rank better than this, on average: it is taste times attributes, plus quality.

    Args:
        truth: the `truth` folder of a rendered world.

    Raises:
        BadData: the truth does not know a user or a video.
    """
    with np.load(truth / "tastes.npz") as stored:
        users, columns, taste = stored["users"].tolist(), stored["columns"], stored["taste"]
    table = pl.read_parquet(truth / "attributes.parquet")
    pairs = [column.split("=", 1) for column in columns.tolist()]
    one_hot = [(table[name] == value).cast(pl.Float64).to_numpy() for name, value in pairs]
    utility = taste @ np.stack(one_hot) + QUALITY * table["quality"].to_numpy()
    rows = _places(users, user_ids, truth, "user")
    return utility[np.ix_(rows, _places(table["video_id"].to_list(), video_ids, truth, "video"))]


def _places(known: Sequence[str], wanted: Sequence[str], truth: Path, kind: str) -> list[int]:
    place = {name: row for row, name in enumerate(known)}
    missing = [name for name in wanted if name not in place]
    if missing:
        raise BadData(
            f"{truth}: no {kind} {missing[0]!r} ({len(missing)} missing in all). "
            "Give ids of the world that this truth belongs to."
        )
    return [place[name] for name in wanted]
