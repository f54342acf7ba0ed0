"""Do rationales of users help, and can a tiny model write them? SLIM in the rendered world.

    python benchmarks/paper_slim.py fidelity --work work/study
    python benchmarks/paper_slim.py world --work work/study
    python benchmarks/paper_slim.py summary

The world of world_study.py: 1,600 rendered videos as `pocket` saw them, 1,200 people, a log cut at
day 22. Teacher and student are those of slim_student.py; `counted` is what `tallies` says. Each
line of results/slim_world.jsonl is an arm and a seed (of people and of training); lines that are
there are not made again. Weights are chosen on validation; the test is opened once per line.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import slim_student
import study
import torch
from jaxtyping import Float
from llmrec_worlds import Population, population
from slim_student import answers, counted, told

from reelm.backends.transformers import Transformers
from reelm.data.split import Split
from reelm.data.tables import Features
from reelm.dossiers import Dossier
from reelm.encoders.hashing import Hashing
from reelm.evaluate import Sampled, evaluate
from reelm.models.slim import SLIMConfig
from reelm.prompts.attributes import Attributes
from reelm.prompts.rationale import Rationale
from reelm.tallies import WATCHED
from reelm.train import TrainConfig, fit

TABLE = "slim_world"
STEPS = ("taste", "forms", "next")
SCHEDULE = TrainConfig(epochs=12, patience=4, learning_rate=3e-3, measure="warm/ndcg@10")
POOLS = ("warm", "cold", "mixed")
CONTROLS = ("backbone+ (item text)", "backbone+, later halves alone")
HELD_OUT, FIDELITY = 500, 50  # users, and the population they are of


@dataclass(frozen=True)
class Told:
    """A population, and all that is said of its people."""

    people: Population
    work: Path
    encoder: Hashing

    @cached_property
    def split(self) -> Split:
        """With the notes of videos, encoded as rationales are."""
        texts = {video: Attributes.as_text(said) for video, said in self.people.pocket.items()}
        notes = Features("notes", tuple(texts), self.vectors(list(texts.values())))
        return self.people.split(notes)

    @cached_property
    def asked(self) -> list[Dossier]:
        """Of the first half of each history."""
        return told(self.people, self.split)

    @cached_property
    def tallied(self) -> dict[str, str]:
        """Rationales by user, by counting."""
        return counted(self.asked)

    @cached_property
    def taught(self) -> dict[str, str]:
        """The teacher's."""
        return answers(_teacher(self.work), self.asked)

    @cached_property
    def learned(self) -> dict[str, str]:
        """The student's."""
        return answers(slim_student.speaker(*slim_student.student(self.work)), self.asked)

    def vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        """By hashed words, which cost next to nothing."""
        return self.encoder.encode(texts)

    def steps(self, said: Mapping[str, str], asked: Sequence[Dossier]) -> list[Features]:
        """A table of users for each step of their rationales."""
        read = {one.user: one.read for one in asked}
        whole = {user: json.loads(text) for user, text in said.items()}
        seen = np.array([read[user] for user in whole])
        found = []
        for step in STEPS:
            texts = [Rationale.as_text({step: answer[step]}) or "-" for answer in whole.values()]
            found.append(Features(step, tuple(whole), self.vectors(texts), seen))
        return found

    @cached_property
    def counted(self) -> list[Features]:
        """Counted rationales, a table for each step."""
        return self.steps(self.tallied, self.asked)

    @cached_property
    def teacher(self) -> list[Features]:
        """The teacher's rationales."""
        return self.steps(self.taught, self.asked)

    @cached_property
    def student(self) -> list[Features]:
        """The student's."""
        return self.steps(self.learned, self.asked)

    @cached_property
    def raw(self) -> list[Features]:
        """The notes of what was watched, as the text about the user: the fair control."""
        texts = [
            " ".join(
                line.removeprefix(WATCHED)
                for line in one.request.parts[0].splitlines()
                if line.startswith(WATCHED)
            )
            for one in self.asked
        ]
        ids, read = tuple(one.user for one in self.asked), [one.read for one in self.asked]
        return [Features("raw", ids, self.vectors(texts), np.array(read))]


