"""The selective scan, forward and backward: processor milliseconds and extra memory, by engine.

    python benchmarks/bench_scan.py [--peers] [--rounds 5]

Beside the plain loop over places, which is what authors' reference code does. With `--peers` also
mambapy's parallel scan, and transformers' MambaMixer against the block built on the scan here, at
the same sizes; mambapy is put under work/bench-envs by pip, without its dependencies. Engines take
turns, and ratios are taken within a turn. Extra memory is the most a process of its own holds
during one pass, less what it held before, outputs and slopes included. Last, how the time of
Mamba4Rec's states grows with the length of histories, and that of SASRec's.
"""

import argparse
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import torch
from harness import interleaved, ratio, report
from torch import Tensor

from reelm.data.dataset import Dataset
from reelm.models.blocks.mamba import Mamba, MambaShape
from reelm.models.blocks.scan import ScanInputs, selective_scan
from reelm.models.mamba4rec import Mamba4Rec, Mamba4RecConfig
from reelm.models.sasrec import SASRec, SASRecConfig

ENVIRONMENT = Path(__file__).parents[1] / "work" / "bench-envs" / "mambapy"
ENGINES = ("compiled", "chunked", "loop")
Shape = tuple[int, int, int, int]


def drawn(shape: Shape) -> list[Tensor]:
    """u, dt, a, b, c, d that want gradients; steps and rates as at the start of training."""
    batch, length, channels, size = shape
    dt = torch.empty(batch, length, channels).uniform_(-7, -2).exp()
    a = -torch.arange(1.0, size + 1).repeat(channels, 1)
    b, c = torch.randn(2, batch, length, size)
    tensors = [torch.randn(batch, length, channels), dt, a, b.clone(), c.clone()]
    return [t.requires_grad_() for t in (*tensors, torch.ones(channels))]


def scanned(engine: Any, tensors: list[Tensor]) -> None:
    """One pass there and back."""
    for t in tensors:
        t.grad = None
    if engine == "mambapy":
        y = by_mambapy(tensors)
    else:
        y = selective_scan(ScanInputs(*tensors), engine)[0]
    y.sum().backward()


def by_mambapy(tensors: list[Tensor]) -> Tensor:
    """The same by the parallel scan of mambapy, in the way its own block calls it."""
    sys.path.append(str(ENVIRONMENT))
    from mambapy.pscan import pscan  # pyright: ignore[reportMissingImports]

    u, dt, a, b, c, d = tensors
    decay = torch.exp(dt[..., None] * a)
    states = pscan(decay, dt[..., None] * b[:, :, None] * u[..., None])
    return (states @ c[..., None])[..., 0] + d * u


def extra_bytes(engine: str, shape: Shape) -> int:
    """Most memory of one pass in a process of its own, less what it held before."""
    command = [sys.executable, __file__, "--memory_of", engine, "--shape", *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout))


def watch(engine: str, shape: Shape) -> int:
    """`extra_bytes`, in this process."""
    scanned(engine, drawn((2, 20, 8, 4)))  # loads what is loaded once
    tensors, process = drawn(shape), psutil.Process()
    before = most = process.memory_info().rss
    over = threading.Event()

    def look() -> None:
        nonlocal most
        while not over.wait(0.002):
            most = max(most, process.memory_info().rss)

    watcher = threading.Thread(target=look)
    watcher.start()
    scanned(engine, tensors)
    over.set()
    watcher.join()
    return most - before


def install_mambapy() -> str | None:
    """None, or why there is none."""
    if (ENVIRONMENT / "mambapy").exists():
        return None
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target",
               str(ENVIRONMENT), "mambapy==1.2.0"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def engines(peers: bool, rounds: int, shape: Shape) -> None:
    """Time and memory of each engine, beside the loop."""
    names = list(ENGINES)
    if peers:
        missing = install_mambapy()
        if missing:
            report("scan", {"engine": "mambapy"}, {}, skipped=missing)
        else:
            names.append("mambapy")
    tensors = drawn(shape)
    calls = {name: lambda name=name: scanned(name, tensors) for name in names}
    found = interleaved(calls, rounds)
    shapes = dict(zip(("batch", "length", "channels", "size"), shape, strict=True))
    for name in names:
        against = ratio(found, "loop", name)
        report(
            "scan",
            {"engine": name, **shapes},
            {"cpu_ms": 1e3 * found[name]["cpu_s"],
             "spread_ms": [1e3 * s for s in found[name]["spread"]]},
            extra_mb=extra_bytes(name, shape) / 1e6,
            loop_takes=against["ratio"], loop_takes_spread=against["ratio_spread"],
        )  # fmt: skip


def passed(model: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """One pass there and back of `model` over `x`."""
    return lambda: model(x).sum().backward()


def mixers(rounds: int, batch: int) -> None:
    """The block here and transformers' of the same sizes, on a CPU; dim 64, length 200."""
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    config = MambaConfig(hidden_size=64, state_size=32, conv_kernel=4, expand=2, use_cache=False)
    x = torch.randn(batch, 200, 64, requires_grad=True)
    calls = {
        "reelm": passed(Mamba(MambaShape(64, 32)), x),
        "transformers": passed(MambaMixer(config, layer_idx=0), x),
    }
    found = interleaved(calls, rounds)
    report(
        "mamba_block",
        {"batch": batch, "length": 200, "dim": 64, "size": 32},
        {"cpu_ms": 1e3 * found["reelm"]["cpu_s"],
         "transformers_cpu_ms": 1e3 * found["transformers"]["cpu_s"]},
        **ratio(found, "transformers", "reelm"),
    )  # fmt: skip


def growth(rounds: int, batch: int) -> None:
    """Time of the states of histories ten times as long; one layer, dim 64."""
    table = pl.DataFrame({"user_id": ["u", "u"], "video_id": ["v", "w"], "timestamp": [0.0, 1.0]})
    data = Dataset.build(table.with_columns(event=pl.lit("watch"), value=pl.lit(1.0)))
    models = {
        "mamba4rec": Mamba4Rec(Mamba4RecConfig(max_length=2000), data),
        "sasrec": SASRec(SASRecConfig(max_length=2000, layers=1, heads=1), data),
    }
    for name, model in models.items():
        calls = {}
        for length in (200, 2000):
            x = torch.randn(batch, length, 64, requires_grad=True)
            real = torch.ones(batch, length, dtype=torch.bool)
            calls[str(length)] = passed(lambda x, real=real, m=model: m.states(x, real), x)
        found = interleaved(calls, rounds)
        report(
            "states_by_length",
            {"model": name, "batch": batch, "dim": 64},
            {f"cpu_ms_{length}": 1e3 * one["cpu_s"] for length, one in found.items()},
            **ratio(found, "2000", "200"),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=4, default=(64, 200, 128, 32))
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    torch.manual_seed(0)
    shape = tuple(settings.shape)
    if settings.memory_of:
        print(watch(settings.memory_of, shape))
        return
    engines(settings.peers, settings.rounds, shape)
    growth(settings.rounds, 8)
    if settings.peers:
        mixers(settings.rounds, 16)


if __name__ == "__main__":
    main()
