"""Reading by counting: no language model, only how often values come in somebody's notes.

It answers the same questions from the same lines as a language model would, with nothing learned:
where none that reads is at hand, and as the control that one must beat. A line of notes is written
and read here, so that both sides agree on it.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import fsum
from typing import Any, ClassVar

import numpy as np
from scipy.special import log_softmax

from reelm.backends.base import Answer, Backend, BackendConfig, Chances, Failure, Request
from reelm.data.dataset import Dataset
from reelm.data.tables import Features
from reelm.prompts.base import SILENT, Prompt, plain
from reelm.prompts.blocks.factors import FACTORS
from reelm.prompts.blocks.marks import unmarked
from reelm.prompts.generated_videos import DESCRIPTION as GENERATED
from reelm.prompts.generated_videos import MOST as INTERESTS
from reelm.prompts.generated_videos import VIDEOS, GeneratedVideos
from reelm.prompts.preferences import Preferences
from reelm.prompts.rationale import DESCRIPTION, IDEAL, Rationale
from reelm.prompts.rationale import LONGEST as STEP
from reelm.prompts.user_profile import LONGEST as PHRASE
from reelm.prompts.user_profile import MOST, UserProfile

QUIET = (*SILENT, "other")
LONGEST = 40  # characters; longer values are free text that no two videos share
WORD = re.compile(r"\w+")
FREE = ("title", "caption", "summary")
"""Fields whose values are free text, counted by their words."""
SMOOTHING = 2.0
"""Videos' worth of doubt beside those that were watched."""
FORMS = {
    "colour", "count", "creator", "effect", "format", "language", "length", "light", "motion",
    "on_screen_text", "pace", "style", "tempo", "word",
}  # fmt: skip
"""Fields of notes that say how a video is made; the others say what it is about."""
STEP_VALUES = 6  # of a step of a rationale
FACTOR_OF = {"subject": "topic", "scene": "setting", "motion": "action", "instrument": "sound",
             "tempo": "pace", "word": "on_screen_text"}  # fmt: skip
"""Fields of notes that are factors by another name."""
WATCHED, CANDIDATE = "- ", ") "
"""How a line about a watched video begins, and what follows the letter of a candidate."""
TIMES = "x "
"""What follows the number of like videos, before the one line that stands for them."""
YES_NO = ("Yes", "No")
"""Choices where one candidate is shown alone."""

Answers = Mapping[str, Mapping[str, Any]]
"""What a model said of videos: fields by video id."""
Value = tuple[str, str]
"""A field and its value."""


class Tallies(Backend):
    """Answers about users by counting, in the place of a language model; it watches nothing."""

    name: ClassVar[str] = "tallies"
    Config: ClassVar[type[BackendConfig]] = BackendConfig

    def answer(self, requests: Sequence[Request]) -> list[Answer | Failure]:
        return [_answered(request) for request in requests]

    def choose(
        self, requests: Sequence[Request], choices: Sequence[Sequence[str]]
    ) -> list[Chances | Failure]:
        return choose(requests, choices)

    def identity(self) -> dict[str, Any]:
        decoding = {"smoothing": SMOOTHING, "longest": LONGEST}
        return {"backend": self.name, "model": "counting", "weights": None, "decoding": decoding}


def values(answer: Mapping[str, Any], longest: int | None = LONGEST) -> list[Value]:
    """Values of an answer that say something in at most `longest` characters, lowercase; of any
    length if None."""
    short = ((field, plain(value).lower()) for field, value in answer.items())
    return [(f, v) for f, v in short if v not in QUIET and (not longest or len(v) <= longest)]


def line(answer: Mapping[str, Any], longest: int | None = LONGEST) -> str:
    """An answer in a line, such as `subject: cat; scene: city`; nothing in it can end the line, or
    pass for a mark of a chat template."""
    told = ((field, unmarked(value).replace(";", ",")) for field, value in values(answer, longest))
    return "; ".join(f"{field}: {value}" for field, value in told)