def arms(world: Told) -> dict[str, Any]:
    """Users' tables, made when they are asked for, and settings by arm."""

    def dealt(tables: list[Features]) -> list[Features]:
        order = np.random.default_rng(7).permutation(len(tables[0].ids))
        return [replace(one, vectors=one.vectors[order]) for one in tables]

    def untold() -> list[Features]:
        return [replace(one, vectors=np.zeros_like(one.vectors)) for one in world.counted]

    def whole() -> list[Features]:
        asked = told(world.people, world.split, 1.0)
        return world.steps(counted(asked), asked)

    def by(name: str) -> Callable[[], list[Features]]:
        return lambda: getattr(world, name)

    cold = {"items": "content"}
    return {
        "backbone": (list, {"items": "id"}),
        "backbone+ (item text)": (list, {}),
        "backbone+, later halves alone": (untold, {}),
        "raw history as text": (by("raw"), {}),
        "counted": (by("counted"), {}),
        "counted, of others (placebo)": (lambda: dealt(world.counted), {}),
        "teacher": (by("teacher"), {}),
        "teacher, of others (placebo)": (lambda: dealt(world.teacher), {}),
        "student": (by("student"), {}),
        "student, of others (placebo)": (lambda: dealt(world.student), {}),
        "no cut (leak)": (whole, {"after": False}),
        "no ids: item text": (list, cold),
        "no ids: item text, later halves alone": (untold, cold),
        "no ids: raw history as text": (by("raw"), cold),
        "no ids: counted": (by("counted"), cold),
        "no ids: teacher": (by("teacher"), cold),
        "no ids: student": (by("student"), cold),
    }


def row(world: Told, name: str, arm: tuple[Any, dict[str, Any]], seed: int) -> dict[str, Any]:
    """Train one arm and open the test once."""
    make, settings = arm
    tables = make()
    data = world.split.train.with_profiles(tables)
    config = SLIMConfig(
        features=("notes",),
        profiles=tuple(one.name for one in tables),
        backbone_settings=("layers=1",),
        **settings,
    )
    begun = time.process_time()
    schedule = SCHEDULE.model_copy(update={"seed": seed})
    fitted = fit(replace(world.split, train=data), "slim", config, schedule)
    spent = time.process_time() - begun
    model = fitted.model.eval()
    with torch.no_grad():
        batches = model.batches(data, 256, torch.Generator().manual_seed(0))
        lost = float(np.mean([sum(map(float, model.loss(batch).values())) for batch in batches]))
    report = evaluate(model, world.split.test, POOLS, (10,), sampled=Sampled(100))
    test = {k: round(report[k], 5) for p in POOLS for m in ("recall", "ndcg", "sampled100_recall")
            if (k := f"{p}/{m}@10")}  # fmt: skip
    facts = {"train_loss": round(lost, 4), "cpu_s": round(spent, 1)}
    return {"arm": name, "seed": seed, "test": test, **facts}


def fidelity(work: Path) -> dict[str, Any]:
    """How far the student says of held-out users what the teacher says, beside what says so
    untaught: the student before its lessons, and counting."""
    base, tuned = slim_student.student(work)
    world = Told(population(work, FIDELITY), work, Hashing())
    some = world.asked[:HELD_OUT]
    before, after = slim_student.speaker(base, None), slim_student.speaker(base, tuned)
    said = {"student": answers(after, some), "untuned": answers(before, some)}
    said |= {"counted": counted(some), "teacher": answers(_teacher(work), some)}
    users = [one.user for one in some if all(one.user in by for by in said.values())]
    texts = {who: [Rationale.as_text(json.loads(by[u])) for u in users] for who, by in said.items()}
    vectors = {who: world.vectors(its) for who, its in texts.items()}
    teacher = vectors.pop("teacher")
    near = {who: ((its * teacher).sum(1), (its * np.roll(teacher, 1, 0)).sum(1))
            for who, its in vectors.items()}  # fmt: skip
    margin = {who: own - other for who, (own, other) in near.items()}
    lost = {who: slim_student.lost(model, some, said["teacher"])
            for who, model in (("untuned", before), ("tuned", after))}  # fmt: skip
    return {
        "users": len(some),
        "answered": len(users),
        "cosine": {who: [float(side.mean()) for side in sides] for who, sides in near.items()},
        "margin": {who: study.interval(one.tolist()) for who, one in margin.items()},
        "margin_taught": study.interval((margin["student"] - margin["untuned"]).tolist()),
        "nll": lost,
        "nll_ratio": lost["tuned"] / lost["untuned"],
        "values": values(world, some, said),
    }


