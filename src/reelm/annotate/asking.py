"""Watching videos and asking about them: what happens where the model is.

Answers are checked against the question's schema; one that breaks it is asked for once more. A
request that the model cannot survive is found by halving, and fails alone. While the way to the
model is closed, the asking waits.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reelm.backends.base import Answer, Backend, Failure, Maker, Request, repair, show
from reelm.backends.blocks.replicas import Replicas
from reelm.backends.blocks.schema import tidy
from reelm.engine import DecodeConfig, Decoder
from reelm.errors import BackendError, MediaError
from reelm.media.views import Picture, pictures
from reelm.prompts.base import Prompt

MEDIA = "media"  # kind of failure of a file that cannot be decoded
FEW = 8  # so many lost requests may mean that the way is closed
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0

log = logging.getLogger(__name__)

Outcome = Answer | Failure
Ask = Callable[[list[Any]], list[Any]]
"""Gives an outcome for each request, in order."""


@dataclass(frozen=True)
class Question:
    """A prompt as one model is asked it."""

    prompt: type[Prompt]
    text: str
    schema: dict[str, Any]

    @classmethod
    def of(cls, prompt: type[Prompt], backend: Backend) -> "Question":
        """In the model's own words, where it was taught any."""
        text = backend.phrase(prompt.name) or prompt.ask(backend.vocabulary)
        return cls(prompt, text, prompt.schema(backend.vocabulary))


@dataclass(frozen=True)
class Todo:
    """A video or a user, and which of the questions have no answer yet, by their numbers."""

    video: Any
    """An engine.Video, or of users what stands for it."""
    asked: tuple[int, ...]
    told: str = ""
    """What was written and said about the video, shown between its pictures and the question."""


@dataclass(frozen=True)
class Elsewhere:
    """Makes an asker in a process that has no model yet, with the model apart from it."""

    maker: Maker
    prompts: tuple[type[Prompt], ...]
    config: DecodeConfig
    work: Path
    answer_s: float
    patience_s: float

    def __call__(self) -> "Asker":
        """The asker, its model loaded."""
        local = not self.maker.kind.remote
        backend = Replicas(self.maker, 1, self.answer_s) if local else self.maker()
        questions = [Question.of(prompt, backend) for prompt in self.prompts]
        decoder = Decoder(self.work, backend.view.moments, self.config)
        return Asker(backend, questions, decoder, self.patience_s)


Loaded = list[tuple[Todo, list[Request] | Failure]]
Made = list[tuple[Todo, list[Outcome]]]


