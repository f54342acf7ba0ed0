"""Caption: one sentence for a video."""

from collections.abc import Mapping
from typing import Any, ClassVar

from reelm.prompts.base import Prompt, Vocabulary, closed

LONGEST = 300  # characters


class Caption(Prompt):
    """What a video shows and plays, in one sentence."""

    name: ClassVar[str] = "caption"
    version: ClassVar[int] = 1
    max_tokens: ClassVar[int] = 160

    caption: str

    @classmethod
    def ask(cls, vocabulary: Vocabulary = None) -> str:
        return (
            "These pictures are from one short video, in order. Describe the video in one plain "
            "sentence: who or what is seen, what happens, where, and the mood. "
            'Answer as JSON: {"caption": "..."}'
        )

    @classmethod
    def schema(cls, vocabulary: Vocabulary = None) -> dict[str, Any]:
        return closed({"caption": {"type": "string", "minLength": 1, "maxLength": LONGEST}})

    @classmethod
    def as_text(cls, answer: Mapping[str, Any]) -> str:
        return str(answer.get("caption") or "").strip()
