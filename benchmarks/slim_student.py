"""Two small language models: a teacher that infers what people like, and a student it teaches.

The teacher (some two million weights) learns from nothing on populations of its own: it reads a
dossier, what `pocket` saw of the first half of somebody's history, and writes what that person in
truth likes (`inferred`), which the world knows. So it learns to infer, where `--backend tallies`
counts.

The student (less than a tenth of that) is made in two steps. It first learns the language from one
more population: dossiers, each followed by a rationale whose values and lines are drawn from its
notes at random, so that it can read notes and write rationales and knows nothing of what the
teacher goes by. Then `reelm.tune.lora` lays adapters over it that learn the teacher's rationales of
a share of the users of another population, in the form that `reelm lessons` writes. Populations
that are measured are never among these.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from llmrec_worlds import Population, population
from small_language import Size, chat, taught, vocabulary
from transformers import PreTrainedTokenizerFast

from reelm import dossiers, files
from reelm.backends.base import Answer
from reelm.backends.transformers import Transformers, TransformersConfig
from reelm.data.split import Split
from reelm.dossiers import Dossier
from reelm.prompts.rationale import DESCRIPTION, IDEAL, Rationale
from reelm.tallies import FORMS, QUIET, STEP_VALUES, Tallies, Value, line, read
from reelm.tallies import WATCHED as SEEN
from reelm.tune import lora
from reelm.tune.adapters import LoraConfig
from reelm.world.tables import true_utility
from reelm.world.vocabulary import ATTRIBUTES

WATCHED = 8  # videos that a dossier shows
CUT = 0.5
LANGUAGE, LESSONS = 60, 62  # populations
SCHOOL = tuple(range(70, 78))  # populations whose true tastes the teacher learns from
SHARE = 0.5  # of the users of LESSONS
TUNED = LoraConfig(
    rank=16, alpha=32, epochs=10, batch_size=8, learning_rate=4e-3, patience=2, device="cpu",
    held_out=0.15,
)  # fmt: skip


STUDENT, TEACHER = Size(64, 3, 12, 3e-3), Size(224, 4, 3, 1.5e-3)


def told(people: Population, split: Split, cut: float = CUT) -> list[Dossier]:
    """The dossiers of a population, from what `pocket` saw."""
    return dossiers.profile_dossiers(split, people.pocket, WATCHED, Rationale, cut)


def counted(asked: Sequence[Dossier]) -> dict[str, str]:
    """What counting says, as JSON by user."""
    said = Tallies().answer([one.request for one in asked])
    return {
        one.user: answer.text
        for one, answer in zip(asked, said, strict=True)
        if isinstance(answer, Answer)
    }


def teacher(work: Path) -> Path:
    """Folder of the teacher's checkpoint, made if it is not there."""
    folder = work / "teacher"
    if not (folder / "config.json").is_file():
        pairs = []
        for seed in SCHOOL:
            people = population(work, seed)
            asked = told(people, people.split())
            true = inferred(people, asked)
            pairs += [(_text(one), true[one.user]) for one in asked]
        taught(folder, TEACHER, _words(work), pairs)
    return folder


def inferred(people: Population, asked: Sequence[Dossier]) -> dict[str, str]:
    """What people in truth like, as rationales by user: the values they lean to most, and what
    `pocket` saw in the videos they would like best of all."""
    taste = leanings(people)
    videos = list(people.pocket)
    worth = true_utility(people.truth, [one.user for one in asked], videos)
    out = {}
    for one, liking in zip(asked, worth, strict=True):
        leaning = taste[one.user]
        liked = [value for value in sorted(leaning, key=leaning.__getitem__, reverse=True)
                 if leaning[value] > 0]  # fmt: skip
        best = [read(line(people.pocket[videos[n]])) for n in np.argsort(-liking)[:IDEAL]]
        out[one.user] = _rationale(liked, best)
    return out


def leanings(people: Population) -> dict[str, dict[Value, float]]:
    """How far each person in truth leans to each value that says something."""
    with np.load(people.truth / "tastes.npz") as stored:
        users, columns = stored["users"].tolist(), stored["columns"].tolist()
        taste = stored["taste"]
    values = [tuple(column.lower().split("=", 1)) for column in columns]
    kept = [n for n, (_, value) in enumerate(values) if value not in QUIET]
    return {user: {values[n]: row[n] for n in kept} for user, row in zip(users, taste, strict=True)}


def named(said: str, step: str) -> list[Value]:
    """The different values of a step of a rationale, as they come."""
    parts = dict.fromkeys(part for part in json.loads(said)[step].split(", ") if part)
    return [(field, value) for field, _, value in (part.partition(" ") for part in parts)]


