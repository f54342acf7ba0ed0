"""Training SASRec: interactions a processor second, beside other libraries and its matrix products.

    python benchmarks/bench_train.py                                    # ReeLM and the limit
    REELM_DATA=... python benchmarks/bench_train.py --peers all --rounds 7 --seconds 20

Every side is a process of its own with one thread, all on one core. Its training loop stops at a
gate, and goes on for a number of steps when it is told to; so installing, importing, loading and
warming up are not measured. Sides take turns, round after round, each about `--seconds` of
processor time (a quarter for the limit); a ratio is taken within a round, and the line gives the
median and the quartiles.

A peer keeps its own loop, loader and defaults; ReeLM takes the peer's sizes. An interaction is a
target that the loss looks at, padding not counted. Environments of peers are made under
work/bench-envs by pip (1.3 GB each), so peers are measured only when asked for by name.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
from harness import report
from peers.host import ENVIRONMENTS, Answer, Unavailable, Worker, environment

TORCH = "torch==2.13.0"
REQUIREMENTS = {
    "rectools": ("rectools[torch]==0.19.0", TORCH),
    "replay": ("replay-rec[torch]==0.22.0", TORCH),
    # its pins: ray needs pkg_resources, numpy 2 has no bool8, pandas 3 needs numpy 2
    "recbole": ("recbole==1.2.1", "setuptools<81", "numpy==1.26.4", "pandas<3", TORCH),
}
VARIABLES = {"recbole": {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}}
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Contest:
    """Sizes on which sides are compared; a peer's are its defaults but for dim, layers, length."""

    name: str
    peer: str | None = None
    objective: str = "softmax"
    length: int = 200
    batch: int = 128
    dim: int = 64
    layers: int = 2
    heads: int = 1
    feedforward: int = 64
    dropout: float = 0.2
    negatives: int = 256
    window: str = "newest"
    """What ReeLM makes of histories that are longer."""
    peer_batch: int | None = None
    """Where the peer counts something else than users."""
    variant: str | None = None
    """Which of the peer's models, where it has two."""
    note: str | None = None


PREFIXES = (
    "RecBole learns from each beginning of a history, so 2048 rows have 2048 targets; ReeLM cuts "
    "histories into pieces of 50, 41 of them with about 2048 targets. Either way nearly every "
    "interaction is a target once an epoch. No epoch is run: figures are from steps."
)
CONTESTS = (
    Contest("limit/sampled", objective="sampled", heads=2, feedforward=128),
    Contest("rectools/softmax", "rectools", heads=4),
    Contest("rectools/binary", "rectools", "binary", heads=4, negatives=1),
    Contest("replay/softmax", "replay", variant="legacy"),
    Contest("replay-new/softmax", "replay", variant="new"),
    Contest(
        "recbole/softmax", "recbole", length=50, batch=41, heads=2, feedforward=256, dropout=0.5,
        peer_batch=2048, window="all", note=PREFIXES,
    ),
)  # fmt: skip


def made_up(users: int, items: int = 3416) -> tuple[np.ndarray, np.ndarray]:
    """Ends of histories and their items: ML-1M's lengths (log-normal, mean about 165), popularity
    about 1 / rank."""
    rng = np.random.default_rng(0)
    sizes = np.clip(rng.lognormal(4.56, 0.98, users), 18, 1000).astype(np.int64)
    weight = 1 / (np.arange(items) + 20.0)
    item = rng.choice(items, int(sizes.sum()), p=weight / weight.sum()) + 1
    return np.concatenate([[0], np.cumsum(sizes)]), item


