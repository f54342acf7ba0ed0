"""How much one client may ask: token buckets by key or address."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MOST = 10_000
"""Clients that are remembered; the one that was quiet for longest is forgotten first."""


class Buckets:
    """Each client has a bucket that holds `burst` requests and is refilled at `rate` a second."""

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """A rate of 0 limits nothing."""
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, client: str) -> float:
        """Take one request out of a client's bucket: 0, or seconds until there is one again."""
        if self._rate <= 0:
            return 0.0
        with self._lock:
            now = self._clock()
            left, then = self._left.pop(client, (float(self._burst), now))
            left = min(self._burst, left + (now - then) * self._rate)
            enough = left >= 1
            self._left[client] = (left - enough, now)
            if len(self._left) > MOST:
                self._left.popitem(last=False)
        return 0.0 if enough else (1 - left) / self._rate
