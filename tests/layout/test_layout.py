"""The house rules that a machine can check: floors, tables of contents, sizes, light help."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from inspect import isabstract
from pathlib import Path

import pytest

import reelm
from reelm.models import MODELS, find
from reelm.models.base import Recommender

HOUSE = Path(reelm.__file__).parent
ROOT = HOUSE.parents[1]
SOURCES = sorted(HOUSE.rglob("*.py"))
PLURALS = {"models": "MODELS", "backends": "BACKENDS", "prompts": "PROMPTS", "encoders": "ENCODERS",
           "formats": "FORMATS"}  # fmt: skip
NOT_SIBLINGS = {
    "__init__",
    "base",
    "pairwise",
    "pointwise",
    "sequential",
}  # what siblings begin from


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_floors():
    tool = Path(sys.executable).parent / "lint-imports"
    run = subprocess.run(
        [tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("plural", sorted(PLURALS))
def test_the_table_of_contents_lists_every_sibling(plural):
    table = getattr(import_module(f"reelm.{plural}"), PLURALS[plural])
    listed = {path.partition(":")[0].rpartition(".")[2] for path in table.values()}
    present = {p.stem for p in (HOUSE / plural).glob("*.py")} - NOT_SIBLINGS
    assert listed == present


@pytest.mark.parametrize("name", sorted(MODELS))
def test_models_are_leaves(name):
    parents = {c for c in find(name).__mro__[1:] if issubclass(c, Recommender)}
    assert all(isabstract(parent) for parent in parents)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_models_name_their_source_and_departures(name):
    text = sys.modules[find(name).__module__].__doc__ or ""
    assert "\nSource: " in text and "\nDepartures:" in text


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_no_room_is_too_large(path):
    lengths = {f.name: f.end_lineno - f.lineno + 1 for f in functions(path) if f.end_lineno}
    assert len(path.read_text().splitlines()) <= 400
    assert max(lengths.values(), default=0) <= 60, lengths


def test_no_function_stands_twice():
    """Of one body, whatever it is called and where it imports."""
    found = {}
    for path in SOURCES:
        for one in ast.parse(path.read_text()).body:
            if isinstance(one, ast.FunctionDef):
                body = [n for n in one.body if not isinstance(n, ast.Import | ast.ImportFrom)]
                body = body[1:] if ast.get_docstring(one) else body
                text = "\n".join(map(ast.unparse, body))
                found.setdefault(text, []).append(f"{path.relative_to(HOUSE)}: {one.name}")
    twice = [names for text, names in found.items() if len(names) > 1 and len(text) > 25]
    assert not twice


def test_most_functions_are_short():
    lengths = sorted(
        f.end_lineno - f.lineno + 1 for path in SOURCES for f in functions(path) if f.end_lineno
    )
    assert lengths[len(lengths) // 2] < 12


def test_nothing_is_left_undone():
    words = ("TODO", "FIXME", "XXX", "NotImplementedError")
    found = [f"{p.relative_to(HOUSE)}: {w}" for p in SOURCES for w in words if w in p.read_text()]
    assert not found


def test_errors_name_extras_that_there_are():
    from reelm.models.blocks.scan import PACKAGES

    told = re.compile(r'MissingPackage\("[^"]+", "([^"]+)"')
    named = {extra for path in SOURCES for extra in told.findall(path.read_text())}
    named |= {extra for _, extra in PACKAGES.values()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"lora", "gpu"} <= named <= set(project["optional-dependencies"])


def test_help_loads_nothing_but_typer():
    """What is slow about `--help` is loading; seconds would differ from machine to machine."""
    code = (
        "import sys; before = set(sys.modules); "
        "from typer.testing import CliRunner; from reelm.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "light = {'reelm', 'typer', 'annotated_doc', 'click', 'shellingham', 'rich', 'colorama'}; "
        "sys.exit(', '.join(sorted(loaded - light - sys.stdlib_module_names)) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
