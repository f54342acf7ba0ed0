"""What a feed of a large catalogue costs, and what the index misses.

    python benchmarks/bench_index.py [--items 1000000] [--pages 300] [--model mf] [--spread 0.7]

Item vectors are made, not learned: clusters of unequal size and length (`--spread` is the
deviation within a cluster over that between them; 0 makes one even cloud, the worst there is for
an index). A tenth of the videos were never seen by training. Three kinds of user: known to the
run, known by events since (only for models that read histories), unknown. Beside them the limit:
one product of the table with one vector. `missed` is the share of the exact best hundred that the
index does not find, with nothing to be left out.
"""

import argparse
import time

import numpy as np
import torch
from harness import percentile, report

from reelm.data.dataset import Dataset
from reelm.models import find
from reelm.runs import Run
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.records import StoredEvent
from reelm.serve.store import Store
from reelm.train import build


def made(items: int, users: int, dim: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of items and of users near some of the clusters."""
    rng = np.random.default_rng(0)
    if not spread:
        return tuple(rng.standard_normal((n, dim), dtype=np.float32) for n in (items, users))
    centre = rng.standard_normal((500, dim), dtype=np.float32)
    weight = 1 / (np.arange(500) + 10.0)
    own = rng.choice(500, items, p=weight / weight.sum())
    vectors = centre[own] + spread * rng.standard_normal((items, dim), dtype=np.float32)
    vectors *= np.exp(0.3 * rng.standard_normal((items, 1), dtype=np.float32))
    wants = centre[rng.choice(500, users)] + 0.5 * centre[rng.choice(500, users)]
    return vectors, wants + 0.5 * rng.standard_normal((users, dim), dtype=np.float32)


def run_of(name: str, items: int, users: int, spread: float) -> Run:
    """A run whose item vectors are made; forty interactions a user, one for most items."""
    rng = np.random.default_rng(1)
    ids = ("", *(f"v{n}" for n in range(1, items)))
    people = tuple(f"u{n}" for n in range(users))
    weight = 1 / (np.arange(items - 1) + 1000.0)
    item = 1 + rng.choice(items - 1, users * 40, p=weight / weight.sum()).astype(np.int32)
    data = Dataset(
        people, ids, np.arange(users + 1) * 40, item, np.arange(users * 40.0),
        np.ones(users * 40, np.float32),
    )  # fmt: skip
    model = build(name, find(name).Config(), data, seed=0).eval()
    vectors, wants = made(items, users, 64, spread)
    counts = torch.from_numpy(1 + rng.geometric(0.1, items))
    counts[rng.random(items) < 0.1] = 0
    counts[0] = 0
    with torch.no_grad():
        model.counts.copy_(counts)
        if name == "mf":
            model.item.copy_(torch.from_numpy(vectors))
            model.user.copy_(torch.from_numpy(wants))
        else:
            model.vectors.id.weight.copy_(torch.from_numpy(vectors))
    return Run.of(name, model, data)


def spans(call, pages: int) -> dict[str, float]:
    """Milliseconds of a call, by the clock and of the processor, after ten not counted."""
    wall, cpu = [], []
    for number in range(-10, pages):
        at = time.perf_counter(), time.process_time()
        call(number)
        wall.append(1e3 * (time.perf_counter() - at[0]))
        cpu.append(1e3 * (time.process_time() - at[1]))
    found = {f"cpu_p{int(100 * q)}_ms": percentile(cpu[10:], q) for q in (0.5, 0.99)}
    return found | {"p50_ms": percentile(wall[10:], 0.5)}


def missed(engine: Engine, users: int) -> float:
    """Share of the exact best hundred that the index does not find."""
    short, none, lost = engine._shortlist, np.zeros(0, np.int64), []
    for user in range(min(100, users)):
        query = short._query(engine.past(f"u{user}"))
        found = short._finder.best(query, 100, none)[0]
        rows = short._finder._rows
        exact = rows[np.argsort(-short._finder._scan(query, rows))[:100]]
        lost.append(1 - len(np.intersect1d(found, exact)) / 100)
    return float(np.mean(lost))


def main() -> None:
    ask = argparse.ArgumentParser()
    ask.add_argument("--model", default="mf", choices=["mf", "sasrec", "mamba4rec"])
    ask.add_argument("--spread", type=float, default=0.7)
    for name, value in (("items", 1_000_000), ("users", 300), ("pages", 300)):
        ask.add_argument(f"--{name}", type=int, default=value)
    asked = ask.parse_args()
    torch.set_num_threads(1)
    run = run_of(asked.model, asked.items, asked.users, asked.spread)
    at = time.process_time()
    engine = Engine(run, None, None, Store(), EngineConfig(ann_from=2))
    started = time.process_time() - at
    for user in range(asked.users):
        engine.store.add_events(
            StoredEvent(f"e{user}-{n}", f"w{user}", f"v{7 * user + n + 1}", "watch", n, 0.9)
            for n in range(6)
        )
    query, table = torch.randn(64), run.model.item_vectors().detach()
    kinds = {
        "limit": lambda n: table @ query,
        "known": lambda n: engine.feed(f"u{n % asked.users}", 10, again=True),
        "events_only": lambda n: engine.feed(f"w{n % asked.users}", 10, again=True),
        "unknown": lambda n: engine.feed(f"x{n}", 10),
    }
    facts = vars(asked) | {"start_cpu_s": round(started, 1)}
    for kind, call in kinds.items():
        report(f"index/{kind}", facts, spans(call, asked.pages))
    report("index/missed", facts, {"missed": missed(engine, asked.users)})


if __name__ == "__main__":
    main()
