"""A gate inside a training loop: lets as many steps pass as its host asks for, and measures them.

The standard library only, since it runs in every peer's environment. The host starts a script with
one argument, the settings as JSON; asks by a line `{"steps": n}` on stdin; and reads one line of
JSON on stdout for each, after a first one that says that the loop has come to its first step.
The host ends a worker by closing its stdin.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


class Gate:
    """Call `step` before every step of the loop, however that loop is made."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = json.loads(sys.argv[1])
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what a library prints goes to the log, not between the answers
        self._left = self._asked = self._interactions = 0
        self._begun = 0.0, 0.0

    def step(self, interactions: int) -> None:
        """The loop is about to learn from so many targets. Waits here while none is asked for.

        Time from one step's call to the next belongs to the first of them, so that a step's
        backward pass, its update and the making of the next batch all count.
        """
        if self._left == 0:
            self._answer()
            self._left = self._asked = self._next()
            self._interactions = 0
            self._begun = time.process_time(), time.perf_counter()
        self._left -= 1
        self._interactions += interactions

    def __deepcopy__(self, memo: dict[int, Any]) -> "Gate":
        """RecTools copies its trainer, with all that hangs on it, before it fits."""
        return self

    def _answer(self) -> None:
        cpu, wall = (now - begun for now, begun in zip(_clocks(), self._begun, strict=True))
        answer = {
            "steps": self._asked,
            "interactions": self._interactions,
            "cpu_s": cpu,
            "wall_s": wall,
            "peak_bytes": peak_bytes(),
        }
        print(json.dumps(answer), file=self._answers, flush=True)

    def _next(self) -> int:
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # the peers' loops have no other way out that all of them share
        return int(json.loads(line)["steps"])


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def peak_bytes() -> int:
    """The most memory this process ever held.

    Linux hands `ru_maxrss` on from the process that started this one, so its own count is read
    where there is one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
