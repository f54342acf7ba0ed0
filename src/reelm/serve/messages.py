"""Bodies of the HTTP interface. Everything a client sends is checked here, before the engine."""

import json
import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from reelm.serve.records import StoredEvent

Id = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""User, video, event and feed ids: any text without control characters."""
Text = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")]
"""Words of people; shown as text, never as HTML."""
Kind = Literal[
    "watch", "like", "unlike", "share", "skip", "follow", "unfollow", "block", "unblock",
    "less_like_this", "undo_less_like_this",
]  # fmt: skip
"""What a user may have done."""
ABOUT_CREATORS = ("follow", "unfollow", "block", "unblock")
MAX_EVENTS = 1000
MAX_PORTION = 1000.0
LONGEST_NOTE = 16384
LATEST = 4102444800.0
"""Seconds UTC; the year 2100, so that milliseconds sent by mistake are refused."""


class Strict(BaseModel):
    """Unknown fields are errors, so that a misspelt one is not lost."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class EventIn(Strict):
    """One thing a user did."""

    event_id: Id
    """Chosen by the client; sending the same id again changes nothing."""
    type: Kind
    """skip is "not for me"; a clip that was merely swiped away is a watch with a small portion.
    block never shows the video, or the creator, again; less_like_this shows fewer alike,
    undo_less_like_this takes that back."""
    user_id: Id
    item_id: Id | None = None
    """The video; left out only where a creator is named instead."""
    creator: Id | None = None
    """Whom to follow, unfollow, block or unblock, in place of a video."""
    timestamp: float | None = Field(default=None, ge=0, le=LATEST, allow_inf_nan=False)
    """Seconds UTC; now if left out."""
    portion: float | None = Field(default=None, ge=0, le=MAX_PORTION, allow_inf_nan=False)
    """Played time over duration, 0..1, more with replays; needed by watch, not by the others."""
    feed_id: Id | None = None
    """The feed that showed it."""

    @model_validator(mode="after")
    def _portion_fits(self) -> "EventIn":
        if (self.type == "watch") != (self.portion is not None):
            raise ValueError("watch needs a portion, other types have none")
        if (self.item_id is None) == (self.creator is None):
            raise ValueError("name a video (item_id), or a creator instead")
        if self.creator is not None and self.type not in ABOUT_CREATORS:
            raise ValueError(f"{self.type} is about a video: give item_id, not creator")
        return self

    def stored(self) -> StoredEvent:
        """The same in the store's words."""
        at = time.time() if self.timestamp is None else self.timestamp
        names = (self.event_id, self.user_id, self.item_id or "", self.type)
        return StoredEvent(*names, at, self.portion, self.feed_id, self.creator)


class Events(Strict):
    """A batch; stored all or none."""

    events: list[EventIn] = Field(min_length=1, max_length=MAX_EVENTS)


class Recorded(BaseModel):
    """What became of a batch."""

    stored: int
    repeated: int
    """Events whose id was there already."""
    unknown_videos: int
    """Events about videos that are not known here. They are stored too: a video may come later."""


class FeedItem(BaseModel):
    """One place of a feed."""

    item_id: str
    score: float
    """Compares within one source only; of "ranked" it is the chance that the user likes it."""
    source: Literal["ranked", "model", "new", "fallback"]
    reason: str
    facts: dict[str, str]
    """What the reason rests on: field to value, true of this video and of those in `because`."""
    because: list[str]
    """Videos of the user's past that the reason speaks of."""
    title: str | None
    hashtags: list[str]
    creator: str | None
    video_url: str | None
    """None where the catalogue has no file."""
    duration_s: float | None


class FeedPage(BaseModel):
    """Part of a feed."""

    feed_id: str
    items: list[FeedItem]
    next_cursor: str | None
    """Give it back for the next page; None at the end."""


class Similar(BaseModel):
    """One line of a list of similar videos."""

    item_id: str
    score: float
    title: str | None


class VideoFacts(BaseModel):
    """All that may be told of a video."""

    item_id: str
    title: str | None
    facts: dict[str, Any]
    """Catalogue values that are known."""
    notes: dict[str, Any]
    """What the models said of it."""
    provenance: list[dict[str, Any]]
    """For each notes folder: prompt, model, weights, settings."""
    corrections: list[dict[str, Any]] = []
    """What people corrected, oldest first: prompt, version, author, time, fields, why, replaces."""
    watched: int
    """Interactions with it in training; 0 is a video that training never saw."""
    video_url: str | None

    status: Literal["ready", "queued", "failed"] = "ready"
    """queued: it will be watched soon; failed: it came here and could not be watched."""
    problem: str | None = None
    """Why it failed or is not shown, or what of it could not be made."""


class NoteIn(Strict):
    """What a person says is wrong in a note."""

    fields: dict[Annotated[str, Field(max_length=64)], JsonValue] = Field(
        min_length=1, max_length=64
    )
    """New values by field, as the prompt's schema wants them; other fields stay as they are."""
    why: Text = ""
    expected: str | None = Field(default=None, max_length=64)
    """The version that its author saw, or "model"; 409 if somebody corrected the note since."""

    @field_validator("fields")
    @classmethod
    def _short(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Text that can be kept: no NaN, no halves of letters, of bounded length."""
        if len(json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()) > LONGEST_NOTE:
            raise ValueError(f"longer than {LONGEST_NOTE} bytes")
        return fields


class NoteNow(BaseModel):
    """A note after a correction."""

    item_id: str
    prompt: str
    version: str
    """Names the correction; send it as `expected` with the next one."""
    author: str
    time: float
    """Seconds UTC."""
    replaces: str
    """The version before it, or "model"."""
    note: dict[str, Any]
    """What is told of the video from now on, in answer to this prompt."""


class VideoUri(Strict):
    """A video to be fetched."""

    uri: str = Field(min_length=8, max_length=2000)
    """http or https, at a public address."""
    video_id: Id | None = None
    """Its id; by default one is made from the file's hash."""
    title: Text | None = None
    hashtags: Text | None = None
    creator: Id | None = None
    licence: Text | None = None
    language: Text | None = None
    age_rating: Text | None = None
    """The age in years that it asks for: 12, "16+"."""


class Taken(BaseModel):
    """What became of a video that was sent."""

    item_id: str
    status: Literal["ready", "queued", "failed"]
    new: bool
    """False if the same file was here already."""


class Deleted(BaseModel):
    """Rows that were removed, by table."""

    removed: dict[str, int]


class ArmName(Strict):
    """Whose run is meant."""

    arm: Literal["a", "b"] = "a"
    """Of a trial; everybody is in arm a where there is none."""


class RunName(ArmName):
    """Which run to serve."""

    run: Id | None = None
    """Name of a folder beside the present run's; the newest if left out."""


class RunNow(BaseModel):
    """Which run is served."""

    run: str
    videos: int


class Session(BaseModel):
    """What a key opens."""

    name: str | None
    """Whose key it is; None where the service asks for none."""
    scopes: list[str]
    expires_at: float | None
    """Seconds UTC: until then the cookie of this answer opens media."""


class UserIds(BaseModel):
    """Some users that training knows."""

    users: list[str]
    total: int
