"""Speech: what is said in a video; `reelm transcribe` fills it by listening."""

from collections.abc import Mapping
from typing import Any, ClassVar

from reelm.prompts.base import Prompt, Vocabulary, closed

LONGEST = 20_000  # characters
NONE = "none"
"""The language of a video in which nobody speaks."""


class Speech(Prompt):
    """Language, words, and the pieces they were heard in, with their times."""

    name: ClassVar[str] = "speech"
    version: ClassVar[int] = 1
    max_tokens: ClassVar[int] = 448

    language: str
    """Code of two or three letters, as Whisper has them, or "none"."""
    text: str
    pieces: list[dict[str, Any]]
    """Objects of start_s, end_s (seconds from the start) and text."""

    @classmethod
    def ask(cls, vocabulary: Vocabulary = None) -> str:
        return "Write down what is said in this video, in the language it is said in."

    @classmethod
    def schema(cls, vocabulary: Vocabulary = None) -> dict[str, Any]:
        time = {"type": "number", "minimum": 0}
        words = {"type": "string", "maxLength": LONGEST}
        piece = closed({"start_s": time, "end_s": time, "text": words})
        language = {"type": "string", "maxLength": 8}
        return closed(
            {"language": language, "text": words, "pieces": {"type": "array", "items": piece}}
        )

    @classmethod
    def as_text(cls, answer: Mapping[str, Any]) -> str:
        return str(answer.get("text") or "").strip()
