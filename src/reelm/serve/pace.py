"""Whether the service keeps up: who waited too long is turned away, so that others are in time.

Where more is asked than can be answered, a queue without end makes everybody wait, and in the end
for ever. How long a request has waited is known by three signs: how late the event loop, which
answers one after the other, comes to a beat of its own; for how long there have been connections
that it had not come to accept; and, for what a thread answers, when the loop handed it over.
"""

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Callable

from reelm.errors import ReelmError

BEAT_S = 0.05
EVENTS = 2.0
"""Events may wait so many times as long as feeds: a feed can be asked for again."""
NEVER = float("inf")
BACKLOG = 24
"""Where Linux's tcp_info of a listening socket has the connections that were not accepted yet."""


class Late(ReelmError):
    """More is asked than can be answered; try again in a second."""


class Pace:
    """Knows since when a request may have waited."""

    def __init__(self, most_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            most_s: seconds that a request may wait for its turn; 0 is no limit.
        """
        self._most_s, self._clock = most_s, clock
        self.listener: socket.socket | None = None
        """Where connections come in; set by whoever listens."""
        self._due = self._crowded = NEVER

    async def beat(self) -> None:
        """Beat, on the loop that answers, until cancelled."""
        while True:
            now = self._clock()
            self._due = now + BEAT_S
            waiting = self.listener is not None and _waiting(self.listener)
            self._crowded = min(now, self._crowded) if waiting else NEVER
            await asyncio.sleep(BEAT_S)

    def since(self) -> float:
        """When a request that the loop comes to now may have come, by our clock."""
        return min(self._clock(), self._due, self._crowded)

    def admit(self, since: float, patience: float = 1.0) -> None:
        """Let a request pass that has not waited too long.

        Args:
            since: what `since()` gave when the loop came to it.
            patience: how many times the usual it may have waited.

        Raises:
            Late: it has.
        """
        if self._most_s and self._clock() - since > patience * self._most_s:
            raise Late("too many requests at the moment; try again in a second")


def _waiting(listener: socket.socket) -> int:
    """Connections that nobody has accepted yet; 0 where the system does not tell."""
    if sys.platform != "linux" or listener.fileno() < 0:
        return 0
    told = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BACKLOG + 4)
    return struct.unpack_from("I", told, BACKLOG)[0]
