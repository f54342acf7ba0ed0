"""A clip as a list of facts: drawing one from chance, and saying it in a sentence."""

import random
from dataclasses import asdict, dataclass, fields

from reelm.errors import UnknownName
from reelm.world.vocabulary import ATTRIBUTES

DURATION_S = 4.0

_NUMBERS = {"1": "one", "2": "two", "3": "three"}
_MOVES = {
    "still": "staying still",
    "left": "moving left",
    "right": "moving right",
    "up": "moving up",
    "down": "moving down",
    "spin": "spinning",
    "pulse": "pulsing",
    "bounce": "bouncing",
}


@dataclass(frozen=True)
class Clip:
    """Everything that can be seen and heard in one clip; `seed` decides the rest (places, notes).

    Values are those of `vocabulary.ATTRIBUTES`.
    """

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
    seed: int

    def attributes(self) -> dict[str, str]:
        """Attribute to value, in the order of `vocabulary.ATTRIBUTES`, without the seed."""
        return {field.name: getattr(self, field.name) for field in fields(self)[:-1]}


def sample_clip(rng: random.Random, **fixed: str) -> Clip:
    """A clip with every attribute drawn evenly (a few more clips have no word), save the `fixed`.

    Raises:
        UnknownName: `fixed` names an attribute or a value that no vocabulary lists.
    """
    for name, value in fixed.items():
        if name not in ATTRIBUTES:
            raise UnknownName("attribute", name, ATTRIBUTES)
        if value not in ATTRIBUTES[name]:
            raise UnknownName(name, value, ATTRIBUTES[name])
    values = {name: _draw(rng, name) for name in ATTRIBUTES}
    return consistent(Clip(**(values | fixed), seed=rng.randrange(1 << 30)), rng)


def consistent(clip: Clip, rng: random.Random) -> Clip:
    """The clip with tempo and mood that fit its instrument.

    Silence has neither; drums have no mood; other music has both, drawn if they are missing.
    """
    values = asdict(clip)
    silent, moody = clip.instrument == "none", clip.instrument not in ("none", "drums")
    if silent:
        values["tempo"] = "none"
    elif clip.tempo == "none":
        values["tempo"] = _draw(rng, "tempo")
    if not moody:
        values["mood"] = "none"
    elif clip.mood == "none":
        values["mood"] = _draw(rng, "mood")
    return Clip(**values)


def sentence(clip: Clip) -> str:
    """The true caption: every attribute of the clip in one English sentence."""
    said = (
        f"{_NUMBERS[clip.count]} {clip.colour} {clip.subject} {_MOVES[clip.motion]} "
        f"in the {clip.scene} at {clip.light}"
    )
    if clip.effect != "none":
        said += f" with {clip.effect}"
    if clip.word != "none":
        said += f", text says {clip.word}"
    return f"{said}, {_music(clip)}."


def _music(clip: Clip) -> str:
    if clip.instrument == "none":
        return "no music"
    if clip.instrument == "drums":
        return f"{clip.tempo} drums"
    return f"{clip.tempo} {clip.mood} {clip.instrument} music"


def _draw(rng: random.Random, name: str) -> str:
    """One value at random; tempo and mood of music are never "none" here."""
    if name == "word" and rng.random() >= 0.85:
        return "none"
    values = ATTRIBUTES[name]
    return rng.choice(values[:-1] if name in ("tempo", "mood") else values)
