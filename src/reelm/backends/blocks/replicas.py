"""A model in processes of its own, one or several: what ends such a process does not end the run.

A replica that dies or hangs is replaced, and what it was answering is asked again in halves, until
the request that it cannot survive stands alone and fails.
"""

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from reelm.backends.base import Answer, Backend, Chances, Failure, Maker, Request
from reelm.backends.blocks.about import About
from reelm.errors import BackendError, MediaError
from reelm.media.guard import Guard, GuardError

BATCH = 32  # most requests that a replica is handed at once
SLACK = 10.0  # times the slowest pace so far, before a replica counts as hanging
TRIES = 2  # what was alone with a death is asked once more: it may not have been guilty
LOAD_S = 1800.0  # seconds to load the weights
MEMORY_BYTES = 2**40  # weights are as large as they are; the machine is the limit


@dataclass(frozen=True)
class _Batch:
    """What a replica is handed."""

    place: tuple[int, ...]
    """Batch, half, half of the half …: sorts outcomes back into the order asked."""
    what: Literal["about", "phrase", "answer", "choose"]
    asked: list[Any]
    tries: int = 1


class Replicas(Backend):
    """Stands for the backend that a maker makes; requests are shared out among the processes."""

    name = "replicas"

    def __init__(self, maker: Maker, count: int, answer_s: float) -> None:
        """Start one process, to learn what the model wants to be shown; the rest when needed.

        Args:
            answer_s: seconds that one answer may take.

        Raises:
            BackendError: the model cannot be loaded.
        """
        self._hand, self._count, self._answer_s = _Hand(maker, count), count, answer_s
        self._guard = Guard(count, BATCH * answer_s, MEMORY_BYTES, LOAD_S)
        self._pace_s: float | None = None
        self._about: About = self._told("about", None)
        facts = self._about
        self.view, self.vocabulary, self.device = facts.view, facts.vocabulary, facts.device

    def answer(self, requests: Sequence[Request]) -> list[Answer | Failure]:
        said = self._shared("answer", list(requests))
        paces = [one.seconds for one in said if isinstance(one, Answer)]
        self._pace_s = max([*paces, self._pace_s or 0.0]) or None
        return said

    def choose(
        self, requests: Sequence[Request], choices: Sequence[Sequence[str]]
    ) -> list[Chances | Failure]:
        return self._shared("choose", list(zip(requests, choices, strict=True)))

    def identity(self) -> dict[str, Any]:
        return self._about.identity

    def phrase(self, prompt: str) -> str | None:
        return self._told("phrase", prompt)

    def close(self) -> None:
        self._guard.__exit__()

    def _told(self, what: Literal["about", "phrase"], name: str | None) -> Any:
        """A fact about the model.

        Raises:
            BackendError: its process ended over the question.
        """
        (fact,) = self._settled([_Batch((0,), what, [name])])
        if isinstance(fact, Failure):
            raise BackendError(fact.kind, fact.message)
        return fact

    def _shared(self, what: Literal["answer", "choose"], asked: list[Any]) -> list[Any]:
        """Outcomes in the order asked."""
        size = max(1, min(BATCH, -(-len(asked) // self._count)))
        starts = range(0, len(asked), size)
        self._guard.seconds = size * self._answer_s
        if self._pace_s is not None:
            usual_s = max(self._answer_s, SLACK * size * self._pace_s)
            self._guard.seconds = min(self._guard.seconds, usual_s)
        return self._settled([_Batch((n,), what, asked[n : n + size]) for n in starts])

    def _settled(self, batches: Sequence[_Batch]) -> list[Any]:
        """Hand out batches, and halves of those that no replica survived.

        Raises:
            BackendError: the model cannot be loaded.
        """
        waiting = deque(batches)
        done: dict[tuple[int, ...], list[Any]] = {}
        try:
            while waiting:
                for batch, said in self._guard.map(self._hand, _drained(waiting), label=_place):
                    if not isinstance(said, MediaError):
                        done[batch.place] = said
                    elif again := _again(batch):
                        waiting += again
                    else:
                        done[batch.place] = [_died(said)]
        except GuardError as error:
            raise BackendError("model", str(error)) from error
        return [one for place in sorted(done) for one in done[place]]


class _Hand:
    """The model in its process. To arrive there, by pickle, is to load it."""

    def __init__(self, maker: Maker, count: int) -> None:
        self._made = maker, count

    def __reduce__(self) -> tuple[Any, ...]:
        return _loaded, self._made

    def __call__(self, batch: _Batch) -> list[Any]:
        raise TypeError("this end does not hold the model")


@dataclass(frozen=True)
class _Model:
    """What a hand becomes where it arrives."""

    backend: Backend

    def __call__(self, batch: _Batch) -> list[Any]:
        backend = self.backend
        if batch.what == "answer":
            return list(backend.answer(batch.asked))
        if batch.what == "choose":
            requests, choices = zip(*batch.asked, strict=True)
            return list(backend.choose(requests, choices))
        if batch.what == "phrase":
            return [backend.phrase(*batch.asked)]
        return [About.of(backend, ())]


def _loaded(maker: Maker, count: int) -> _Model:
    backend = maker()
    torch = cast(Any, sys.modules.get("torch"))
    if torch is not None:  # several replicas share the processor; OMP_NUM_THREADS may say less
        share = max(1, (os.cpu_count() or 1) // count)
        torch.set_num_threads(min(share, torch.get_num_threads()))
    return _Model(backend)


def _drained(waiting: deque[_Batch]) -> Iterator[_Batch]:
    while waiting:
        yield waiting.popleft()


def _place(batch: _Batch) -> str:
    return f"{batch.what} {batch.place}"


def _again(batch: _Batch) -> list[_Batch]:
    """What of a batch is asked again after the process that had it ended."""
    if len(batch.asked) == 1:
        one = _Batch(batch.place, batch.what, batch.asked, batch.tries + 1)
        return [one] if batch.tries < TRIES else []
    half = len(batch.asked) // 2
    sides = batch.asked[:half], batch.asked[half:]
    return [_Batch((*batch.place, n), batch.what, side) for n, side in enumerate(sides)]


def _died(error: MediaError) -> Failure:
    """Why the process ended, or what was raised in it."""
    if error.reason == "failed":
        return Failure("model", error.detail[:400])
    if error.reason == "took too long":
        return Failure("hung", f"no answer within the limit ({error.detail})")
    return Failure("crashed", f"the model's process ended: {error.reason} ({error.detail})")
