import json
import time

import pytest

from reelm import files
from reelm.errors import BadData


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "table.parquet"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic(path) as tmp:
        tmp.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]


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
