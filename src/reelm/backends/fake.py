"""A backend without a model: the answer is a function of the request."""

import hashlib
import json
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import NonNegativeFloat, NonNegativeInt

from reelm.backends.base import Answer, Backend, BackendConfig, Chances, Failure, Request
from reelm.media.views import Picture, View

WORDS = ("a", "bright", "small", "cat", "plays", "music", "dances", "at", "night", "here")


class FakeConfig(BackendConfig):
    """Section [backend] for `fake`."""

    seconds: NonNegativeFloat = 0.0
    """Time that each request takes."""
    seed: NonNegativeInt = 0
    """Another seed gives other answers."""


class Fake(Backend):
    """Answers with values drawn by a hash of the request; used by tests and dry runs."""

    name: ClassVar[str] = "fake"
    Config: ClassVar[type[BackendConfig]] = FakeConfig

    def __init__(self, config: FakeConfig | None = None) -> None:
        self.config = config or FakeConfig()
        self.view = View(moments=2)

    def answer(self, requests: Sequence[Request]) -> list[Answer | Failure]:
        return [self._answer(request) for request in requests]

    def choose(
        self, requests: Sequence[Request], choices: Sequence[Sequence[str]]
    ) -> list[Chances | Failure]:
        scores: list[Chances | Failure] = []
        for request, texts in zip(requests, choices, strict=True):
            rng = self._rng(request)
            logs = [-rng.random() - len(text) for text in texts]
            scores.append(Chances(logs, len(request.parts)))
        return scores

    def identity(self) -> dict[str, Any]:
        return {"backend": self.name, "model": "fake", "weights": None, "seed": self.config.seed}

    def _answer(self, request: Request) -> Answer:
        time.sleep(self.config.seconds)
        rng = self._rng(request)
        schema = request.schema
        text = (
            " ".join(rng.sample(WORDS, 4)) if schema is None else json.dumps(made_up(schema, rng))
        )
        return Answer(text, len(request.parts), len(text.split()), self.config.seconds)

    def _rng(self, request: Request) -> random.Random:
        seen = hashlib.sha256(str(self.config.seed).encode())
        for part in request.parts:
            seen.update(part.pixels.tobytes() if isinstance(part, Picture) else part.encode())
        return random.Random(seen.digest())


def made_up(schema: Mapping[str, Any], rng: random.Random) -> Any:
    """A random value that obeys a schema of the kind that prompts use."""
    if "enum" in schema:
        return rng.choice(schema["enum"])
    match schema.get("type"):
        case "object":
            return {name: made_up(part, rng) for name, part in schema["properties"].items()}
        case "array":
            return [made_up(schema["items"], rng) for _ in range(schema.get("minItems", 2))]
        case "integer" | "number":
            return rng.randint(schema.get("minimum", 0), schema.get("maximum", 9))
        case "boolean":
            return rng.random() < 0.5
    return " ".join(rng.sample(WORDS, 4))[: schema.get("maxLength", 100)]
