"""Any OpenAI-compatible server: vLLM, SGLang, Ollama, llama.cpp, LM Studio, transformers serve.

The server need not be able to enforce a schema: answers are checked here, and a wrong one is
asked for once more.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, NonNegativeInt, PositiveFloat, PositiveInt

from reelm.backends.base import (
    Answer,
    Backend,
    BackendConfig,
    Chances,
    Failure,
    Paid,
    Request,
    paid,
    repair,
)
from reelm.backends.blocks.chat import ChatConfig, body, content, read, tokens
from reelm.backends.blocks.dialects import ORDER, Dialects
from reelm.backends.blocks.http import Budget, Client, Trouble
from reelm.backends.blocks.schema import tidy
from reelm.errors import BackendError, ConfigError
from reelm.media.views import View

T = TypeVar("T")
TOP = 20  # most probable tokens that servers tell at most
PATH = "chat/completions"
SHUT = (401, 403, 404, 405)
"""Statuses that say that the way is wrong: whatever is asked, the server would say the same."""


def _address(url: str) -> str:
    """An address that can be spoken to.

    Raises:
        ValueError: it has no scheme that is known here, no host, or no number for a port.
    """
    try:
        told = urlsplit(url)
        right = told.scheme in ("http", "https") and bool(told.hostname) and told.port != 0
    except ValueError:
        right = False
    if not right:
        bare = url.rpartition("//")[2].strip("/ ") or "127.0.0.1:8000/v1"
        raise ValueError(f"{url!r} is no address; write it like http://{bare}")
    return url


class OpenAIHTTPConfig(ChatConfig):
    """Section [backend] for `openai_http`."""

    base_url: Annotated[str, AfterValidator(_address)] = "http://127.0.0.1:8000/v1"
    """Where the server's `chat/completions` lies."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; servers at home need none."""
    concurrency: PositiveInt = 8
    """Requests under way at once."""
    timeout_s: PositiveFloat = 120.0
    """Seconds for one whole reply."""
    retries: NonNegativeInt = 4
    """Tries of a request after the first."""
    retry_budget: NonNegativeInt = 100
    """Retries of the whole run; successes earn some back."""
    longest_wait_s: PositiveFloat = 60.0
    """A server that asks to be left alone for longer than this is taken at its word."""
    moments: PositiveInt = 4
    """Frames shown of each video."""
    square: PositiveInt | None = None
    """Side in pixels to which frames are squashed; unset keeps their shape."""
    sound: bool = False
    """Show the sound as a log-mel picture too."""
    motion: bool = False
    """Show movement as time-colour composites too; needs at least three moments."""


class OpenAIHTTP(Backend):
    """Speaks to one model of one server; requests go out side by side."""

    name: ClassVar[str] = "openai_http"
    Config: ClassVar[type[BackendConfig]] = OpenAIHTTPConfig
    remote: ClassVar[bool] = True

    def __init__(self, config: OpenAIHTTPConfig) -> None:
        """
        Raises:
            ConfigError: the key cannot be sent.
        """
        self.config = config
        self.view = View(
            moments=config.moments, square=config.square, sound=config.sound, motion=config.motion
        )
        self.device, self.address = "server", config.base_url
        self._answered = False
        self._dialects = Dialects(config.structured)
        self._client = Client(
            config.base_url,
            _key(config.api_key_env),
            config.timeout_s,
            Budget(config.retry_budget),
            config.longest_wait_s,
        )
        self._threads = ThreadPoolExecutor(config.concurrency, thread_name_prefix="openai_http")

    def answer(self, requests: Sequence[Request]) -> list[Answer | Failure]:
        """See Backend.answer.

        Raises:
            BackendError: the server turns down whatever it is asked (401, 403, 404, 405).
        """
        return self._side_by_side(self._answer, requests)

    def choose(
        self, requests: Sequence[Request], choices: Sequence[Sequence[str]]
    ) -> list[Chances | Failure]:
        """By the log-probabilities of the first token, of which servers tell the top twenty.

        A choice that is not among them gets the least of the twenty, which is an upper bound.
        Choices that begin with the same token, and servers that tell nothing, give a Failure.
        """
        return self._side_by_side(self._choose, requests, choices)

    def identity(self) -> dict[str, Any]:
        config = self.config
        pictures = config.image_format if config.image_format == "png" else config.quality
        return {
            "backend": self.name,
            "model": config.model,
            "weights": None,  # a server does not tell
            "server": config.base_url,
            "decoding": {"temperature": 0, "pictures": pictures, "extra": config.extra},
        }

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def _side_by_side(self, ask: Callable[..., T], *asked: Sequence[Any]) -> list[T]:
        """What `ask` makes of each, in order. Once one raises, those that still wait are left."""
        futures = [self._threads.submit(ask, *one) for one in zip(*asked, strict=True)]
        done, left = wait(futures, return_when=FIRST_EXCEPTION)
        for one in left:
            one.cancel()
        if left:
            raise next(filter(None, (one.exception() for one in done)))
        return [one.result() for one in futures]

    def _answer(self, request: Request) -> Answer | Failure:
        """Ask; if the answer is not what the schema asks for, ask once more."""
        first = self._ask(request)
        if isinstance(first, Failure) or request.schema is None:
            return first
        good = tidy(first, request.schema)
        if isinstance(good, Answer):
            return good
        second = self._ask(repair(request, first.text, good.message))
        if isinstance(second, Failure):
            return paid(second, first)
        return tidy(second.after(first), request.schema)

    def _ask(self, request: Request) -> Answer | Failure:
        start = time.perf_counter()
        call = _Call(request, self.config, self._dialects)
        reply = self._post(call)
        if isinstance(reply, Failure):
            return reply
        call.worked()
        return _after(read(reply, request), start)

    def _choose(self, request: Request, choices: Sequence[str]) -> Chances | Failure:
        start = time.perf_counter()
        call = _Call(replace(request, schema=None, max_tokens=1), self.config, self._dialects)
        call.more = {"logprobs": True, "top_logprobs": TOP}
        reply = self._post(call)
        if isinstance(reply, Failure):
            return reply
        try:
            told = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            logs = {entry["token"]: float(entry["logprob"]) for entry in told}
        except (LookupError, TypeError, ValueError):
            told = Failure("unsupported", "the server tells no log-probabilities")
        else:
            told = _matched(choices, logs)
        return _after(paid(told, Chances([], *tokens(reply))), start)

    def _post(self, call: "_Call") -> dict[str, Any] | Failure:
        """The server's reply, or why this request has none.

        Raises:
            BackendError: the way is wrong. A 403 says so only while nothing was answered yet:
                later it is the server's word on what one request shows.
        """
        reply = self._client.post(PATH, call, self.config.retries)
        if not isinstance(reply, Trouble):
            self._answered = True
            return reply
        if reply.status in SHUT and not (reply.status == 403 and self._answered):
            raise BackendError(reply.failure.kind, _shut(self.config, reply))
        return reply.failure


