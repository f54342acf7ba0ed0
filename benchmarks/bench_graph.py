"""Graph models: sparse products, an epoch of LightGCN beside RecBole's, and how MMSSL grows.

    python benchmarks/bench_graph.py                                   # products and growth
    REELM_DATA=... python benchmarks/bench_graph.py --peers --rounds 7 --steps 20

Products: a matrix of users and items times vectors, and its transpose times vectors, as a step's
forward and backward pass need them. LightGCN: processes behind a gate that take turns, as in
bench_train.py; an epoch is all pairs, and its seconds are those of `--steps` steps multiplied out.
Growth: a process of its own per point, so that its peak is its own; one axis grows, the two others
stay. Seconds of an epoch are multiplied out from `--steps` steps and from rebuilds of the graphs
of kinds, one every 30 steps; drawing the batches is not in them. Graphs are drawn by powers of
rank, features are noise: nothing is learnt, and no quality is measured.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from bench_train import REQUIREMENTS, VARIABLES
from harness import interleaved, quartiles, ratio, report
from peers.gate import peak_bytes
from peers.host import ENVIRONMENTS, Unavailable, Worker, environment
from scipy import sparse

from reelm.data.dataset import Dataset
from reelm.data.pairs import PairBatch
from reelm.models.blocks.graph import Bipartite, _times
from reelm.models.mmssl import MMSSL, MMSSLConfig
from reelm.train import TrainConfig, build
from reelm.training import State

BATCH, DIM, RAW = 2048, 64, 128
BASE = {"users": 5_000, "items": 5_000, "edges": 62_500}
AXES = {
    "users": (5_000, 20_000, 80_000),
    "items": (5_000, 20_000, 80_000),
    "edges": (62_500, 250_000, 1_000_000),
}
KEPT = {"MALLOC_TRIM_THRESHOLD_": "2000000000", "MALLOC_MMAP_THRESHOLD_": "2000000000"}
"""glibc keeps freed memory instead of giving it back and asking for it again at each step."""


def drawn(users: int, items: int, edges: int, raw: int = 0) -> Dataset:
    """A graph of exactly so many different edges; the most active user and the most popular item
    have some hundred times the edges of the median one."""
    rng = np.random.default_rng(0)
    found = np.zeros(0, np.int64)
    while len(found) < edges:
        more = 2 * edges
        pair = _ranked(rng, users, 0.7, more) * (items + 1) + _ranked(rng, items, 0.9, more) + 1
        found = np.union1d(found, pair)
    pair = np.sort(rng.permutation(found)[:edges])
    sizes = np.bincount(pair // (items + 1), minlength=users)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    data = dataset(offsets, (pair % (items + 1)).astype(np.int32), items)
    if not raw:
        return data
    table = torch.from_numpy(rng.standard_normal((items + 1, raw), np.float32))
    table[0] = 0
    has = np.arange(items + 1) > 0
    parts = {name: getattr(data, name) for name in ("users", "items", "offsets", "item")}
    return Dataset(
        **parts, time=data.time, value=data.value, features={"text": table},
        has_feature={"text": has},
    )  # fmt: skip


def _ranked(rng: np.random.Generator, count: int, power: float, size: int) -> np.ndarray:
    weight = (np.arange(count) + 20.0) ** -power
    return np.searchsorted(weight.cumsum() / weight.sum(), rng.random(size)).clip(max=count - 1)


def dataset(offsets: np.ndarray, item: np.ndarray, items: int) -> Dataset:
    """Packed pairs with names nobody reads."""
    users = tuple(f"u{row}" for row in range(len(offsets) - 1))
    names = ("", *(f"v{row}" for row in range(1, items + 1)))
    zeros, ones = np.zeros(len(item)), np.ones(len(item), np.float32)
    return Dataset(users, names, offsets, item, zeros, ones)


def tiktok() -> tuple[str, Dataset]:
    """The training part of TikTok where REELM_DATA is set; else a drawn graph of its shape."""
    given = os.environ.get("REELM_DATA")
    if not given:
        return "drawn, shape of TikTok", drawn(9308, 6710, 59_541)
    import polars as pl

    table = pl.read_parquet(Path(given) / "tiktok" / "interactions.parquet")
    table = table.filter(pl.col("split") == 0).sort("user", "item")
    sizes = np.bincount(table["user"].to_numpy(), minlength=9308)
    item = table["item"].to_numpy().astype(np.int32) + 1
    return "TikTok", dataset(np.concatenate([[0], np.cumsum(sizes)]), item, 6710)


def products(name: str, data: Dataset, rounds: int) -> None:
    """Each way to multiply there and back, in turns."""
    ((users, items), _), calls = Bipartite(data).directions(), {}
    shapes = (len(data.users), len(data.items)), (len(data.items), len(data.users))
    x = torch.randn(len(data.items), DIM), torch.randn(len(data.users), DIM)
    both = [
        (*one, shape, x[side])
        for side, (one, shape) in enumerate(zip((users, items), shapes, strict=True))
    ]
    calls["embedding_bag"] = lambda: [_times(one[:3], one[4]) for one in both]
    wide = [((s.long(), c.long(), v), shape, given) for s, c, v, shape, given in both]
    calls["embedding_bag, 64-bit places"] = lambda: [_times(one[0], one[2]) for one in wide]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its CSR a beta
        csr = [(torch.sparse_csr_tensor(*one[:3], one[3]), one[4]) for one in both]
    calls["torch CSR"] = lambda: [matrix @ given for matrix, given in csr]
    coo = [(matrix.to_sparse_coo().coalesce(), given) for matrix, given in csr]
    calls["torch COO"] = lambda: [matrix @ given for matrix, given in coo]
    scipy = [
        (sparse.csr_matrix((v.numpy(), c.int().numpy(), s.int().numpy()), shape), given.numpy())
        for s, c, v, shape, given in both
    ]
    calls["scipy CSR"] = lambda: [matrix @ given for matrix, given in scipy]
    repeats = max(1, 600_000 // len(data))
    found = interleaved({k: _often(call, repeats) for k, call in calls.items()}, rounds)
    facts = {
        "data": name,
        "users": shapes[0][0],
        "items": shapes[0][1],
        "edges": len(data),
        "dim": DIM,
    }
    for way, one in found.items():
        spans = {"cpu_ms": 1e3 * one["cpu_s"] / repeats,
                 "spread_ms": [1e3 * s / repeats for s in one["spread"]]}  # fmt: skip
        report("graph/product", facts | {"way": way, "rounds": rounds}, spans,
               times_embedding_bag=ratio(found, way, "embedding_bag")["ratio"])  # fmt: skip


def _often(call: Callable[[], Any], repeats: int) -> Callable[[], None]:
    def go() -> None:
        for _ in range(repeats):
            call()

    return go


def epochs(rounds: int, steps: int, peers: bool) -> None:
    """LightGCN of both sides, in turns; and ReeLM's where glibc keeps freed memory."""
    name, data = tiktok()
    path = ENVIRONMENTS / "graph.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, offsets=data.offsets, item=data.item, items=len(data.items) - 1)
    settings = {"dim": DIM, "layers": 3, "batch": BATCH, "decay": 1e-4}
    asked = settings | {"data": str(path), "scratch": str(ENVIRONMENTS)}
    here = Path(sys.executable)
    plan = {"reelm": (here, {}), "reelm, freed memory kept": (here, KEPT)}
    if peers:
        plan["recbole"] = environment("recbole", REQUIREMENTS["recbole"]), VARIABLES["recbole"]
    facts = settings | {"data": name, "pairs": len(data), "objective": "bpr", "negatives": 1}
    with ExitStack() as stack:
        workers = {}
        for side, (python, variables) in plan.items():
            script = "lightgcn_recbole.py" if side == "recbole" else "lightgcn_reelm.py"
            workers[side] = Worker(side.replace(", ", "-"), python, script, asked, **variables)
            stack.callback(workers[side].close)
            workers[side].ready()
        answers = {side: [] for side in workers}
        for _ in range(rounds):
            for side, worker in workers.items():
                answers[side].append(worker.go(steps))
    for side, rows in answers.items():
        figures: dict[str, Any] = {
            "epoch_cpu_s": median(len(data) / row.speed for row in rows),
            "step_cpu_ms": median(1e3 * row.cpu_s / row.steps for row in rows),
            "steps": steps, "rounds": rounds,
            "peak_mb": round(max(row.peak_bytes for row in rows) / 1e6),
        }  # fmt: skip
        if peers and side != "recbole":
            pairs = zip(rows, answers["recbole"], strict=True)
            share = [theirs.speed / own.speed for own, theirs in pairs]
            figures |= {"of_recbole": median(share), "of_recbole_quartiles": quartiles(share)}
        report("graph/lightgcn_epoch", facts | {"side": side}, figures)


