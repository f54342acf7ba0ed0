"""A question to a multimodal model, the shape of its answer, and how the answer reads as text."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

Vocabulary = Mapping[str, tuple[str, ...]] | None
"""Closed sets of values by field, for models that were taught them; None leaves values free."""
SILENT = ("", "none", "unknown", "null", "n/a")
"""Values that say nothing."""


class Prompt(BaseModel):
    """A subclass is the question; an instance is one valid answer to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    version: ClassVar[int]
    """Raise it when the question or the schema changes: old notes are then asked again."""
    max_tokens: ClassVar[int] = 128
    about: ClassVar[Literal["video", "user"]] = "video"
    """What is asked about: a video by its pictures, or a user by notes of what they watched."""

    @classmethod
    @abstractmethod
    def ask(cls, vocabulary: Vocabulary = None) -> str:
        """The question, as put to a model that has no wording of its own for it."""

    @classmethod
    @abstractmethod
    def schema(  # pyright: ignore[reportIncompatibleMethodOverride] - pydantic 1's, long gone
        cls, vocabulary: Vocabulary = None
    ) -> dict[str, Any]:
        """JSON Schema that the answer must obey; fields in the order they are to be said."""

    @classmethod
    @abstractmethod
    def as_text(cls, answer: Mapping[str, Any]) -> str:
        """A sentence for text encoders. Missing and empty values are left out, never an error."""

    @classmethod
    def checked(cls, answer: Mapping[str, Any], shown: str) -> Mapping[str, Any]:
        """What of an answer stands, given the texts that were shown beside the pictures: all of it,
        unless a prompt says otherwise."""
        return answer


def plain(value: object) -> str:
    """A value as text, lists and what lies in them written out; empty if it says nothing."""
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(plain, value)))
    if isinstance(value, Mapping):
        return " ".join(filter(None, map(plain, value.values())))
    text = str(value or "").strip()
    return "" if text.lower() in SILENT else text


def worded(names: Iterable[str], words: Vocabulary, longest: int) -> dict[str, Any]:
    """Schema of an object of texts: one of `words` where the field is named there, else free and
    at most `longest` characters."""
    free = {"type": "string", "maxLength": longest}
    known = words or {}
    return closed(
        {name: {"type": "string", "enum": list(known[name])} if name in known else free
         for name in names}
    )  # fmt: skip


def choices(names: Iterable[str], words: Vocabulary) -> str:
    """The words of each field that has any, as the end of a question."""
    known = words or {}
    return "".join(f" {name}: one of {', '.join(known[name])}." for name in names if name in known)


def closed(fields: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Schema of an object that has these fields, all of them, and no others."""
    return {
        "type": "object",
        "properties": dict(fields),
        "required": list(fields),
        "additionalProperties": False,
    }
