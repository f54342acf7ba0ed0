"""A small world of two tastes whose next video is always known, as tables."""

import numpy as np
import polars as pl

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


def circle_features(videos: int = 12) -> Features:
    """Taste and place in the circle: enough to tell every video from the others."""
    angle = 2 * np.pi * np.arange(videos) / videos
    parity = np.arange(videos) % 2
    table = np.stack([np.cos(angle), np.sin(angle), 2.0 * parity, 2.0 - 2.0 * parity], axis=1)
    return Features("text", tuple(f"v{v}" for v in range(videos)), table.astype(np.float32))
