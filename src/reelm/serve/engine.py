"""The next videos for a user: histories, the run's model, filters, and places for what is new.

Ids become rows on the way in and rows become ids on the way out; strings never reach a model.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveInt

from reelm.data.tables import Catalog
from reelm.errors import ReelmError
from reelm.runs import Run
from reelm.serve.barred import Barred
from reelm.serve.exploring import Draws, within
from reelm.serve.notes import Notes
from reelm.serve.past import Past, PastRules, read_past
from reelm.serve.picks import Picker, best, ranked
from reelm.serve.pools import Everything, Pool, Pools, Rows, Scores, Shortlist
from reelm.serve.ranking import Ranking
from reelm.serve.reasons import Reasons
from reelm.serve.records import Feed, Impression, Known, StoredEvent
from reelm.serve.rules import Expiry, Rules
from reelm.serve.standing import StandingRules, standing
from reelm.serve.store import Store
from reelm.serve.videos import Videos

SPARE = 50
"""How many more similar videos are asked for than wanted, as some cannot be shown."""

QUICK = 20_000
"""Videos up to which scoring all of them takes no longer than all else that a page needs."""


class EngineConfig(Rules, StandingRules):
    """Section [engine]."""

    new_share: float = Field(default=0.1, ge=0, le=1)
    """Share of places kept for videos that nobody had seen when the model was trained."""
    max_history: PositiveInt = 100
    """Newest interactions of a user that are read."""
    max_events: PositiveInt = 300
    """Newest events of a user that are read, to find interactions in. Follows, blocks and what was
    wanted less count however old they are, and nothing that was seen comes back."""
    min_portion: NonNegativeFloat = 0.5
    """A watch counts as an interaction from this portion on; the same rule as in [dataset]."""
    ranker_candidates: PositiveInt = 100
    """Videos, the model's best, that a second stage (`serve.ranker`) rates for each request."""
    rerank: Literal["none", "mmr", "dpp"] = "none"
    """Variety among the model's places, by what notes, hashtags and creators say: none; mmr: each
    unlike the last eight; dpp: all unlike each other, those of one request."""
    rerank_strength: float = Field(default=0.3, ge=0, le=1)
    """How much score is given for variety; 0 is by score alone."""
    rerank_candidates: PositiveInt = 100
    """Videos, the model's best, that are put in a new order."""
    explore: float | None = Field(default=None, gt=0, le=1)
    """Draw the videos of the places that `new_share` keeps, and keep the chance of each draw. This
    share of the chance is the same for all candidates; the rest goes by score. Unset: the best
    new video is shown and nothing is drawn."""
    explore_within: float = Field(default=0.1, gt=0, le=1)
    """Share of the new videos, the best ones, that are drawn from; ten at least."""
    finished: NonNegativeFloat = 0.9
    """A video counts as finished from this portion on."""
    ann_from: PositiveInt = 200_000
    """Videos from which on an index finds candidates (extra `ann`), for models that compare
    vectors; below, and for other models, all are scored."""


class BadCursor(ReelmError):
    """A cursor that this store did not give to this user."""

    def __init__(self, cursor: str, why: str) -> None:
        super().__init__(f"cursor {cursor!r}: {why}. Ask for the feed without a cursor.")
        self.cursor = cursor


class UnknownVideo(ReelmError):
    """A video id that neither the run nor the catalogue has."""

    def __init__(self, video: str) -> None:
        super().__init__(f"unknown video {video!r}: neither the run nor the catalogue has it.")
        self.video = video


@dataclass(frozen=True)
class Page:
    """Part of a feed."""

    feed_id: str
    items: tuple[Impression, ...]
    next_cursor: str | None
    """None at the end: there is nothing left that the user has not seen."""


class Pick(NamedTuple):
    """One place of a feed, as it was chosen."""

    source: str
    row: int
    score: float
    chance: float | None = None
    """With which it was drawn; None where nothing was."""


