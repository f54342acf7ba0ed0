"""TRAWL's first half in the rendered world: facts taken out of what strangers write.

    python benchmarks/extraction_study.py world --work work/study [--seeds 0 1 2 3 4] [--only ARM]
    python benchmarks/extraction_study.py summary

Under each of the 1,600 videos stand comments. Some tell what the video is like, in words that name
one of its true values; the others (NOISE of all) do not, and half of these name a value of the same
lists that is not the video's: "my piano lessons are on my page" under a clip with drums. A reader
that only knows the words cannot tell the two.

The reader is a language model of .8 million weights that learned here from nothing, on comments
under videos that nobody has rendered, to write the facts as the prompt `extraction` asks for them.
It answers through the backend `transformers`, and its answers are checked as `reelm encode` checks
them. Two of eight wordings of everything are kept from it: comments in these alone measure whether
it learned more than sentences.

What the texts are worth to a recommender is measured as in content_study.py: five populations, the
adapter of `trawl` by the recommender's loss alone, recall@20 of the mixed list. A line of
results/extraction_world.jsonl is one text and population; results/extraction_reading.json holds how
well was read.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import content_study
import numpy as np
import study
import world_study
from small_language import Pair, Size, taught, vocabulary
from stranger_words import EMPTY, OTHER, TRUE

from reelm import files
from reelm.annotate.texts import BEFORE, block
from reelm.backends.base import Answer, Request
from reelm.backends.transformers import Transformers, TransformersConfig
from reelm.data.tables import Features
from reelm.encoders.text import Text
from reelm.prompts.extraction import Extraction
from reelm.world.clips import sample_clip
from reelm.world.titles import make_uploads
from reelm.world.vocabulary import ATTRIBUTES

TABLE, READING = "extraction_world", "extraction_reading.json"
NOISE = 0.7  # of the comments that tell nothing of the video
NAMING = 0.5  # of these that name a value all the same
STATED = 0.6  # chance that somebody says a value
KNOWN = 6  # wordings of eight that the reader learned
LONGEST = 1500  # characters of comments that are shown
LESSONS = 40_000
WORDS = 1200  # tokens, so that a word is one
READER = Size(128, 4, 5, 2e-3, start=0.08, alike=64, read=0.5)
KINDS = {"": (NOISE, False), ", new wordings": (NOISE, True), ", no noise": (0.0, False)}
"""Comments by how many of them are noise, and whether in wordings that the reader never learned."""
FACTOR = {
    "subject": "topic", "motion": "action", "scene": "setting", "mood": "mood", "tempo": "pace",
    "instrument": "sound", "word": "on_screen_text",
}  # fmt: skip
QUIET = ("none", "still")
VALUES = sorted({value for name in FACTOR for value in ATTRIBUTES[name]} - set(QUIET))
Facts = dict[str, str]
"""Value by factor."""
PAIRS = (
    ("raw", "lightgcn"),
    ("extracted", "raw"),
    ("extracted", "every value named"),
    ("extracted", "stated"),
    ("extracted", "extracted, of others (placebo)"),
    ("extracted, new wordings", "raw, new wordings"),
    ("extracted, no noise", "raw, no noise"),
)


@dataclass(frozen=True)
class Passage:
    """Comments under a video."""

    comments: tuple[str, ...]
    states: tuple[str, ...]
    """The factor of which each comment tells a true value, or ""."""
    known: Facts
    """The video's true values."""

    @property
    def stated(self) -> Facts:
        """What the comments tell of the video."""
        return {factor: value for factor, value in self.known.items() if factor in self.states}

    @property
    def answer(self) -> dict[str, Any]:
        """What a reader should say who misreads nothing."""
        stated = self.stated.items()
        return {"facts": [{"factor": f, "fact": v, "source": "comments"} for f, v in stated]}

    @property
    def shown(self) -> str:
        """As a part of a request."""
        return block({"comments": [f"- {text}" for text in self.comments]}, LONGEST)

    def only(self, some: Sequence[int]) -> "Passage":
        """As if nobody else had written."""
        comments, states = (tuple(all_[n] for n in some) for all_ in (self.comments, self.states))
        return Passage(comments, states, self.known)


