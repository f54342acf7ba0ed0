"""Watching videos and asking about them: what happens where the model is.

Answers are checked against the question's schema; one that breaks it is asked for once more, and
what both cost is counted, also where neither is of use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reelm.annotate.way import Way
from reelm.backends.base import Answer, Backend, Failure, Maker, Request, paid, repair, show
from reelm.backends.blocks.replicas import Replicas
from reelm.backends.blocks.schema import tidy
from reelm.engine import DecodeConfig, Decoder
from reelm.errors import MediaError
from reelm.media.views import Picture, pictures
from reelm.prompts.base import Prompt

MEDIA = "media"  # kind of failure of a file that cannot be decoded

Outcome = Answer | Failure


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
        self._way = Way(backend.address, patience_s)

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
        said = self._way.through([request for request, _ in asked], self._backend.answer)
        first = [checked(*one, answer) for one, answer in zip(asked, said, strict=True)]
        wrong = [(one, prompt) for one, (_, prompt) in zip(first, asked, strict=True)
                 if isinstance(one, Invalid)]  # fmt: skip
        again = [(repair(i.request, i.said.text, i.why.message), prompt) for i, prompt in wrong]
        said = self._way.through([request for request, _ in again], self._backend.answer)
        second = iter(
            _second(one, checked(*asking, answer))
            for (one, _), asking, answer in zip(wrong, again, said, strict=True)
        )
        return [next(second) if isinstance(one, Invalid) else one for one in first]


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
        return Invalid(request, said, paid(Failure("schema", str(error)[:400]), said))
    return good


def _parts(shown: Sequence[Picture], told: str, question: str) -> tuple[str | Picture, ...]:
    *seen, last = show(shown, question)
    return (*seen, told, last) if told else (*seen, last)


def _second(first: Invalid, second: "Outcome | Invalid") -> Outcome:
    """What a repair came to, at the price of both answers."""
    if isinstance(second, Answer):
        return second.after(first.said)
    return paid(second.why if isinstance(second, Invalid) else second, first.said)
