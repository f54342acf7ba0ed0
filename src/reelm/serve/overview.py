"""What an operator wants to see at a glance, in one answer; and the counting it rests on."""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from reelm import __version__, bill
from reelm.errors import ReelmError
from reelm.serve.counters import Counters
from reelm.serve.engine import Engine
from reelm.serve.history import BOUNDS_MS, Latency, Minute, quantile, topics_of
from reelm.serve.records import Impression
from reelm.serve.served import Served
from reelm.serve.uploads import Uploads
from reelm.serve.videos import Videos

FEED, EVENTS, MEDIA = "/v1/feed/{user}", "/v1/events", "/media/{video}"
TOPICS = 8
"""How many are told, the most shown first."""
RUNS = 50
"""How many other runs are offered, the newest first."""
AT_LEAST_S, TIMES = 10.0, 100.0
"""A count of the store's rows is kept for so long, and for so many times as long as it took."""
COST_S = 60.0
T = TypeVar("T")


class Told(BaseModel):
    """Base of the parts of the answer."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Quantiles(Told):
    """Milliseconds to the last byte over the last hour; None without requests."""

    requests: int
    p50: float | None
    p95: float | None
    p99: float | None


class MinuteTold(Told):
    """One minute."""

    at: int
    """Its begin, seconds UTC."""
    requests: int
    """Without media, pages, health, metrics and this answer."""
    media: int
    errors: int
    """Answers that were 5xx."""
    feeds: int
    """Answers of the feed."""
    events: int
    """Received events."""
    p50: float | None
    """Milliseconds of the feed."""
    p99: float | None
    places: dict[str, int]
    """Places of feeds by source."""
    cold: int
    """Places of videos that training never saw."""


class Topic(Told):
    """What shown videos are about."""

    name: str
    places: int
    share: float
    """Of all places of the last hour."""
    minutes: list[int]
    """Places by minute, oldest first."""


class RunTold(Told):
    """Which run is served, and which could be."""

    name: str
    model: str
    videos: int
    """That can be shown."""
    cold: int
    """Of these, those that training never saw."""
    users: int
    """That training knows."""
    others: list[str]
    """Finished runs beside it, newest first."""
    before: str | None
    """What a rollback would serve."""
    changeable: bool
    other: str | None
    """The run of arm b; None where no trial goes on."""


class QueueTold(Told):
    """Videos that came by the service."""

    taken: bool
    """Whether this service takes videos."""
    waiting: int
    room: int
    """How many may wait."""
    latest: list[dict[str, Any]]
    """Finished since the start, newest first: video_id, status, reason, began_at, seconds."""


class NotesTold(Told):
    """What the notes cover."""

    prompts: list[str]
    noted: int
    """Videos that can be shown and have notes."""
    corrected: int
    """Videos with corrections by people."""


class CostTold(Told):
    """What the run and all that it was made from cost; None where nobody measured it."""

    tokens_in: float | None
    tokens_out: float | None
    seconds: float | None
    cpu_s: float | None
    device_s: float | None
    joules: float | None
    incomplete: list[str]
    """Amounts of which a part is not known."""


class Overview(Told):
    """The service at this moment and over the last hour, since its start at most."""

    version: str
    now: float
    """Seconds UTC."""
    started_at: float
    requests_per_s: float
    """Over the last ten seconds, media included."""
    latency_ms: dict[str, Quantiles]
    """feed, events, and all without media. At most a quarter too high."""
    minutes: list[MinuteTold]
    """The last sixty, oldest first; the last one is not over."""
    events: dict[str, int]
    """Received in the last hour, by type."""
    unknown_videos: int
    """Of these, events about videos that are not known here."""
    places: dict[str, int]
    """Of feeds in the last hour, by source."""
    fallback_share: float | None
    """Of places in the last hour; None if there were none."""
    cold_share: float | None
    """Share of places that went to videos which training never saw."""
    topics: list[Topic]
    run: RunTold
    uploads: QueueTold
    notes: NotesTold
    cost: CostTold | None
    store: dict[str, int]
    """Rows by table."""
    store_counted_at: float


class Kept(Generic[T]):
    """A value that is made anew only when it is old for what it costs to make; one at a time."""

    def __init__(self, make: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._clock, self._lock = make, clock, threading.Lock()
        self._value: tuple[T, float] | None = None
        self._until = -math.inf

    def get(self) -> tuple[T, float]:
        """The value, and when it was made (seconds UTC)."""
        with self._lock:
            began = self._clock()
            if self._value is None or began >= self._until:
                self._value = self._make(), time.time()
                now = self._clock()
                self._until = now + max(AT_LEAST_S, TIMES * (now - began))
            return self._value


def count_page(
    counters: Counters, videos: Videos, shown: Sequence[Impression], hashtags: Sequence[list[str]]
) -> None:
    """Count what a page of a feed shows; `hashtags` are those of each video."""
    names = [one.video_id for one in shown]
    cold = sum(not videos.counts[videos.row[name]] for name in names if name in videos.row)
    answers = (videos.notes.answers.get(name, {}) for name in names)
    told = zip(answers, hashtags, strict=True)
    topics = [topic for answer, tags in told for topic in topics_of(answer, tags)]
    counters.shown([one.source for one in shown], cold, topics)


def add_overview(
    app: FastAPI, served: Served, counters: Counters, uploads: Uploads | None,
    rows: Kept[dict[str, int]],
) -> None:  # fmt: skip
    """Add the route that the operator's page draws; `rows` are those of the store, by table."""
    covered: WeakKeyDictionary[Engine, NotesTold] = WeakKeyDictionary()
    costs: dict[Path, tuple[float, CostTold | None]] = {}

    @app.get("/v1/admin/overview", tags=["admin"])
    def overview() -> Overview:
        """Traffic, latency, what is shown, the run, uploads, cost and the store at a glance.

        Counted as it happens and kept in memory for an hour; rows of the store are counted at most
        every ten seconds, less often where that is slow.
        """
        engine, now = served.engine, time.time()
        folder = served.parts.run.folder if served.parts else None
        if folder and (folder not in costs or now - costs[folder][0] > COST_S):
            costs[folder] = now, _cost(folder)
        counted, at = rows.get()
        minutes, rate = counters.read(lambda history: (history.minutes(), history.per_second()))
        return Overview(
            version=__version__, now=now, started_at=counters.started_at,
            **_traffic(minutes, rate), run=_run(served, engine, folder), uploads=_queue(uploads),
            notes=_notes(engine, covered), cost=costs[folder][1] if folder else None, store=counted,
            store_counted_at=at,
        )  # fmt: skip