def _teacher(work: Path) -> Transformers:
    return slim_student.speaker(slim_student.teacher(work), None)


def values(
    world: Told, asked: Sequence[Dossier], said: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """Are the values that are named liked in truth? By writer: how many different ones a rationale
    names, which share of these its person leans to, and how far that is above counting that is cut
    to as many; who names less names what is surer, and what is said twice counts once. What is no
    value of the world is liked by nobody. And which share of what each likes most is named."""
    leaning = slim_student.leanings(world.people)
    true = slim_student.inferred(world.people, asked)
    found = {}
    for who, by in said.items():
        own, more, number, most = [], [], [], []
        for one in asked:
            its = [slim_student.named(by[one.user], step) for step in STEPS[:2]]
            tallied = [slim_student.named(said["counted"][one.user], step) for step in STEPS[:2]]
            like = [few[: len(some)] for few, some in zip(tallied, its, strict=True)]
            liked, fair = (
                float(
                    np.mean(
                        [leaning[one.user].get(value, 0) > 0 for side in sides for value in side]
                    )
                )
                for sides in (its, like)
            )
            best = {
                value for step in STEPS[:2] for value in slim_student.named(true[one.user], step)
            }
            most.append(len(best.intersection(chain(*its))) / len(best))
            number.append(sum(map(len, its)))
            own.append(liked)
            more.append(liked - fair)
        found[who] = {"different": float(np.mean(number)), "liked": study.interval(own),
                      "of_most_liked": study.interval(most),
                      "over_counting_as_many": study.interval(more)}  # fmt: skip
    chance = [liking > 0 for one in asked for liking in leaning[one.user].values()]
    return found | {"chance": float(np.mean(chance))}


def retention(metric: str) -> str:
    """The share of the teacher's mean gain that the student keeps, and 95 % of it over all draws of
    populations with replacement."""
    by = {(one["arm"], one["seed"]): one["test"][metric] for one in study.rows(TABLE)}
    seeds = sorted({seed for arm, seed in by if arm == "student"})
    draws = np.array(list(product(range(len(seeds)), repeat=len(seeds))))
    lines = []
    for base in CONTROLS:
        kept, whole = (
            np.array([by[arm, seed] - by[base, seed] for seed in seeds])
            for arm in ("student", "teacher")
        )
        below, above = np.percentile(kept[draws].mean(1) / whole[draws].mean(1), [2.5, 97.5])
        none = float((whole[draws].mean(1) <= 0).mean())
        lines.append(
            f"{metric}, over {base}: student {kept.mean():+.4f}, teacher {whole.mean():+.4f}, "
            f"ratio {kept.mean() / whole.mean():.2f} [{below:.2f}, {above:.2f}]; in {none:.2f} of "
            "the draws the teacher gains nothing, and a ratio says nothing"
        )
    return "\n".join(lines)


def run(work: Path, seeds: Sequence[int], only: Sequence[str] | None) -> None:
    """Every arm and seed that the table lacks, seed by seed."""
    encoder = Hashing()
    for seed in seeds:
        done = {one["arm"] for one in study.rows(TABLE) if one["seed"] == seed}
        world = Told(population(work, seed), work, encoder)
        for name, arm in arms(world).items():
            if name not in done and (not only or name in only):
                study.keep(TABLE, row(world, name, arm, seed))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("fidelity", "world", "summary"))
    parser.add_argument("--work", type=Path, default=Path("work/study"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", nargs="*", help="these arms alone")
    given = parser.parse_args()
    if given.what == "fidelity":
        found = fidelity(given.work)
        text = json.dumps(found, indent=1)
        (study.RESULTS / "slim_fidelity.json").write_text(text + "\n")
        print(text)
    if given.what == "world":
        run(given.work, given.seeds, given.only)
    if given.what == "summary":
        from llmrec_study import show

        for metric in ("warm/ndcg@10", "mixed/ndcg@10", "cold/recall@10",
                       "cold/sampled100_recall@10"):  # fmt: skip
            print(show(TABLE, ("backbone+ (item text)", "raw history as text"), metric))
        print(retention("warm/ndcg@10"))


if __name__ == "__main__":
    main()
