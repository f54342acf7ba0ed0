"""The host's end: environments for peers, and workers whose training loops stop at a gate."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ENVIRONMENTS = FOLDER.parents[1] / "work" / "bench-envs"
LIMIT_S = 1200  # of wall time, for a worker to come to its first step, or to answer


class Unavailable(Exception):
    """A side that cannot be measured here; says why."""


@dataclass(frozen=True)
class Answer:
    """What a worker measured over the steps it was asked for."""

    steps: int
    interactions: int
    """Targets that were learnt from, padding not counted."""
    cpu_s: float
    wall_s: float
    peak_bytes: int
    """The most memory the worker ever held, its libraries and its data included."""

    @property
    def speed(self) -> float:
        """Interactions per processor second."""
        return self.interactions / self.cpu_s


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The Python of `work/bench-envs/<name>`, which is made, and filled by pip, where it is not.

    Raises:
        Unavailable: pip could not; with the end of what it said.
    """
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    wanted = "\n".join(requirements)
    ready = folder / ".ready"
    if ready.is_file() and ready.read_text(encoding="utf-8") == wanted:
        return python
    made = [sys.executable, "-m", "venv", str(folder)]
    filled = [str(python), "-m", "pip", "install", "-q", *requirements]
    for command in (made, filled):
        print(" ".join(command), file=sys.stderr, flush=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"{name}: {command[2]} failed: {_end(done.stderr + done.stdout)}")
    ready.write_text(wanted, encoding="utf-8")
    return python


class Worker:
    """A process with a training loop in it, one thread, that goes on when it is told to."""

    def __init__(
        self, name: str, python: Path, script: str, settings: Mapping[str, Any], **variables: str
    ) -> None:
        self.name, self.log = name, ENVIRONMENTS / f"{name.replace('/', '-')}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        threads = {f"{one}_NUM_THREADS": "1" for one in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [str(python), str(FOLDER / script), json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | threads | variables,
            )

    def ready(self) -> None:
        """Wait until the loop has come to its first step; then take one that is not measured."""
        self._read()
        self.go(1)

    def go(self, steps: int) -> Answer:
        """Take so many steps, and say what they cost.

        Raises:
            Unavailable: the worker ended, or did not answer in time; with the end of its log.
        """
        assert self.process.stdin is not None
        try:
            print(json.dumps({"steps": steps}), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise self._gone() from None
        return self._read()

    def close(self) -> None:
        """The gate ends the process when nobody can ask it any more."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def _read(self) -> Answer:
        assert self.process.stdout is not None
        late = threading.Timer(LIMIT_S, self.process.kill)
        late.start()
        try:
            line = self.process.stdout.readline()
        finally:
            late.cancel()
        if not line:
            raise self._gone()
        return Answer(**json.loads(line))

    def _gone(self) -> Unavailable:
        code = self.process.wait()
        said = _end(self.log.read_text(encoding="utf-8", errors="replace"))
        return Unavailable(f"{self.name}: ended with {code}: {said} (all of it: {self.log})")


def _end(text: str) -> str:
    """The last lines that say something: pip remarks on every index that it passes over."""
    lines = [line for line in text.splitlines() if line.strip() and "is ignored" not in line]
    return " | ".join(lines[-3:]) or "no message"
