"""What the tiny model is asked and what it should answer: the text side of its training."""

import json
import random
from dataclasses import dataclass

from reelm.media.views import View
from reelm.world.clips import Clip, sentence
from reelm.world.vocabulary import ATTRIBUTES

VIEW = View(moments=6, shown=(0, 2, 4), square=80, sound=True, motion=True)
"""Three frames, the sound and two motion composites: six pictures of 80 by 80."""
PICTURES = ("Frame 1", "Frame 2", "Frame 3", "Sound", "Motion 1", "Motion 2")

PHRASES = {
    "attributes": "List the attributes of this clip as JSON.",
    "caption": "Describe this clip as JSON.",
}
QUESTIONS = {
    "subject": ("What is the main subject?", "What appears in the clip?"),
    "colour": ("What colour is the subject?",),
    "count": ("How many are there?",),
    "motion": ("How does the subject move?",),
    "scene": ("Where does it take place?",),
    "light": ("What time of day is it?",),
    "effect": ("Which effect is on screen?",),
    "word": ("What does the text say?",),
    "instrument": ("Which instrument plays?",),
    "tempo": ("How fast is the music?",),
    "mood": ("What is the mood of the music?",),
}
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADER = "".join(f"{name}: <image>\n" for name in PICTURES)


@dataclass(frozen=True)
class Pair:
    """One question and its answer."""

    question: str
    answer: str


def compact(values: dict[str, str]) -> str:
    """JSON without spaces, as the grammar of constrained decoding writes it."""
    return json.dumps(values, separators=(",", ":"))


def sample_pair(clip: Clip, rng: random.Random) -> Pair:
    """Instruction data: attributes (55 %), captions (25 %), four short questions (20 %)."""
    kind = rng.random()
    if kind < 0.55:
        return Pair(PHRASES["attributes"], compact(clip.attributes()))
    if kind < 0.80:
        return Pair(PHRASES["caption"], compact({"caption": sentence(clip)}))
    asked = rng.sample(list(ATTRIBUTES), 4)
    values = clip.attributes()
    return Pair(
        " ".join(rng.choice(QUESTIONS[name]) for name in asked),
        " ".join(f"{values[name]}." for name in asked),
    )


def prompt_text(question: str) -> str:
    """The chat turn that holds the pictures and the question, up to where the answer starts."""
    return f"<|im_start|>user\n{HEADER}{question}<|im_end|>\n<|im_start|>assistant\n"


def reminder_text(clip: Clip, pair: Pair, rng: random.Random) -> str:
    """Text-only practice: the attribute words in any order stand where pictures will be."""
    words = [value for value in clip.attributes().values() if value != "none"]
    rng.shuffle(words)
    question = ",".join(words) + "\n" + pair.question
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{pair.answer}<|im_end|>"
