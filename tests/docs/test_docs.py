"""The documents tell the truth: pages are fresh, links lead somewhere, papers are all there."""

import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import reelm

ROOT = Path(reelm.__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
FENCES = re.compile(r"```.*?```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


def test_generated_pages_are_fresh():
    command = [sys.executable, ROOT / "docs" / "generate.py", "--check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    text = FENCES.sub("", page.read_text())
    inside = [link for link in LINK.findall(text) if "://" not in link]
    assert not [link for link in inside if not (page.parent / link).exists()]


def test_all_nineteen_papers_have_a_row():
    papers = tomllib.loads((Path(reelm.__file__).parent / "papers.toml").read_text())["paper"]
    assert len({paper["name"] for paper in papers}) == 19
    for paper in papers:
        assert {"name", "title", "venue", "link", "summary", "lives", "status"} <= set(paper)


def test_what_a_paper_row_says_stands_is_there():
    papers = tomllib.loads((Path(reelm.__file__).parent / "papers.toml").read_text())["paper"]
    for paper in papers:
        if paper["status"] == "stands":
            homes = [home.strip() for home in paper["lives"].split(",")]
            assert all((ROOT / "src" / "reelm" / home).exists() for home in homes), paper["name"]


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path):
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    script = tmp_path / "readme.py"
    script.write_text(f"if __name__ == '__main__':\n{textwrap.indent(code, '    ')}")
    run = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "somebody new" in run.stdout and "fallback" in run.stdout
