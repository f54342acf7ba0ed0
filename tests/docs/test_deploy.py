"""The files of deploy/ name things that exist. Containers cannot be started here."""

import re
import shlex
import tomllib
from pathlib import Path

import yaml
from typer.testing import CliRunner

from reelm.cli import app
from reelm.sections import settings_class

HERE = Path(__file__).parents[2]
DEPLOY = HERE / "deploy"
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]


def takes(words: list[str]) -> None:
    """The command line takes these words: options are known, settings exist."""
    command, *rest = words
    told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    for option in (word for word in rest if word.startswith("--")):
        assert option in told, f"reelm {command} has no {option}"
    for place, word in enumerate(rest):
        if word == "--set":
            section, _, name = rest[place + 1].partition("=")[0].partition(".")
            known = settings_class("sasrec" if section == "model" else section)[0]
            assert name in known.model_fields


def test_the_image_copies_and_installs_what_is_there():
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    for line in re.findall(r"^COPY (.*)$", text, flags=re.M):
        *sources, _ = line.split()
        assert all((HERE / source).exists() for source in sources)
    extras = re.findall(r'"\.\[(.*?)\]"', text)[0].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    command = yaml.safe_load(re.findall(r"^CMD (\[.*\])$", text, flags=re.M)[0])
    takes(command)


def test_the_services_are_described_whole():
    told = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    reelm = told["services"]["reelm"]
    takes(reelm["command"])
    assert (DEPLOY / reelm["build"]["context"] / reelm["build"]["dockerfile"]).is_file()
    for service in told["services"].values():
        assert set(service.get("secrets", ())) <= set(told["secrets"])
    assert all(port.startswith("127.0.0.1:") for port in reelm["ports"])


def test_the_unit_starts_a_command_that_is_there():
    text = (DEPLOY / "reelm.service").read_text()
    _, *words = shlex.split(re.findall(r"^ExecStart=(.*)$", text, flags=re.M)[0])
    takes(words)
    assert re.search(r"^User=(?!root)", text, flags=re.M)


def test_what_runs_every_night_is_there():
    """The script itself is run by tests/pipeline/test_nightly.py."""
    script = DEPLOY / "nightly.sh"
    assert script.stat().st_mode & 0o100
    text = (DEPLOY / "reelm-nightly.service").read_text()
    assert re.findall(r"^ExecStart=(.*)$", text, flags=re.M) == [f"/srv/reelm/{script.name}"]
    for words in re.findall(r"^\S*made (.*)$", script.read_text().replace("\\\n", ""), flags=re.M):
        takes([word for word in shlex.split(words.rstrip(")")) if "$" not in word])
