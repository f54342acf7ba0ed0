"""How videos stand before anything is known of a user: what is popular of late, and what is new."""

import numpy as np
import polars as pl
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat

from reelm.config import Config
from reelm.data.dataset import POSITIVE
from reelm.serve.videos import Videos

LEAST = 100
"""Interactions after which one counts half, at least: a short log has no "of late"."""

Shares = Float[np.ndarray, "rows"]


class StandingRules(Config):
    """What is thought of videos before anything is known of a user, and how long it counts."""

    popular_within: float | None = Field(default=0.06, gt=0, le=1)
    """Share of the log: in what is popular, an interaction counts half for each such share that
    came after it. Unset counts all alike, as does a log without times."""
    newcomer: NonNegativeFloat = 1.0
    """How much standing counts beside the model's score for users with few interactions: with h of
    them newcomer / (newcomer + h) deviations. 0 is by the model alone."""
    freshness: float = Field(default=0.2, ge=0, le=1)
    """How much of a video's standing is its rank by upload time; the rest is its popularity."""
    diversity: float = Field(default=0.3, ge=0, le=1)
    """How much the fallback avoids what it has just shown; 0 is by standing alone."""


def standing(
    videos: Videos, log: pl.DataFrame | None, rules: StandingRules, min_portion: float
) -> Shares:
    """A share for each row, 1 for a video that is both the most popular and the newest.

    Args:
        log: the catalogue's events; without it the counts of training are taken.
        min_portion: a watch counts from this share on.
    """
    weight = videos.counts.astype(np.float64)
    if rules.popular_within is not None and log is not None and "timestamp" in log.columns:
        of_late = _of_late(videos, log, rules.popular_within, min_portion)
        weight = of_late if of_late.any() else weight
    popularity = weight / max(1e-12, weight.max(initial=0.0))
    return (1 - rules.freshness) * popularity + rules.freshness * shares(videos.uploaded)


def _of_late(videos: Videos, log: pl.DataFrame, share: float, min_portion: float) -> Shares:
    """Interactions of each row, older ones for less. Age is counted in interactions, not in days:
    so it fits logs of a week and of ten years, and a few late ones do not outweigh all others."""
    counts = pl.col("event").is_in(POSITIVE)
    if "value" in log.columns:
        counts |= (pl.col("event") == "watch") & (pl.col("value") >= min_portion)
    later = pl.len() - pl.col("timestamp").rank("max")
    half = pl.max_horizontal(share * pl.len(), LEAST)
    found = (
        log.lazy()
        .filter(counts & pl.col("timestamp").is_finite())
        .select(pl.col("video_id").cast(pl.String), weight=0.5 ** (later / half))
        .group_by("video_id")
        .agg(pl.col("weight").sum())
        .collect()
    )
    rows = np.array([videos.row.get(video, 0) for video in found["video_id"]], np.int64)
    weight = found["weight"].cast(pl.Float64).to_numpy()
    total = np.bincount(rows, weight, minlength=len(videos.ids)).astype(np.float64)
    total[0] = 0.0  # videos without a row
    return total


def shares(times: Float[np.ndarray, "rows"]) -> Shares:
    """Rank of each time as a share: 1 for the newest, 0 where unknown."""
    known = np.isfinite(times)
    out = np.zeros(len(times))
    order = np.argsort(np.argsort(times[known], kind="stable"), kind="stable")
    out[known] = (order + 1) / max(1, known.sum())
    return out
