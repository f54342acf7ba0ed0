"""A clean world, written as a catalogue, for leaks to be planted in."""

import numpy as np
import polars as pl

from reelm.data.tables import Features

USERS, VIDEOS = 80, 60


def events() -> pl.DataFrame:
    """Each user watches eight different videos, popular ones more often, at times of their own."""
    rng = np.random.default_rng(0)
    liking = 1 / np.arange(1, VIDEOS + 1) ** 0.6
    rows = []
    for user in range(USERS):
        chosen = rng.choice(VIDEOS, 8, replace=False, p=liking / liking.sum())
        start = rng.uniform(0, 1000)
        rows += [(f"u{user}", f"v{v}", start + 40 * n) for n, v in enumerate(chosen)]
    table = pl.DataFrame(rows, schema=["user_id", "video_id", "timestamp"], orient="row")
    return table.with_columns(event=pl.lit("watch"), value=pl.lit(1.0))


def videos() -> pl.DataFrame:
    """Titles in which ordinary words occur that a careless detector would take for leaks."""
    words = [
        "test drive",
        "Train to Busan",
        "On target",
        "Rank and file",
        "ultra live",
        "Toy Story 2",
    ]
    return pl.DataFrame(
        {
            "video_id": [f"v{v}" for v in range(VIDEOS)],
            "title": [f"{words[v % len(words)]} no {chr(97 + v % 26)}" for v in range(VIDEOS)],
            "sha256": [f"{v:064x}" for v in range(VIDEOS)],
            "duration_s": np.random.default_rng(1).uniform(5, 60, VIDEOS),
        }
    )


def vectors(seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(VIDEOS, 6)).astype(np.float32)


def text_features(table: np.ndarray) -> Features:
    return Features("text", tuple(f"v{v}" for v in range(VIDEOS)), table)
