"""Which rows a request looks at: all of a small catalogue, a shortlist of a large one."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from reelm.runs import Run
from reelm.serve.finder import Finder, without
from reelm.serve.past import Past
from reelm.serve.videos import Videos

NEWEST, DRAWN, FITTING = 300, 700, 300
"""How many of a large catalogue's never-seen videos are looked at: the newest, some drawn for this
user, and those that the model puts first."""
POPULAR = 200
"""How many of a large catalogue's videos of the best standing the model is asked about too."""
DEFAULTS = 1500
"""How many popular and fresh videos of a large catalogue the fallback begins with."""
FOLLOWED = 200
"""How many videos of followed creators are looked at, the newest."""

Rows = Int[np.ndarray, "_"]
Scores = Float[np.ndarray, "_"]
Mask = Bool[np.ndarray, "_"]


@dataclass(frozen=True)
class Pool:
    """Rows that are looked at, with what the model says of them."""

    rows: Rows | None
    """None: all rows."""
    scores: Scores
    """The model's score of each; -inf where it says nothing."""
    allowed: Mask
    """Which of them may be shown."""
    spread: float = 0.0
    """Standard deviation of the model's scores over all that it may choose, of this user."""

    def of(self, column: np.ndarray) -> np.ndarray:
        """A column of all rows, cut down to these."""
        return column if self.rows is None else column[self.rows]

    def row(self, places: Rows) -> Rows:
        """The rows at these places of the pool."""
        return places if self.rows is None else self.rows[places]


class Pools:
    """One pool for each way to choose; most pages need not look at all of them."""

    def __init__(self, model: Pool, new: Callable[[], Pool], fallback: Callable[[], Pool]) -> None:
        self.model, self._new, self._fallback = model, new, fallback

    @cached_property
    def new(self) -> Pool:
        """Where videos that training never saw are chosen from."""
        return self._new()

    @cached_property
    def fallback(self) -> Pool:
        """Where it is chosen from without the model."""
        return self._fallback()


def can_read(run: Run, past: Past) -> bool:
    """True if the model can say anything about this user."""
    known = past.trained or not run.model.uses_user or run.model.stranger < 0
    return bool(past.rows) and known


class Everything:
    """All rows, each with its score: exact, and in time linear in the catalogue."""

    def __init__(self, run: Run, videos: Videos, reads_content: bool) -> None:
        self._run, self._videos = run, videos
        self._may = videos.usable & (reads_content | (videos.counts > 0))

    def pools(self, past: Past, gone: Rows) -> Pools:
        """The same pool for all ways to choose, without the rows that are `gone`, ascending."""
        allowed = self._videos.usable.copy()
        allowed[gone] = False
        scores = self._scores(past)
        known = scores[self._may & np.isfinite(scores)]
        pool = Pool(None, scores, allowed, float(known.std()) if len(known) else 0.0)
        return Pools(pool, lambda: pool, lambda: pool)

    def _scores(self, past: Past) -> Scores:
        """The model's score of each row; -inf where it says nothing.

        That is: rows that came after training, scores that are no numbers, and the lowest score
        if most rows share it, as where an item-to-item model found no link.
        """
        out = np.full(len(self._videos.ids), -np.inf)
        rows = [row for row in past.rows if row < self._videos.trained]
        if not rows or not can_read(self._run, past):
            return out
        scores = self._run.score([rows], [past.user])[0].double().cpu().numpy()
        scores = np.where(np.isfinite(scores), scores, -np.inf)
        bottom = scores == scores.min(initial=np.inf, where=np.isfinite(scores))
        if 2 * bottom.sum() > np.isfinite(scores).sum():
            scores[bottom] = -np.inf
        out[: self._videos.trained] = scores
        return out


