"""Counters and latencies in the text form that Prometheus reads, without a client library."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Counters:
    """What the service did since it was started; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()
        self._places: Counter[str] = Counter()
        self._events: Counter[str] = Counter()

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request by route, not by address, so the number of lines is fixed."""
        with self._lock:
            self._requests[route, status] += 1
            buckets = self._buckets.setdefault(route, [0] * (len(BUCKETS_S) + 1))
            buckets[bisect_left(BUCKETS_S, seconds)] += 1
            self._seconds[route] += seconds  # type: ignore[assignment]

    def place(self, source: str) -> None:
        """Count one place of a feed by where it came from."""
        with self._lock:
            self._places[source] += 1

    def event(self, kind: str) -> None:
        """Count one received event."""
        with self._lock:
            self._events[kind] += 1

    def text(self, rows: Mapping[str, int], waiting: int = 0) -> str:
        """The metrics page: `rows` of the store's tables, uploads that wait to be watched."""
        queue = (
            *_head("reelm_uploads_waiting", "gauge", "Videos that wait to be watched."),
            f"reelm_uploads_waiting {waiting}",
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
        yield from _head("reelm_events_total", "counter", "New events, by type.")
        for kind, count in sorted(self._events.items()):
            yield f'reelm_events_total{{type="{kind}"}} {count}'


def _rows(rows: Mapping[str, int]) -> Iterator[str]:
    yield from _head("reelm_store_rows", "gauge", "Rows of the store, by table.")
    for table, count in rows.items():
        yield f'reelm_store_rows{{table="{table}"}} {count}'


def _head(name: str, kind: str, meaning: str) -> tuple[str, str]:
    return f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"
