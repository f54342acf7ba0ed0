"""Rows that a page of a feed must not show."""

import time
from weakref import WeakKeyDictionary

import numpy as np
import polars as pl
from jaxtyping import Int

from reelm.serve.past import Log, Past
from reelm.serve.records import Feed, Known
from reelm.serve.rules import Expiry
from reelm.serve.seen import Seen
from reelm.serve.videos import Videos

Rows = Int[np.ndarray, "_"]


class Barred:
    """What a user blocked or has seen, and what has expired."""

    def __init__(self, videos: Videos, expiry: Expiry, events: pl.DataFrame | None) -> None:
        """`events` are those of the catalogue: who appears there has seen what they name."""
        self._videos, self._expiry = videos, expiry
        self._log = Log(events, videos.row) if events is not None else None
        self._looked_up: WeakKeyDictionary[Seen, Rows] = WeakKeyDictionary()

    def rows(self, feed: Feed, past: Past, known: Known) -> Rows:
        """All of them for this feed's user, ascending."""
        blocked = [*past.blocked, *self._videos.by(past.blocked_creators)]
        parts = [np.array(blocked, np.int64), self._expiry.rows(time.time())]
        if not feed.again:
            parts += [self._seen(known.seen), np.array([*past.touched], np.int64)]
            if self._log and known.deleted_at is None:
                parts.append(self._log.touched(feed.user_id))
        return np.unique(np.concatenate(parts))

    def _seen(self, seen: Seen) -> Rows:
        """Rows of what was seen; what was looked up for an earlier page is remembered."""
        rows = self._looked_up.get(seen, np.zeros(0, np.int64))
        new = [self._videos.row.get(video, 0) for video in seen.ids[len(rows) :]]
        if new:
            rows = np.concatenate([rows, np.array(new, np.int64)])
            self._looked_up[seen] = rows
        return rows