def student(work: Path) -> tuple[Path, Path]:
    """Folders of the checkpoint and of its tuning, made if they are not there."""
    folder = work / "student"
    if not (folder / "base" / "config.json").is_file():
        people, rng = population(work, LANGUAGE), np.random.default_rng(0)
        asked = told(people, people.split())
        pairs = [(_text(one), drawn(one, rng)) for one in asked for _ in (1, 2)]
        taught(folder / "base", STUDENT, _words(work), pairs)
    path = folder / "lessons.jsonl"
    if not path.is_file():
        people = population(work, LESSONS)
        asked = [one for one in told(people, people.split()) if dossiers.drawn(one.user, SHARE)]
        said = answers(speaker(teacher(work), None), asked)
        lines = [_lesson(one, said[one.user]) for one in asked if one.user in said]
        files.write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    return folder / "base", lora.tune(path, str(folder / "base"), TUNED, folder)


def speaker(base: Path, tuned: Path | None) -> Transformers:
    """A model at work; a student without `tuned` is as it was before."""
    adapter = str(tuned / "adapter") if tuned else None
    return Transformers(TransformersConfig(model=str(base), adapter=adapter, device="cpu"))


def answers(model: Transformers, asked: Sequence[Dossier]) -> dict[str, str]:
    """Its rationales, as JSON by user; who got none is missing."""
    said = model.answer([one.request for one in asked])
    return {
        one.user: answer.text
        for one, answer in zip(asked, said, strict=True)
        if isinstance(answer, Answer)
    }


@torch.no_grad()
def lost(model: Transformers, asked: Sequence[Dossier], said: Mapping[str, str]) -> float:
    """Nats a token that these rationales cost a model, up to the end of what is said, as `tune`
    counts them."""
    words, found = model.inputs.tokenizer, []
    for one in asked:
        if one.user in said:
            told, wanted = (
                words(text.rstrip("\n") if n else text, add_special_tokens=False)["input_ids"]
                for n, text in enumerate(chat(_text(one), said[one.user]))
            )
            logits = model.model(input_ids=torch.tensor([told + wanted])).logits[0]
            logits = logits[len(told) - 1 : -1].float()
            found.append(F.cross_entropy(logits, torch.tensor(wanted), reduction="none"))
    return float(torch.cat(found).mean())


def _lesson(one: Dossier, said: str) -> dict:
    turns = [{"role": "user", "content": _text(one)}, {"role": "assistant", "content": said}]
    return {"messages": turns, "user_id": one.user}


def drawn(one: Dossier, rng: np.random.Generator) -> str:
    """A rationale of values and lines of a dossier that nobody chose, as JSON."""
    lines = [read(line.removeprefix(SEEN)) for line in _text(one).splitlines()
             if line.startswith(SEEN)]  # fmt: skip
    values = list(dict.fromkeys(value for line in lines for value in line))
    values = [values[n] for n in rng.permutation(len(values))]
    return _rationale(values, [lines[n] for n in rng.integers(len(lines), size=IDEAL)])


def _rationale(values: Sequence[Value], ideal: Sequence[Sequence[Value]]) -> str:
    """Values in two halves, and lines, as JSON."""
    taste = [f"{field} {value}" for field, value in values if field not in FORMS]
    forms = [f"{field} {value}" for field, value in values if field in FORMS]
    lines = [", ".join(value for _, value in one)[:DESCRIPTION] for one in ideal]
    steps = {"taste": ", ".join(taste[:STEP_VALUES]), "forms": ", ".join(forms[:STEP_VALUES])}
    return json.dumps(steps | {"next": lines}, separators=(",", ":"))


def _words(work: Path) -> PreTrainedTokenizerFast:
    """Beside which the question and each value of a note are one token."""
    people, rng = population(work, LANGUAGE), np.random.default_rng(0)
    asked = told(people, people.split())
    pairs = [(f, v.lower()) for f, some in ATTRIBUTES.items() for v in some if v != "none"]
    forms = ("- {0}: {1}", "; {0}: {1}", '"{0} {1}', ", {0} {1}", '"{1}', ", {1}")
    known = dict.fromkeys(form.format(*pair) for form in forms for pair in pairs)
    whole = [Rationale.ask(), '{"taste":', '","forms":', '","next":[', '",', '"]}', *known]
    return vocabulary([(_text(one), drawn(one, rng)) for one in asked], whole)


def _text(one: Dossier) -> str:
    """What is read."""
    (text,) = one.request.parts
    return str(text)