def ml1m(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """What training sees of ML-1M when each user's last two interactions are held out."""
    import polars as pl

    from reelm.data.dataset import Dataset
    from reelm.data.split import leave_last_two

    table = pl.read_parquet(folder / "ml1m" / "interactions.parquet").sort("user", "pos")
    events = table.select(user_id="user", video_id="item", event=pl.lit("rating"))
    train = leave_last_two(Dataset.build(events)).train
    return train.offsets, train.item


def write_data(users: int) -> tuple[str, Path]:
    """The data that every side reads, and what they are called."""
    given = os.environ.get("REELM_DATA")
    name = f"made up, {users} users" if not given else "ML-1M, last two held out"
    offsets, item = ml1m(Path(given)) if given else made_up(users)
    path = ENVIRONMENTS / "data.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, offsets=offsets, item=item, items=int(item.max()))
    return name, path


def sides(contest: Contest, data: Path, precisions: Sequence[str], scratch: str) -> dict[str, Any]:
    """Worker by name, in the order of their turns: the peer between ReeLM's two precisions.

    Raises:
        Unavailable: the peer's environment cannot be made.
    """
    settings = asdict(contest) | {"data": str(data), "scratch": scratch}
    here = Path(sys.executable), "sasrec_reelm.py"
    made: dict[str, Any] = {}
    for precision in precisions:
        asked = settings | {"precision": precision}
        made[f"reelm/{precision}"] = *here, asked | {"limit": False}, {}
        if contest.peer and contest.peer not in made:
            python = environment(contest.peer, REQUIREMENTS[contest.peer])
            own = settings | {"batch": contest.peer_batch or contest.batch}
            variables = VARIABLES.get(contest.peer, {})
            made[contest.peer] = python, f"sasrec_{contest.peer}.py", own, variables
        made[f"limit/{precision}"] = *here, asked | {"limit": True}, {}
    return made


def measure(plan: dict[str, Any], rounds: int, seconds: float) -> dict[str, list[Answer]]:
    """One answer per side and round. A side's steps are as many as take `seconds`, the same in
    every round.

    Raises:
        Unavailable: a side broke down.
    """
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name, (python, script, settings, variables) in plan.items():
            workers[name] = Worker(name, python, script, settings, **variables)
            stack.callback(workers[name].close)
            workers[name].ready()  # one after the other: they share a core
        steps = {}
        for name, worker in workers.items():
            tried = worker.go(1 if name in REQUIREMENTS else 4)
            span = seconds / 4 if name.startswith("limit/") else seconds  # it hardly varies
            steps[name] = max(1, round(span * tried.steps / tried.cpu_s))
        answers: dict[str, list[Answer]] = {name: [] for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                answers[name].append(worker.go(steps[name]))
    return answers


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles."""
    low, _, high = quantiles(values, n=4, method="inclusive")
    return {"median": median(values), "quartiles": [float(f"{v:.4g}") for v in (low, high)]}


def tell(contest: Contest, data: str, answers: dict[str, list[Answer]]) -> None:
    """One line per side; ReeLM's also say how they stand to the peer and to the limit."""
    shapes = {k: v for k, v in asdict(contest).items() if v is not None and k != "name"}
    if contest.objective == "softmax":
        shapes.pop("negatives")
    for side, rows in answers.items():
        system, _, precision = side.partition("/")
        figures: dict[str, Any] = {
            "interactions_per_cpu_s": median(row.speed for row in rows),
            "cpu_s": median(row.cpu_s for row in rows),
            "wall_s": median(row.wall_s for row in rows),
            "steps": rows[0].steps,
            "rounds": len(rows),
            "peak_mb": round(max(row.peak_bytes for row in rows) / 1e6),
        }
        if system == "reelm":
            for other in filter(None, (contest.peer, f"limit/{precision}")):
                pairs = zip(rows, answers[other], strict=True)
                ratio = spread([own.speed / theirs.speed for own, theirs in pairs])
                key = "limit" if other.startswith("limit") else other
                figures |= {f"to_{key}": ratio["median"], f"to_{key}_quartiles": ratio["quartiles"]}
        shown = shapes | {"data": data, "precision": precision or "float32"}
        report(f"train/{contest.name}/{system}", shown, {}, **figures)


def chosen(asked: str, only: str | None) -> list[Contest]:
    """The contests of these peers; `limit` stands for those without one."""
    names = {"none": ["limit"], "all": ["limit", *REQUIREMENTS]}.get(asked, asked.split(","))
    unknown = set(names) - {"limit", *REQUIREMENTS}
    if unknown:
        sys.exit(f"--peers: no peer is called {', '.join(sorted(unknown))}; none, all, or some of "
                 f"limit,{','.join(REQUIREMENTS)}")  # fmt: skip
    return [c for c in CONTESTS if (c.peer or "limit") in names and only in (None, c.name)]


def main() -> None:
    """A line per side of each contest; a contest that cannot be held gets a line that says why."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", default="none", help="none, all, or rectools,replay,recbole")
    parser.add_argument("--only", choices=[c.name for c in CONTESTS], help="one contest")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="processor time of a turn")
    parser.add_argument("--users", type=int, default=1500, help="of made-up data")
    parser.add_argument("--precision", choices=PRECISIONS, help="one of them instead of both")
    parser.add_argument("--heads", type=int, help="instead of the peer's own number")
    asked = parser.parse_args()
    if asked.rounds < 2:
        parser.error("--rounds must be at least 2: quartiles of one ratio say nothing")
    if hasattr(os, "sched_setaffinity"):  # all sides take turns on one core
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    data, path = write_data(asked.users)
    precisions = (asked.precision,) if asked.precision else PRECISIONS
    for contest in chosen(asked.peers, asked.only):
        held = replace(contest, heads=asked.heads or contest.heads)
        try:
            plan = sides(held, path, precisions, str(ENVIRONMENTS))
            tell(held, data, measure(plan, asked.rounds, asked.seconds))
        except Unavailable as reason:
            report(f"train/{held.name}", {"data": data}, {}, skipped=str(reason))


if __name__ == "__main__":
    main()
