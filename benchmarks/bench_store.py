"""Events a second that a store acknowledges, each batch synced to disk before the answer.

    python benchmarks/bench_store.py [--postgres postgresql://user@host/name] [--threads 1 8]
        [--batch 5] [--seconds 3] [--rounds 3]

Threads send batches as fast as they are acknowledged. Beside them the limit of the folder's disk:
how often a few bytes can be appended and synced by one thread, with nothing else done. Sides take
turns. PostgreSQL is measured where an address of an empty database is given; where its files lie,
and so which disk it syncs, is the server's matter.
"""

import argparse
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from harness import quartiles, report

from reelm.serve.records import StoredEvent
from reelm.serve.store import Store


def acknowledged(store: Store, threads: int, batch: int, seconds: float) -> float:
    """Events a second."""
    counts, end, mark = [0] * threads, time.monotonic() + seconds, time.time_ns()

    def write(place: int) -> None:
        for number in itertools.count():
            name = f"{mark}-{place}-{number}"
            events = [
                StoredEvent(f"{name}-{k}", f"u{number % 100}", "v", "watch", 1.0, 0.5)
                for k in range(batch)
            ]
            store.add_events(events)
            counts[place] += batch
            if time.monotonic() > end:
                return

    begun = time.monotonic()
    workers = [threading.Thread(target=write, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.monotonic() - begun)


def syncs(path: Path, seconds: float) -> float:
    """Appends of 256 bytes a second, each synced."""
    begun, count = time.monotonic(), 0
    with path.open("ab", buffering=0) as file:
        while time.monotonic() < begun + seconds:
            file.write(bytes(256))
            os.fdatasync(file.fileno())
            count += 1
    return count / (time.monotonic() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="Where SQLite's file lies for the time.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        stores = {"sqlite": Store(Path(folder) / "store.sqlite")}
        if asked.postgres:
            stores["postgres"] = Store(asked.postgres)
        calls: dict[tuple[str, int], Callable[[], float]] = {
            ("disk", 1): lambda: syncs(Path(folder) / "synced", asked.seconds)
        }
        for threads, (name, store) in itertools.product(asked.threads, stores.items()):
            calls[name, threads] = lambda s=store, t=threads: acknowledged(
                s, t, asked.batch, asked.seconds
            )
        found: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
        for _ in range(asked.rounds):
            for key, call in calls.items():
                found[key].append(call())
        for store in stores.values():
            store.close()
    for (name, threads), rates in found.items():
        unit = "syncs_per_s" if name == "disk" else "events_per_s"
        shapes = {"writers": threads, "batch": asked.batch, "rounds": asked.rounds}
        report(f"store/{name}", shapes, {unit: median(rates), "spread": quartiles(rates)})


if __name__ == "__main__":
    main()
