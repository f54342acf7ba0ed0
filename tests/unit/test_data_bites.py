"""Who watched what is counted once, and vectors belong to the videos whose ids they came with."""

import numpy as np
import polars as pl
import pytest

from reelm import files
from reelm.data.batches import padded
from reelm.data.dataset import Dataset
from reelm.data.split import SplitConfig, split
from reelm.data.tables import Features, read_features
from reelm.errors import BadData


def log(*rows: tuple[str, str, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "video_id", "timestamp"], orient="row")


def test_a_watch_and_its_like_are_one_interaction():
    events = log(("u", "a", 1.0), ("u", "a", 2.0), ("u", "b", 3.0)).with_columns(
        event=pl.Series(["watch", "like", "watch"])
    )
    data = Dataset.build(events)
    assert [data.items[row] for row in data.history(0)] == ["a", "b"]


def test_a_short_watch_is_no_interaction():
    events = log(("u", "a", 1.0), ("u", "b", 2.0)).with_columns(value=pl.Series([0.1, 0.9]))
    assert [*Dataset.build(events).counts[1:]] == [1]


def test_histories_run_from_oldest_to_newest_whatever_the_order_of_the_log():
    data = Dataset.build(log(("u", "c", 3.0), ("u", "a", 1.0), ("u", "b", 2.0)))
    assert [data.items[row] for row in data.history(0)] == ["a", "b", "c"]


def test_vectors_follow_their_ids_and_padding_has_none():
    vectors = np.array([[1.0], [2.0], [3.0]], np.float32)
    data = Dataset.build(
        log(("u", "b", 1.0), ("u", "a", 2.0)), [Features("text", ("a", "nobody", "b"), vectors)]
    )
    table, has = data.features["text"], data.has_feature["text"]
    assert {v: table[row].item() for row, v in enumerate(data.items)} == {"": 0, "a": 1, "b": 3}
    assert has.tolist() == [False, True, True]


def test_ids_that_do_not_fit_their_vectors_are_refused(tmp_path):
    np.save(tmp_path / "part-00000.npy", np.ones((3, 2), np.float32))
    pl.DataFrame({"video_id": ["a", "b"]}).write_parquet(tmp_path / "ids.parquet")
    files.finish(tmp_path)
    with pytest.raises(BadData, match="2 ids for 3 vectors"):
        read_features(tmp_path)


def test_ids_are_read_by_part_and_row(tmp_path):
    for part, value in enumerate((0.0, 2.0)):
        np.save(tmp_path / f"part-{part:05d}.npy", np.array([[value], [value + 1]], np.float32))
    ids = pl.DataFrame(
        {"video_id": ["d", "a", "c", "b"], "part": [1, 0, 1, 0], "row": [1, 0, 0, 1]}
    )
    ids.write_parquet(tmp_path / "ids.parquet")
    files.finish(tmp_path)
    read = read_features(tmp_path)
    assert dict(zip(read.ids, read.vectors[:, 0], strict=True)) == {"a": 0, "b": 1, "c": 2, "d": 3}


def test_vectors_that_are_no_numbers_are_refused_where_all_are(tmp_path):
    np.save(tmp_path / "part-00000.npy", np.array([[np.inf], [np.nan]], np.float32))
    pl.DataFrame({"video_id": ["a", "b"]}).write_parquet(tmp_path / "ids.parquet")
    files.finish(tmp_path)
    with pytest.raises(BadData, match="every vector"):
        read_features(tmp_path)


def test_padding_stands_on_the_left_and_is_zero():
    rows = padded(np.array([5, 6, 7]), np.array([0, 1]), np.array([1, 3]))
    assert rows.tolist() == [[0, 5], [6, 7]]


def test_a_split_by_time_trains_on_nothing_that_came_later():
    events = log(*((f"u{n % 3}", f"v{n}", float(n)) for n in range(30)))
    cut = split(Dataset.build(events), SplitConfig(name="global_time"))
    assert cut.train.time.max() < cut.before_test.time.max()
    known, shown = set(cut.train.item.tolist()), set(cut.before_test.item.tolist())
    assert not known & set(cut.valid.target.tolist())
    assert not shown & set(cut.test.target.tolist())


@pytest.mark.parametrize("name", ["leave_last_two", "global_time"])
def test_no_question_shows_its_own_target(name):
    events = log(*((f"u{n % 3}", f"v{n}", float(n)) for n in range(30)))
    cut = split(Dataset.build(events), SplitConfig(name=name))
    for questions in (cut.valid, cut.test):
        assert len(questions)
        for q in range(len(questions)):
            assert not set(questions.history(q)) & set(questions.targets(q))


def test_what_was_watched_before_the_cut_is_no_target_after_it():
    again = log(*((f"u{n % 3}", f"v{n % 12}", float(n)) for n in range(30)))
    new = log(*((f"u{n}", "new", 30.0) for n in range(3)))
    config = SplitConfig(name="global_time", valid_from=20.0, test_from=24.0)
    cut = split(Dataset.build(pl.concat([again, new])), config)
    for q in range(len(cut.test)):
        assert [cut.train.items[row] for row in cut.test.targets(q)] == ["new"]
