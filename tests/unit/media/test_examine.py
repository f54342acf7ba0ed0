"""A file that hangs, crashes or eats memory costs its limit once; all others are examined."""

from pathlib import Path

import polars as pl
import pytest

from reelm.media import examine
from reelm.media.examine import EXAMINED, Examiner

LIMIT = 2**26


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """Five files, three of which take their process down."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import faulty

    monkeypatch.setattr(examine, "look", faulty.look)
    found = [tmp_path / f"{name}.mp4" for name in ("good", "sleep", "exit", "allocate", "fine")]
    for path in found:
        path.write_text(path.stem)
    return found


def reasons(table):
    return {Path(path).stem: reason for path, reason in table.select("path", "reason").rows()}


def test_a_decoder_that_sleeps_stops_nothing(paths, tmp_path):
    told = []
    table = Examiner(tmp_path / "probes", 2, 4, LIMIT).examine(paths, 2, told.append)
    assert table.schema == EXAMINED
    assert reasons(table) == {
        "good": None,
        "sleep": "took too long",
        "exit": "crashed",
        "allocate": "out of memory",
        "fine": None,
    }
    assert table["usable"].to_list() == [True, False, False, False, True]
    assert table["sha256"].null_count() == 0
    assert sum(told) == 5


def test_what_hit_a_limit_is_tried_again_only_under_a_higher_one(paths, tmp_path):
    Examiner(tmp_path / "probes", 2, 4, LIMIT).examine(paths, 1, lambda n: None)
    assert Examiner(tmp_path / "probes", 2, 4, LIMIT).fresh(paths) == []
    again = Examiner(tmp_path / "probes", 2, 6, LIMIT).fresh(paths)
    assert [path.stem for path in again] == ["sleep", "exit", "allocate"]


def test_a_changed_file_or_another_test_is_fresh(paths, tmp_path):
    good = paths[:1]
    Examiner(tmp_path / "probes", 2, 5, LIMIT).examine(good, 1, lambda n: None)
    assert Examiner(tmp_path / "probes", 2, 5, LIMIT).fresh(good) == []
    assert Examiner(tmp_path / "probes", 3, 5, LIMIT).fresh(good) == good
    good[0].write_text("changed")
    assert Examiner(tmp_path / "probes", 2, 5, LIMIT).fresh(good) == good


def test_what_an_older_version_found_is_looked_at_again(paths, tmp_path, monkeypatch):
    good = paths[:1]
    with monkeypatch.context() as older:
        older.setattr(examine, "VERSION", examine.VERSION - 1)
        Examiner(tmp_path / "probes", 2, 5, LIMIT).examine(good, 1, lambda n: None)
        assert Examiner(tmp_path / "probes", 2, 5, LIMIT).fresh(good) == []
    assert Examiner(tmp_path / "probes", 2, 5, LIMIT).fresh(good) == good
    (part,) = (tmp_path / "probes").glob("*.parquet")
    pl.read_parquet(part).drop("version").write_parquet(part)  # the first wrote no number
    assert Examiner(tmp_path / "probes", 2, 5, LIMIT).fresh(good) == good
