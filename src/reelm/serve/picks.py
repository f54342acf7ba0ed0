"""Three ways to choose videos: by the model, among the new ones, and without knowing the user."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from reelm.models.base import Ranker, Retriever
from reelm.runs import Run
from reelm.serve.past import Past
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
    """Scores all rows; -inf means "not in this way"."""

    def __init__(self, run: Run, videos: Videos, diversity: float) -> None:
        """`diversity` (0..1) is how much the fallback avoids what it has just shown."""
        self._run, self._videos, self._diversity = run, videos, diversity
        self._reads_content = _reads_content(run.model)
        self.unseen = videos.counts == 0  # by training
        self._popularity = np.log1p(videos.counts) / max(1.0, np.log1p(videos.counts).max())
        self._freshness = _shares(videos.uploaded)

    def can_read(self, past: Past) -> bool:
        """True if the model can say anything about this user."""
        return bool(past.rows) and (past.trained or not self._run.model.uses_user)

    def everything(self, past: Past) -> Scores:
        """The model's score of each row; -inf where it says nothing.

        That is: rows that came after training, scores that are no numbers, and the lowest score
        if most rows share it, as where an item-to-item model found no link.
        """
        out = np.full(len(self._videos.ids), -np.inf)
        rows = [row for row in past.rows if row < self._videos.trained]
        if not rows or not self.can_read(past):
            return out
        scores = self._run.score([rows], [past.user])[0].double().cpu().numpy()
        scores = np.where(np.isfinite(scores), scores, -np.inf)
        bottom = scores == scores.min(initial=np.inf, where=np.isfinite(scores))
        if 2 * bottom.sum() > np.isfinite(scores).sum():
            scores[bottom] = -np.inf
        out[: self._videos.trained] = scores
        return out

    def lean(self, past: Past) -> Scores:
        """What the user said outright: towards followed creators, away from what is unwanted.

        In standard deviations of whatever scores it is added to; 0 where nothing was said.
        """
        out = np.zeros(len(self._videos.ids))
        if past.unwanted:
            facets = self._videos.facets
            alike = facets.score(facets.taste(past.unwanted))
            out -= AGAINST * np.tanh(np.maximum(0, _standard(alike, self._videos.usable)))
        out[self._videos.by(past.followed)] += FOLLOWED
        return out

    def by_model(self, scores: Scores, past: Past) -> Scores:
        """What the model may choose: without content it knows nothing of videos never seen."""
        known = scores[np.isfinite(scores)]
        if (past.unwanted or past.followed) and len(known):
            scores = scores + self.lean(past) * (known.std() or 1.0)
        return scores if self._reads_content else np.where(self.unseen, -np.inf, scores)

    def by_novelty(self, scores: Scores, past: Past, rng: np.random.Generator) -> Scores:
        """Videos that training never saw, by what is known of their content.

        That is the model's score where the model reads content, else the user's taste in facets;
        both as standard scores among the new. For a stranger the newest come first.
        """
        facets = self._videos.facets
        taste = _standard(facets.score(facets.taste(past.rows)), self.unseen)
        if self._reads_content:
            read = _standard(scores, self.unseen & np.isfinite(scores))
            taste = np.where(np.isfinite(scores), read, taste)
        if not past.rows:
            taste = self._freshness
        taste = taste + self.lean(past) + 1e-3 * rng.random(len(taste))
        return np.where(self.unseen, taste, -np.inf)

    def by_default(
        self, allowed: Mask, past: Past, shown: Sequence[int], count: int, rng: np.random.Generator
    ) -> list[tuple[int, float]]:
        """Popular and fresh videos, each unlike those just before it; any user, also a stranger.

        Args:
            shown: rows already in this feed, in order.

        Returns:
            at most `count` rows with their scores (popularity, freshness and taste, about 0..2),
            in the order to show them.
        """
        base = 0.7 * self._popularity + 0.3 * self._freshness
        if past.rows:
            facets = self._videos.facets
            base = base + 0.5 * np.tanh(_standard(facets.score(facets.taste(past.rows)), allowed))
        base = base + 0.5 * self.lean(past) + CHANCE * rng.random(len(base))
        room = max(POPULAR, 2 * count)
        pool = np.union1d(best(base, allowed, room), best(self._freshness, allowed, FRESH))
        return self._spread(pool, base[pool], shown[-MEMORY:], count)

    def _spread(
        self, pool: Int[np.ndarray, "pool"], base: Float[np.ndarray, "pool"],
        before: Sequence[int], count: int,
    ) -> list[tuple[int, float]]:  # fmt: skip
        """Choose one by one; each shared facet with the last few lowers a row's chances."""
        held = self._videos.facets.dense(pool)
        size = np.maximum(1, held.sum(1))
        recent = list(self._videos.facets.dense(np.array(before, np.int64)))
        left, chosen = base.copy(), []
        for _ in range(min(count, len(pool))):
            alike = sum((held & one).sum(1) / size for one in recent[-MEMORY:]) if recent else 0.0
            place = int(np.argmax(left - self._diversity * alike))
            chosen.append((int(pool[place]), float(base[place])))
            left[place] = -np.inf
            recent.append(held[place])
        return chosen


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


def _standard(scores: Scores, among: Mask) -> Scores:
    """Standard scores by mean and spread of the chosen rows; 0 where these do not differ."""
    values = scores[among]
    if not len(values) or not values.std():
        return np.zeros_like(scores)
    return (scores - values.mean()) / values.std()


def _shares(times: Float[np.ndarray, "rows"]) -> Scores:
    """Rank of each time as a share: 1 for the newest, 0 where unknown."""
    known = np.isfinite(times)
    out = np.zeros(len(times))
    order = np.argsort(np.argsort(times[known], kind="stable"), kind="stable")
    out[known] = (order + 1) / max(1, known.sum())
    return out
