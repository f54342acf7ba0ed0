"""What the store keeps, as values: events, feeds, what they showed, uploads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reelm.serve.seen import Seen

LASTING = ("follow", "unfollow", "block", "unblock", "less_like_this", "undo_less_like_this")
"""Types of events that count however old they are."""


class StoredEvent(NamedTuple):
    """One line of the log as a client sent it."""

    event_id: str
    """Chosen by the client; sending it twice stores it once."""
    user_id: str
    video_id: str
    """Empty where the event names a creator only."""
    type: str
    """watch, like, unlike, share, skip, follow, unfollow, block, unblock or less_like_this."""
    timestamp: float
    """Seconds UTC."""
    portion: float | None = None
    """Share of the video that was watched; only for watch. Replays may exceed 1."""
    feed_id: str | None = None
    creator: str | None = None
    """Whom a follow or a block is about, where it is not one video."""


@dataclass(frozen=True)
class Feed:
    """One sitting of one user; nothing is shown twice in it."""

    feed_id: str
    user_id: str
    again: bool
    """Videos seen in earlier feeds may come back."""


@dataclass(frozen=True)
class Impression:
    """One place of a feed, as it was answered."""

    position: int
    video_id: str
    source: str
    """ranked, model, new or fallback; scores compare within one source only."""
    score: float
    reason: str
    """One sentence."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the sentence rests on: field to value."""
    because: tuple[str, ...] = ()
    """Videos of the user's past that share these facts."""
    run: str = ""
    """Name of the run that chose it."""
    propensity: float | None = None
    """Chance with which this video was drawn for this place; None where nothing was drawn."""


@dataclass(frozen=True)
class Known:
    """What the store knows of one user."""

    events: tuple[StoredEvent, ...] = ()
    """The newest, and all that last (see `LASTING`); oldest first."""
    seen: Seen = field(default_factory=Seen)
    """Videos that any feed showed, or that any event names."""
    deleted_at: float | None = None
    """When the user was deleted the last time, seconds UTC: the run's history of this user must
    not be used. None for others."""


@dataclass(frozen=True)
class Upload:
    """A video that came by the service, and what has become of it."""

    video_id: str
    sha256: str
    status: str
    """queued, ready or failed."""
    reason: str = ""
    """Why it failed, or what could not be done."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """The catalogue's columns."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    """What the model said of it."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the answer comes from."""
    vectors: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Vectors by what made them."""
