"""Latency of a page of the feed, in process, over an engine with an in-memory store.

    python benchmarks/bench_feed.py [--users 300] [--items 5000] [--pages 300] [--places 10]
        [--seen 1000 3000]

Three kinds of user: known from training, known only from events since, and unknown. The limit
beside them is the model alone: scoring the catalogue once for one history. Then known users who
have watched so many videos here (`--seen`, rising, fewer than there are), of which none may come
again.
"""

import argparse
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import polars as pl
import torch
from harness import percentile, report

from reelm.data.dataset import Dataset
from reelm.models.sasrec import SASRecConfig
from reelm.runs import Run
from reelm.serve.engine import Engine
from reelm.serve.records import Feed, Impression, StoredEvent
from reelm.train import build


def made_up(users: int, items: int) -> Dataset:
    """Forty interactions a user, items drawn by 1 / rank, a tenth of the catalogue never seen."""
    rng = np.random.default_rng(0)
    known = items * 9 // 10
    weight = 1 / (np.arange(known) + 20.0)
    rows = rng.choice(known, users * 40, p=weight / weight.sum())
    events = pl.DataFrame(
        {
            "user_id": [f"u{n // 40}" for n in range(users * 40)],
            "video_id": [f"v{n}" for n in rows],
        }
    )
    return Dataset.build(events, videos=[f"v{n}" for n in range(items)])


def spans(call: Callable[[int], object], pages: int) -> dict[str, float]:
    """Milliseconds of a call, by the clock and of the processor, after ten not counted."""
    wall, cpu = [], []
    for number in range(-10, pages):
        at = time.perf_counter(), time.process_time()
        call(number)
        wall.append(1e3 * (time.perf_counter() - at[0]))
        cpu.append(1e3 * (time.process_time() - at[1]))
    p50, p95 = (percentile(wall[10:], share) for share in (0.5, 0.95))
    return {"p50_ms": p50, "p95_ms": p95, "cpu_p50_ms": percentile(cpu[10:], 0.5)}


def strangers_with_events(engine: Engine, users: int) -> None:
    """Six watches each, for users that training did not know."""
    for user in range(users):
        engine.store.add_events(
            StoredEvent(f"e{user}-{n}", f"w{user}", f"v{(7 * user + n) % 100}", "watch", n, 0.9)
            for n in range(6)
        )


def seen_before(engine: Engine, user: str, rows: range) -> None:
    """Videos of these rows that an earlier feed has shown this user, who watched each of them."""
    ids, feed = engine.videos.ids, Feed(f"before-{rows.start}-{user}", user, again=False)
    shown = [Impression(at, ids[row], "model", 0.0, "") for at, row in enumerate(rows)]
    engine.store.add_impressions(feed, shown, engine.store.known(user))
    engine.store.add_events(
        StoredEvent(f"{user}-{row}", user, ids[row], "watch", 1e3 + row, 0.9, feed.feed_id)
        for row in rows
    )


def main() -> None:
    """One line per kind of user, after one for the model alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seen", type=int, nargs="*", default=[1000, 3000])
    for name, value in (("users", 300), ("items", 5000), ("pages", 200), ("places", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    data = made_up(asked.users, asked.items)
    run = Run.of("sasrec", build("sasrec", SASRecConfig(), data, seed=0), data)
    engine = Engine(run)
    strangers_with_events(engine, asked.users)
    users, places = asked.users, asked.places

    with torch.inference_mode():
        alone = spans(lambda n: run.score([run.history(f"u{n % users}")]), asked.pages)
    kinds = {
        "known": spans(lambda n: engine.feed(f"u{n % users}", places), asked.pages),
        "events_only": spans(lambda n: engine.feed(f"w{n % users}", places), asked.pages),
        "unknown": spans(lambda n: engine.feed(f"x{n}", places), asked.pages),
    }
    for before, seen in pairwise([0, *asked.seen]):
        for user in range(users):
            seen_before(engine, f"u{user}", range(before + 1, seen + 1))
        kinds[f"seen_{seen}"] = spans(lambda n: engine.feed(f"u{n % users}", places), asked.pages)
    for kind, found in {"model_alone": alone, **kinds}.items():
        report(f"feed/{kind}", vars(asked), found)


if __name__ == "__main__":
    main()