def _traffic(minutes: Sequence[Minute], per_second: float) -> dict[str, Any]:
    events, places = (
        sum((getattr(m, n) for m in minutes), Counter()) for n in ("events", "places")
    )
    all_places, cold = places.total(), sum(m.cold for m in minutes)
    return {
        "requests_per_s": per_second,
        "latency_ms": {
            "feed": _quantiles(minutes, lambda route: route == FEED),
            "events": _quantiles(minutes, lambda route: route == EVENTS),
            "all": _quantiles(minutes, lambda route: route != MEDIA),
        },
        "minutes": [_minute(m) for m in minutes],
        "events": dict(events.most_common()),
        "unknown_videos": sum(m.unknown for m in minutes),
        "places": dict(places.most_common()),
        "fallback_share": places["fallback"] / all_places if all_places else None,
        "cold_share": cold / all_places if all_places else None,
        "topics": _topics(minutes, all_places),
    }


def _minute(minute: Minute) -> MinuteTold:
    latency = [minute.latency.get(FEED, Latency())]
    media = minute.requests[MEDIA]
    return MinuteTold(
        at=minute.at, requests=minute.requests.total() - media, media=media, errors=minute.errors,
        feeds=minute.requests[FEED], events=minute.events.total(),
        p50=_finite(quantile(latency, 0.5)), p99=_finite(quantile(latency, 0.99)),
        places=dict(minute.places), cold=minute.cold,
    )  # fmt: skip


def _quantiles(minutes: Iterable[Minute], wanted: Callable[[str], bool]) -> Quantiles:
    parts = [some for m in minutes for route, some in m.latency.items() if wanted(route)]
    p50, p95, p99 = (_finite(quantile(parts, share)) for share in (0.5, 0.95, 0.99))
    return Quantiles(requests=sum(p.total() for p in parts), p50=p50, p95=p95, p99=p99)


def _finite(value: float | None) -> float | None:
    """JSON has no infinity: beyond the last class it is that one's end, two minutes."""
    return None if value is None else round(min(value, BOUNDS_MS[-1]), 3)


def _topics(minutes: Sequence[Minute], places: int) -> list[Topic]:
    together = sum((m.topics for m in minutes), Counter[str]())
    return [
        Topic(name=name, places=n, share=n / places, minutes=[m.topics[name] for m in minutes])
        for name, n in together.most_common(TOPICS)
    ]


def _run(served: Served, engine: Engine, folder: Path | None) -> RunTold:
    videos, before = engine.videos, served.before
    others: list[str] = []
    if folder and served.changeable:
        found = [p for p in folder.resolve().parent.glob("*/manifest.json")]
        found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        others = [p.parent.name for p in found if p.parent.name != folder.name][:RUNS]
    return RunTold(
        name=folder.name if folder else engine.run.name, model=engine.run.name,
        videos=int(videos.usable.sum()), cold=int((videos.usable & (videos.counts == 0)).sum()),
        users=len(engine.run.users), others=others, changeable=served.changeable,
        before=_name(before.run.folder, before.run.name) if before else None,
        other=_other(served),
    )  # fmt: skip


def _other(served: Served) -> str | None:
    if served.trial is None:
        return None
    run = served.arm("b").engine.run
    return _name(run.folder, run.name)


def _name(folder: Path | None, otherwise: str) -> str:
    return folder.name if folder else otherwise


def _queue(uploads: Uploads | None) -> QueueTold:
    if uploads is None:
        return QueueTold(taken=False, waiting=0, room=0, latest=[])
    latest = [vars(one) for one in reversed(tuple(uploads.latest))]
    room = uploads.config.waiting
    return QueueTold(taken=True, waiting=uploads.waiting, room=room, latest=latest)


def _notes(engine: Engine, counted: WeakKeyDictionary[Engine, NotesTold]) -> NotesTold:
    """Counted once for each engine, as it goes through all notes."""
    if engine not in counted:
        counted[engine] = _covered(engine)
    return counted[engine]


def _covered(engine: Engine) -> NotesTold:
    notes, videos = engine.videos.notes, engine.videos
    rows = {videos.row.get(video, 0) for video, answer in notes.answers.items() if answer}
    noted = int(videos.usable[sorted(rows)].sum())
    prompts = dict.fromkeys(str(one.get("prompt")) for one in notes.provenance)
    return NotesTold(prompts=list(prompts), noted=noted, corrected=len(notes.corrected))


def _cost(folder: Path) -> CostTold | None:
    """From the ledgers; None where the folders do not tell."""
    try:
        entry = bill.of_run(folder)
    except (ReelmError, OSError):
        return None
    amounts: Mapping[str, Any] = {name: getattr(entry, name) for name in bill.AMOUNTS}
    if not entry.folders:
        return None
    return CostTold(**amounts, incomplete=sorted(entry.lacks))
