"""What do vectors of content buy models that learn from pairs of user and video?

    REELM_DATA=... python benchmarks/content_study.py microlens [--seeds 0 1 2] [--only ARM ...]
    python benchmarks/content_study.py world --work work/study

microlens: 40,000 users of MicroLens-50k, titles by the text encoder. A tenth of the videos leaves
training for the test and a tenth for validation (data.split, cold_item); of what is left, a fifth
of the users give their last interaction to the test and a tenth to validation, so that videos that
training saw are asked for too. A seed draws both and starts the training.
world: the rendered world of world_study.py, five populations; the same models with the true
attributes, with what `pocket` saw, and with that of other videos.

A line of results/content_<name>.jsonl is one arm and seed; lines that are there are not made again.
Settings are chosen on validation of another draw (seed 100) or population (50): `--tries` goes
through GRID, into results/content_tries.jsonl. It never opens the test. A model that nothing was
tried for takes the softmax at GRID's second rate.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import study
import torch

from reelm import files, models
from reelm.config import Config
from reelm.data.batches import padded
from reelm.data.dataset import Dataset
from reelm.data.split import Split, SplitConfig, asked, cold_item, keep
from reelm.data.tables import Features
from reelm.evaluate import Report, evaluate
from reelm.models.base import Retriever
from reelm.train import TrainConfig, build, train

K = 20
COLUMNS = ("cold", "warm", "mixed", "cold in mixed", "warm in mixed", "cold places")
PAIRS = {"batch_size": 8192, "learning_rate": 5e-3, "weight_decay": 0.0, "epochs": 20}
EVERY = {"validate_every": 2, "patience": 3, "validate_on": 6000}
COLD, WARM = {"measure": f"cold/recall@{K}"}, {"measure": f"warm/recall@{K}"}
SLOW = {"mmssl": {"rebuild_every": 81}}  # three epochs: a rebuilding takes 14 s here
WORLD_TRAIN = {
    "batch_size": 2048, "learning_rate": 1e-2, "weight_decay": 0.0, "epochs": 30,
    "validate_every": 2, "patience": 8, "measure": f"mixed/recall@{K}",
}  # fmt: skip
BPR, SOFTMAX = {"objective": "bpr"}, {"objective": "softmax", "decay": 0.0}
GRID = {  # what is tried on validation of seed 100 or population 50: learning rates, objectives
    "microlens": [(5e-3, BPR), (5e-3, SOFTMAX)],
    "world": [(1e-2, BPR), (1e-2, SOFTMAX), (2e-3, BPR), (2e-3, SOFTMAX)],
}
TRIED = {"microlens": 100, "world": 50}
PAIRED = {
    "content_microlens": [(m, "lightgcn") for m in ("vbpr", "freedom", "mmssl")]
    + [(m, "content") for m in ("vbpr", "freedom", "mmssl", "sasrec, content", "sasrec, both")],
    "content_world": [
        (f"{model}, {one}", f"{model}, {other}")
        for model in ("content", "vbpr", "freedom", "mmssl", "trawl")
        for one, other in (("oracle", "watched"), ("watched", "half"), ("watched", "shuffled"))
    ]
    + [(f"{model}, watched", "lightgcn") for model in ("vbpr", "freedom", "mmssl", "trawl")]
    + [("trawl, watched", f"trawl, watched, {arm}") for arm in ("loss alone", "dealt", "no mask")]
    + [("trawl, watched, loss alone", "content, watched")],
}
LEARNED = ("mf", "lightgcn", "vbpr", "freedom", "mmssl", "trawl")
CONTRASTS = ("contrast_user", "contrast_item", "align")
TRAWL = {"contrast_user": 0.01, "contrast_item": 0.01, "align": 0.0}
"""Chosen by validation of population 50: recall@20 .086 (mixed), .083 with the third contrast too,
.081 with none."""
TRAWL_ARMS = {
    "loss alone": dict.fromkeys(CONTRASTS, 0.0),
    "dealt": TRAWL | {"dealt": True},
    "no mask": TRAWL | {"mask": False},
}
CODE = files.digest(
    b"".join(f.read_bytes() for f in sorted(Path(models.__file__).parent.rglob("*.py")))
)[:12]  # of the models that made a row


@dataclass(frozen=True)
class Arm:
    """A model and its settings; `features` is filled in by the study."""

    model: str
    settings: dict[str, Any]
    train: dict[str, Any]

    def made(self) -> Config:
        return models.find(self.model).Config(**self.settings)

    def given(self, rate: float, settings: dict[str, Any]) -> "Arm":
        """The same with another learning rate and other settings."""
        return Arm(self.model, self.settings | settings, self.train | {"learning_rate": rate})


def arms(features: tuple[str, ...]) -> dict[str, Arm]:
    """Every arm of microlens: models that read these features, then those that read none."""
    read = {"features": features}
    pairs, alone = PAIRS | EVERY | COLD, PAIRS | EVERY | WARM
    histories = {"epochs": 20} | EVERY | COLD
    return {
        "popularity": Arm("popularity", {}, {}),
        "content": Arm("content", {"features": features[0]}, {}),
        "mf": Arm("mf", {}, alone),
        "lightgcn": Arm("lightgcn", {}, alone),
        "vbpr": Arm("vbpr", read, pairs),
        "freedom": Arm("freedom", read, pairs),
        "sasrec, content": Arm("sasrec", read | {"items": "content"}, histories),
        "sasrec, both": Arm("sasrec", read | {"items": "both"}, histories),
        "mmssl": Arm("mmssl", read | SLOW["mmssl"], pairs),
    }


def microlens(seed: int) -> Split:
    """One draw of never-seen videos and of users who are asked for known ones."""
    root = study.folder() / "microlens50k_dev"
    log = pl.read_parquet(root / "sequences.parquet").explode("items")
    events = log.select(user_id="user", video_id="items", event=pl.lit("watch"), value=1.0)
    data = Dataset.build(events, [titles(root)])
    return with_warm(data, seed)


def world(work: Path) -> Callable[[int], tuple[Split, dict[str, Arm]]]:
    """Rendered once; a seed draws people, log, start, and whose notes the placebo reads."""
    import cold_study
    import world_study

    ids, found = cold_study.noted(work)
    found["oracle"] = oracle(work)

    def cut(seed: int) -> tuple[Split, dict[str, Arm]]:
        seen, rng = found["notes"], np.random.default_rng(seed)
        some = rng.permutation(len(seen.ids))
        half = np.arange(len(some))
        half[some[: len(some) // 2]] = np.roll(some[: len(some) // 2], 1)
        read = {
            "oracle": found["oracle"],
            "watched": Features("watched", seen.ids, seen.vectors),
            "half": Features("half", seen.ids, seen.vectors[half]),
            "shuffled": Features("shuffled", seen.ids, seen.vectors[rng.permutation(len(some))]),
        }
        split, _ = world_study.cut(ids, read, seed, work)
        return split, world_arms()

    return cut


def oracle(work: Path) -> Features:
    """True attributes in a sentence, through the text encoder; made once, then kept."""
    kept = work / "oracle.npz"
    if not kept.exists():
        from reelm.encoders.text import Text

        truth = pl.read_parquet(work / "world" / "truth" / "attributes.parquet")
        vectors = Text().encode(truth["sentence"].to_list())
        np.savez(kept, ids=truth["video_id"].to_numpy().astype(str), vectors=vectors)
    found = np.load(kept)
    return Features("oracle", tuple(str(i) for i in found["ids"]), found["vectors"])


def world_arms() -> dict[str, Arm]:
    """The models that read no features; then those that do, with each kind of them."""
    made = {"popularity": Arm("popularity", {}, {})}
    for model in ("mf", "lightgcn"):
        made[model] = Arm(model, {}, WORLD_TRAIN)
    for kind in ("oracle", "watched", "shuffled", "half"):
        made[f"content, {kind}"] = Arm("content", {"features": kind}, {})
        for model, more in {"vbpr": {}, "freedom": {}, "mmssl": {}, "trawl": TRAWL}.items():
            made[f"{model}, {kind}"] = Arm(model, {"features": (kind,)} | more, WORLD_TRAIN)
    for name, more in TRAWL_ARMS.items():
        made[f"trawl, watched, {name}"] = Arm(
            "trawl", {"features": ("watched",)} | more, WORLD_TRAIN
        )
    return made


def titles(root: Path) -> Features:
    """The vector of every title; made once, then kept in the work folder."""
    kept = study.WORK.parent / "content" / "titles.npz"
    if not kept.exists():
        from reelm.encoders.text import Text

        table = pl.read_parquet(root / "titles.parquet")
        table = table.sort(pl.col("title").str.len_chars())  # like lengths in a batch
        text, encoder = table["title"].to_list(), Text()
        parts = [encoder.encode(text[at : at + 64]) for at in range(0, len(text), 64)]
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, item=table["item"].to_numpy(), vectors=np.concatenate(parts))
    found = np.load(kept)
    return Features("text", tuple(str(i) for i in found["item"]), found["vectors"])


def with_warm(data: Dataset, seed: int) -> Split:
    """The split cold_item, and beside it the last remaining interaction of some users."""
    label = cold_item(data, SplitConfig(name="cold_item", seed=seed)).label
    assert label is not None
    train = label == 0
    place = np.flatnonzero(train)
    user = data.user[place]
    last = place[np.flatnonzero(np.diff(user, append=-1))]
    several = np.bincount(user, minlength=len(data.users))[data.user[last]] >= 2
    last = np.random.default_rng(seed + 1000).permutation(last[several])
    tests, valids = len(data.users) // 5, len(data.users) // 10
    where = label.copy()
    where[last[:tests]], where[last[tests : tests + valids]] = 2, 1
    train, valid, test = where == 0, where == 1, where == 2
    return Split(
        keep(data, train),
        asked(data, train, valid),
        asked(data, train, test),
        f"cold_item_and_last-{seed}",
        keep(data, ~test),
        where,
    )


def run(
    table: str,
    cut: Callable[[int], tuple[Split, dict[str, Arm]]],
    seeds: Sequence[int],
    only: Sequence[str] | None,
) -> None:
    """Every arm and seed that the table lacks, seed by seed."""
    for seed in seeds:
        done = {row["arm"] for row in study.rows(table) if row["seed"] == seed}
        if only and not set(only) - done:
            continue
        split, found = cut(seed)
        for name, arm in chosen(table.removeprefix("content_"), found).items():
            if name not in done and (not only or name in only):
                row = {"arm": name, "seed": seed} | one(split, arm, seed)
                study.keep(table, row)


def one(split: Split, arm: Arm, seed: int) -> dict[str, Any]:
    """Train, choosing by validation, then open the test once."""
    model, config, curve, spent = fitted(split, arm, seed)
    begun = time.process_time()
    found = measured(model, split)
    return {
        "test": {name: round(value, 5) for name, value in found.items()},
        "valid": max((v for _, v in curve), default=None),
        "best_epoch": max(curve, key=lambda p: p[1])[0] if curve else 0,
        "curve": [round(v, 5) for _, v in curve],
        "cpu_s": spent,
        "test_cpu_s": round(time.process_time() - begun, 1),
        "model": arm.model,
        "code": CODE,
        "settings": arm.made().model_dump(mode="json", exclude_defaults=True),
        "train": config.model_dump(mode="json", exclude_defaults=True),
    }


def fitted(
    split: Split, arm: Arm, seed: int
) -> tuple[Retriever, TrainConfig, list[tuple[int, float]], float]:
    """A trained model, how it was trained, validation by epoch, and processor seconds."""
    config = TrainConfig(seed=seed, **arm.train)
    model = build(arm.model, arm.made(), split.train, seed)
    begun = time.process_time()
    rows = train(model, split.train, config, split.valid)
    spent = round(time.process_time() - begun, 1)
    curve = [(int(r["epoch"]), float(r[config.measure])) for r in rows if config.measure in r]
    return model, config, curve, spent


def measured(model: Retriever, split: Split) -> dict[str, float]:
    """Recall of each pool, that of cold and of warm targets in the mixed list, and how many of its
    places go to videos that training never saw."""
    report = evaluate(model, split.test, ("cold", "warm", "mixed"), (10, K))
    found = {f"{p}@{k}": report[f"{p}/recall@{k}"] for p in report.pools for k in (10, K)}
    found |= {f"{p} ndcg@{K}": report[f"{p}/ndcg@{K}"] for p in report.pools}
    found |= {f"chance {p}@{K}": report.chance[p][f"recall@{K}"] for p in report.pools}
    for k in (10, K):
        found |= {f"{name} in mixed@{k}": v for name, v in parted(report, k).items()}
    return found | {f"cold places@{K}": places(model, split)}


def parted(report: Report, k: int) -> dict[str, float]:
    """Recall@k in the mixed list, of never-seen targets alone and of known ones alone."""
    rows = report.targets.filter(pl.col("pool") == "mixed")
    rows = rows.group_by("question", cold=pl.col("frequency") == 0).agg(
        (pl.col("rank") <= k).sum().alias("hits"), pl.len().alias("targets")
    )
    share = pl.col("hits") / pl.col("targets").clip(upper_bound=k)
    means = dict(rows.group_by("cold").agg(share.mean()).rows())
    return {"cold": means.get(True, float("nan")), "warm": means.get(False, float("nan"))}


def places(model: Retriever, split: Split) -> float:
    """Never-seen videos among the first K of the mixed list, mean of 1,000 questions."""
    some = split.test.take(np.linspace(0, len(split.test) - 1, 1000).astype(int))
    shown = padded(some.item, some.start, some.stop)
    with torch.inference_mode():
        scores = model.eval().score(torch.from_numpy(some.users), shown).clone()
        scores[:, 0] = -torch.inf
        scores.scatter_(1, shown, -torch.inf)
        best = scores.topk(K).indices.numpy()
    return float((split.train.counts == 0)[best].sum(1).mean())


def show(table: str) -> str:
    """Means over seeds with 95 % intervals, what chance gives, and paired differences."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for row in study.rows(table):
        found.setdefault(row["arm"], {})[row["seed"]] = row["test"]
    lines = ["| | seeds | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for arm, tests in found.items():
        cells = [said([test[f"{c}@{K}"] for test in tests.values()]) for c in COLUMNS]
        lines.append(f"| {arm} | {len(tests)} | " + " | ".join(cells) + " |")
    for tests in list(found.values())[:1]:
        means = [
            np.mean([t.get(f"chance {c}@{K}", np.nan) for t in tests.values()]) for c in COLUMNS
        ]
        cells = ["" if np.isnan(mean) else f"{mean:.4f}" for mean in means]
        lines.append(f"| chance | {len(tests)} | " + " | ".join(cells) + " |")
    lines += ["", "| same seeds | seeds | " + " | ".join(COLUMNS) + " |", lines[1]]
    for one, other in PAIRED.get(table, ()):
        seeds = sorted(set(found.get(one, ())) & set(found.get(other, ())))
        by = [
            [found[one][s][f"{c}@{K}"] - found[other][s][f"{c}@{K}"] for s in seeds]
            for c in COLUMNS
        ]
        if seeds:
            cells = " | ".join(said(values, "+") for values in by)
            lines.append(f"| {one} - {other} | {len(seeds)} | {cells} |")
    return "\n".join(lines)


def said(values: Sequence[float], sign: str = "") -> str:
    mean, half = study.interval(values)
    return f"{mean:{sign}.4f}" + ("" if np.isnan(half) else f" ± {half:.4f}")


def tries(data: str, cut: Callable[[int], tuple[Split, dict[str, Arm]]]) -> None:
    """Every setting of the grid that has no line yet, on validation; the test stays shut."""
    table, seed = "content_tries", TRIED[data]
    done = [(r["data"], r["model"], r["rate"], r["settings"]) for r in study.rows(table)]
    split, found = cut(seed)
    for model in LEARNED:
        arm = found.get(model) or found[f"{model}, oracle"]
        for rate, settings in GRID[data]:
            if (data, model, rate, settings) in done:
                continue
            fit, config, curve, spent = fitted(split, arm.given(rate, settings), seed)
            told = evaluate(fit, split.valid, ("cold", "warm", "mixed"), (K,))
            row = {"data": data, "model": model, "rate": rate, "settings": settings, "seed": seed}
            row |= {"measure": config.measure, "value": max(v for _, v in curve)}
            row |= {pool: round(told[f"{pool}/recall@{K}"], 4) for pool in told.pools}
            row |= {f"{p} in mixed": round(v, 4) for p, v in parted(told, K).items()}
            row |= {"cpu_s": spent, "code": CODE, "curve": [round(v, 4) for _, v in curve]}
            study.keep(table, row)


def chosen(data: str, found: dict[str, Arm]) -> dict[str, Arm]:
    """The arms with what validation liked best of the grid."""
    best: dict[str, dict[str, Any]] = {}
    for row in study.rows("content_tries"):
        if row["data"] == data and row["value"] > best.get(row["model"], {"value": -1})["value"]:
            best[row["model"]] = row
    usual = {"rate": GRID[data][1][0], "settings": SOFTMAX}  # of models that nothing was tried for
    best |= {model: usual for model in set(LEARNED) - set(best)}
    return {
        name: arm.given(best[arm.model]["rate"], best[arm.model]["settings"])
        if arm.model in best
        else arm
        for name, arm in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", choices=("microlens", "world"))
    parser.add_argument("--work", type=Path, default=Path("work/study"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--tries", action="store_true", help="try the grid on validation")
    parser.add_argument("--summary", action="store_true", help="only print the table")
    given = parser.parse_args()
    table = f"content_{given.data}"
    if not given.summary:
        if given.data == "microlens":
            cut = lambda seed: (microlens(seed), arms(("text",)))  # noqa: E731
        else:
            cut = world(given.work)
        if given.tries:
            tries(given.data, cut)
        else:
            run(table, cut, given.seeds, given.only)
    print(show(table))


if __name__ == "__main__":
    main()