class Shortlist:
    """Some hundred rows for each way to choose, found in a time that hardly grows with the
    catalogue. Only for models with factors."""

    def __init__(
        self, run: Run, videos: Videos, standing: Float[np.ndarray, "rows"], reads_content: bool
    ) -> None:
        """`standing` is the fallback's score of each row before anything is known of a user.

        Raises:
            ConfigError: faiss is not installed.
        """
        self._run, self._videos = run, videos
        with torch.inference_mode():
            factors = run.retriever.factors()
        assert factors is not None
        vectors, bias = (part.detach().float().cpu().numpy() for part in factors)
        known = np.zeros(len(videos.ids), bool)
        known[: len(bias)] = np.isfinite(bias)
        unseen = videos.usable & (videos.counts == 0)
        may = videos.usable & known & (reads_content | (videos.counts > 0))
        self._finder = Finder(vectors, bias, np.flatnonzero(may))
        self._popular = _highest(standing, np.flatnonzero(may), POPULAR)
        fitting = unseen & known & reads_content
        self._fitting = Finder(vectors, bias, np.flatnonzero(fitting)) if fitting.any() else None
        self._known, self._unseen = known, np.flatnonzero(unseen)
        self._newest = _highest(videos.uploaded, self._unseen, NEWEST)
        usable = np.flatnonzero(videos.usable)
        self._default = _union(
            _highest(standing, usable, DEFAULTS), _highest(videos.uploaded, usable, NEWEST)
        )

    def pools(self, past: Past, gone: Rows, count: int) -> Pools:
        """Three pools, the model's with at least `count` rows where there are as many.

        `gone` is ascending.
        """
        query = self._query(past)
        followed = np.array(self._videos.by(past.followed), np.int64)
        followed = _highest(self._videos.uploaded, followed, FOLLOWED)
        found = np.zeros(0, np.int64)
        if query is not None:
            found = _union(self._finder.best(query, count, gone)[0], followed, self._popular)

        def new() -> Pool:
            rows = [self._newest, self._drawn(past), followed]
            if query is None or self._fitting is None:
                return self._pool(_union(*rows), None, gone)
            rows.append(self._fitting.best(query, FITTING, gone)[0])
            return self._pool(_union(*rows), query, gone)

        def fallback() -> Pool:
            rows = _union(self._default, followed) if len(followed) else self._default
            return self._pool(rows, None, gone)

        return Pools(self._pool(found, query, gone, self._finder), new, fallback)

    def _query(self, past: Past) -> Float[np.ndarray, "dim"] | None:
        rows = [row for row in past.rows if row < self._videos.trained]
        if not rows or not can_read(self._run, past):
            return None
        query = self._run.asking([rows], [past.user])[0].float().cpu().numpy()
        return query if np.isfinite(query).all() and query.any() else None

    def _drawn(self, past: Past) -> Rows:
        """Never-seen videos drawn for this user, the same ones until the user has done more."""
        if len(self._unseen) <= DRAWN:
            return self._unseen
        key = f"{past.user} {past.rows[-1:]} {len(past.touched)}".encode()
        seed = int.from_bytes(hashlib.sha256(key).digest()[:8], "big")
        drawn = np.random.default_rng(seed).integers(0, len(self._unseen), DRAWN)
        return self._unseen[drawn]

    def _pool(
        self, rows: Rows, query: Float[np.ndarray, "dim"] | None, gone: Rows,
        whole: Finder | None = None,
    ) -> Pool:  # fmt: skip
        """A pool of these rows; `whole` finds all that the model may choose."""
        rows = without(rows, gone)
        scores = np.full(len(rows), -np.inf)
        if query is not None:
            known = self._known[rows]
            scores[known] = self._finder.score(query, rows[known])
        spread = whole.spread(query) if whole is not None and query is not None else 0.0
        return Pool(rows, scores, self._videos.usable[rows], spread)


def _union(*lists: Rows) -> Rows:
    both = np.sort(np.concatenate(lists))
    return both[np.diff(both, prepend=-1) > 0]


def _highest(values: Float[np.ndarray, "all"], rows: Rows, count: int) -> Rows:
    """The `count` rows with the highest values."""
    if len(rows) <= count:
        return rows
    return rows[np.argpartition(-values[rows], count - 1)[:count]]
