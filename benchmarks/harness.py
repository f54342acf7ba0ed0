"""What the benchmarks share: timing, and one JSON line that says where it was measured."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
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
