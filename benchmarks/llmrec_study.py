"""Does LLMRec's augmentation help? A small world, the rendered world, and TikTok.

    python benchmarks/llmrec_study.py small
    python benchmarks/llmrec_study.py world --work work/study
    REELM_DATA=... python benchmarks/llmrec_study.py tiktok

Each line of results/llmrec_<name>.jsonl is an arm and a seed; lines that are there are not made
again. Weights are chosen on validation; the test is opened once per line. All arms of a seed share
split, start and order of batches. Settings were chosen on validation of population 50.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import llmrec_worlds
import numpy as np
import study
import torch
from llmrec_worlds import dealt, oracle_edges
from scipy.cluster.vq import kmeans2

from reelm.data.dataset import Dataset
from reelm.data.split import Split
from reelm.data.tables import Features
from reelm.dossiers import candidates, edge_dossiers, edges
from reelm.evaluate import evaluate
from reelm.models import find
from reelm.runs import Run
from reelm.tallies import Answers, choose, tallied
from reelm.train import TrainConfig, build, train

K = 20
SMALL = TrainConfig(
    batch_size=10_000, learning_rate=0.02, weight_decay=0.0, epochs=200, validate_every=10,
    patience=20, clip=1e9, measure=f"mixed/recall@{K}",
)  # fmt: skip
BARE = {"attributes": (), "dim": 24, "base_settings": ("layers=1",)}

WORLD = TrainConfig(
    batch_size=4096, learning_rate=0.01, weight_decay=0.0, epochs=12, validate_every=2,
    patience=3, clip=1e9, measure=f"warm/recall@{K}",
)  # fmt: skip
TIKTOK = WORLD.model_copy(
    update={"learning_rate": 5e-3, "epochs": 20, "validate_every": 4, "patience": 2,
            "validate_on": 100_000, "measure": f"mixed/recall@{K}"}
)  # fmt: skip
SOFT = {"objective": "softmax", "decay": 0.0, "negatives": 256, "base_settings": ("layers=2",)}
READS = {"attributes": ("said",), "profiles": ("said",)}
ALONE = {"attributes": (), "profiles": (), "share": 0.0}
SIDES = {"attribute_weight": 0.5, "profile_weight": 0.5}  # on validation of population 50
CLUSTERS = 40  # of each feature of TikTok, by which the prototype describer names videos

Made = tuple[Split, dict[str, Any]]
"""A split whose training data hold what was said, and settings of the model."""


def fitted(split: Split, settings: Mapping[str, Any], schedule: TrainConfig, seed: int) -> Any:
    """A trained llmrec, its best value on validation, and processor seconds."""
    config = schedule.model_copy(update={"seed": seed})
    model = build("llmrec", find("llmrec").Config(**settings), split.train, seed)
    begun = time.process_time()
    rows = train(model, split.train, config, split.valid)
    spent = round(time.process_time() - begun, 1)
    kept = next((row for row in rows if row.get("kept")), rows[-1])
    return model, {"valid": kept[config.measure], "best_epoch": kept["epoch"], "cpu_s": spent}


def said(data: Split, train: Dataset) -> Split:
    """A split with other training data of the same interactions."""
    return replace(data, train=train)


def small_arms(seed: int) -> dict[str, Callable[[], Made]]:
    """Every arm of the small world."""
    world = llmrec_worlds.world(seed)
    plain = BARE | {"share": 0.0}
    base, _ = fitted(world.split, plain, SMALL, seed)
    data = world.split.train
    shown = candidates(Run.of("llmrec", base, data), data)
    table = {q: oracle_edges(data, shown, world.truth, q, 1000 + seed) for q in (1.0, 0.5, 0.0)}
    table[-1.0] = dealt(table[1.0], 2000 + seed)

    def told(quality: float, **more: Any) -> Callable[[], Made]:
        given = said(world.split, data.with_preferences(table[quality]))
        return lambda: (given, BARE | {"share": 0.3} | more)

    def alone(prune: str, rate: float) -> Callable[[], Made]:
        ramp = {"prune_after": 0, "prune_ramp": 1}
        how = {"prune": prune, "prune_rate": rate, "prune_on": "all"} | ramp
        return lambda: (world.split, plain | how)

    arms = {"lightgcn": lambda: (world.split, plain)}
    arms |= {f"edges, q = {q:g}": told(q) for q in (1.0, 0.5, 0.0)}
    arms["edges of others (placebo)"] = told(-1.0)
    for rate in (0.1, 0.3, 0.71):
        arms[f"highest {rate:g} left out"] = alone("highest", rate)
    arms["highest .29 kept"] = alone("keep_highest", 0.71)
    for q in (1.0, 0.5):
        arms[f"edges, q = {q:g}, their highest .3 left out"] = told(
            q, prune="highest", prune_rate=0.3, prune_after=10, prune_ramp=20
        )
        arms[f"edges, q = {q:g}, their highest .29 kept"] = told(
            q, prune="keep_highest", prune_rate=0.71, prune_after=10, prune_ramp=20
        )
    return arms


def heard(split: Split, base: Run, answers: Answers, seed: int, placebo: bool = False) -> Split:
    """A split whose training data hold what counting makes of `answers`; features are there.

    Args:
        placebo: profiles and edges are dealt out to other users.
    """
    _, people = tallied(split.train, answers, "said")
    table = edges(edge_dossiers(split, base, answers), choose).table
    if placebo:
        order = np.random.default_rng(4000 + seed).permutation(len(people.ids))
        people = replace(people, vectors=people.vectors[order])
        table = dealt(table, 5000 + seed)
    return said(split, split.train.with_profiles([people]).with_preferences(table))


def of_others(features: Features, seed: int) -> Features:
    """The same vectors dealt out to other videos."""
    order = np.random.default_rng(6000 + seed).permutation(len(features.ids))
    return replace(features, vectors=features.vectors[order])


def mean_profiles(data: Dataset, name: str) -> Features:
    """Users as the mean of what they watched, by a feature table as it is."""
    table = data.features[name].numpy()
    rows = [table[data.history(row)].sum(0) for row in range(len(data.users))]
    size = np.maximum(np.diff(data.offsets), 1)[:, None]
    return Features(name, data.users, (np.stack(rows) / size).astype(np.float32))


def with_run(split: Split, plain: Mapping[str, Any], schedule: TrainConfig, seed: int) -> Run:
    """The base model without any augmentation, from which candidates come."""
    return Run.of("llmrec", fitted(split, plain, schedule, seed)[0], split.train)


def world_arms(work: Path) -> Callable[[int], dict[str, Callable[[], Made]]]:
    """Arms of the rendered world, by seed."""

    def arms(seed: int) -> dict[str, Callable[[], Made]]:
        people = llmrec_worlds.population(work, seed)
        bare, plain = people.split(), SOFT | ALONE
        base = with_run(bare, plain, WORLD, seed)
        full = SOFT | READS | SIDES | {"share": 0.3}

        def told(answers: Answers, placebo: bool = False, **more: Any) -> Callable[[], Made]:
            def make() -> Made:
                videos, _ = tallied(bare.train, answers, "said")
                videos = of_others(videos, seed) if placebo else videos
                split = people.split(videos)
                return heard(split, base, answers, seed, placebo), full | more

            return make

        def titles() -> Made:
            split = people.split(people.titles)
            profiles = mean_profiles(split.train, "title")
            reads = {"attributes": ("title",), "profiles": ("title",), "share": 0.0}
            return said(split, split.train.with_profiles([profiles])), full | reads

        found: dict[str, Callable[[], Made]] = {
            "lightgcn": lambda: (bare, plain),
            "oracle, q = 1": told(people.described[1.0]),
            "all of others (placebo)": told(people.described[1.0], placebo=True),
            "pocket": told(people.pocket),
            "titles alone (encoder only)": titles,
            "oracle, q = 0": told(people.described[0.0]),
            "oracle, q = 0.5": told(people.described[0.5]),
            "oracle, q = 1, no edges": told(people.described[1.0], share=0.0),
            "oracle, q = 0.75": told(people.described[0.75]),
            "oracle, q = 1, edges alone": told(people.described[1.0], attributes=(), profiles=()),
        }
        return found

    return arms


def tiktok_arms(seed: int) -> dict[str, Callable[[], Made]]:
    """Arms of TikTok: the prototype describer names clusters of pictures and of sound."""
    split, plain = study.tiktok(), SOFT | ALONE
    answers, both = prototypes(split.train), ("image", "audio")
    base = with_run(split, plain, TIKTOK, seed)
    videos, _ = tallied(split.train, answers, "said")
    full = SOFT | READS | SIDES

    def told(placebo: bool = False, share: float = 0.1) -> Callable[[], Made]:
        def make() -> Made:
            given = of_others(videos, seed) if placebo else videos
            data = with_videos(split.train, given)
            return heard(said(split, data), base, answers, seed, placebo), full | {"share": share}

        return make

    def encoders() -> Made:
        profiles = [mean_profiles(split.train, name) for name in both]
        reads = {"attributes": both, "profiles": both, "share": 0.0}
        return said(split, split.train.with_profiles(profiles)), full | reads

    return {
        "lightgcn": lambda: (split, plain),
        "prototypes": told(),
        "features alone (encoder only)": encoders,
        "all of others (placebo)": told(placebo=True),
    }


def prototypes(data: Dataset) -> Answers:
    """Each video's nearest of CLUSTERS centres by each feature table, as words such as c7."""
    found: dict[str, dict[str, str]] = {}
    for name, table in data.features.items():
        has = np.flatnonzero(data.has_feature[name])
        unit = torch.nn.functional.normalize(table[has], dim=1).numpy()
        _, label = kmeans2(unit, CLUSTERS, minit="++", rng=np.random.default_rng(0))
        for row, cluster in zip(has, label, strict=True):
            found.setdefault(data.items[row], {})[name] = f"c{cluster}"
    return found


