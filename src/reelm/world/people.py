"""People who watch: tastes over attributes, sessions, and how much of each video they see.

Every constant here is fixed. They were set once, looking only at popularity and at the true
attributes, before any model had described a clip; results on this world depend on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reelm.world.clips import Clip
from reelm.world.titles import DAYS, Upload
from reelm.world.vocabulary import ATTRIBUTES

SPLIT_DAY = 22.0
"""Tastes are recorded as they are on this day: the one a benchmark should cut the log at."""
WEIGHT: dict[str, float] = {
    "subject": 1.5, "scene": 0.9, "motion": 1.1, "effect": 0.6, "instrument": 1.1, "tempo": 0.9,
    "colour": 0.5, "word": 0.4, "mood": 0.5, "light": 0.4, "count": 0.2,
}  # fmt: skip
"""How likely people care about an attribute, and (its square root) how much."""
COLUMNS: tuple[tuple[str, str], ...] = tuple((k, v) for k in WEIGHT for v in ATTRIBUTES[k])
"""The (attribute, value) of each column of taste and attribute matrices."""
ARCHETYPES = 24
CARES_FOR = 4  # attributes that one taste is about
STRENGTH = 2.2
DRIFT = 0.35  # how far a taste moves in DAYS, as a share of a whole taste
TREND = 0.15  # deviation of each day's fashion, per column
QUALITY = 0.35  # utility of one unit of quality
TEMPERATURE = 0.35
CANDIDATES = 80  # videos that the imagined feed offers per session
PICKS = 4  # videos chosen per session; one more plays by itself
AUTOPLAY = 0.9  # share of sessions whose last video is random
VISITS = (28, 60)  # videos watched per person: from, to (exclusive)
LEAST_CANDIDATES = 6


@dataclass(frozen=True)
class Tastes:
    """Each person's taste on day 0 and how it moves until day `DAYS`; rows are people."""

    start: Float[np.ndarray, "users columns"]
    drift: Float[np.ndarray, "users columns"]

    def on(self, day: float) -> Float[np.ndarray, "users columns"]:
        """Tastes on a day."""
        return self.start + self.drift * (day / DAYS)


@dataclass(frozen=True)
class Watches:
    """What was watched, by time: row i says that `user[i]` saw `portion[i]` of `video[i]`."""

    user: Int[np.ndarray, "events"]
    video: Int[np.ndarray, "events"]
    day: Float[np.ndarray, "events"]
    portion: Float[np.ndarray, "events"]


@dataclass(frozen=True)
class Shelf:
    """All videos as the simulator sees them: one-hot attributes, quality, upload day."""

    attributes: Float[np.ndarray, "videos columns"]
    quality: Float[np.ndarray, "videos"]
    day: Float[np.ndarray, "videos"]


def attribute_matrix(clips: Sequence[Clip]) -> Float[np.ndarray, "videos columns"]:
    """One-hot attributes, in the order of `COLUMNS`."""
    column = {name: place for place, name in enumerate(COLUMNS)}
    matrix = np.zeros((len(clips), len(COLUMNS)), np.float32)
    for row, clip in enumerate(clips):
        for name in WEIGHT:
            matrix[row, column[name, getattr(clip, name)]] = 1
    return matrix


def simulate(uploads: Sequence[Upload], people: int, seed: int) -> tuple[Watches, Tastes]:
    """Let `people` watch for `DAYS` days.

    A person is two of the archetypes and something of their own, over a few attributes each, and
    drifts slowly. In a session they see 80 videos drawn by quality and freshness, choose four by
    utility with some chance, and one plays by itself; the portion watched follows utility.
    """
    rng = np.random.RandomState(seed)
    shelf = Shelf(
        attribute_matrix([upload.clip for upload in uploads]),
        np.array([upload.quality for upload in uploads]),
        np.array([upload.day for upload in uploads]),
    )
    archetypes = [_taste(rng) for _ in range(ARCHETYPES)]
    trends = rng.randn(DAYS, len(COLUMNS)) * TREND
    starts, drifts, rows = [], [], []
    for user in range(people):
        one, other = rng.choice(ARCHETYPES, 2, replace=False)
        own = 0.8 * archetypes[one] + 0.45 * archetypes[other] + 0.5 * _taste(rng)
        starts.append(STRENGTH * own)
        drifts.append(STRENGTH * DRIFT * _taste(rng))
        person = Person(shelf, starts[-1], drifts[-1], trends)
        rows += [(user, *row) for row in person.watch(rng)]
    return _by_time(rows), Tastes(np.array(starts), np.array(drifts))


