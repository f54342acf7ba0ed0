"""Writing is never half done, and a key forgets nothing."""

import os

import pytest

from reelm import files


class Killed(Exception):
    """Stands for the end of the process."""


def test_a_write_that_is_cut_off_leaves_the_old_file(tmp_path):
    path = files.write_text(tmp_path / "part.txt", "old")
    with pytest.raises(Killed), files.atomic(path) as tmp:
        tmp.write_text("ne")
        raise Killed
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["part.txt"]  # noqa: PTH208 - nothing hidden is left either


def test_nothing_stands_under_the_final_name_while_it_is_written(tmp_path):
    path = tmp_path / "part.txt"
    with files.atomic(path) as tmp:
        tmp.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"


@pytest.mark.parametrize(
    "other",
    [("train", 1, {"dim": 8}, {}), ("train", 2, {"dim": 4}, {}), ("tune", 1, {"dim": 4}, {}),
     ("train", 1, {"dim": 4}, {"data": "b"}), ("train", 1, {"dim": 4, "seed": 0}, {})],
)  # fmt: skip
def test_whatever_changes_the_output_changes_the_key(other):
    assert files.key(*other) != files.key("train", 1, {"dim": 4}, {})


def test_the_order_of_settings_does_not_change_the_key():
    one, other = {"dim": 4, "seed": 0}, {"seed": 0, "dim": 4}
    assert files.key("train", 1, one, {}) == files.key("train", 1, other, {})
