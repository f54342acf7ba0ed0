"""The last hour, minute by minute, in memory: what came, how long it took, what was shown."""

import copy
import math
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

MINUTES = 60
"""How far back it goes, the present minute among them."""
SECONDS = 10
"""Over how many whole seconds a rate is taken."""
BOUNDS_MS = tuple(0.1 * 1.25**n for n in range(64))
"""Upper ends of latency classes, 0.1 ms to 128 s: a quantile is at most a quarter too high."""
MOST_TOPICS = 200
"""Topics of one minute; more are passed over, so that titles cannot fill the memory."""

Latency = Counter[int]
"""Requests by place in BOUNDS_MS."""


@dataclass
class Minute:
    """What happened in one minute."""

    at: int
    """Its begin, seconds UTC."""
    requests: Counter[str] = field(default_factory=Counter)
    """Answers by route."""
    errors: int = 0
    """Answers that were a fault of the service: 5xx."""
    latency: dict[str, Latency] = field(default_factory=dict)
    """By route."""
    events: Counter[str] = field(default_factory=Counter)
    """By type."""
    unknown: int = 0
    """Events about videos that are not known here."""
    places: Counter[str] = field(default_factory=Counter)
    """Places of feeds by source."""
    cold: int = 0
    """Places that went to videos which training never saw."""
    topics: Counter[str] = field(default_factory=Counter)
    """Places by what their video is about."""


class History:
    """Kept by `Counters`, which also guards it against other threads."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._minutes: dict[int, Minute] = {}
        self._seconds: deque[list[int]] = deque(maxlen=SECONDS + 1)

    def request(self, route: str, status: int, seconds: float) -> None:
        """One answer."""
        minute = self._now()
        minute.requests[route] += 1
        minute.errors += status >= 500
        place = bisect_left(BOUNDS_MS, 1e3 * seconds)
        minute.latency.setdefault(route, Counter())[place] += 1
        second = int(self._clock())
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0])
        self._seconds[-1][1] += 1

    def shown(self, places: Mapping[str, int], cold: int, topics: Iterable[str]) -> None:
        """A page of a feed."""
        minute = self._now()
        minute.places.update(places)
        minute.cold += cold
        for topic in topics:
            if topic in minute.topics or len(minute.topics) < MOST_TOPICS:
                minute.topics[topic] += 1

    def events(self, kinds: Mapping[str, int], unknown: int) -> bool:
        """A batch of events, and of how many the video is not known here; whether it has the first
        such of this minute."""
        minute = self._now()
        first = unknown > 0 and not minute.unknown
        minute.events.update(kinds)
        minute.unknown += unknown
        return first

    def per_second(self) -> float:
        """Answers a second over the last ten whole seconds."""
        now = int(self._clock())
        return sum(n for at, n in self._seconds if now - SECONDS <= at < now) / SECONDS

    def minutes(self) -> list[Minute]:
        """The last hour, oldest first; minutes in which nothing happened too. Nobody writes to
        what is given: minutes that are over do not change, and the present one is a copy."""
        last = int(self._clock()) // 60
        span = range(last - MINUTES + 1, last + 1)
        found = [self._minutes.get(number) or Minute(60 * number) for number in span]
        return [*found[:-1], copy.deepcopy(found[-1])]

    def _now(self) -> Minute:
        number = int(self._clock()) // 60
        if number not in self._minutes:
            self._minutes[number] = Minute(60 * number)
            for old in [n for n in self._minutes if n <= number - MINUTES]:
                del self._minutes[old]
        return self._minutes[number]


def quantile(parts: Iterable[Latency], share: float) -> float | None:
    """Milliseconds within which that share of requests was answered; None without requests.

    The upper end of the class that holds it, or infinity beyond the last one.
    """
    together = sum(parts, Counter[int]())
    left = math.ceil(share * together.total())
    if left == 0:
        return None
    for place in sorted(together):
        left -= together[place]
        if left <= 0:
            return BOUNDS_MS[place] if place < len(BOUNDS_MS) else math.inf
    return None


def topics_of(answer: Mapping[str, object], hashtags: Sequence[str]) -> list[str]:
    """What a video is about, in a word or a few: what its notes call its topic or subject, or
    where they do not, its first hashtags."""
    for name in ("topics", "topic", "category", "subject") if answer else ():
        value = answer.get(name)
        told = value if isinstance(value, list) else [value]
        words = [one.strip().lower() for one in told if isinstance(one, str)]
        words = [word for word in words if word not in ("", "none", "unknown") and len(word) <= 40]
        if words:
            return list(dict.fromkeys(words))[:3]
    return list(hashtags[:3])