def passage(
    clip: Mapping[str, str],
    rng: random.Random,
    noise: float,
    new: bool,
    lists: Mapping[str, Sequence[str]] = ATTRIBUTES,
) -> Passage:
    """Comments under one clip.

    Args:
        clip: its true values by attribute.
        noise: share of comments that tell nothing of it.
        new: in the wordings that the reader never learned.
        lists: the values of each attribute.
    """
    wordings = slice(KNOWN, None) if new else slice(KNOWN)
    known = {name: str(clip[name]) for name in FACTOR if str(clip[name]) not in QUIET}
    stated = [name for name in known if rng.random() < STATED]
    stated = stated or [rng.choice(list(known))]
    told = [
        (rng.choice(TRUE[name][wordings]).replace("{}", known[name]), FACTOR[name])
        for name in stated
    ]
    for _ in range(round(len(told) * noise / (1 - noise))):
        name = rng.choice(list(FACTOR))
        values = [v for v in lists[name] if v not in QUIET and v != str(clip[name])]
        naming = rng.random() < NAMING
        text = rng.choice(OTHER[name][wordings]).replace("{}", rng.choice(values))
        told.append((text if naming else rng.choice(EMPTY), ""))
    rng.shuffle(told)
    comments, states = zip(*told, strict=True)
    return Passage(comments, states, {FACTOR[name]: value for name, value in known.items()})


def request(name: str, shown: str) -> Request:
    """As `reelm annotate` asks, without pictures."""
    text = f"{shown}{Extraction.ask()}"
    return Request(name, (text,), Extraction.schema(), Extraction.max_tokens)


def reader(work: Path) -> Path:
    """Folder of the language model, made if it is not there."""
    folder = work / "extractor"
    if not (folder / "config.json").is_file():
        rng = random.Random(5)
        lessons = [lesson(rng) for _ in range(LESSONS)]
        keys = ['{"facts":[]}', *(f'{{"factor":"{factor}","fact":"' for factor in FACTOR.values())]
        whole = [BEFORE, Extraction.ask(), '{"facts":[', '","source":"comments"}', "},", *keys]
        whole += VALUES  # the same token where it is read and where it is written
        taught(folder, READER, vocabulary(lessons[:4000], whole, WORDS), lessons)
    return folder


def lesson(rng: random.Random) -> Pair:
    """Comments under a video that nobody has rendered, and what they say of it.

    Most lessons are of one comment or a few: what a sentence tells is learned from it alone. In
    half of them a factor may have any factor's value: what was written must be copied, since none
    is likely.
    """
    clip, lists = asdict(sample_clip(rng)), dict(ATTRIBUTES)
    if rng.random() < 0.5:
        clip = {name: rng.choice(VALUES) for name in FACTOR}
        lists = dict.fromkeys(FACTOR, VALUES)
    whole = passage(clip, rng, rng.choice((0.0, NOISE, NOISE)), new=False, lists=lists)
    count = min(rng.choice((1, 1, 2, 4, len(whole.comments))), len(whole.comments))
    made = whole.only(rng.sample(range(len(whole.comments)), count))
    return f"{made.shown}{Extraction.ask()}", json.dumps(made.answer, separators=(",", ":"))


def extracted(model: Transformers, passages: Sequence[Passage]) -> list[tuple[Any, Any]]:
    """Answers as the model gave them, and what of them stands after the check; None: a failure."""
    said = model.answer([request(str(n), one.shown) for n, one in enumerate(passages)])
    answers = [json.loads(a.text) if isinstance(a, Answer) else None for a in said]
    return [
        (a, None if a is None else Extraction.checked(a, one.shown))
        for a, one in zip(answers, passages, strict=True)
    ]


def named(one: Passage) -> dict[str, Any]:
    """Every value of the lists that a comment names, whatever it speaks of: no reader."""
    text = " ".join(one.comments).split()
    facts = [
        {"factor": factor, "fact": value, "source": "comments"}
        for name, factor in FACTOR.items()
        for value in ATTRIBUTES[name]
        if value not in QUIET and value in text
    ]
    return {"facts": facts}


def right(passages: Sequence[Passage], answers: Sequence[Mapping[str, Any] | None]) -> dict:
    """How many of the stated facts were taken out, and of these how many nobody stated."""
    stated = found = said = 0
    for one, answer in zip(passages, answers, strict=True):
        facts = {(f["factor"], f["fact"]) for f in (answer or {"facts": []})["facts"]}
        stated, said = stated + len(one.stated), said + len(facts)
        found += len(facts & set(one.stated.items()))
    return {
        "stated": stated,
        "found": round(found / stated, 4),
        "said": said,
        "not stated": round(1 - found / said, 4) if said else 0.0,
        "failed": sum(answer is None for answer in answers),
    }


