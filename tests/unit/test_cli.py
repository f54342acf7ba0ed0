import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reelm import asked, config, files
from reelm.cli import SECTIONS, app, settings_class
from reelm.errors import ConfigError

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
