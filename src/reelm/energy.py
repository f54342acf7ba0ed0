"""Joules, where the machine tells them: Linux' RAPL counters and NVIDIA's.

The counters are of whole chips, whoever used them; a machine that does other work beside a stage
tells more than the stage took. What cannot be read is not estimated.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
CHIPS = ("package", "dram")  # zones by their names; others lie within these or hold them


@dataclass
class _Counter:
    """Counts up, and begins anew at `span` if that is not None."""

    name: str
    read: Callable[[], float]
    """Joules since some time."""
    span: float | None
    last: float = 0.0
    used: float = 0.0

    def advance(self) -> float:
        """Joules used since the first reading."""
        now = self.read()
        step = now - self.last
        self.used += step + self.span if step < 0 and self.span else max(0.0, step)
        self.last = now
        return self.used


class Energy:
    """Joules that the chips of this machine used since it was made.

    Read it at least every half hour: RAPL counters begin anew after some hundred kilojoules, and
    a second turn in between goes unnoticed.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._counters = [*_rapl(powercap), *_nvml()]
        for counter in self._counters:
            counter.last = counter.read()

    @property
    def names(self) -> str:
        """Which chips are counted, such as `package-0+dram+gpu0`; empty if none can be read."""
        return "+".join(counter.name for counter in self._counters)

    def read(self) -> float | None:
        """Joules since it was made; None if no counter can be read, or one no longer can."""
        if not self._counters:
            return None
        try:
            return round(sum(counter.advance() for counter in self._counters), 3)
        except (OSError, ValueError, RuntimeError):
            self._counters = []
            return None


def _rapl(powercap: Path) -> list[_Counter]:
    """Processor packages and memory. Readable by root alone on most systems.

    Source: Linux, Documentation/power/powercap/powercap.rst; energy in microjoules.
    """
    found = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            span = int((zone / "max_energy_range_uj").read_text()) / 1e6
            _microjoules(zone)
        except (OSError, ValueError):
            continue
        if name.startswith(CHIPS):
            found.append(_Counter(name, lambda zone=zone: _microjoules(zone), span))
    return found


def _microjoules(zone: Path) -> float:
    return int((zone / "energy_uj").read_text()) / 1e6


def _nvml() -> list[_Counter]:
    """GPUs that this process may use, through the package nvidia-ml-py (extra `energy`); Volta or
    newer. NVML tells millijoules since its driver was loaded."""
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return []
    found = []
    try:
        pynvml.nvmlInit()
        for handle in _handles(pynvml):
            read = _millijoules(pynvml, handle)
            read()
            found.append(_Counter(f"gpu{pynvml.nvmlDeviceGetIndex(handle)}", read, None))
    except (pynvml.NVMLError, RuntimeError, ValueError):
        return []
    return found


def _handles(pynvml: Any) -> list[Any]:
    """Devices by CUDA_VISIBLE_DEVICES, or all of them."""
    get = pynvml.nvmlDeviceGetHandleByIndex
    by_id = pynvml.nvmlDeviceGetHandleByUUID
    count = pynvml.nvmlDeviceGetCount()
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return [get(n) for n in range(count)]
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    return [get(int(name)) if name.isdigit() else by_id(name) for name in names]


def _millijoules(pynvml: Any, handle: Any) -> Callable[[], float]:
    def read() -> float:
        try:
            told = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except pynvml.NVMLError as error:
            raise RuntimeError(f"NVML: {error}") from error
        return told / 1e3

    return read
