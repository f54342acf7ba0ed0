"""Put known faults into a copy of the package, one at a time; each must fail a test.

    python tests/mutants.py                 all faults of mutants.toml
    python tests/mutants.py padding future  those whose names contain one of these words
    python tests/mutants.py --list          what there is
    python tests/mutants.py --check         only whether every fault still fits the code

Nothing in the checkout is changed. Ends with 1 if a fault survives or no longer fits.
"""

# ruff: noqa: T201 - a command line tool

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PACKAGE = Path("src") / "reelm"
LIMIT_S = 600
"""A fault may make the package hang, or the machine may be busy: a longer run proves nothing."""
SLOW = ("torch", "torch._dynamo", "scipy.sparse")
"""What is imported once, before the forks; nothing that starts threads or that pytest rewrites."""
SKIP = shutil.ignore_patterns("__pycache__", "*.pyc", "_scratch*", "results")


@dataclass(frozen=True)
class Mutant:
    """One fault."""

    name: str
    file: str
    """Below src/reelm."""
    find: str
    """Exact text, which must occur once."""
    replace: str
    tests: tuple[str, ...]
    """Paths or pytest ids below tests/."""

    def misfit(self, root: Path = ROOT) -> str | None:
        """Why the fault cannot be put in, or None if it can."""
        path = root / PACKAGE / self.file
        if not path.is_file():
            return f"no file {self.file}"
        found = path.read_text(encoding="utf-8").count(self.find)
        if found != 1:
            return f"`find` occurs {found} times in {self.file}"
        missing = [t for t in self.tests if not (root / "tests" / t.partition("::")[0]).exists()]
        return f"no test {missing[0]}" if missing else None


def mutants(path: Path = HERE / "mutants.toml") -> list[Mutant]:
    """All faults of the list.

    Raises:
        ValueError: two of them have one name, or one changes nothing or names no test.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    found = [Mutant(**{**row, "tests": tuple(row["tests"])}) for row in table]
    names = [one.name for one in found]
    twice = {name for name in names if names.count(name) > 1}
    idle = {one.name for one in found if one.find == one.replace or not one.tests}
    if twice or idle:
        raise ValueError(f"{path.name}: named twice: {sorted(twice)}; idle: {sorted(idle)}")
    return found


def copy(root: Path) -> None:
    """What the tests need, in a folder of its own."""
    for folder in ("src", "tests", "benchmarks"):  # some tests run a benchmark's small form
        shutil.copytree(ROOT / folder, root / folder, ignore=SKIP)
    for name in ("pyproject.toml", "README.md"):
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, root / name)


def run(root: Path, tests: Sequence[str]) -> tuple[int | None, str]:
    """pytest's exit status, None if it took too long, and the name of the first failure.

    A fork of this process, which has imported torch already: that is most of a short test run.
    """
    with tempfile.TemporaryFile("w+") as out:
        child = os.fork()
        if not child:
            _be_pytest(root, [str(Path("tests") / test) for test in tests], out.fileno())
        status, begun = None, time.monotonic()
        while status is None and time.monotonic() - begun < LIMIT_S:
            time.sleep(0.05)
            done, code = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if done else None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # and whatever the tests left running
        if status is None:
            os.waitpid(child, 0)
        out.seek(0)
        return status, _first_failure(out.read())


def _be_pytest(root: Path, tests: list[str], out: int) -> NoReturn:
    """In the child: run the tests on the copy and end."""
    status = 2
    try:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(root)
        sys.path.insert(0, str(root / "src"))
        os.environ["PYTHONPATH"] = str(root / "src")  # for the children of the tests
        options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider"]
        status = int(pytest.main([*options, "-m", "not gpu and not browser", *tests]))
        sys.stdout.flush()
    finally:
        os._exit(status)


def _first_failure(said: str) -> str:
    lines = said.splitlines()
    for line in lines:
        if line.startswith(("FAILED ", "ERROR ")):
            return line.partition(" ")[2].partition(" - ")[0].removeprefix("tests/")
    return lines[-1] if lines else "nothing said"


def try_one(mutant: Mutant, root: Path) -> tuple[str, str]:
    """ "caught", "SURVIVED" or "UNCLEAR", and the test that failed or why it is unclear."""
    path = root / PACKAGE / mutant.file
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace(mutant.find, mutant.replace), encoding="utf-8")
    try:
        status, said = run(root, mutant.tests)
    finally:
        path.write_text(whole, encoding="utf-8")
    if status is None:
        return "UNCLEAR", f"no end within {LIMIT_S} s"
    if status == 1 or status < 0:  # a failed test, or a crash of the interpreter
        return "caught", said
    # 2..5: pytest could not run the tests at all, e.g. the fault is no Python
    return ("SURVIVED", "") if status == 0 else ("UNCLEAR", f"pytest ended with {status}: {said}")


def hunt(chosen: Sequence[Mutant]) -> int:
    """Try the faults and print a line for each; how many were not caught."""
    sys.dont_write_bytecode = True  # a stale .pyc would hide the next fault
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    for name in SLOW:
        import_module(name)
    with tempfile.TemporaryDirectory(prefix="reelm-mutants-") as folder:
        root = Path(folder)
        copy(root)
        tests = sorted({test for mutant in chosen for test in mutant.tests})
        begun = time.monotonic()
        status, said = run(root, tests)
        print(f"without a fault: {_seconds(begun)}  {said}", flush=True)
        if status != 0:
            print("error: these tests fail without any fault; mend them first", file=sys.stderr)
            return len(chosen)
        missed = 0
        width = max(len(mutant.name) for mutant in chosen)
        for mutant in chosen:
            begun = time.monotonic()
            outcome, by = try_one(mutant, root)
            missed += outcome != "caught"
            print(f"{mutant.name:<{width}}  {outcome:<8}  {_seconds(begun)}  {by}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} faults caught")
    return missed


def _seconds(begun: float) -> str:
    return f"{time.monotonic() - begun:5.1f} s"


def main() -> int:
    """The command line; 0 if every fault was caught, 1 if not, 2 for a name without a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="parts of names; all faults without any")
    parser.add_argument("--list", action="store_true", help="names and files, and nothing is run")
    parser.add_argument("--check", action="store_true", help="only whether each fault fits")
    asked = parser.parse_args()
    everything = mutants()
    unknown = [n for n in asked.names if not any(n in mutant.name for mutant in everything)]
    if unknown:
        print(f"error: no fault is called {', '.join(unknown)}; see --list", file=sys.stderr)
        return 2
    chosen = [m for m in everything if not asked.names or any(n in m.name for n in asked.names)]
    if asked.list:
        for mutant in chosen:
            print(f"{mutant.name:<36} {mutant.file}")
        return 0
    misfits = [f"{m.name}: {why}" for m in chosen if (why := m.misfit())]
    for line in misfits:
        print(f"error: {line}", file=sys.stderr)
    if misfits or asked.check:
        return int(bool(misfits))
    return int(hunt(chosen) > 0)


if __name__ == "__main__":
    sys.exit(main())