def with_videos(data: Dataset, features: Features) -> Dataset:
    """The same data with one more table of videos."""
    place = {video: row for row, video in enumerate(data.items)}
    rows = np.array([place[video] for video in features.ids])
    table = np.zeros((len(data.items), features.vectors.shape[1]), np.float32)
    table[rows] = features.vectors
    has = np.zeros(len(data.items), bool)
    has[rows] = True
    return replace(
        data,
        features={**data.features, features.name: torch.from_numpy(table)},
        has_feature={**data.has_feature, features.name: has},
    )


def run(
    table: str,
    arms: Callable[[int], Mapping[str, Callable[[], Made]]],
    schedule: TrainConfig,
    seeds: Sequence[int],
    pools: tuple[str, ...] = ("mixed",),
    only: Sequence[str] | None = None,
) -> None:
    """Every arm and seed that the table lacks, seed by seed."""
    for seed in seeds:
        done = {row["arm"] for row in study.rows(table) if row["seed"] == seed}
        if only and not set(only) - done:
            continue
        for name, make in arms(seed).items():
            if name in done or (only and name not in only):
                continue
            split, settings = make()
            model, facts = fitted(split, settings, schedule, seed)
            report = evaluate(model, split.test, pools, (10, K))
            test = {f"{p}/{m}@{k}": round(report[f"{p}/{m}@{k}"], 5)
                    for p in report.pools for m in ("recall", "ndcg") for k in (10, K)}  # fmt: skip
            row = {"arm": name, "seed": seed, "test": test} | facts
            row |= {"settings": {k: v for k, v in settings.items() if k != "base_settings"}}
            study.keep(table, row)


