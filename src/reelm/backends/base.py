"""What every runtime does: answer a list of requests, in order, one answer or failure each."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar, cast

from reelm.config import Config
from reelm.media.views import Picture, View

KINDS = (
    "bad_request",  # the request itself cannot be asked: broken pictures, schema or length
    "truncated",  # the answer did not end within max_tokens
    "invalid_json",  # not JSON, although a schema was given
    "schema",  # JSON that breaks the schema
    "refused",  # the model or its server declined to answer
    "timeout",
    "connection",  # no connection, or cut before the answer was whole
    "rate_limited",  # still 429 after all tries
    "http_500",  # or another status
    "bad_response",  # the server's reply is not a chat completion
    "unsupported",  # this runtime cannot do what was asked
    "model",  # the model failed while it computed
    "crashed",  # its process ended while it computed, twice
    "hung",  # its process had to be ended, twice
)
"""What can go wrong, in one word."""

PASSING = ("timeout", "connection", "rate_limited", "http_5", "bad_response")
"""How the kinds begin that say nothing about the video: the same request may succeed later."""


@dataclass(frozen=True)
class Request:
    """Text and pictures in; JSON that obeys `schema` out, or free text without one."""

    key: str
    """Names the request in messages and logs; the id of the video."""
    parts: tuple[str | Picture, ...]
    """Shown in this order, in one turn of the user."""
    schema: dict[str, Any] | None = None
    """JSON Schema of the answer."""
    max_tokens: int = 128

    @property
    def pictures(self) -> list[Picture]:
        """The pictures alone, in order."""
        return [part for part in self.parts if isinstance(part, Picture)]

    def with_text(self, text: str) -> "Request":
        """The same request with more said at its end."""
        return replace(self, parts=(*self.parts, text))


@dataclass(frozen=True)
class Answer:
    """What a model said. Seconds are the request's share of its batch."""

    text: str
    tokens_in: int
    tokens_out: int
    seconds: float
    repaired: bool = False
    """The first answer was not what was asked for; this is the second."""

    def after(self, first: "Answer") -> "Answer":
        """This answer at the price of both: the first was not what was asked for."""
        return replace(paid(self, first), repaired=True)


@dataclass(frozen=True)
class Chances:
    """How probable each of a request's choices is. Seconds are the request's share of its batch."""

    logs: list[float]
    """Natural log-probability of each choice, in the order given."""
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Failure:
    """Why there is no answer, and what was spent all the same: a reply that is of no use was read
    and written like any other."""

    kind: str
    """One of KINDS."""
    message: str
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0

    @property
    def passing(self) -> bool:
        """True if the way to the model failed, and not the request."""
        return self.kind.startswith(PASSING)


Paid = TypeVar("Paid", bound=Answer | Chances | Failure)


def paid(outcome: Paid, before: Answer | Chances | Failure) -> Paid:
    """The outcome at the price of both: what came before it was paid for too."""
    return replace(
        outcome,
        tokens_in=outcome.tokens_in + before.tokens_in,
        tokens_out=outcome.tokens_out + before.tokens_out,
        seconds=outcome.seconds + before.seconds,
    )


class BackendConfig(Config):
    """Base of the backends' settings; section [backend]."""


class Backend(ABC):
    """Loaded once, asked many times. A request that fails gives a Failure, not an exception."""

    name: ClassVar[str]
    Config: ClassVar[type[BackendConfig]]

    remote: ClassVar[bool] = False
    """The model runs elsewhere; this process only asks."""

    view: View = View()
    """What of a video the model wants to be shown."""
    vocabulary: Mapping[str, tuple[str, ...]] | None = None
    """Closed sets of values the model was taught, by field of the answer; None if it is free."""
    device: str = "cpu"
    """For the cost ledger."""
    address: str = ""
    """Of the server that the model is behind, for messages."""

    @abstractmethod
    def answer(self, requests: Sequence[Request]) -> list[Answer | Failure]:
        """One answer or failure per request, in the order asked."""

    @abstractmethod
    def choose(
        self, requests: Sequence[Request], choices: Sequence[Sequence[str]]
    ) -> list[Chances | Failure]:
        """Log-probability of each of a request's choices as continuation of its prompt.

        Tokens of a choice are summed and no end mark is added, so a choice that begins another
        is never less probable than it. Schemas are not used.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Whatever can change the answers: model, hash of its weights, decoding."""

    def phrase(self, prompt: str) -> str | None:
        """The wording of a prompt that the model was tuned on, if it was; by the prompt's name."""
        return None

    def close(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Let go of connections and memory."""


@dataclass(frozen=True)
class Maker:
    """How to make a backend, here or in another process."""

    kind: type[Backend]
    config: BackendConfig

    def __call__(self) -> Backend:
        """The backend, loaded."""
        make = cast(Callable[[BackendConfig], Backend], self.kind)
        return make(self.config)


def show(pictures: Sequence[Picture], question: str) -> tuple[str | Picture, ...]:
    """Parts of a request: each picture after its name on a line of its own, then the question."""
    parts: list[str | Picture] = []
    for picture in pictures:
        parts += [f"{picture.name}: ", picture, "\n"]
    return (*parts, question)


def repair(request: Request, said: str, fault: str) -> Request:
    """The request once more, after an answer that was not what its schema asks for."""
    return request.with_text(
        f"\nAn earlier answer was not valid ({fault}). It began: {said[:200]}\n"
        "Answer again, only with JSON that obeys the schema."
    )