def read(text: str) -> list[Value]:
    """The values of such a line; of FREE ones the words, each once."""
    parts = (part.partition(": ") for part in text.split("; "))
    found = [(field.strip(), value.strip()) for field, colon, value in parts if colon]
    return [
        (field, one)
        for field, value in found
        for one in (dict.fromkeys(WORD.findall(value.lower())) if field in FREE else [value])
        if len(one) <= LONGEST
    ]


def choose(
    requests: Sequence[Request], choices: Sequence[Sequence[str]]
) -> list[Chances | Failure]:
    """As `Backend.choose`, for requests of `reelm.dossiers` about candidates by letters."""
    return [_chosen(request, some) for request, some in zip(requests, choices, strict=True)]


def log_odds(
    watched: Iterable[Iterable[Value]], usual: Mapping[Value, float]
) -> dict[Value, float]:
    """How much more often each value comes in watched videos than usual: log of the ratio, pulled
    to 0 by SMOOTHING videos.

    Args:
        usual: share of all videos that have the value, above 0.
    """
    rows = [set(one) for one in watched]
    seen, size = Counter(value for row in rows for value in row), len(rows)
    return {
        value: float(np.log((seen[value] + SMOOTHING * p) / ((size + SMOOTHING) * p)))
        for value, p in usual.items()
    }


def tallied(data: Dataset, answers: Answers, name: str = "tallied") -> tuple[Features, Features]:
    """Vectors of videos, a column for each value that two of them share, 1 where they have it; and
    of users, in the same columns, the log-odds of what they watched.

    Args:
        data: training data; nothing else is counted as watched.
    """
    said = {video: set(values(answers[video])) for video in data.items[1:] if video in answers}
    held = Counter(value for row in said.values() for value in row)
    columns = [value for value, count in sorted(held.items()) if count > 1]
    usual = {value: held[value] / len(said) for value in columns}
    videos = np.array(
        [[value in row for value in columns] for row in said.values()], np.float32
    ).reshape(len(said), len(columns))
    users = np.zeros((len(data.users), len(columns)), np.float32)
    for row in range(len(data.users)):
        watched = [said.get(data.items[item], set()) for item in data.history(row)]
        if any(watched):
            odds = log_odds(filter(None, watched), usual)
            users[row] = [odds[value] for value in columns]
    return Features(name, tuple(said), videos), Features(name, data.users, users)


def _answered(request: Request) -> Answer | Failure:
    """What counting says to a question about one user."""
    for prompt, count in COUNTED.items():
        if request.schema == prompt.schema():
            answer = count([read(one) for one in _watched(request)])
            said = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
            return Answer(said, 0, 0, 0.0)
    known = ", ".join(prompt.name for prompt in COUNTED)
    return Failure("unsupported", f"tallies answer {known} and preference_edges alone")


def _profile(watched: list[list[Value]]) -> dict[str, Any]:
    """The values that come most often, as what is liked; nothing is said to be disliked."""
    often = [value for value, count in _often(watched) if count > 1]
    likes = [f"{field} {value}"[:PHRASE] for field, value in often[:MOST]]
    summary = f"Counted in {len(watched)} watched videos."
    return {"likes": likes, "dislikes": [], "summary": summary}


def _rationale(watched: list[list[Value]]) -> dict[str, Any]:
    """The values that come most often, in two halves, and the lines that have most of them."""
    often = _often(watched)
    taste = [f"{field} {value}" for (field, value), _ in often if field not in FORMS]
    forms = [f"{field} {value}" for (field, value), _ in often if field in FORMS]
    worth = {value: count for value, count in often}
    best = sorted(watched, key=lambda row: -sum(worth[value] for value in set(row)))
    told = dict.fromkeys(", ".join(value for _, value in row)[:DESCRIPTION] for row in best)
    ideal = [*told, *[next(iter(told), "")] * IDEAL][:IDEAL]
    steps = (", ".join(part[:STEP_VALUES])[:STEP] for part in (taste, forms))
    return dict(zip(("taste", "forms", "next"), (*steps, ideal), strict=True))


