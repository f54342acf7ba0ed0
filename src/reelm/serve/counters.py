"""Counters and latencies in the text form that Prometheus reads, without a client library."""

import logging
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from reelm.serve.history import History

log = logging.getLogger(__name__)
T = TypeVar("T")

QUIET = {"page", "/docs", "/operator", "/metrics", "/health/live", "/health/ready",
         "/v1/admin/overview"}  # fmt: skip
"""Routes that are no traffic: those by which the service is looked at, and files of its pages."""
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Counters:
    """What the service did since it was started; safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.started_at = clock()
        self._history = History(clock)
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()
        self._places: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._unknown = 0

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request by route, not by address, so the number of lines is fixed."""
        with self._lock:
            self._requests[route, status] += 1
            buckets = self._buckets.setdefault(route, [0] * (len(BUCKETS_S) + 1))
            buckets[bisect_left(BUCKETS_S, seconds)] += 1
            self._seconds[route] += seconds  # type: ignore[assignment]
            if route not in QUIET:
                self._history.request(route, status, seconds)

    def shown(self, sources: Iterable[str], cold: int = 0, topics: Iterable[str] = ()) -> None:
        """Count the places of a page of a feed.

        Args:
            sources: where each came from.
            cold: how many of them are of videos that training never saw.
            topics: what they are about, as often as it comes.
        """
        places = Counter(sources)
        with self._lock:
            self._places.update(places)
            self._history.shown(places, cold, topics)

    def events(self, kinds: Iterable[str], unknown: Sequence[str]) -> None:
        """Count received events by their types, repeated ones too.

        Args:
            unknown: videos that are not known here, one for each event that names such a one. The
                log tells of the first of each minute.
        """
        counted = Counter(kinds)
        with self._lock:
            self._events.update(counted)
            self._unknown += len(unknown)
            first = self._history.events(counted, len(unknown))
        if first:
            log.warning("events about videos that are not known here, such as %r", unknown[0])

    def read(self, what: Callable[[History], T]) -> T:
        """Something of the last hour, while nobody writes to it."""
        with self._lock:
            return what(self._history)

    def text(self, rows: Mapping[str, int], waiting: int = 0, failures: int = 0) -> str:
        """The metrics page: `rows` of the store's tables, uploads that wait to be watched, and
        how often the second stage failed."""
        queue = (
            *_head("reelm_uploads_waiting", "gauge", "Videos that wait to be watched."),
            f"reelm_uploads_waiting {waiting}",
            *_head("reelm_ranker_failures_total", "counter", "Requests without a second stage."),
            f"reelm_ranker_failures_total {failures}",
        )
        with self._lock:
            return "\n".join((*self._lines(), *_rows(rows), *queue)) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from _head("reelm_requests_total", "counter", "Answered requests.")
        for (route, status), count in sorted(self._requests.items()):
            yield f'reelm_requests_total{{route="{route}",status="{status}"}} {count}'
        yield from _head("reelm_request_seconds", "histogram", "Time to the last byte.")
        for route, buckets in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip((*BUCKETS_S, "+Inf"), buckets, strict=True):
                total += count
                yield f'reelm_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}'
            yield f'reelm_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}'
            yield f'reelm_request_seconds_count{{route="{route}"}} {total}'
        yield from _head("reelm_feed_places_total", "counter", "Places of feeds, by source.")
        for source, count in sorted(self._places.items()):
            yield f'reelm_feed_places_total{{source="{source}"}} {count}'
        yield from _head("reelm_events_total", "counter", "Received events, by type.")
        for kind, count in sorted(self._events.items()):
            yield f'reelm_events_total{{type="{kind}"}} {count}'
        meaning = "Received events about videos that are not known here."
        yield from _head("reelm_events_unknown_videos_total", "counter", meaning)
        yield f"reelm_events_unknown_videos_total {self._unknown}"


def _rows(rows: Mapping[str, int]) -> Iterator[str]:
    yield from _head("reelm_store_rows", "gauge", "Rows of the store, by table.")
    for table, count in rows.items():
        yield f'reelm_store_rows{{table="{table}"}} {count}'


def _head(name: str, kind: str, meaning: str) -> tuple[str, str]:
    return f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"
