"""What stages cost: a ledger beside their parts, and a bar while they run."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import psutil

from reelm.energy import Energy

LEDGER = "cost.jsonl"
SUMMED = ("rows", "seconds", "cpu_s", "device_s", "tokens_in", "tokens_out")


@dataclass(frozen=True)
class Cost:
    """What one part took."""

    part: int
    rows: int
    seconds: float = 0.0
    """Wall time, waiting for decoded videos included."""
    cpu_s: float = 0.0
    """Processor time of this process and of those that it started."""
    device_s: float = 0.0
    """Wall time that the model was busy; all of it for lines of before this was told."""
    tokens_in: int = 0
    tokens_out: int = 0
    device: str = "cpu"
    known: bool = True
    """False for a part whose line was lost because the run was killed just then."""
    joules: float | None = None
    """Of the chips named in `joules_of`, whoever used them; None where none can be read."""
    joules_of: str = ""

    @classmethod
    def of(cls, line: str) -> "Cost":
        """A line of a ledger, also of an older or newer one that tells less or more."""
        told = json.loads(line)
        known = {field.name for field in fields(cls)}
        facts = {"device_s": told.get("seconds", 0.0)} | told
        return cls(**{name: value for name, value in facts.items() if name in known})


class Ledger:
    """One line of JSON per part, appended once the part is in its place.

    A part has one line, and one more for each time that its failures were asked again.
    """

    def __init__(self, folder: Path, repair: bool = True) -> None:
        """Open the ledger of a stage folder.

        Args:
            repair: remove a line that was cut short by a kill; whoever only reads must not, since
                a stage may be at work.
        """
        self.path = folder / LEDGER
        if repair and self.path.is_file():
            whole = self.path.read_bytes()
            end = whole.rfind(b"\n") + 1
            if end < len(whole):
                os.truncate(self.path, end)

    def lines(self) -> list[Cost]:
        """All whole lines, in the order they were written."""
        if not self.path.is_file():
            return []
        return [Cost.of(line) for line in self.path.read_text().split("\n")[:-1]]

    def add(self, cost: Cost) -> None:
        """Append one line and see it to the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(cost)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def total(self) -> dict[str, Any]:
        """Sums over all parts, the devices they ran on, and how many parts' costs were lost.

        joules is None unless every part that is known tells them of the same chips.
        """
        lines = self.lines()
        sums: dict[str, Any] = {name: sum(getattr(c, name) for c in lines) for name in SUMMED}
        known = [c for c in lines if c.known]
        told = [c.joules for c in known if c.joules is not None]
        same = len(told) == len(known) > 0 and len({c.joules_of for c in known}) == 1
        return sums | {
            "joules": round(sum(told), 3) if same else None,
            "parts": len(lines),
            "lost": len(lines) - len(known),
            "devices": sorted({c.device for c in lines}),
        }


class Meter:
    """Wall and processor time since it was made, in seconds, and joules if they are asked for."""

    def __init__(self, energy: Energy | None = None) -> None:
        """
        Args:
            energy: made just now; its readings are told too.
        """
        self._wall, self._cpu, self._energy = time.perf_counter(), _cpu_s(), energy

    def read(self) -> dict[str, Any]:
        """`seconds` and `cpu_s`, and with energy `joules` and `joules_of`, as a ledger line names
        them."""
        wall, cpu = time.perf_counter() - self._wall, _cpu_s() - self._cpu
        told: dict[str, Any] = {"seconds": round(wall, 4), "cpu_s": round(cpu, 4)}
        if self._energy:
            told |= {"joules": self._energy.read(), "joules_of": self._energy.names}
        return told


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left on standard error, if that is a terminal.

    Args:
        total: rows in all.
        done: rows that an earlier run did; they do not count for the rate.

    Yields:
        a function that is told how many more rows are done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate)
    start, fresh = time.perf_counter(), 0
    with Progress(*columns, Remaining(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total, completed=done, rate="")

        def advance(rows: int) -> None:
            nonlocal fresh
            fresh += rows
            per_s = fresh / max(1e-9, time.perf_counter() - start)
            bar.update(task, advance=rows, rate=f"{per_s:.1f}/s")

        yield advance


@contextmanager
def steps(total: int, done: int = 0) -> Iterator[Callable[[str, int], None]]:
    """A line and a bar per training where a terminal watches. Training draws its own moving bar
    below them, and a terminal has room for one of those, so these stand still.

    Args:
        total: trainings in all.
        done: those that an earlier call did; they do not count for the time left.
    """
    from rich.console import Console
    from rich.progress_bar import ProgressBar

    console = Console(stderr=True)
    fresh, begun = 0, time.monotonic()

    def tell(what: str, more: int) -> None:
        nonlocal done, fresh
        done, fresh = done + more, fresh + more
        if not console.is_terminal or not what:
            return
        spent = time.monotonic() - begun
        left = f", about {spent / fresh * (total - done) / 60:.0f} min left" if fresh else ""
        console.print(ProgressBar(total=total, completed=done, width=40), end=" ")
        console.print(f"{done}/{total}{left}: {what}", highlight=False)

    yield tell


@contextmanager
def doing(what: str, operations: float) -> Iterator[None]:
    """Where a terminal watches, a line of what is done and about how long it will take, and the
    time that it has taken.

    Args:
        operations: floating point operations in double precision; nothing is told of none.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not operations or not console.is_terminal:
        yield
        return
    said = TextColumn(f"{what}, about {_lasting(operations / _rate())}; so far")
    columns = (SpinnerColumn(), said, TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as line:
        line.add_task("", total=None)
        yield


def _rate() -> float:
    """Floating point operations a second of this machine, by a product of matrices."""
    import numpy as np

    square, begun = np.ones((1024, 1024)), time.perf_counter()
    np.matmul(square, square)
    return 2 * 1024**3 / (time.perf_counter() - begun)


def _lasting(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def flops(call: Callable[[], Any]) -> int:
    """Floating point operations of one call of something that uses torch: products of matrices and
    sums of weighted rows (graphs), two for each number that is multiplied and added. What is done
    to single numbers, such as scaling, is not counted.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def bag(table: Any, rows: Any, *rest: Any, **named: Any) -> int:
        return 2 * rows[0] * table[1]

    bags = (torch.ops.aten._embedding_bag, torch.ops.aten._embedding_bag_forward_only)
    with FlopCounterMode(display=False, custom_mapping=dict.fromkeys(bags, bag)) as counted:
        call()
    return counted.get_total_flops()


def _cpu_s() -> float:
    """Of this process and of all that it started, whether they have ended or not."""
    taken = os.times()
    alive = 0.0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it ended just now
            times = child.cpu_times()
            alive += times.user + times.system
    return taken.user + taken.system + taken.children_user + taken.children_system + alive
