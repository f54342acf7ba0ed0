"""A small world of two tastes whose next video is always known, as tables."""

import numpy as np
import polars as pl

from reelm.data.preferences import SCHEMA
from reelm.data.tables import Features


def circle_events(users: int = 24, videos: int = 12, steps: int = 5) -> pl.DataFrame:
    """Even users watch even videos in a circle, odd users odd ones, so the next video of a user
    is always known."""
    rows = [
        (f"u{u}", f"v{(u % 2 + 2 * (u // 2 + step)) % videos}", float(step * 100 + u))
        for u in range(users)
        for step in range(steps)
    ]
    table = pl.DataFrame(rows, schema=["user_id", "video_id", "timestamp"], orient="row")
    return table.with_columns(event=pl.lit("watch"), value=pl.lit(1.0))


def circle_shown(users: int = 24, videos: int = 12, steps: int = 5) -> pl.DataFrame:
    """The same, and between two of them one of the other half, which nobody watches."""
    rows = [
        (f"u{u}", f"v{((u + 1) % 2 + 2 * (u // 2 + step)) % videos}", step * 100 + u + 40.5)
        for u in range(users)
        for step in range(steps)
    ]
    table = pl.DataFrame(rows, schema=["user_id", "video_id", "timestamp"], orient="row")
    passed = table.with_columns(event=pl.lit("watch"), value=pl.lit(0.1))
    return pl.concat([circle_events(users, videos, steps), passed]).sort("timestamp")


def circle_features(videos: int = 12) -> Features:
    """Taste and place in the circle: enough to tell every video from the others."""
    angle = 2 * np.pi * np.arange(videos) / videos
    parity = np.arange(videos) % 2
    table = np.stack([np.cos(angle), np.sin(angle), 2.0 * parity, 2.0 - 2.0 * parity], axis=1)
    return Features("text", tuple(f"v{v}" for v in range(videos)), table.astype(np.float32))


def circle_edges(users: int = 24, videos: int = 12, steps: int = 5) -> pl.DataFrame:
    """Every user likes the next video of the circle better than one of the other half."""
    rows = [
        (f"u{u}", f"v{(u % 2 + 2 * (u // 2 + steps)) % videos}", f"v{(u + 1) % 2}", 1.0)
        for u in range(users)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def circle_profiles(users: int = 24) -> Features:
    """Which half of the videos each user likes, and where he is in the circle: known of him before
    he watched anything."""
    angle = 2 * np.pi * (np.arange(users) // 2) / (users // 2)
    parity = np.arange(users) % 2
    table = np.stack([np.cos(angle), np.sin(angle), 2.0 * parity, 2.0 - 2.0 * parity], axis=1)
    ids = tuple(f"u{u}" for u in range(users))
    return Features("profile", ids, table.astype(np.float32), np.zeros(users, np.int64))