def growth(steps: int) -> None:
    """MMSSL point by point, then how fast each figure grows along each axis."""
    known: dict[tuple[int, ...], dict[str, Any]] = {}
    for axis, values in AXES.items():
        points = []
        for value in values:
            shape = BASE | {axis: value}
            key = tuple(shape.values())
            if key not in known:
                known[key] = _alone(key, steps)
                report(
                    "graph/mmssl", shape | {"raw": RAW, "batch": BATCH, "steps": steps}, known[key]
                )
            points.append(known[key])
        fits = {
            f"slope_{name}": _slope(values, [point[name] for point in points])
            for name in ("step_cpu_s", "rebuild_cpu_s", "epoch_cpu_s", "above_start_mb", "peak_mb")
        }
        fixed = {key: value for key, value in BASE.items() if key != axis}
        report("graph/mmssl_growth", {"axis": axis, "values": list(values), **fixed}, fits)


def _slope(x: tuple[int, ...], y: list[float]) -> float:
    """b of the fit y = a x^b, by least squares of logarithms."""
    return float(np.polyfit(np.log(x), np.log(np.maximum(y, 1e-9)), 1)[0])


def _alone(shape: tuple[int, ...], steps: int) -> dict[str, Any]:
    """`point`, in a process of its own."""
    command = [sys.executable, __file__, "--steps", str(steps), "--point", *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def point(shape: tuple[int, int, int], steps: int) -> dict[str, Any]:
    """Seconds of a step, of a rebuild and of an epoch; megabytes before there were data, and at
    most."""
    start = peak_bytes()
    data = drawn(*shape, raw=RAW)
    config = MMSSLConfig(dim=DIM)
    every = config.rebuild_every
    model = build("mmssl", config.model_copy(update={"rebuild_every": 10**9}), data, seed=0)
    state, batches = State(model, TrainConfig(batch_size=BATCH)), endless(model, data)
    taken = [_step(state, next(batches)) for _ in range(steps + 2)][2:]
    rebuilt = []
    for _ in range(2):
        model.built.zero_()  # the next step rebuilds the graphs of kinds
        rebuilt.append(_step(state, next(batches)))
    step = median(taken)
    rebuild = max(median(rebuilt) - step, 0.0)
    count = -(-shape[2] // BATCH)
    return {
        "step_cpu_s": step,
        "rebuild_cpu_s": rebuild,
        "epoch_steps": count,
        "epoch_cpu_s": count * step + count / every * rebuild,
        "peak_mb": peak_bytes() / 1e6,
        "above_start_mb": (peak_bytes() - start) / 1e6,
    }


def _step(state: State, batch: PairBatch) -> float:
    """Processor seconds of one step as train takes it."""
    begun = time.process_time()
    state.optimizer.zero_grad()
    torch.stack(list(state.model.loss(batch).values())).sum().backward()
    torch.nn.utils.clip_grad_norm_(state.weights, 1.0)
    state.optimizer.step()
    return time.process_time() - begun


def endless(model: MMSSL, data: Dataset) -> Iterator[PairBatch]:
    """Epoch after epoch."""
    rng = torch.Generator().manual_seed(0)
    while True:
        yield from model.train().batches(data, BATCH, rng)


def main() -> None:
    """The parts asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", action="store_true", help="RecBole too")
    parser.add_argument("--only", choices=("product", "epoch", "growth"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="that an epoch is multiplied out from")
    parser.add_argument("--point", type=int, nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.manual_seed(0)
    if asked.point:
        print(json.dumps(point(tuple(asked.point), asked.steps)))
        return
    if asked.only in (None, "product"):
        products(*tiktok(), asked.rounds)
        products("drawn", drawn(50_000, 20_000, 1_000_000), asked.rounds)
    if asked.only in (None, "epoch"):
        try:
            epochs(asked.rounds, asked.steps, asked.peers)
        except Unavailable as reason:
            report("graph/lightgcn_epoch", {}, {}, skipped=str(reason))
    if asked.only in (None, "growth"):
        growth(asked.steps)


if __name__ == "__main__":
    main()
