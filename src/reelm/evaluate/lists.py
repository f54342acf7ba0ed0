"""What the lists themselves are like, whether or not they hit: popular, alike, always the same.

For the first k videos of each question's list, without those of its history:

- coverage@k: share of the pool's videos that are in any list.
- popularity@k: mean training interactions of the listed videos.
- popularity_ratio@k: that, over the mean of the videos in the histories; above 1 the lists are
  more popular than what people chose themselves.
- novelty@k: mean -log2 of the share of users who met the video in training, in bits.
- diversity@k: 1 - mean cosine of two listed videos, by their features.

Sources: Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma" (novelty);
Abdollahpouri et al. 2019, "The unfairness of popularity bias in recommendation" (ratio);
Ziegler et al. 2005, "Improving recommendation lists through topic diversification" (diversity).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64

from reelm.data.dataset import Dataset
from reelm.data.split import Questions
from reelm.evaluate.ranking import Placed

MEASURES = ("coverage", "popularity", "popularity_ratio", "novelty", "diversity")


@dataclass(frozen=True)
class Lists:
    """What is known of the videos that lists may hold; row 0 is padding."""

    counts: Int64[np.ndarray, "items"]
    """Training interactions."""
    bits: Float64[np.ndarray, "items"]
    """-log2 of the share of users who met the video; a video nobody met counts as one that one of
    (users + 1) had met."""
    unit: Float32[np.ndarray, "items dim"] | None = None
    """Features of length 1, and zeros where a video has none."""
    has: Bool[np.ndarray, "items"] | None = None
    """Which videos have any."""
    tables: tuple[str, ...] = ()
    """For each video the names of the feature tables it is in, as `image+text`, or `none`; empty
    if there are no tables."""

    @staticmethod
    def of(data: Dataset, feature: str | None = None) -> "Lists":
        """From the training interactions, and the feature table that diversity goes by.

        Raises:
            MissingInput: the dataset was loaded without this feature.
        """
        width, users = len(data.items), len(data.users)
        met = np.bincount(np.unique(data.user * width + data.item) % width, minlength=width)
        share = np.where(met, met / max(users, 1), 1 / (users + 1))
        tables = _in_tables(data)
        if feature is None:
            return Lists(data.counts, -np.log2(share), tables=tables)
        table = data.feature(feature, "evaluate.diversity_by").float().numpy()
        length = np.linalg.norm(table, axis=1, keepdims=True)
        has = data.has_feature[feature] & (length[:, 0] > 0)
        unit = np.where(has[:, None], table / np.where(length > 0, length, 1), 0)
        return Lists(data.counts, -np.log2(share), unit.astype(np.float32), has, tables)

    def per_question(
        self, found: Placed, ks: Sequence[int]
    ) -> dict[str, Float64[np.ndarray, "questions"]]:
        """Popularity, novelty and diversity of each question's list; NaN where there is no list,
        or for diversity not two videos with features in it."""
        told = {}
        for k in ks:
            some = found.listed[:, :k]
            told[f"popularity@{k}"] = _mean(self.counts[some], some > 0)
            told[f"novelty@{k}"] = _mean(self.bits[some], some > 0)
            if self.unit is not None and self.has is not None:
                told[f"diversity@{k}"] = _apart(self.unit, self.has, some)
        return told

    def whole(
        self,
        found: Placed,
        questions: Questions,
        pool: Bool[np.ndarray, "items"],
        ks: Sequence[int],
    ) -> dict[str, float]:
        """Coverage and the ratio of popularity, which only all lists together have."""
        told = {}
        chosen = self._chosen(questions)[found.question]
        for k in ks:
            some = found.listed[:, :k]
            met = len(np.unique(some[some > 0]))
            told[f"coverage@{k}"] = met / max(int(pool.sum()), 1)
            ratio = _known_mean(_mean(self.counts[some], some > 0)) / _known_mean(chosen)
            if np.isfinite(ratio):
                told[f"popularity_ratio@{k}"] = ratio
        return told

    def _chosen(self, questions: Questions) -> Float64[np.ndarray, "questions"]:
        """Mean training interactions of the videos in each history; NaN for an empty one."""
        so_far = np.concatenate([[0], np.cumsum(self.counts[questions.item])])
        size = questions.stop - questions.start
        total = so_far[questions.stop] - so_far[questions.start]
        return np.where(size > 0, total / np.maximum(size, 1), np.nan)


def _in_tables(data: Dataset) -> tuple[str, ...]:
    """`Lists.tables` of a dataset."""
    if not data.has_feature:
        return ()
    names = np.array(sorted(data.has_feature))
    has = np.stack([data.has_feature[name] for name in names], axis=1)
    kinds, kind = np.unique(has, axis=0, return_inverse=True)
    said = ["+".join(names[row]) or "none" for row in kinds]
    return tuple(said[k] for k in kind.ravel())


def _mean(
    values: np.ndarray, real: Bool[np.ndarray, "questions k"]
) -> Float64[np.ndarray, "questions"]:
    """Of the real places of each row; NaN where there is none."""
    size = real.sum(1)
    return np.where(size > 0, (values * real).sum(1) / np.maximum(size, 1), np.nan)


def _apart(
    unit: Float32[np.ndarray, "items dim"],
    has: Bool[np.ndarray, "items"],
    listed: Int32[np.ndarray, "questions k"],
) -> Float64[np.ndarray, "questions"]:
    """1 - mean cosine over pairs of each list.

    The squared length of the sum of n unit vectors is n plus twice the sum of all cosines.
    """
    found = np.full(len(listed), np.nan)
    for n, row in enumerate(listed):
        known = row[has[row]]
        if len(known) > 1:
            total = unit[known].sum(0, dtype=np.float64)
            pairs = len(known) * (len(known) - 1)
            found[n] = 1 - (total @ total - len(known)) / pairs
    return found


def _known_mean(values: Float64[np.ndarray, "questions"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
