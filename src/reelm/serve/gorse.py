"""The same service in the words of Gorse's REST interface, so that its clients work here."""

import hashlib
from datetime import UTC, datetime
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query
from fastapi import Path as PathValue
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from reelm.serve.counters import Counters
from reelm.serve.messages import MAX_EVENTS, MAX_PORTION, EventIn, Id
from reelm.serve.overview import count_page
from reelm.serve.pace import EVENTS, Pace
from reelm.serve.served import Served

KINDS = {"read": "watch", "click": "watch", "watch": "watch", "star": "like", "like": "like"}
"""Gorse lets its users name kinds of feedback; these are the usual ones. Others keep their name."""


class Feedback(BaseModel):
    """One line of feedback as Gorse's clients send it; other fields are passed over."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    FeedbackType: str = Field(max_length=64)
    """read, click or watch; star or like; share, skip, follow, block and so on."""
    UserId: Id
    ItemId: Id
    Value: float = Field(default=0, ge=0, le=MAX_PORTION, allow_inf_nan=False)
    """For a watch the portion; 0 or nothing counts as a whole watch, as Gorse has no portions."""
    Timestamp: datetime | None = None

    def event(self) -> EventIn:
        """The same in our words; sending it twice gives the same event id."""
        kind = KINDS.get(self.FeedbackType.lower(), self.FeedbackType.lower())
        said = self.Timestamp
        if said is not None and said.tzinfo is None:
            said = said.replace(tzinfo=UTC)  # as Gorse reads it, wherever this machine stands
        when = said.timestamp() if said else None
        told = f"{self.FeedbackType}\x00{self.UserId}\x00{self.ItemId}\x00{when}"
        portion = (self.Value or 1.0) if kind == "watch" else None
        return EventIn.model_validate(
            {
                "event_id": "gorse-" + hashlib.sha256(told.encode()).hexdigest()[:40],
                "type": kind, "user_id": self.UserId, "item_id": self.ItemId,
                "timestamp": when, "portion": portion,
            }
        )  # fmt: skip


class Affected(BaseModel):
    """How many rows were written."""

    RowAffected: int


Batch = Annotated[list[Feedback], Field(min_length=1, max_length=MAX_EVENTS)]


def add_gorse(app: FastAPI, served: Served, counters: Counters, pace: Pace) -> None:
    """Add the two routes that most clients use."""

    @app.get("/api/recommend/{user:path}", tags=["gorse"])
    async def recommend(
        user: Annotated[Id, PathValue()], n: Annotated[int, Query(ge=1, le=100)] = 10
    ) -> list[str]:
        """Ids of the next videos; a new feed each time, without what earlier ones have shown."""
        return await run_in_threadpool(ids, pace.since(), user, n)

    def ids(since: float, user: str, n: int) -> list[str]:
        pace.admit(since)
        engine = served.of(user)
        page = engine.feed(user, n)
        tags = [engine.videos.hashtags(item.video_id) for item in page.items]
        count_page(counters, engine.videos, page.items, tags)
        return [item.video_id for item in page.items]

    @app.post("/api/feedback", tags=["gorse"])
    @app.put("/api/feedback", tags=["gorse"])
    async def feedback(batch: Batch) -> Affected:
        """Store feedback, all or none. The same line sent again changes nothing."""
        return await run_in_threadpool(kept, pace.since(), batch)

    def kept(since: float, batch: Batch) -> Affected:
        pace.admit(since, EVENTS)
        try:
            events = [line.event().stored() for line in batch]
        except (ValidationError, ValueError, OverflowError, OSError) as error:
            raise HTTPException(422, f"feedback: {_first(error)}") from error
        affected = served.engine.store.add_events(events)
        counters.events((event.type for event in events), served.unknown(events))
        return Affected(RowAffected=affected)


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        wrong = error.errors()[0]
        return f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
    return str(error)
