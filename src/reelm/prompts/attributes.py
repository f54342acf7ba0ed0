"""Attributes: eleven short facts about what a video shows and plays."""

from collections.abc import Mapping
from typing import Any, ClassVar

from reelm.prompts.base import Prompt, Vocabulary, choices, plain, worded

LONGEST = 40  # characters of a free value
NUMBERS = {"1": "one", "2": "two", "3": "three"}
MOVING = {
    "still": "staying still",
    "left": "moving left",
    "right": "moving right",
    "up": "moving up",
    "down": "moving down",
    "spin": "spinning",
    "pulse": "pulsing",
    "bounce": "bouncing",
}


class Attributes(Prompt):
    """Each value is one word or a few; "none" says that there is nothing of the kind."""

    name: ClassVar[str] = "attributes"
    version: ClassVar[int] = 1
    max_tokens: ClassVar[int] = 200

    subject: str
    colour: str
    count: str
    motion: str
    scene: str
    light: str
    effect: str
    word: str
    instrument: str
    tempo: str
    mood: str

    @classmethod
    def ask(cls, vocabulary: Vocabulary = None) -> str:
        said = (
            "These pictures are from one short video, in order. Say in one or two words each, or "
            'with "none": the main subject, its colour, how many there are (count), how it moves '
            "(motion), the scene, the light, a visual effect, a word written on screen, and of the "
            "music the instrument, the tempo and the mood. Answer as JSON with the keys "
        )
        said += ", ".join(cls.model_fields) + "."
        return said + choices(vocabulary or (), vocabulary)

    @classmethod
    def schema(cls, vocabulary: Vocabulary = None) -> dict[str, Any]:
        return worded(cls.model_fields, vocabulary, LONGEST)

    @classmethod
    def as_text(cls, answer: Mapping[str, Any]) -> str:
        value = {name: plain(answer.get(name)) for name in cls.model_fields}
        said = ", ".join(filter(None, (_seen(value), _written(value), _heard(answer, value))))
        return f"{said}." if said else ""


def _seen(value: dict[str, str]) -> str:
    many = NUMBERS.get(value["count"], value["count"])
    words = [many, value["colour"], value["subject"], MOVING.get(value["motion"], value["motion"])]
    for joint, name in (("in the", "scene"), ("at", "light"), ("with", "effect")):
        words += [joint, value[name]] if value[name] else []
    return " ".join(filter(None, words))


def _written(value: dict[str, str]) -> str:
    return f"text says {value['word']}" if value["word"] else ""


def _heard(answer: Mapping[str, Any], value: dict[str, str]) -> str:
    if str(answer.get("instrument") or "").strip().lower() == "none":
        return "no music"
    heard = [value["tempo"], value["mood"], value["instrument"]]
    if value["instrument"] == "drums":
        return " ".join(filter(None, (value["tempo"], "drums")))
    return " ".join(filter(None, [*heard, "music"])) if any(heard) else ""