class Engine:
    """A trained run, what is known of its videos, and what users did since."""

    def __init__(
        self,
        run: Run,
        catalog: Catalog | None = None,
        notes: Notes | None = None,
        store: Store | None = None,
        config: EngineConfig | None = None,
        ranking: Ranking | None = None,
    ) -> None:
        """Without a store everything is remembered in memory and lost at the end.

        Args:
            ranking: a second stage, which puts the model's best in order.
        """
        self.ranking = ranking
        self.run, self.config = run, config or EngineConfig()
        self.videos = Videos(run.items, run.counts, catalog.videos if catalog else None, notes)
        self.videos.show_only(self.config.passing(self.videos))
        log = catalog.events if catalog else None
        self._barred = Barred(self.videos, Expiry(self.videos, self.config.newest_days), log)
        kinds = set(catalog.events["event"].unique()) if catalog else {"watch"}
        self._reasons = Reasons(self.videos, kinds, run.model.personal)
        stand = standing(self.videos, log, self.config, self.config.min_portion)
        self._picker = Picker(run, self.videos, stand, self.config)
        self._everything = Everything(run, self.videos, self._picker.reads_content)
        self._shortlist = self._short()
        rules = self.config.model_dump(include=set(PastRules.model_fields))
        self._rules = PastRules(**rules)
        self.store = store or Store()  # last: nobody would close it if something were refused

    @property
    def quick(self) -> bool:
        """Whether a page takes too short a time to be worth another thread."""
        small = self._shortlist is not None or len(self.videos.ids) <= QUICK
        return small and self.ranking is None and self.store.quick

    def _short(self) -> Shortlist | None:
        """For a large catalogue, if the model's scores can be looked for."""
        large = len(self.videos.ids) >= self.config.ann_from
        with torch.inference_mode():
            if not large or self.run.retriever.factors() is None:
                return None
        picker = self._picker
        return Shortlist(self.run, self.videos, picker.standing, picker.reads_content)

    def feed(self, user: str, n: int = 10, cursor: str | None = None, again: bool = False) -> Page:
        """The next `n` videos for any user, known or not; fewer at the end of the catalogue.

        Args:
            cursor: `next_cursor` of the page before. The same cursor gives the same page; no
                video comes twice in one feed, also when the service was restarted in between.
            again: let a new feed bring back what earlier feeds have shown.

        Raises:
            BadCursor: the cursor is not one of this user's.
        """
        if not cursor:
            feed, start = Feed(secrets.token_urlsafe(9), user, again), 0
            items = self._extend(feed, [], n, begins=True)
        else:
            feed, start = self._resume(user, cursor)
            with self.store.alone(feed.feed_id):
                shown = self.store.shown(feed.feed_id)
                if start > len(shown):
                    raise BadCursor(cursor, "it is ahead of its feed")
                there = min(n, len(shown) - start)  # answered before; a cursor may come twice
                items = self.store.impressions(feed.feed_id, start, there) if there else []
                if there < n:
                    items += self._extend(feed, shown, n - there)
        following = f"{feed.feed_id}.{start + n}" if len(items) == n else None
        return Page(feed.feed_id, tuple(items), following)

    def past(self, user: str) -> Past:
        """What the run and the store know of a user; empty for a stranger."""
        return self._past(user, self._known(user))

    def _known(self, user: str) -> Known:
        return self.store.known(user, self.config.max_events)

    def _past(self, user: str, known: Known) -> Past:
        if known.deleted_at is not None:
            user = ""  # a deleted user is a stranger, whatever a run still holds: history, profiles
        trained = self.run.history(user)
        events = [self._about_whom(event) for event in known.events]
        return read_past(user, trained, events, self.videos.row, self._rules)

    def _about_whom(self, event: StoredEvent) -> StoredEvent:
        """Who follows because of a video follows its creator."""
        if event.type not in ("follow", "unfollow") or event.creator is not None:
            return event
        return event._replace(creator=self.videos.fact(event.video_id, "creator"))

    def similar(self, video: str, n: int = 10) -> list[tuple[str, float]]:
        """Videos like this one, best first, with scores.

        By the run where training has seen the video, else by the facets that both hold.

        Raises:
            UnknownVideo: there is no such video.
        """
        row = self.known(video)
        if self.videos.counts[row]:
            table = self.run.similar([self.videos.ids[row]], n + SPARE)
            pairs = zip(table["item_id"], table["score"], table["source"], strict=True)
            found = [(v, s) for v, s, source in pairs if source == "model" and self._shows(v)]
            if found:
                return found[:n]
        facets, allowed = self.videos.facets, self.videos.usable.copy()
        allowed[row] = False
        scores = facets.score(facets.taste([row]))
        return [(self.videos.ids[r], float(scores[r])) for r in best(scores, allowed, n)]

    def known(self, video: str) -> int:
        """The row of a video.

        Raises:
            UnknownVideo: there is no such video.
        """
        if video not in self.videos.row:
            raise UnknownVideo(video)
        return self.videos.row[video]

    def _shows(self, video: str) -> bool:
        return bool(self.videos.usable[self.videos.row[video]])

    def _resume(self, user: str, cursor: str) -> tuple[Feed, int]:
        feed_id, _, start = cursor.rpartition(".")
        if not (feed_id and start.isascii() and start.isdigit() and len(start) < 10):
            raise BadCursor(cursor, "it is not written as this service writes them")
        feed = self.store.feed(feed_id)
        if feed is None or feed.user_id != user:
            raise BadCursor(cursor, f"no feed of user {user!r} has it")
        return feed, int(start)

    def _extend(
        self, feed: Feed, shown: Sequence[str], count: int, begins: bool = False
    ) -> list[Impression]:
        """Choose the next places of a feed from the newest past of its user, and keep them.

        Raises:
            BadCursor: the user was deleted meanwhile.
        """
        known = self._known(feed.user_id)
        past, row = self._past(feed.user_id, known), self.videos.row
        here = [row[video] for video in shown if video in row]
        gone = np.union1d(np.array(here, np.int64), self._barred.rows(feed, past, known))
        more = self._told(self._choose(feed, past, here, gone, count), past, len(shown))
        if not self.store.add_impressions(feed, more, known if begins else None):
            raise BadCursor(feed.feed_id, "its user was deleted meanwhile")
        return more

    def _told(self, chosen: Sequence[Pick], past: Past, start: int) -> list[Impression]:
        """What was chosen, with reasons, as places from `start` on."""
        links, out = self.videos.facets.links(past.rows), []
        name = self.run.folder.name if self.run.folder else self.run.name
        name += f"+{self.ranking.name}" if self.ranking else ""
        for place, one in enumerate(chosen, start):
            why, video = (
                self._reasons.of(one.source, one.row, past, links),
                self.videos.ids[one.row],
            )
            told = (why.sentence, why.facts, why.because)
            out.append(Impression(place, video, one.source, one.score, *told, name, one.chance))
        return out

    def _choose(
        self, feed: Feed, past: Past, here: list[int], gone: Rows, count: int
    ) -> list[Pick]:
        """`count` places, or as many as there are videos; none that is `gone`, ascending."""
        rng = _chance(feed.feed_id, len(here))
        if self._shortlist is None:
            return self._filled(self._everything.pools(past, gone), past, here, count, rng)
        pools = self._shortlist.pools(past, gone, 2 * count)
        out = self._filled(pools, past, here, count, rng)
        if len(out) == count:
            return out
        chosen = [one.row for one in out]
        here, gone = here + chosen, np.union1d(gone, np.array(chosen, np.int64))
        pools = self._everything.pools(past, gone)
        return out + self._filled(pools, past, here, count - len(out), rng)

    def _filled(
        self, pools: Pools, past: Past, here: list[int], count: int, rng: np.random.Generator
    ) -> list[Pick]:
        """The next places of a feed that showed `here`, chosen from these pools."""
        picker, drawn = self._picker, self.config.explore is not None
        by_model = picker.by_model(pools.model, past)
        novelty = cache(lambda: picker.by_novelty(pools.new, past, None if drawn else rng))
        draws = self._draws(pools.new, novelty(), rng) if drawn else None
        queues = {
            "ranked": _later(lambda: self._rated(pools.model, by_model, past, here, 2 * count)),
            "model": _later(lambda: self._varied(pools.model, by_model, here, 2 * count)),
            "new": _later(lambda: ranked(pools.new, novelty(), count)),
            "fallback": _later(
                lambda: picker.by_default(pools.fallback, past, here, 2 * count, rng)
            ),
        }
        taken: set[int] = set()
        out = []
        for place in range(len(here), len(here) + count):
            kept = self._is_for_new(place)
            usual = ("ranked", "model", "fallback")
            order = ("new", *usual) if kept else (*usual, "new")
            found = draws.next(taken) if draws and kept else None
            if found is not None:
                pick = Pick("new", found.row, found.score, found.propensity)
            else:
                pick = _first(queues, order, taken)
            if pick is None:
                break
            taken.add(pick.row)
            out.append(pick)
        return out

    def _varied(
        self, pool: Pool, scores: Scores, here: Sequence[int], count: int
    ) -> list[tuple[int, float]]:
        """The model's best, in an order that `rerank` says."""
        config = self.config
        if config.rerank == "none":
            return ranked(pool, scores, count)
        return self._spread(ranked(pool, scores, max(count, config.rerank_candidates)), here, count)

    def _rated(
        self, pool: Pool, scores: Scores, past: Past, here: Sequence[int], count: int
    ) -> list[tuple[int, float]]:
        """Of the model's best those that the second stage can rate, likeliest first."""
        if self.ranking is None:
            return []
        rows = [row for row, _ in ranked(pool, scores, self.config.ranker_candidates)]
        name = self.videos.ids
        likely = self.ranking(past.user, [name[r] for r in past.rows], [name[r] for r in rows])
        order = np.argsort(-likely, kind="stable")  # NaN comes last
        rated = [(rows[at], float(likely[at])) for at in order if np.isfinite(likely[at])]
        if self.config.rerank == "none":
            return rated
        return self._spread(rated[: self.config.rerank_candidates], here, count)

    def _spread(
        self, found: list[tuple[int, float]], here: Sequence[int], count: int
    ) -> list[tuple[int, float]]:
        """These in an order with more variety."""
        if not found:
            return found
        how = self.config.rerank, self.config.rerank_strength
        return [found[at] for at in self._picker.varied(found, here, count, how)]

    def _draws(self, pool: Pool, novelty: Scores, rng: np.random.Generator) -> Draws:
        """Draws among the best of the new videos."""
        config = self.config
        candidates = np.flatnonzero(pool.allowed & np.isfinite(novelty))
        places = best(novelty, pool.allowed, within(novelty[candidates], config.explore_within))
        return Draws(pool.row(places), novelty[places], config.explore or 0.0, rng)

    def _is_for_new(self, place: int) -> bool:
        """True for evenly spread places, `new_share` of all; not the first one."""
        share = self.config.new_share
        return int((place + 1) * share + 0.5) > int(place * share + 0.5)


def _later(make: Callable[[], Iterable[tuple[int, float]]]) -> Iterator[tuple[int, float]]:
    """What `make` gives, made only if anything is taken."""
    yield from make()


def _first(
    queues: dict[str, Iterator[tuple[int, float]]], order: Sequence[str], taken: set[int]
) -> Pick | None:
    for source in order:
        for row, score in queues[source]:
            if row not in taken:
                return Pick(source, row, score)
    return None


def _chance(feed_id: str, place: int) -> np.random.Generator:
    """Chance that is the same whenever the same place of the same feed is filled."""
    seed = hashlib.sha256(f"{feed_id}.{place}".encode()).digest()[:8]
    return np.random.default_rng(int.from_bytes(seed, "big"))
