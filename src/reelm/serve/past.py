"""What is known of one user at this moment: interactions from training and newer ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from jaxtyping import Int

from reelm.config import Config
from reelm.data.dataset import POSITIVE
from reelm.serve.records import StoredEvent


@dataclass(frozen=True)
class Past:
    """One user's past. Rows are the engine's, oldest first."""

    user: str
    """As models know them; empty for one who was deleted."""
    trained: bool = False
    """Whether the run's model was trained with this user."""
    rows: tuple[int, ...] = ()
    """Interactions: those in training, then newer ones from the store."""
    newer: frozenset[int] = frozenset()
    """Rows that are interactions because of what was done in this service."""
    watched: frozenset[int] = frozenset()
    """Rows watched in this service for as long as counts."""
    liked: frozenset[int] = frozenset()
    """Rows liked in this service."""
    finished: frozenset[int] = frozenset()
    """Rows watched to the end in this service."""
    touched: frozenset[int] = frozenset()
    """Rows that any event or the training log names."""
    blocked: frozenset[int] = frozenset()
    """Rows never to be shown to this user."""
    unwanted: tuple[int, ...] = ()
    """Rows of which the user wants fewer alike."""
    blocked_creators: frozenset[str] = frozenset()
    """Whose videos are never to be shown."""
    followed: frozenset[str] = frozenset()
    """Creators whose videos the user wants."""


@dataclass
class _Watched:
    """What one user did with one video."""

    portions: dict[str | None, float] = field(default_factory=dict)
    liked: bool = False
    wanted: bool = False
    refused: bool = False
    skipped: bool = False
    unwanted: bool = False
    blocked: bool = False

    def add(self, event: StoredEvent) -> None:
        if event.type == "watch":  # a clip left and taken up again in one feed is one watch
            self.portions.setdefault(event.feed_id, 0.0)
            self.portions[event.feed_id] += event.portion or 0.0
        elif event.type in ("like", "unlike"):
            self.liked = event.type == "like"
        elif event.type in ("block", "unblock"):
            self.blocked = event.type == "block"
        elif event.type in ("skip", "less_like_this"):
            self.refused = True
            self.skipped |= event.type == "skip"
            self.unwanted |= event.type == "less_like_this"
        elif event.type == "undo_less_like_this":
            self.unwanted, self.refused = False, self.skipped
        elif event.type in POSITIVE:
            self.wanted = True

    def longest(self) -> float:
        return max(self.portions.values(), default=0.0)


class PastRules(Config):
    """When an event of the store counts."""

    min_portion: float = 0.5
    """A watch is an interaction from this portion on; the same rule as in [dataset]."""
    finished: float = 0.9
    """A video counts as finished from this portion on."""
    max_history: int = 100
    """Newest interactions that are read."""


def read_past(
    user: str,
    trained: Sequence[int],
    events: Iterable[StoredEvent],
    row: Mapping[str, int],
    rules: PastRules,
) -> Past:
    """Join the training history with newer events, oldest first; each video once, at its newest.

    Args:
        trained: rows of the training history, oldest first; empty for other users.
        events: all stored events of the user, oldest first; unknown videos are passed over.
        row: video id to row.
    """
    watched: dict[int, _Watched] = {}
    creators: dict[str, dict[str, bool]] = {"follow": {}, "block": {}}
    for event in events:
        if event.creator is not None:
            kind = event.type.removeprefix("un")
            creators.setdefault(kind, {})[event.creator] = event.type == kind
        video = row.get(event.video_id)
        if video is not None:
            one = watched.pop(video, None) or _Watched()
            one.add(event)
            watched[video] = one  # moved to the end: newest last
    newer = [v for v, one in watched.items() if _counts(one, rules)]
    refused = {v for v, one in watched.items() if one.refused or one.blocked}
    again = frozenset(newer)
    older = [v for v in trained if v not in refused and v not in again]
    return Past(
        user,
        bool(trained),
        tuple((older + newer)[-rules.max_history :]),
        again,
        frozenset(v for v, one in watched.items() if one.longest() >= rules.min_portion),
        frozenset(v for v, one in watched.items() if one.liked),
        frozenset(v for v, one in watched.items() if one.longest() >= rules.finished),
        frozenset(trained) | frozenset(watched),
        frozenset(v for v, one in watched.items() if one.blocked),
        tuple(v for v, one in watched.items() if one.unwanted),
        frozenset(name for name, on in creators["block"].items() if on),
        frozenset(name for name, on in creators["follow"].items() if on),
    )


def _counts(one: _Watched, rules: PastRules) -> bool:
    wanted = one.liked or one.wanted or one.longest() >= rules.min_portion
    return wanted and not one.refused and not one.blocked


class Log:
    """Who touched what in the catalogue's events, also what was left at once; packed by user."""

    def __init__(self, events: pl.DataFrame, row: Mapping[str, int]) -> None:
        """Events on videos without a row are passed over."""
        videos = row if len(events) else {}  # of a million videos, a table is not for nothing
        known = pl.DataFrame(
            {"video_id": list(videos), "row": list(videos.values())},
            schema={"video_id": pl.String, "row": pl.Int64},
        )
        touched = (
            events.select(pl.col("user_id", "video_id").cast(pl.String))
            .unique()
            .join(known, on="video_id")
            .sort("user_id", "row")
        )
        users = touched.group_by("user_id", maintain_order=True).len()
        self._rows = touched["row"].to_numpy()
        self._place = {user: place for place, user in enumerate(users["user_id"].to_list())}
        self._ends = np.concatenate([[0], users["len"].to_numpy().cumsum()]).astype(np.int64)

    def touched(self, user: str) -> Int[np.ndarray, "touched"]:
        """Rows that any event of the user names."""
        place = self._place.get(user)
        if place is None:
            return self._rows[:0]
        return self._rows[self._ends[place] : self._ends[place + 1]]
