import json
import os
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from reelm import files, runs, sources
from reelm.annotate import batches
from reelm.asked import about_videos
from reelm.data import tables
from reelm.errors import BadData, ConfigError
from reelm.lessons import lessons


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "table.parquet"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic(path) as tmp:
        tmp.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]


def test_a_folder_of_another_stage_is_not_taken_for_what_was_wanted(tmp_path):
    features = files.finish(tmp_path, stage="encode", settings={})
    assert files.of(features, "features") == features
    readers = (tables.read_notes, tables.read_catalog, runs.load, sources.load)
    readers += (lambda folder: lessons(folder, tmp_path / "x.jsonl"),)
    readers += (lambda folder: batches.read(folder, []), lambda folder: about_videos([folder]))
    for reader in readers:
        with pytest.raises(BadData, match=r"holds features, where .* must be named"):
            reader(features)
    notes = files.finish(tmp_path / "notes", stage="annotate", settings={})
    with pytest.raises(BadData, match="holds notes, where features must be named"):
        tables.read_features(notes)


def test_the_temporary_file_keeps_the_suffix_and_lies_beside(tmp_path):
    with files.atomic(tmp_path / "new" / "clip.mp4") as tmp:
        assert tmp.suffix == ".mp4" and tmp.parent == tmp_path / "new"
        tmp.write_text("x")
    assert (tmp_path / "new" / "clip.mp4").read_text() == "x"


def test_the_key_changes_with_everything_that_can_change_the_output():
    keys = {
        files.key("a", 1, {"x": 1}, {}),
        files.key("b", 1, {"x": 1}, {}),
        files.key("a", 2, {"x": 1}, {}),
        files.key("a", 1, {"x": 2}, {}),
        files.key("a", 1, {"x": 1}, {"in": "q"}),
    }
    assert len(keys) == 5
    assert files.key("a", 1, {"x": 1, "y": 2}, {}) == files.key("a", 1, {"y": 2, "x": 1}, {})


def test_a_folder_is_finished_once_its_manifest_stands(tmp_path):
    assert not files.finished(tmp_path)
    with pytest.raises(BadData, match="did not finish"):
        files.manifest(tmp_path)
    files.finish(tmp_path, stage="test", rows=3)
    assert files.finished(tmp_path)
    facts = json.loads((tmp_path / "manifest.json").read_text())
    assert facts["stage"] == "test" and facts["rows"] == 3 and facts["package"]


def test_the_latest_is_the_one_that_finished_last(tmp_path):
    with pytest.raises(BadData, match="nothing finished"):
        files.latest(tmp_path)
    for name in ("b", "a"):
        files.finish(tmp_path / name, stage="test")
        time.sleep(0.01)
    (tmp_path / "c").mkdir()
    assert files.latest(tmp_path).name == "a"


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256(tmp_path / "x") == known


@pytest.fixture
def umask():
    """Sets it for one test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_who_may_read_a_file_is_what_the_umask_says_whoever_writes_it(tmp_path, umask, mask, mode):
    umask(mask)
    with files.atomic(tmp_path / "a.safetensors") as tmp:
        save_file({"a": torch.zeros(2)}, tmp)  # a writer that leaves it to its owner
    save_file({"a": torch.zeros(2)}, tmp_path / "b.safetensors")
    with files.atomic(tmp_path / "keys.json", private=True) as tmp:
        tmp.write_text("secret")
    (tmp_path / "inside").mkdir()
    files.shared(tmp_path)
    assert [oct((tmp_path / f"{n}.safetensors").stat().st_mode & 0o777) for n in "ab"] == [
        oct(mode)
    ] * 2
    assert load_file(tmp_path / "a.safetensors")["a"].tolist() == [0, 0]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.safetensors", "b.safetensors", "inside", "keys.json",
    ]  # fmt: skip


def test_a_private_file_is_of_its_owner_alone(tmp_path, umask):
    umask(0)
    with files.atomic(tmp_path / "keys.json", private=True) as tmp:
        tmp.write_text("secret")
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600


def test_a_folder_is_no_file_to_write(tmp_path):
    with pytest.raises(ConfigError, match="a folder; name a file"):
        files.write_text(tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_goes_away_meanwhile_is_named(tmp_path):
    with (
        pytest.raises(BadData, match="away: this folder went away"),
        files.atomic(tmp_path / "away" / "page.html") as tmp,
    ):
        tmp.unlink()
        tmp.parent.rmdir()
    with pytest.raises(FileNotFoundError), files.atomic(tmp_path / "page.html"):
        (tmp_path / "other").read_text()


def test_what_may_not_be_read_is_said_so(tmp_path, monkeypatch):
    path = files.write_text(tmp_path / "part.bin", "x")
    assert files.readable(tmp_path) == tmp_path and files.readable(path) == path
    real = os.access
    monkeypatch.setattr(os, "access", lambda one, mode: one != path and real(one, mode))
    for asked in (path, tmp_path):
        with pytest.raises(BadData, match=r"part\.bin: may not be read by this user"):
            files.readable(asked)
