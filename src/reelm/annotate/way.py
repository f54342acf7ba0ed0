"""The way to a model: who asks waits while it is closed, and finds the one request that is at fault
while it is open."""

import logging
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

from reelm.backends.base import Answer, Chances, Failure, paid
from reelm.errors import BackendError

FEW = 8  # so many lost requests may mean that the way is closed
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0

log = logging.getLogger(__name__)

Said = Answer | Chances | Failure

Ask = Callable[[list[Any]], list[Any]]
"""Gives an outcome for each request, in order."""


class Way:
    """The way to one model."""

    def __init__(self, where: str, patience_s: float | int) -> None:
        """
        Args:
            where: the model is, for messages.
            patience_s: how long to wait for a closed way to open.
        """
        self._where, self._patience_s = where or "the model", patience_s
        self._witness: Any = None  # the last request that came through

    def through(self, requests: list[Any], ask: Ask) -> list[Any]:
        """Answers, or failures of the requests themselves; waits while the way is closed.

        Raises:
            BackendError: the way stayed closed.
        """
        said = halving(ask, requests)
        lost = [n for n, one in enumerate(said) if _lost(one)]
        came = next((n for n, one in enumerate(said) if not isinstance(one, Failure)), None)
        if came is not None:
            self._witness = requests[came]
        if len(lost) < FEW and not self._silent(said):
            return said
        again, seen = self._wait([requests[n] for n in lost], self._witness, ask)
        for n, one in zip(lost, again, strict=True):
            said[n] = _both(one, said[n])
        if seen is not None:
            payer = lost[0] if came is None else came  # a witness of before has its row already
            said[payer] = _both(said[payer], seen)
        return said

    def _silent(self, said: list[Any]) -> bool:
        """Whether few requests say that the way is closed: none came through, and one of before can
        be asked for a witness or nothing was there to connect to. One alone that is too much for
        the model would else look like a server that is gone."""
        gone = all(_lost(one) and one.kind == "connection" for one in said)
        return bool(said) and (gone or (self._witness is not None and all(map(_lost, said))))

    def _wait(self, requests: list[Any], witness: Any, ask: Ask) -> tuple[list[Any], Any]:
        """Ask a request at growing distances until one comes through; then all that were lost.

        Args:
            witness: one that was answered before. If it comes through again and the others do
                not, these are at fault themselves and not the way. If None, the lost ones take
                turns, since one of them may never come through.

        Returns:
            Outcomes of the requests, and of the witness, if there is one.

        Raises:
            BackendError: nothing came through within the patience.
        """
        end, pause = time.monotonic() + self._patience_s, FIRST_PAUSE_S
        turns = cycle(requests if witness is None else [witness])
        while _lost(first := halving(ask, [probe := next(turns)])[0]):
            if time.monotonic() + pause > end:
                raise self._closed(first)
            if pause == FIRST_PAUSE_S:
                told = self._where, first.message, self._patience_s
                log.warning("%s: nothing comes through (%s); tried again for up to %g s", *told)
            time.sleep(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)
        rest = halving(ask, [one for one in requests if one is not probe])
        if witness is not None:
            return rest, first
        if len(rest) >= FEW - 1 and all(map(_lost, rest)):
            raise self._closed(rest[0])
        left, self._witness = iter(rest), probe
        return [first if one is probe else next(left) for one in requests], None

    def _closed(self, told: Failure) -> BackendError:
        return BackendError(
            told.kind,
            f"{self._where}: nothing came through for {self._patience_s:g} s ({told.message}). "
            "What was answered before is kept; see to the server, then run the same command again.",
        )


def halving(answer: Ask, requests: list[Any]) -> list[Any]:
    """Answers; where the model raises, its halves are asked, until the guilty one stands alone.

    Raises:
        BackendError: the model says itself that it cannot go on.
    """
    if not requests:
        return []
    try:
        return answer(requests)
    except BackendError:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary to foreign code; the rest goes on
        if len(requests) == 1:
            return [Failure("model", f"{type(error).__name__}: {error}"[:400])]
    half = len(requests) // 2
    return halving(answer, requests[:half]) + halving(answer, requests[half:])


def _lost(said: Any) -> bool:
    return isinstance(said, Failure) and said.passing


def _both(last: Any, before: Any) -> Any:
    """The outcome that stands, at the price also of the one that does not, where that is known."""
    known = isinstance(last, Said) and isinstance(before, Said)
    return paid(last, before) if known else last