def show(table: str, over: Sequence[str], metric: str) -> str:
    """Means over seeds with 95 % intervals, and paired differences from the arms `over`."""
    found: dict[str, dict[int, float]] = {}
    for row in study.rows(table):
        found.setdefault(row["arm"], {})[row["seed"]] = row["test"][metric]
    lines = [f"| {metric} | seeds | mean | " + " | ".join(f"- {name}" for name in over) + " |"]
    lines.append("|---" * (len(over) + 3) + "|")
    for arm, by in found.items():
        cells = [_cell(list(by.values()), "")]
        for other in over:
            seeds = sorted(set(by) & set(found.get(other, ())))
            same = arm == other or not seeds
            cells.append("" if same else _cell([by[s] - found[other][s] for s in seeds], "+"))
        lines.append(f"| {arm} | {len(by)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float], sign: str) -> str:
    mean, half = study.interval(values)
    return f"{mean:{sign}.4f}" + ("" if np.isnan(half) else f" ± {half:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", choices=("small", "world", "tiktok"))
    parser.add_argument("--work", type=Path, default=Path("work/study"))
    parser.add_argument("--seeds", type=int, nargs="*")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--summary", action="store_true", help="only print the table")
    given = parser.parse_args()
    if given.data == "small":
        if not given.summary:
            run("llmrec_small", small_arms, SMALL, given.seeds or range(12), only=given.only)
        print(show("llmrec_small", ("lightgcn",), f"mixed/recall@{K}"))
    if given.data == "world":
        pools = ("mixed", "warm", "cold")
        if not given.summary:
            seeds = given.seeds or range(5)
            run("llmrec_world", world_arms(given.work), WORLD, seeds, pools, given.only)
        over = ("lightgcn", "titles alone (encoder only)")
        for pool in pools:
            print(show("llmrec_world", over, f"{pool}/recall@{K}"))
    if given.data == "tiktok":
        if not given.summary:
            run("llmrec_tiktok", tiktok_arms, TIKTOK, given.seeds or range(3), only=given.only)
        over = ("lightgcn", "features alone (encoder only)")
        print(show("llmrec_tiktok", over, f"mixed/recall@{K}"))


if __name__ == "__main__":
    main()
