"""From a log file to packed histories: processor seconds and memory.

    python benchmarks/bench_load.py [--rows 1000000 10000000] [--rounds 3] [--csv]

A log with the shape of MovieLens-1M (6,040 users and 3,706 items per million rows, popularity
uneven), shuffled in time, is read as a table, checked, put in order, cut to its 5-core and given
rows (`formats` and `data.packing`, what `ingest` and `Dataset.load` do). Beside it the limit:
polars reads the same file, counts both columns, filters once, numbers ids and sorts, and checks
nothing. Each pass is a process of its own, sides take turns; memory is the most it held, imports
included.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
from harness import Spent, interleaved, ratio, report

WORK = Path(__file__).parents[1] / "work" / "bench-load"
CORE = 5


def written(rows: int, csv: bool) -> Path:
    """The file of so many events; made once."""
    path = WORK / f"{rows}.{'csv' if csv else 'parquet'}"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    users, items = 6040 * rows // 10**6, 3706 * rows // 10**6
    table = pl.DataFrame(
        {
            "user_id": rng.integers(0, users, rows),
            "video_id": (items * rng.random(rows) ** 2).astype(np.int64),
            "timestamp": rng.integers(956703932, 1046454590, rows),
        }
    )
    table.write_csv(path) if csv else table.write_parquet(path)
    return path


def reelm(path: Path) -> int:
    """Interactions that are left."""
    from reelm.data.packing import DatasetConfig, pack
    from reelm.formats.blocks import log

    read = log.read(path)
    packed = pack([read.good], None, DatasetConfig(min_user=CORE, min_item=CORE))
    return len(packed.item)


def limit(path: Path) -> int:
    """The same columns with nothing checked."""
    lazy = pl.scan_csv(path) if path.suffix == ".csv" else pl.scan_parquet(path)
    often = pl.len().over("user_id") >= CORE, pl.len().over("video_id") >= CORE
    numbers = (pl.col(n).rank("dense").cast(pl.Int32) for n in ("user_id", "video_id"))
    return lazy.filter(*often).with_columns(*numbers).sort("user_id", "timestamp").collect().height


def once(side: str, path: Path) -> dict[str, float]:
    """One pass in a process of its own."""
    command = [sys.executable, __file__, "--one", side, "--file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--csv", action="store_true")
    parser.add_argument("--one", choices=("reelm", "limit"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        call = {"reelm": reelm, "limit": limit}[asked.one]
        call(written(1000, asked.file.suffix == ".csv"))  # what is imported and set up once
        begun = time.process_time()
        left = call(asked.file)
        spent = time.process_time() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps({"cpu_s": spent, "peak_mb": peak, "left": left}))
        return
    for rows in asked.rows:
        path, said = written(rows, asked.csv), {}

        def pass_of(side: str, path: Path = path, said: dict = said) -> Spent:
            said[side] = once(side, path)
            return Spent(said[side]["cpu_s"])

        calls = {side: lambda side=side: pass_of(side) for side in ("reelm", "limit")}
        found = interleaved(calls, asked.rounds, warmup=0)
        for side, one in found.items():
            report(
                f"load/{side}",
                {"rows": rows, "file": path.suffix[1:], "core": CORE},
                {"cpu_s": one["cpu_s"], "spread": one["spread"]},
                peak_mb=said[side]["peak_mb"], left=said[side]["left"],
                limit_takes=ratio(found, "limit", side)["ratio"],
            )  # fmt: skip


if __name__ == "__main__":
    main()
