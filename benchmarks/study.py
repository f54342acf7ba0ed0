"""What the tables of papers share: real data, one row per arm and seed, and what is said of them.

Data are read from the folder that REELM_DATA names. A row is one trained and tested model; rows
lie in results/<table>.jsonl, and an arm and seed that is there already is not run again, so a
table can be made in several sittings and on several machines.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy import stats

from reelm import runs, train
from reelm.config import Config
from reelm.data.dataset import Dataset
from reelm.data.split import Split, SplitConfig, split
from reelm.data.tables import Features
from reelm.evaluate import Sampled, evaluate, places
from reelm.formats.base import ReadOptions
from reelm.formats.tiktok import TikTok
from reelm.models.base import Ranker

RESULTS = Path(__file__).parent / "results"
WORK = Path(os.environ.get("REELM_WORK", "work/papers"))
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


@dataclass(frozen=True)
class Arm:
    """One line of a table."""

    name: str
    model: str
    settings: Config
    train: train.TrainConfig


def asked(*data: str) -> argparse.Namespace:
    """What the command line of a table says: `data`, where there are several, seeds and arms."""
    parser = argparse.ArgumentParser()
    if data:
        parser.add_argument("data", choices=data)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of the arms to run")
    return parser.parse_args()


def asked_of_world(*what: str) -> argparse.Namespace:
    """What the command line of a table of the rendered world says: `what` to do, where the world
    lies, populations and arms."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=what)
    parser.add_argument("--work", type=Path, default=Path("work/study"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", nargs="*", help="names of the arms to run")
    return parser.parse_args()


def wanted(arms: Sequence[Arm], only: Sequence[str] | None) -> list[Arm]:
    """The arms that the command line names, or all."""
    return [arm for arm in arms if not only or arm.name in only]


def folder() -> Path:
    """Where the real data are; leaves the program where REELM_DATA is not set."""
    if "REELM_DATA" not in os.environ:
        sys.exit("set REELM_DATA to the folder with ml1m/, amazon_beauty/, ...")
    return Path(os.environ["REELM_DATA"])


def held_out(events: pl.DataFrame, features: Sequence[Features] = ()) -> Split:
    """Each user's last interaction is the test, the one before validation."""
    return split(Dataset.build(events, features), SplitConfig(name="leave_last_two"))


def ml1m() -> Split:
    """MovieLens-1M: 6,040 users, 3,416 items, 999,611 interactions."""
    table = pl.read_parquet(folder() / "ml1m" / "interactions.parquet").sort("user", "pos")
    return held_out(table.select(user_id="user", video_id="item", event=pl.lit("rating")))


def amazon(name: str) -> Split:
    """Amazon `beauty` or `sports`, 5-core, as S3-Rec and RepPad have it."""
    table = pl.read_parquet(folder() / f"amazon_{name}" / "sequences.parquet").explode("items")
    return held_out(table.select(user_id="user", video_id="items", event=pl.lit("interaction")))


def tiktok() -> Split:
    """TikTok as HKUDS split it: 9,308 users, 6,710 items, 59,541 training pairs; features of
    pictures and of sound."""
    read = TikTok().read(folder() / "tiktok", ReadOptions())
    features = [Features(name, tuple(ids), rows) for name, (ids, rows) in read.features.items()]
    data = Dataset.build(read.events, features, videos=read.videos)
    return split(data, SplitConfig(name="given"))


def run(
    table: str,
    data: Split,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    extra: Callable[[Any, Split], Mapping[str, Any]] | None = None,
    make: Callable[[Split, Arm, int], Path] | None = None,
) -> None:
    """Train and test each arm with each seed that the table lacks, seed by seed.

    Args:
        extra: more that a row should hold.
        make: makes the run in place of `trained`.
    """
    done = {(row["arm"], row["seed"]) for row in rows(table)}
    for seed in seeds:
        for arm in arms:
            if (arm.name, seed) in done:
                continue
            row = tested(data, arm, seed, (make or trained)(data, arm, seed), extra)
            keep(table, row)


def trained(data: Split, arm: Arm, seed: int) -> Path:
    """The run of an arm."""
    config = arm.train.model_copy(update={"seed": seed})
    return train.train_run(data, arm.model, arm.settings, config, WORK)


def tested(
    data: Split,
    arm: Arm,
    seed: int,
    made: Path,
    extra: Callable[[Any, Split], Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """The row of a run, for which the test split is opened once."""
    config = arm.train
    lines = (made / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    epochs = [json.loads(line) for line in lines]
    model = runs.load(made).model
    if isinstance(model, Ranker):
        assert data.test_shown is not None
        figures = places(model, data.test_shown).metrics
    else:
        report = evaluate(model, data.test, ("mixed",), (5, 10, 20), sampled=Sampled(100))
        figures = report.pools["mixed"]
    spent = np.cumsum([row["cpu_s"] for row in epochs])
    valid = [(float(s), row.get(config.measure)) for s, row in zip(spent, epochs, strict=True)]
    kept = next((row for row in epochs if row.get("kept")), epochs[-1] if epochs else {})
    return {
        "arm": arm.name,
        "seed": seed,
        "test": {name: round(value, 5) for name, value in figures.items()},
        "valid": kept.get(config.measure),
        "best_epoch": kept.get("epoch", 0),
        "epochs": len(epochs),
        "cpu_s": round(float(spent[-1]), 1) if epochs else 0.0,
        "settings": arm.settings.model_dump(mode="json", exclude_defaults=True),
        "train": arm.train.model_dump(mode="json", exclude_defaults=True),
        "curve": [(round(s, 1), round(v, 5)) for s, v in valid if v is not None],
        **(extra(model, data) if extra else {}),
    }


def rows(table: str) -> list[dict[str, Any]]:
    """All rows of a table that are there; a line that a kill cut short is none."""
    path = RESULTS / f"{table}.jsonl"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def keep(table: str, row: Mapping[str, Any]) -> None:
    """Add a row, in the place of a line that a kill cut short, and print it without its curve."""
    with (RESULTS / f"{table}.jsonl").open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(row).encode() + b"\n")
    print(json.dumps({k: v for k, v in row.items() if k != "curve"}), flush=True)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval by Student's t; NaN with fewer than two."""
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1)) * error


def paired(table: str, one: str, other: str, metric: str) -> tuple[float, float, int]:
    """Mean difference of two arms over the seeds that both have, half its interval, and seeds."""
    value = {(row["arm"], row["seed"]): row["test"][metric] for row in rows(table)}
    seeds = sorted({s for a, s in value if a == one} & {s for a, s in value if a == other})
    mean, half = interval([value[one, seed] - value[other, seed] for seed in seeds])
    return mean, half, len(seeds)


def show(table: str, metrics: Sequence[str] = ("recall@10", "ndcg@10")) -> str:
    """The table as Markdown: mean over seeds and 95 % interval."""
    by_arm: dict[str, list[dict[str, Any]]] = {}
    for row in rows(table):
        by_arm.setdefault(row["arm"], []).append(row)
    lines = ["| arm | seeds | " + " | ".join(metrics) + " | best epoch | CPU min |"]
    lines.append("|" + "---|" * (len(metrics) + 4))
    for name, found in by_arm.items():
        cells = []
        for metric in metrics:
            mean, half = interval([row["test"][metric] for row in found])
            cells.append(f"{mean:.4f}" + ("" if np.isnan(half) else f" ± {half:.4f}"))
        epoch = np.mean([row["best_epoch"] for row in found])
        minutes = np.mean([row["cpu_s"] for row in found]) / 60
        lines.append(
            f"| {name} | {len(found)} | {' | '.join(cells)} | {epoch:.0f} | {minutes:.1f} |"
        )
    return "\n".join(lines)