def in_world(kind: str = "") -> list[Passage]:
    """The comments under each video of the world, of a kind of KINDS."""
    clips = [upload.clip for upload in make_uploads(world_study.VIDEOS, world_study.SEED)]
    (noise, new), rng = KINDS[kind], random.Random(f"comments{kind}")
    return [passage(asdict(clip), rng, noise, new) for clip in clips]


def texts(work: Path) -> dict[str, list[str]]:
    """The texts of every arm, one per video of the world; writes how well was read."""
    model = Transformers(TransformersConfig(model=str(reader(work)), device="cpu"))
    made: dict[str, list[str]] = {}
    told: dict[str, Any] = {"weights": model.model.num_parameters(), "lessons": LESSONS}
    for kind in KINDS:
        some = in_world(kind)
        answers = extracted(model, some)
        told[f"extracted{kind}"] = right(some, [first for first, _ in answers])
        told[f"extracted, checked{kind}"] = right(some, [kept for _, kept in answers])
        told[f"every value named{kind}"] = right(some, [named(one) for one in some])
        made[f"raw{kind}"] = [". ".join(one.comments) for one in some]
        made[f"extracted{kind}"] = [_text(kept or {"facts": []}) for _, kept in answers]
        if not kind:
            made["every value named"] = [_text(named(one)) for one in some]
            made["stated"] = [_text(one.answer) for one in some]
    order = np.random.default_rng(0).permutation(world_study.VIDEOS)
    made["extracted, of others (placebo)"] = [made["extracted"][n] for n in order]
    text = json.dumps(told, indent=1)
    print(text, flush=True)
    files.write_text(study.RESULTS / READING, text + "\n")
    return made


def _text(answer: Mapping[str, Any]) -> str:
    return Extraction.as_text(answer) or "-"


def vectors(work: Path, ids: tuple[str, ...]) -> dict[str, Features]:
    """The texts through the text encoder; made once, then kept."""
    path = work / "extraction.npz"
    if not path.exists():
        encoder, found = Text(), {}
        for name, lines in texts(work).items():
            parts = [encoder.encode(lines[at : at + 64]) for at in range(0, len(lines), 64)]
            found[name] = np.concatenate(parts)
        with files.atomic(path) as tmp:
            np.savez(tmp, **found)
    stored = np.load(path)
    return {name: Features(name, ids, stored[name]) for name in stored.files}


def arms(kinds: Sequence[str]) -> dict[str, content_study.Arm]:
    """Every text through the adapter, some by cosine, and IDs alone."""
    alone = content_study.TRAWL_ARMS["loss alone"]
    made = {
        name: content_study.Arm("trawl", {"features": (name,)} | alone, content_study.WORLD_TRAIN)
        for name in kinds
    }
    made["lightgcn"] = content_study.Arm("lightgcn", {}, content_study.WORLD_TRAIN)
    made |= {
        f"{name}, cosine": content_study.Arm("content", {"features": name}, {})
        for name in ("raw", "extracted", "stated")
    }
    return content_study.chosen("world", made)


def run(work: Path, seeds: Sequence[int], only: Sequence[str] | None) -> None:
    """Every arm and population that the table lacks."""
    ids = tuple(content_study.oracle(work).ids)
    found = vectors(work, ids)
    done = {(row["arm"], row["seed"]) for row in study.rows(TABLE)}
    for seed in seeds:
        split, _ = world_study.cut(list(ids), found, seed, work)
        for name, arm in arms(list(found)).items():
            if (name, seed) not in done and (not only or name in only):
                row = {"arm": name, "seed": seed} | content_study.one(split, arm, seed)
                study.keep(TABLE, row)


def show() -> str:
    """How well was read, and the table, in Markdown."""
    told = study.RESULTS / READING
    if not told.is_file():
        return f"{told}: nothing was read yet; run `world` first"
    lines = [told.read_text(encoding="utf-8")]
    metrics: Callable[[str], list[float]] = lambda arm: [  # noqa: E731
        row["test"]["mixed@20"] for row in study.rows(TABLE) if row["arm"] == arm
    ]
    for arm in dict.fromkeys(row["arm"] for row in study.rows(TABLE)):
        lines.append(f"| {arm} | {content_study.said(metrics(arm))} |")
    for one, other in PAIRS:
        mean, half, count = study.paired(TABLE, one, other, "mixed@20")
        share = mean / np.mean(metrics(other))
        lines.append(f"| {one} - {other} | {mean:+.4f} ± {half:.4f} ({share:+.1%}), {count} |")
    return "\n".join(lines)


def main() -> None:
    given = study.asked_of_world("world", "summary")
    if given.what == "world":
        run(given.work, given.seeds, given.only)
    print(show())


if __name__ == "__main__":
    main()