class _Call:
    """One request, worded in the dialect that the server is thought to take."""

    def __init__(self, request: Request, config: OpenAIHTTPConfig, dialects: Dialects) -> None:
        self.more: dict[str, Any] = {}
        self._request, self._dialects = request, dialects
        self._config, self._content = config, content(request, config)
        self._spoken = ""
        self._changes = 0

    def body(self) -> dict[str, Any]:
        """What to send, in the dialect of the moment."""
        if self._request.schema is not None:
            self._spoken = self._dialects.current
        return body(self._request, self._content, self._config, self._spoken, self.more)

    def otherwise(self, status: int) -> bool:
        """True if the dialect, and not the request, may be what the server turned down."""
        if not self._spoken or not status or self._changes >= len(ORDER):
            return False
        self._changes += 1
        return self._dialects.refused(self._spoken, status)

    def worked(self) -> None:
        """The server answered."""
        if self._spoken:
            self._dialects.worked(self._spoken)


def _key(place: str) -> str | None:
    """The key in an environment variable, without the line end that files leave behind it.

    Raises:
        ConfigError: it has characters that cannot travel.
    """
    key = os.environ.get(place, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"{place}: the key in this environment variable has characters that no header can "
            "carry. Copy it again, or unset it if the server needs none."
        )
    return key or None


def _after(said: Paid, start: float) -> Paid:
    return replace(said, seconds=time.perf_counter() - start)


def _shut(config: OpenAIHTTPConfig, trouble: Trouble) -> str:
    """Which address turns all requests down, what it says, and what may be wrong."""
    there = "set" if os.environ.get(config.api_key_env) else "not set"
    key = f"Is the key right? The environment variable {config.api_key_env}, its place, is {there}."
    hints = {
        404: f"Is backend.model = {config.model!r} what the server calls its model, and does "
        "backend.base_url end where chat/completions lies, mostly in /v1?",
        405: "Is it a chat server, or reelm's own service? `reelm serve` takes port 8000 too. "
        "Say where the chat server is with backend.base_url.",
    }
    said = " ".join(trouble.failure.message.split())
    return (
        f"{config.base_url.rstrip('/')}/{PATH} turns all requests down ({said}). "
        f"{hints.get(trouble.status, key)} What was answered before is kept; set it right, then "
        "run the command again."
    )


def _matched(choices: Sequence[str], logs: dict[str, float]) -> Chances | Failure:
    """Log-probability of the first token of each choice."""
    least = min(logs.values(), default=float("-inf"))
    begins = [{t for t in logs if t.strip() and choice.startswith(t.strip())} for choice in choices]
    if any(one & other for n, one in enumerate(begins) for other in begins[:n]):
        return Failure("unsupported", "choices begin with the same token; servers tell only one")
    return Chances([max((logs[t] for t in begin), default=least) for begin in begins])
