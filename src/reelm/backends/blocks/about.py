"""What a process that does not hold a model must know of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reelm.backends.base import Answer, Backend, Chances, Failure, Maker, Request
from reelm.media.views import View


@dataclass(frozen=True)
class About:
    """Facts of a loaded backend."""

    view: View
    vocabulary: Mapping[str, tuple[str, ...]] | None
    device: str
    identity: dict[str, Any]
    phrases: dict[str, str | None]
    """The model's own wording, by the names of the prompts that were asked for."""

    @classmethod
    def of(cls, backend: Backend, prompts: Sequence[str]) -> "About":
        """Of a backend that is here."""
        phrases = {name: backend.phrase(name) for name in prompts}
        facts = backend.view, backend.vocabulary, backend.device, backend.identity()
        return cls(*facts, phrases)


def about(maker: Maker, prompts: Sequence[str]) -> About:
    """Make a backend, and tell of it."""
    backend = maker()
    try:
        return About.of(backend, prompts)
    finally:
        backend.close()


class Absent(Backend):
    """Stands for a model that is elsewhere and asked there."""

    name = "absent"

    def __init__(self, facts: About) -> None:
        self._facts = facts
        self.view, self.vocabulary, self.device = facts.view, facts.vocabulary, facts.device

    def answer(self, requests: Sequence[Request]) -> list[Answer | Failure]:
        return [Failure("unsupported", "the model is not in this process") for _ in requests]

    def choose(
        self, requests: Sequence[Request], choices: Sequence[Sequence[str]]
    ) -> list[Chances | Failure]:
        return [Failure("unsupported", "the model is not in this process") for _ in requests]

    def identity(self) -> dict[str, Any]:
        return self._facts.identity

    def phrase(self, prompt: str) -> str | None:
        return self._facts.phrases.get(prompt)
