"""Three ways to choose videos: by the model, among the new ones, and without knowing the user."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from reelm.models.base import Ranker, Retriever
from reelm.runs import Run
from reelm.serve.past import Past
from reelm.serve.pools import Pool
from reelm.serve.reranking import dpp, mmr, relevance, unit
from reelm.serve.standing import StandingRules, shares
from reelm.serve.videos import Videos

POPULAR, FRESH = 150, 50
"""How many of the most popular and of the newest videos the fallback chooses from."""
CHANCE = 0.15
"""How much of the fallback's order is left to chance, so that strangers differ."""
MEMORY = 8
"""How many of the places just filled the fallback avoids to resemble."""

AGAINST = 2.0
"""Deviations that a video loses at most when the user wants fewer alike."""
FOLLOWED = 1.0
"""Deviations that a video of a followed creator gains."""

Scores = Float[np.ndarray, "rows"]
Mask = Bool[np.ndarray, "rows"]


class Picker:
    """Scores the rows of a pool; -inf means "not in this way"."""

    def __init__(self, run: Run, videos: Videos, standing: Scores, rules: StandingRules) -> None:
        """`standing` is what is thought of each row before anything is known of a user, 0..1."""
        self._videos, self._rules = videos, rules
        self.reads_content = _reads_content(run.model)
        self.unseen = videos.counts == 0  # by training
        self.freshness, self.standing = shares(videos.uploaded), standing
        self._ahead = _standard(standing, videos.usable)

    def lean(self, pool: Pool, past: Past) -> Scores:
        """What the user said outright: towards followed creators, away from what is unwanted.

        In standard deviations of whatever scores it is added to; 0 where nothing was said.
        """
        out = np.zeros(len(pool.scores))
        if past.unwanted:
            alike = self._videos.facets.liking(past.unwanted, pool.rows)
            usable = pool.of(self._videos.usable)
            out -= AGAINST * np.tanh(np.maximum(0, _standard(alike, usable)))
        if past.followed:
            theirs = np.zeros(len(self._videos.ids), bool)
            theirs[self._videos.by(past.followed)] = True
            out[pool.of(theirs)] += FOLLOWED
        return out

    def by_model(self, pool: Pool, past: Past) -> Scores:
        """What the model may choose: without content it knows nothing of videos never seen."""
        scores = pool.scores
        if np.isfinite(scores).any():
            weight = self._rules.newcomer / max(1e-12, self._rules.newcomer + len(past.rows))
            more = weight * pool.of(self._ahead) + self.lean(pool, past)
            scores = scores + more * (pool.spread or 1.0)
        if self.reads_content:
            return scores
        return np.where(pool.of(self.unseen), -np.inf, scores)

    def by_novelty(self, pool: Pool, past: Past, rng: np.random.Generator | None) -> Scores:
        """Videos that training never saw, by what is known of their content.

        That is the model's score where the model reads content, else the user's taste in facets;
        both as standard scores among the new. For a stranger the newest come first. Ties are
        broken by chance, if there is any.
        """
        unseen, scores = pool.of(self.unseen), pool.scores
        if not unseen.any():
            return np.full(len(scores), -np.inf)
        taste = _standard(self._videos.facets.liking(past.rows, pool.rows), unseen)
        if self.reads_content:
            read = _standard(scores, unseen & np.isfinite(scores))
            taste = np.where(np.isfinite(scores), read, taste)
        if not past.rows:
            taste = pool.of(self.freshness)
        taste = taste + self.lean(pool, past)
        if rng is not None:
            taste = taste + 1e-3 * rng.random(len(taste))
        return np.where(unseen, taste, -np.inf)

    def by_default(
        self, pool: Pool, past: Past, shown: Sequence[int], count: int, rng: np.random.Generator
    ) -> Iterator[tuple[int, float]]:
        """Popular and fresh videos, each unlike those just before it; any user, also a stranger.

        Args:
            shown: rows already in this feed, in order.

        Yields:
            at most `count` rows with their scores (popularity, freshness and taste, about 0..2),
            in the order to show them.
        """
        base, allowed = pool.of(self.standing), pool.allowed
        if past.rows:
            liking = self._videos.facets.liking(past.rows, pool.rows)
            base = base + 0.5 * np.tanh(_standard(liking, allowed))
        base = base + 0.5 * self.lean(pool, past) + CHANCE * rng.random(len(base))
        room = max(POPULAR, 2 * count)
        newest = best(pool.of(self.freshness), allowed, FRESH)
        among = np.union1d(best(base, allowed, room), newest)
        return self._spread(pool.row(among), base[among], shown[-MEMORY:], count)

    def varied(
        self, found: Sequence[tuple[int, float]], shown: Sequence[int], count: int,
        how: tuple[Literal["none", "mmr", "dpp"], float],
    ) -> list[int]:  # fmt: skip
        """Places of at most `count` of these rows and scores in an order with more variety.

        Args:
            found: best first.
            shown: rows already in this feed, in order.
            how: the method and its strength; none is their own order.
        """
        rows = np.array([row for row, _ in found], np.int64)
        before = np.array(shown[-MEMORY:], np.int64)
        held = self._videos.facets.dense(np.concatenate([rows, before])).astype(np.float64)
        vectors = unit(held)
        alike = vectors[: len(rows)] @ vectors.T
        worth, (method, strength) = relevance(np.array([score for _, score in found])), how
        if method == "none":
            return list(range(min(count, len(found))))
        if method == "dpp":
            return dpp(worth, alike[:, : len(rows)], count, strength).tolist()
        earlier = alike[:, len(rows) :].T
        return mmr(worth, alike[:, : len(rows)], count, strength, MEMORY, earlier).tolist()

    def _spread(
        self, pool: Int[np.ndarray, "pool"], base: Float[np.ndarray, "pool"],
        before: Sequence[int], count: int,
    ) -> Iterator[tuple[int, float]]:  # fmt: skip
        """Choose one by one; each shared facet with the last few lowers a row's chances."""
        rows = np.concatenate([pool, np.array(before, np.int64)])
        both = self._videos.facets.dense(rows).astype(np.float32)
        held = both[: len(pool)]  # as numbers: counting what is shared is then one product
        weight = self._rules.diversity / np.maximum(1, held.sum(1))
        near = [held @ one for one in both[len(pool) :]]
        left, alike = base.copy(), sum(near, np.zeros(len(pool), np.float32))
        for _ in range(min(count, len(pool))):
            place = int(np.argmax(left - weight * alike))
            yield int(pool[place]), float(base[place])
            left[place] = -np.inf
            near.append(held @ held[place])
            alike += near[-1]
            if len(near) > MEMORY:
                alike -= near[-1 - MEMORY]  # whole numbers: what is left is exact


def _reads_content(model: Retriever | Ranker) -> bool:
    """True if the model was built with features, so that it can score videos never seen."""
    config = getattr(model, "config", None) or model.Config()
    return any(need.startswith("features") for need in model.needs(config))


def best(scores: Scores, allowed: Mask, count: int) -> Int[np.ndarray, "chosen"]:
    """At most `count` allowed rows with finite scores, best first; ties by row."""
    rows = np.flatnonzero(allowed & np.isfinite(scores))
    if len(rows) > count:
        rows = rows[np.argpartition(-scores[rows], count - 1)[:count]]
        rows.sort()
    return rows[np.argsort(-scores[rows], kind="stable")]


def ranked(pool: Pool, scores: Scores, count: int) -> list[tuple[int, float]]:
    """At most `count` allowed rows of a pool with their scores, best first."""
    places = best(scores, pool.allowed, count)
    return list(zip(pool.row(places).tolist(), scores[places].tolist(), strict=True))


def _standard(scores: Scores, among: Mask) -> Scores:
    """Standard scores by mean and spread of the chosen rows; 0 where these do not differ."""
    values = scores[among]
    if not len(values) or not values.std():
        return np.zeros_like(scores)
    return (scores - values.mean()) / values.std()