class Asker:
    """A worker of the engine."""

    def __init__(
        self,
        backend: Backend,
        questions: Sequence[Question],
        decoder: Decoder | None,
        patience_s: float | int,
    ) -> None:
        """
        Args:
            decoder: gives frames and sound at the moments of the backend's view; None where no
                video is watched.
            patience_s: how long to wait for a closed way to open.
        """
        self._backend, self._questions, self._decoder = backend, questions, decoder
        self._patience_s = patience_s

    def load(self, tasks: Sequence[Todo]) -> Loaded:
        """What to ask about each video; a file that cannot be decoded has failed already.

        Requests about one video stand beside each other and share their pictures.
        """
        assert self._decoder is not None, "nothing to watch videos with"
        watched = [todo for todo in tasks if todo.asked]
        decoded = iter(self._decoder([todo.video for todo in watched]))
        return [(todo, self._requests(todo, next(decoded)) if todo.asked else []) for todo in tasks]

    def make(self, loaded: Loaded) -> Made:
        """Each video with one outcome per question that was asked.

        Raises:
            BackendError: the way to the model stayed closed.
        """
        asked = [
            (request, self._questions[number].prompt)
            for todo, requests in loaded
            if not isinstance(requests, Failure)
            for request, number in zip(requests, todo.asked, strict=True)
        ]
        said = iter(self._answers(asked))
        return [
            (todo, [given if isinstance(given, Failure) else next(said) for _ in todo.asked])
            for todo, given in loaded
        ]

    def _requests(self, todo: Todo, decoded: Any) -> list[Request] | Failure:
        if isinstance(decoded, MediaError):
            return Failure(MEDIA, decoded.why)
        shown = pictures(self._backend.view, *decoded)
        return [
            Request(todo.video.id, _parts(shown, todo.told, q.text), q.schema, q.prompt.max_tokens)
            for q in (self._questions[number] for number in todo.asked)
        ]

    def _answers(self, asked: Sequence[tuple[Request, type[Prompt]]]) -> list[Outcome]:
        """Checked answers; those that are not what was asked for are asked once more."""
        said = self._through([request for request, _ in asked])
        first = [checked(*one, answer) for one, answer in zip(asked, said, strict=True)]
        wrong = [(one, prompt) for one, (_, prompt) in zip(first, asked, strict=True)
                 if isinstance(one, Invalid)]  # fmt: skip
        again = [(repair(i.request, i.said.text, i.why.message), prompt) for i, prompt in wrong]
        said = self._through([request for request, _ in again])
        second = iter(
            _second(one, checked(*asking, answer))
            for (one, _), asking, answer in zip(wrong, again, said, strict=True)
        )
        return [next(second) if isinstance(one, Invalid) else one for one in first]

    def _through(self, requests: list[Any], ask: Ask | None = None) -> list[Any]:
        """Answers, or failures of the requests themselves; waits while the way is closed.

        Args:
            ask: asks the model; `Backend.answer` if None.
        """
        if not requests:
            return []
        ask = ask or self._backend.answer
        said = halving(ask, requests)
        lost = [n for n, one in enumerate(said) if _lost(one)]
        if len(lost) < FEW:
            return said
        came = (r for r, one in zip(requests, said, strict=True) if not isinstance(one, Failure))
        again = self._wait([requests[n] for n in lost], next(came, None), ask)
        for n, one in zip(lost, again, strict=True):
            said[n] = one
        return said

    def _wait(self, requests: list[Any], witness: Any, ask: Ask) -> list[Any]:
        """Ask a request at growing distances until one comes through; then all that were lost.

        Args:
            witness: one that was answered just now. If it comes through again and the others do
                not, these are at fault themselves and not the way. If None, the lost ones take
                turns, since one of them may never come through.

        Raises:
            BackendError: nothing came through within the patience.
        """
        end, pause = time.monotonic() + self._patience_s, FIRST_PAUSE_S
        turns = cycle([witness] if witness else requests)
        while _lost(first := halving(ask, [probe := next(turns)])[0]):
            if time.monotonic() + pause > end:
                raise self._closed(first)
            if pause == FIRST_PAUSE_S:
                said = self._where, first.message, self._patience_s
                log.warning("%s: nothing comes through (%s); tried again for up to %g s", *said)
            time.sleep(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)
        rest = halving(ask, [one for one in requests if one is not probe])
        if witness:
            return rest
        if all(map(_lost, rest)):
            raise self._closed(rest[0])
        left = iter(rest)
        return [first if one is probe else next(left) for one in requests]

    @property
    def _where(self) -> str:
        return self._backend.address or "the model"

    def _closed(self, told: Failure) -> BackendError:
        return BackendError(
            told.kind,
            f"{self._where}: nothing came through for {self._patience_s:g} s ({told.message}). "
            "What was answered before is kept; see to the server, then run the same command again.",
        )


@dataclass(frozen=True)
class Invalid:
    """An answer that is not what its schema asks for."""

    request: Request
    said: Answer
    why: Failure


def checked(request: Request, prompt: type[Prompt], said: Outcome) -> "Outcome | Invalid":
    """The answer with its JSON in one form, or what is wrong with it."""
    if isinstance(said, Failure):
        return said
    good = tidy(said, request.schema or {})
    if isinstance(good, Failure):
        return Invalid(request, said, good)
    try:
        prompt.model_validate_json(good.text)
    except ValidationError as error:
        return Invalid(request, said, Failure("schema", str(error)[:400]))
    return good


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


def _parts(shown: Sequence[Picture], told: str, question: str) -> tuple[str | Picture, ...]:
    *seen, last = show(shown, question)
    return (*seen, told, last) if told else (*seen, last)


def _second(first: Invalid, second: "Outcome | Invalid") -> Outcome:
    """What a repair came to, at the price of both answers."""
    if isinstance(second, Invalid):
        return second.why
    if isinstance(second, Failure):
        return second
    return second.after(first.said)


def _lost(said: Any) -> bool:
    return isinstance(said, Failure) and said.passing
