"""POST with patience: total timeouts, retries within a budget, and a word for every failure."""

import json
import random
import threading
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, runtime_checkable

import httpx2

from reelm.backends.base import Failure

BACKOFF_S = 0.5  # before the first retry; doubled each time
LONGEST_BACKOFF_S = 30.0
EARNED = 0.2  # retries that a success adds to the budget


@dataclass(frozen=True)
class Trouble:
    """A try that brought no answer."""

    failure: Failure
    retry: bool
    after_s: float | None = None
    """How long the server asked to be left alone."""
    status: int = 0


@runtime_checkable
class Call(Protocol):
    """One request, which may be worded in several ways."""

    def body(self) -> dict[str, Any]:
        """What to send now."""
        ...

    def otherwise(self, status: int) -> bool:
        """Whether, after this error status (0: none came), it should be worded differently."""
        ...


class Budget:
    """Retries of a whole run: spent by failures, earned back slowly by successes.

    When a server is down, thousands of requests must not each use up all their own retries.
    """

    def __init__(self, start: int) -> None:
        self._left, self._most = float(start), float(start)
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Take one retry; False if there is none left."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def earn(self) -> None:
        """A request succeeded."""
        with self._lock:
            self._left = min(self._most, self._left + EARNED)


class Client:
    """One server. Safe to use from threads; a 429 holds all of them back."""

    def __init__(
        self, url: str, key: str | None, timeout_s: float, budget: Budget, longest_wait_s: float
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx2.Client(
            base_url=url.rstrip("/") + "/",
            headers=headers,
            timeout=httpx2.Timeout(timeout_s, connect=min(10.0, timeout_s)),
            limits=httpx2.Limits(max_connections=None),
        )
        self._timeout_s, self._longest_wait_s = timeout_s, longest_wait_s
        self._budget = budget
        self._quiet_until = 0.0  # monotonic seconds

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def post(self, path: str, call: "Call", retries: int) -> dict[str, Any] | Trouble:
        """The JSON object that the server answers with, or the last trouble after all tries.

        Args:
            retries: most tries after the first, as far as the budget goes; a body said in
                another way does not count.
        """
        tried = 0
        while True:
            self._hold()
            said = self._try(path, call.body())
            if not isinstance(said, Trouble):
                self._budget.earn()
                return said
            if call.otherwise(said.status):
                continue
            wait_s = self._wait_s(said, tried)
            last = tried == retries or not said.retry or wait_s > self._longest_wait_s
            if last or not self._budget.spend():
                return said
            tried += 1
            self._rest(said, wait_s)

    def _rest(self, trouble: Trouble, wait_s: float) -> None:
        if trouble.status == 429:  # holds all threads back, through _hold
            self._quiet_until = max(self._quiet_until, time.monotonic() + wait_s)
        else:
            time.sleep(wait_s)

    def _hold(self) -> None:
        while (left := self._quiet_until - time.monotonic()) > 0:
            time.sleep(left)

    def _wait_s(self, trouble: Trouble, tried: int) -> float:
        if trouble.after_s is not None:
            return trouble.after_s
        return min(LONGEST_BACKOFF_S, BACKOFF_S * 2**tried) * random.uniform(0.5, 1.0)

    def _try(self, path: str, body: dict[str, Any]) -> dict[str, Any] | Trouble:
        try:
            status, headers, data = self._exchange(path, body)
        except httpx2.TimeoutException as error:
            said = f"no whole answer within {self._timeout_s:g} s ({type(error).__name__})"
            return Trouble(Failure("timeout", said), retry=True)
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            said = f"{type(error).__name__}: {error}"
            return Trouble(Failure("connection", said), retry=True)
        if status >= 400:
            return _refusal(status, headers, data)
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            return answer
        said = f"the server's reply is not a JSON object: {data[:80]!r}"
        return Trouble(Failure("bad_response", said), retry=True)

    def _exchange(self, path: str, body: dict[str, Any]) -> tuple[int, httpx2.Headers, bytes]:
        """Status, headers and the whole reply. The limit is for all of it, however it trickles."""
        end = time.monotonic() + self._timeout_s
        pieces: list[bytes] = []
        with self._http.stream("POST", path, json=body) as reply:
            for piece in reply.iter_bytes():
                pieces.append(piece)
                if time.monotonic() > end:
                    raise httpx2.ReadTimeout("the reply trickles")
        return reply.status_code, reply.headers, b"".join(pieces)


def _refusal(status: int, headers: httpx2.Headers, data: bytes) -> Trouble:
    said = f"status {status}: {data[:200].decode(errors='replace')}"
    if status == 429:
        return Trouble(Failure("rate_limited", said), True, _after_s(headers), status)
    again = status >= 500 or status in (408, 409)
    return Trouble(Failure(f"http_{status}", said), again, _after_s(headers), status)


def _after_s(headers: httpx2.Headers) -> float | None:
    """Seconds that Retry-After asks for: a number or a date (RFC 9110, section 10.2.3)."""
    text = headers.get("retry-after")
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