class Person:
    """One person before a shelf of videos."""

    def __init__(
        self, shelf: Shelf, start: np.ndarray, drift: np.ndarray, trends: np.ndarray
    ) -> None:
        self.shelf, self.trends = shelf, trends
        self.likes = shelf.attributes @ start  # utility of each video on day 0, without quality
        self.drifts = shelf.attributes @ drift
        self.seen: set[int] = set()

    def watch(self, rng: np.random.RandomState) -> list[tuple[int, float, float]]:
        """Video, day and portion of everything watched."""
        visits = rng.randint(*VISITS)
        days = np.sort(rng.uniform(0, DAYS, max(3, visits // PICKS)))
        return [row for day in days for row in self._session(float(day), rng)]

    def _session(self, day: float, rng: np.random.RandomState) -> list[tuple[int, float, float]]:
        offered = self._offered(day, rng)
        if len(offered) < LEAST_CANDIDATES:
            return []
        utility = self._utility(offered, day)
        wish = utility / TEMPERATURE + rng.gumbel(size=len(offered))
        order = np.argsort(-wish)[: PICKS + 1]
        if rng.rand() < AUTOPLAY:
            order[-1] = rng.randint(len(offered))
        order = np.array(list(dict.fromkeys(order.tolist())))  # the same video plays once
        portions = _portions(utility, order, rng)
        videos = offered[order].tolist()
        self.seen.update(videos)
        return [
            (video, day + place * 1e-3, portion)
            for place, (video, portion) in enumerate(zip(videos, portions, strict=True))
        ]

    def _offered(self, day: float, rng: np.random.RandomState) -> Int[np.ndarray, "candidates"]:
        """Unseen ones among a session's candidates: good and fresh videos are shown more often."""
        there = np.where(self.shelf.day < day)[0]
        age = day - self.shelf.day[there]
        pull = np.exp(0.7 * self.shelf.quality[there] - age / 8)
        size = min(CANDIDATES, len(there))
        drawn = rng.choice(there, size, replace=False, p=pull / pull.sum())
        return drawn[[video not in self.seen for video in drawn.tolist()]]

    def _utility(self, videos: np.ndarray, day: float) -> Float[np.ndarray, "candidates"]:
        taste = self.likes[videos] + self.drifts[videos] * (day / DAYS)
        fashion = self.shelf.attributes[videos] @ self.trends[int(day)]
        return taste + QUALITY * self.shelf.quality[videos] + fashion


def _taste(rng: np.random.RandomState) -> Float[np.ndarray, "columns"]:
    """Likes and dislikes over `CARES_FOR` attributes; inside each, one or two values stand out."""
    names, taste = list(WEIGHT), np.zeros(len(COLUMNS))
    chance = np.array(list(WEIGHT.values()))
    for care in rng.choice(len(names), CARES_FOR, replace=False, p=chance / chance.sum()):
        columns = [place for place, (name, _) in enumerate(COLUMNS) if name == names[care]]
        value = np.sqrt(rng.dirichlet(np.full(len(columns), 0.3)))
        taste[columns] = (value - value.mean()) * WEIGHT[names[care]] ** 0.5
    return taste


def _portions(utility: np.ndarray, order: np.ndarray, rng: np.random.RandomState) -> list[float]:
    """Share watched, 0.02..1: half of it at half a deviation above the session's mean utility."""
    spread = utility.std()
    lead = (utility[order] - utility.mean() - 0.5 * spread) / max(0.3, spread)
    watched = 1 / (1 + np.exp(-1.3 * lead)) + rng.randn(len(order)) * 0.1
    return np.clip(watched, 0.02, 1.0).tolist()


def _by_time(rows: list[tuple[int, int, float, float]]) -> Watches:
    rows.sort(key=lambda row: row[2])
    user, video, day, portion = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Watches(
        np.array(user, np.int64), np.array(video, np.int64), np.array(day), np.array(portion)
    )
