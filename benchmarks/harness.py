"""What the benchmarks share: timing, and one JSON line that says where it was measured."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
torch.set_num_threads(THREADS)


def timed(call: Callable[[], Any], warmup: int = 1, least_s: float = 1.0) -> dict[str, Any]:
    """Wall and processor seconds of one call; it is repeated for `least_s`, at least three times.

    `least_s` counts processor seconds, so that a busy machine does not stretch the sample. Their
    median is the figure to trust on a machine that others use too.
    """
    for _ in range(warmup):
        call()
    wall: list[float] = []
    cpu: list[float] = []
    while len(wall) < 3 or sum(cpu) < least_s:
        at = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - at[0])
        cpu.append(time.process_time() - at[1])
    return {"median_s": median(wall), "cpu_s": median(cpu), "repeats": len(wall)}


class Spent(float):
    """Processor seconds a call measured itself, because another process did the work."""


def interleaved(
    calls: Mapping[str, Callable[[], Any]], rounds: int = 5, warmup: int = 1
) -> dict[str, dict[str, Any]]:
    """Processor seconds of each call, taken in turn: one, other, one, other, ...

    A busy machine slows neighbours in time alike, so that the quotient of two calls of one round
    says more than that of two samples taken one after the other.

    Returns:
        For each name `cpu_s`, the median; `spread`, the first and the third quartile; `rounds`,
        all values. A call that gives a `Spent` is taken at its word.
    """
    spans: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            at = time.process_time()
            said = call()
            spent = time.process_time() - at
            if turn >= warmup:
                spans[name].append(float(said) if isinstance(said, Spent) else spent)
    return {
        name: {"cpu_s": median(found), "spread": quartiles(found), "rounds": found}
        for name, found in spans.items()
    }


def ratio(found: Mapping[str, Mapping[str, Any]], over: str, under: str) -> dict[str, Any]:
    """How many times the seconds of `under` those of `over` are, round by round.

    Returns `ratio`, the median, and `ratio_spread`, the quartiles.
    """
    pairs = zip(found[over]["rounds"], found[under]["rounds"], strict=True)
    times = [one / other for one, other in pairs]
    return {"ratio": median(times), "ratio_spread": quartiles(times)}


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third quartile; both are the value itself if there is one only."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = quantiles(values, n=4, method="inclusive")
    return first, third


def percentile(spans: Sequence[float], share: float) -> float:
    """The least span that at least `share` of all spans do not exceed; 0 < share <= 1."""
    ordered = sorted(spans)
    return ordered[max(0, -(-int(share * 1e6) * len(ordered) // 10**6) - 1)]


def report(name: str, shapes: Mapping[str, Any], spans: Mapping[str, Any], **figures: Any) -> None:
    """Print one JSON line: what was measured, on which shapes, the figures, and where."""
    line = {
        "bench": name,
        **shapes,
        **{key: _short(value) for key, value in (spans | figures).items()},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": _machine(),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(line), flush=True)


def _short(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_short(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _machine() -> str:
    """Processor and number of cores."""
    name = platform.processor() or platform.machine()
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file():
        lines = cpu.read_text(encoding="utf-8").splitlines()
        named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        name = next(named, name)
    return f"{name}, {os.cpu_count()} cpus"