def _preferences(watched: list[list[Value]]) -> dict[str, Any]:
    """For each factor the value that comes most often, if two videos have it."""
    named = [[(FACTOR_OF.get(field, field), value) for field, value in row] for row in watched]
    best: dict[str, tuple[str, int]] = {}
    for (factor, value), count in _often(named):
        if factor in FACTORS and count > 1:
            best.setdefault(factor, (value, count))
    likes = [
        {"factor": factor, "value": value, "because": f"in {count} of {len(watched)} videos"}
        for factor, (value, count) in best.items()
    ]
    return {"likes": likes, "summary": f"Counted in {len(watched)} watched videos."}


def _generated(watched: list[list[Value]]) -> dict[str, Any]:
    """The values that come most often; a video made of the commonest value of each field, and one
    of the next."""
    often = [value for value, _ in _often(watched)]
    by_field: dict[str, list[str]] = {}
    for field, value in often:
        by_field.setdefault(field, []).append(value)
    videos = []
    for place in range(VIDEOS):
        told = {field: held[min(place, len(held) - 1)] for field, held in by_field.items()}
        videos.append(line(told)[:GENERATED])
    interests = [value for _, value in often[:INTERESTS]]
    return {"interests": interests, "videos": list(dict.fromkeys(videos))}


COUNTED: dict[type[Prompt], Callable[[list[list[Value]]], dict[str, Any]]] = {
    UserProfile: _profile,
    Preferences: _preferences,
    Rationale: _rationale,
    GeneratedVideos: _generated,
}
"""What counts the answer to each question."""


def _often(watched: list[list[Value]]) -> list[tuple[Value, int]]:
    """Values with the number of videos that have them, the most first."""
    seen = Counter(value for row in watched for value in dict.fromkeys(row))
    return sorted(seen.items(), key=lambda pair: (-pair[1], pair[0]))


def _watched(request: Request) -> list[str]:
    """The lines about watched videos; one that stands for several comes as often."""
    found: list[str] = []
    for text in _lines(request):
        if text.startswith(WATCHED):
            told = text.removeprefix(WATCHED)
            number, times, rest = told.partition(TIMES)
            found += [rest] * int(number) if times and number.isdecimal() else [told]
    return found


def _lines(request: Request) -> list[str]:
    return [part for text in request.parts if isinstance(text, str) for part in text.splitlines()]


def _chosen(request: Request, choices: Sequence[str]) -> Chances | Failure:
    """Log-probabilities by the sum of log-odds of a candidate's values; several values of a field,
    as words are, count as their mean. Alone, a candidate is as likely liked as not at 0."""
    watched = [read(one) for one in _watched(request)]
    shown = {
        one[0]: read(one[1 + len(CANDIDATE) :])
        for one in _lines(request)
        if one[1:].startswith(CANDIDATE)
    }
    alone = tuple(choices) == YES_NO
    missing = [choice for choice in choices if choice not in shown]
    if alone and len(shown) != 1:
        return Failure("bad_request", f"{len(shown)} candidates are shown where Yes or No is asked")
    if missing and not alone:
        return Failure("bad_request", f"no line says what the candidate {missing[0]!r} is")
    odds = log_odds(watched, _usual([*watched, *shown.values()]))
    scores = {letter: _liking(row, odds) for letter, row in shown.items()}
    if alone:
        return Chances(log_softmax(np.array([*scores.values(), 0.0])).tolist())
    return Chances(log_softmax(np.array([scores[choice] for choice in choices])).tolist())


def _usual(rows: Sequence[Sequence[Value]]) -> dict[Value, float]:
    """Share of lines that would have each value if all of its field were as frequent."""
    held: dict[str, list[set[str]]] = {}
    for row in rows:
        for field in {field for field, _ in row}:
            held.setdefault(field, []).append({v for f, v in row if f == field})
    found = {}
    for field, some in held.items():
        known = set().union(*some)
        share = sum(map(len, some)) / len(some) / len(known)
        found |= {(field, value): share for value in known}
    return found


def _liking(row: Sequence[Value], odds: Mapping[Value, float]) -> float:
    by: dict[str, set[str]] = {}
    for field, value in row:
        by.setdefault(field, set()).add(value)
    # exact sums: equal candidates score the same in whatever order their values are added
    return fsum(fsum(odds[f, v] for v in some) / len(some) for f, some in by.items())
