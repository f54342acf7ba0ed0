import errno
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from reelm import __version__, asked, cli, config, files, models
from reelm.cli import SECTIONS, app, settings_class
from reelm.encoders.base import EncoderConfig
from reelm.errors import BadData, ConfigError

REELM = Path(sys.executable).parent / "reelm"


def said(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", [*sorted(SECTIONS), "sasrec", "pocket", "text"])
def test_every_section_prints_settings_that_can_be_read_back(name, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(said("config", name))
    kind, section = settings_class(name)
    required = {k for k, field in kind.model_fields.items() if field.is_required()}
    if not required:
        assert config.section(kind, config.read(path), section) == kind()


OWN = """
from reelm.config import Config
from reelm.models.base import Complete

class NewestConfig(Config):
    power: float = 1.0

class Newest(Complete):
    Config = NewestConfig
"""


def test_a_model_of_another_package_has_settings_too(tmp_path, monkeypatch):
    about = tmp_path / "mine-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[reelm.models]\nnewest = mine_newest:Newest\n")
    (tmp_path / "mine_newest.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    assert "power = 1.0" in said("config", "newest")


def test_an_encoder_that_is_called_like_a_section_has_its_settings():
    assert settings_class("vision")[1] == "vision"
    kind, section = settings_class("encoder.vision")
    assert section == "encoder" and issubclass(kind, EncoderConfig)


def test_every_setting_is_explained():
    for name in SECTIONS:
        kind, _ = settings_class(name)
        bare = [k for k, field in kind.model_fields.items() if not field.description]
        assert not bare, f"{name}: {bare}"


def test_all_papers_are_listed():
    assert len(said("papers").splitlines()) == 19


def test_our_errors_are_one_line_and_exit_code_two():
    run = subprocess.run([REELM, "config", "sasrecc"], capture_output=True, text=True, check=False)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("error: unknown settings 'sasrecc'. Did you mean 'sasrec'?")
    assert run.stderr.count("\n") == 1


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "work").write_text("a file, where a folder is wanted")
    (tmp_path / "log.csv").write_text("user_id,video_id\nu,v\n")
    words = ["ingest", tmp_path / "log.csv", "--work", tmp_path / "work"]
    run = subprocess.run([REELM, *words], capture_output=True, text=True, check=False)
    assert run.returncode == 2 and run.stderr.count("\n") == 1
    assert str(tmp_path / "work") in run.stderr and "Not a directory" in run.stderr


class SafetensorError(Exception):
    """As the package's own, which is not to be loaded here."""

    __module__ = "safetensors._safetensors_rust"


@pytest.mark.parametrize(
    "error",
    [
        pl.exceptions.ComputeError("parquet: underlying IO error: No space left on device (os 28)"),
        SafetensorError("I/O error: Read-only file system (os error 30) at path /x"),
        PermissionError("Permission denied (os error 13): /x/a.parquet"),
        OSError("1000000 requested and 131056 written"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EFBIG, "File too large", "/x/a.npy"),
        IsADirectoryError(errno.EISDIR, "Is a directory", "/x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_place_that_writers_cannot_write_is_one_line(monkeypatch, capsys, error):
    _raising(monkeypatch, error)
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1
    assert "--work" in said


@pytest.mark.parametrize(
    "error",
    [
        pl.exceptions.ComputeError("lengths differ"),
        SafetensorError("a tensor has no contiguous memory"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"),
        RuntimeError("No space left on device"),
        OSError("odd"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_bug_keeps_its_traceback(monkeypatch, error):
    _raising(monkeypatch, error)
    with pytest.raises(type(error)):
        cli.main()


def _raising(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)


@pytest.mark.parametrize(
    "words",
    [("evaluate", "nope"), ("serve", "nope", "--port", "0"), ("train", "--catalog", "nope")],
    ids=lambda words: words[0],
)
def test_a_folder_that_is_not_there_is_not_called_unfinished(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    failed = CliRunner().invoke(app, list(words)).exception
    assert isinstance(failed, BadData) and "nope: no such folder" in str(failed)


@pytest.mark.parametrize(
    "words",
    [
        ("look", "--out"),
        ("corrections", "--export"),
        ("lessons", "notes"),
        ("rerank", "run", "--lessons"),
        ("cost", "--plot"),
        ("train", "--settings"),
    ],
    ids=lambda words: words[0],
)
def test_a_folder_where_a_file_is_wanted_is_said_at_once(tmp_path, words):
    done = CliRunner().invoke(app, [*words, str(tmp_path)])
    assert done.exit_code == 2 and "is a directory" in done.output


def test_a_file_of_settings_that_is_not_there_is_not_called_bad(tmp_path):
    done = CliRunner().invoke(app, ["train", "--settings", str(tmp_path / "no.toml")])
    assert done.exit_code == 2 and "does not exist" in done.output


READS = {
    "world": ("--set", "model.dim=8"),
    "ingest log.csv": ("--set", "annotate.part=8"),
    "annotate": ("--set", "split.name=random"),
    "annotate --prompt attributes --prompt caption": ("--set", "dataset.min_user=2"),
    "transcribe": ("--set", "annotate.part=8"),
    "batch write": ("--set", "split.name=random"),
    "encode": ("--set", "model.dim=8"),
    "export recbole": ("--set", "model.dim=8"),
    "train": ("--set", "evaluate.ks=[5]"),
    "distill --teacher t": ("--set", "split.name=random"),
    "evaluate": ("--set", "split.name=random"),
    "compare": ("--set", "model.dim=8"),
    "search": ("--set", "evaluate.ks=[5]"),
    "serve": ("--set", "split.name=random"),
    "gather": ("--set", "engine.trending_share=0"),
    "ab-report": ("--set", "engine.trending_share=0"),
    "rerank run": ("--set", "split.name=random"),
    "cost": ("--set", "serve.ab=x"),
    "tune": ("--set", "lora.rank=4"),
    "tune --on a.jsonl --model m": ("--set", "tune.seed=1"),
}


@pytest.mark.parametrize("words", READS)
def test_a_setting_that_a_command_does_not_read_is_refused(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text("user_id,video_id\nu,v\n")
    failed = CliRunner().invoke(app, [*words.split(), *READS[words]]).exception
    section = READS[words][1].partition(".")[0]
    assert isinstance(failed, ConfigError), failed
    assert f"does not read section [{section}]" in str(failed) and "It reads [" in str(failed)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_every_command_with_settings_says_which_it_reads():
    def leaves(group, before=()):
        for name, command in group.commands.items():
            inner = getattr(command, "commands", None)
            if inner is None:
                yield " ".join((*before, name)), command
            else:
                yield from leaves(command, (*before, name))

    told = {
        name
        for name, command in leaves(get_command(app))
        if {"settings", "sets"} <= {one.name for one in command.params}
    }
    assert told == {" ".join(re.split(r" (?=-)| (?=log|recbole|run)", w)[:1]) for w in READS}


def test_a_file_may_hold_sections_of_other_commands(tmp_path):
    path = tmp_path / "all.toml"
    path.write_text("[split]\nname = 'random'\n[evaluate]\nks = [3]\n")
    assert asked.raw(path, ["evaluate.lists=false"], ("evaluate",)) == {
        "split": {"name": "random"}, "evaluate": {"ks": [3], "lists": False},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mf", r"^model\.features: mf reads no features, so it has no such setting"),
        ("llmrec", r"^model\.features: no such setting"),  # it reads them by another name
    ],
)
def test_a_model_that_reads_no_features_says_so(name, said):
    with pytest.raises(ConfigError, match=said):
        models.settings(name, {"features": ["text"]})


def test_folders_are_written_as_folders():
    with pytest.raises(ConfigError, match="--features text: write it as name=folder"):
        asked.folders(["text"], "--features")
    with pytest.raises(ConfigError, match="--set a: write it as name=value"):
        asked.pairs(["a"], "--set")


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    def interrupted():
        raise SystemExit(cli.INTERRUPTED)

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130 and "the same command goes on" in capsys.readouterr().err


def test_which_of_several_catalogues_is_taken_is_said(tmp_path, capsys):
    for name, at in (("a", 2.0), ("b", 1.0)):
        files.write_text(
            tmp_path / "catalog" / name / files.MANIFEST, json.dumps({"finished_at": at})
        )
        assert asked.newest_catalog(tmp_path) == tmp_path / "catalog" / "a"
    said = capsys.readouterr().err
    assert said.count("the newest of several") == 1 and "catalog/a" in said


def test_a_taken_port_is_said_before_anything_is_loaded(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        asked_for = ["serve", str(tmp_path / "no-run"), "--port", str(taken.getsockname()[1])]
        error = CliRunner().invoke(app, asked_for).exception
    assert isinstance(error, ConfigError) and "cannot listen" in str(error)


def test_a_missing_catalogue_says_what_to_run(tmp_path):
    run = subprocess.run(
        [REELM, "train", "--work", tmp_path], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "nothing finished here yet" in run.stderr


def test_neither_notes_about_users_nor_transcripts_are_taken_for_what_videos_show(tmp_path):
    made = (
        ("attributes-a", {}, 1.0),
        ("user_profile-b", {"about": "user"}, 2.0),
        ("speech-c", {"prompt": {"name": "speech"}}, 3.0),
    )
    for name, about, at in made:
        folder = files.finish(tmp_path / "notes" / name, stage="annotate", settings=about)
        facts = files.manifest(folder) | {"finished_at": at}
        files.write_text(folder / files.MANIFEST, json.dumps(facts))
    assert asked.notes(tmp_path).name == "attributes-a"
    with pytest.raises(ConfigError, match=r"user_profile-b.*--edges"):
        asked.about_videos([tmp_path / "notes" / "user_profile-b"])
    with pytest.raises(ConfigError, match="cannot watch videos"):
        asked.maker("tallies", {})
    assert asked.maker("tallies", {}, "user").name == "tallies"


def test_the_version_is_told():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output.strip()) == (0, __version__)
