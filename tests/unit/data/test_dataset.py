from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from reelm import files
from reelm.data.dataset import Dataset, DatasetConfig
from reelm.data.packing import by_digits, pack
from reelm.data.tables import Features, read_catalog, read_features, read_notes
from reelm.errors import BadData, MissingInput, UnknownUser


def log(*rows, **columns):
    """Events from (user, video, ...) in the order of `columns`."""
    return pl.DataFrame(rows, schema=["user_id", "video_id", *columns["then"]], orient="row")


def named(data, user):
    return [data.items[item] for item in data.history(data.row(user))]


def test_order_is_that_of_the_log_where_one_time_is_missing():
    rows = [("a", "x", 9.0), ("a", "y", None), ("a", "z", 1.0)]
    data = Dataset.build(log(*rows, then=["timestamp"]))
    assert named(data, "a") == ["x", "y", "z"]
    assert np.isnan(data.time[1])


def test_order_column_settles_equal_times():
    rows = [("a", "x", 5.0, 2), ("a", "y", 5.0, 1), ("b", "z", 1.0, 0)]
    data = Dataset.build(log(*rows, then=["timestamp", "order"]))
    assert named(data, "a") == ["y", "x"]


def test_kinds_that_count_may_be_chosen():
    rows = [("a", "x", "watch", 0.3), ("a", "y", "skip", 1.0), ("a", "z", "save", 1.0)]
    events = log(*rows, then=["event", "value"])
    assert len(Dataset.build(events)) == 0
    assert named(Dataset.build(events, min_portion=0.3, positive=["save"]), "a") == ["x", "z"]


def test_a_video_seen_again_after_another_is_there_twice():
    data = Dataset.build(log(("a", "x"), ("a", "y"), ("a", "x"), then=[]))
    assert named(data, "a") == ["x", "y", "x"]
    assert data.counts.tolist() == [0, 2, 1]


def test_the_portion_of_the_watch_stays_when_a_like_joins_it():
    rows = [("a", "x", "like", 1.0), ("a", "x", "watch", 0.7)]
    data = Dataset.build(log(*rows, then=["event", "value"]))
    assert data.value.tolist() == pytest.approx([0.7])


def test_videos_nobody_watched_are_items_and_bring_their_time():
    videos = pl.DataFrame({"video_id": ["new", "x"], "uploaded_at": [7.0, None]})
    data = Dataset.build(log(("a", "x"), ("a", "old"), then=[]), videos=videos)
    assert data.items == ("", "new", "x", "old")
    assert data.uploaded.tolist()[1] == 7.0
    assert np.isnan(data.uploaded[[0, 2, 3]]).all()


def test_an_empty_log_is_a_dataset():
    events = pl.DataFrame(schema={"user_id": pl.String, "video_id": pl.String})
    data = Dataset.build(events, videos=["x"])
    assert (len(data), data.users, data.items) == (0, (), ("", "x"))


def test_numbers_as_ids_become_strings():
    assert Dataset.build(log((1, 20), then=[])).items == ("", "20")


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda e: Dataset.build(e, videos=["x", "x"]), "'x' more than once"),
        (lambda e: Dataset.build(e.with_columns(split=pl.lit("dev"))), "'dev'"),
        (lambda e: Dataset.build(e, [feature(), feature()]), "two features"),
    ],
)
def test_what_cannot_be_is_refused(build, says):
    with pytest.raises(BadData, match=says):
        build(log(("a", "x"), then=[]))


def feature(name="text", ids=("x", "y")):
    return Features(name, ids, np.eye(len(ids), 3, dtype=np.float32))


def test_features_may_be_called_by_other_names():
    data = Dataset.build(log(("a", "x"), then=[]), {"one": feature(), "two": feature()})
    assert sorted(data.features) == ["one", "two"]
    assert data.has_feature["one"].tolist() == [False, True]


def test_features_of_another_catalogue_are_refused():
    events = log(("a", "x"), ("a", "y"), then=[])
    said = (
        r"features\.text: none of its 3 vectors \(k, l, …\) is of one of the 2 videos here \(x, y\)"
    )
    with pytest.raises(BadData, match=said):
        Dataset.build(events, {"text": feature(ids=("k", "l", "m"))})
    one = Dataset.build(events, {"text": feature(ids=("k", "y", "m"))})
    assert one.has_feature["text"].tolist() == [False, False, True]
    assert Dataset.build(events.clear(), [feature(ids=("k", "l"))]).items == ("",)


def test_errors_name_what_is_missing():
    data = Dataset.build(log(("a", "x"), then=[]), [feature()])
    with pytest.raises(UnknownUser, match="'b'"):
        data.row("b")
    with pytest.raises(MissingInput, match=r"sasrec needs features\.sound; loaded: text"):
        data.feature("sound", "sasrec")


def test_the_fingerprint_follows_what_can_be_learned_from():
    events = log(("a", "x"), ("a", "y"), ("b", "y"), then=[])
    one = Dataset.build(events, [feature()])
    assert one.fingerprint == Dataset.build(events, [feature()]).fingerprint
    others = [
        Dataset.build(events),
        Dataset.build(events[:2], [feature()]),
        Dataset.build(events, [feature("sound")]),
        Dataset.build(events, [feature(ids=("y", "x"))]),
        Dataset.build(events, [feature()], videos=["z"]),
        replace(one, uploaded=np.array([np.nan, 1.0, 2.0])),
        replace(one, uploaded=np.array([np.nan, 1.0, 3.0])),
        replace(one, has_feature={"text": np.array([False, True, False])}),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 9


def catalogue(folder, **videos):
    pl.DataFrame({"video_id": ["x", "y", "z", "broken"], **videos}).write_parquet(
        folder / "videos.parquet"
    )
    rows = [("a", "x", "watch", 0.9), ("a", "y", "watch", 0.9), ("b", "z", "like", 1.0)]
    log(*rows, then=["event", "value"]).write_parquet(folder / "events.parquet")
    return files.finish(folder, stage="ingest")


def test_duplicates_count_for_the_first_copy_and_broken_files_are_no_items(tmp_path):
    folder = catalogue(tmp_path, duplicate_of=[None, None, "x", None], ok=[True, True, True, False])
    data = Dataset.load(read_catalog(folder), config=DatasetConfig(min_portion=0.8))
    assert data.items == ("", "x", "y")
    assert named(data, "b") == ["x"]


def test_a_catalogue_that_was_not_finished_is_refused(tmp_path):
    catalogue(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(BadData, match="did not finish"):
        read_catalog(tmp_path)


def test_a_table_without_its_columns_is_refused(tmp_path):
    catalogue(tmp_path)
    pl.DataFrame({"video_id": ["x"]}).write_parquet(tmp_path / "events.parquet")
    with pytest.raises(BadData, match="no column user_id, event"):
        read_catalog(tmp_path)


def test_features_are_called_after_their_encoder(tmp_path):
    folder = tmp_path / "mini-lm-41d0"
    folder.mkdir()
    for part in range(2):
        np.save(folder / f"part-{part:05d}.npy", np.full((2, 3), part, np.float32))
    pl.DataFrame({"video_id": list("abcd")}).write_parquet(folder / "ids.parquet")
    found = read_features(folder)
    assert (found.name, found.ids) == ("mini-lm", ("a", "b", "c", "d"))
    assert found.vectors[:, 0].tolist() == [0, 0, 1, 1]
    assert read_features(folder, "text").name == "text"


def test_notes_are_read_part_by_part(tmp_path):
    for part, answer in enumerate(["{}", None]):
        table = pl.DataFrame({"video_id": [f"v{part}"], "answer": [answer]})
        table.write_parquet(tmp_path / f"part-{part:05d}.parquet")
    files.finish(tmp_path, stage="annotate")
    assert read_notes(tmp_path)["video_id"].to_list() == ["v0", "v1"]


def test_a_vector_with_nan_is_left_out_and_counted():
    vectors = np.array([[1, 2], [np.nan, 1], [3, np.inf]], np.float32)
    data = Dataset.build(
        log(("a", "x"), ("a", "y"), then=[]), [Features("t", ("x", "y", "z"), vectors)]
    )
    assert data.has_feature["t"].tolist() == [False, True, False]
    assert data.features["t"].tolist() == [[0, 0], [1, 2], [0, 0]]
    assert data.removed == {"features.t": 2}


@pytest.mark.parametrize("span", [1, 2**16, 2**40, 2**64 - 1])
def test_numbers_are_put_in_their_stable_order(span):
    """With room for their places, without it, and when there are none."""
    rng = np.random.default_rng(0)
    keys = rng.integers(0, span, 300, np.uint64, endpoint=True) // np.uint64(3)
    keys[-1] = span
    for some in (keys, keys[:1], keys[:0]):
        assert by_digits(some).tolist() == np.argsort(some, kind="stable").tolist()


def test_a_large_log_of_nothing_but_users_and_videos_is_taken_whole():
    """Polars filters large frames in parts, and a constant is then no longer one value for each."""
    log = pl.DataFrame({"user_id": ["u"] * 300_000, "video_id": [f"v{n}" for n in range(300_000)]})
    assert len(Dataset.build(log)) == 300_000


def test_the_core_is_what_is_left_when_none_has_too_few():
    rng = np.random.default_rng(3)
    drawn = zip(rng.integers(0, 12, 55).tolist(), rng.integers(0, 12, 55).tolist(), strict=True)
    left = pairs = sorted({(f"u{user}", f"v{video}") for user, video in drawn})
    while True:
        users, videos = (Counter(pair[side] for pair in left) for side in (0, 1))
        before, left = left, [(u, v) for u, v in left if users[u] >= 3 and videos[v] >= 3]
        if before == left:
            break
    assert 0 < len(left) < len(pairs) - 5
    events = pl.DataFrame(pairs, schema=["user_id", "video_id"], orient="row")
    data = Dataset.build(events, least=(3, 3))
    found = [(data.users[u], data.items[i]) for u, i in zip(data.user, data.item, strict=True)]
    assert sorted(found) == left
    assert data.removed["interactions"] == len(pairs) - len(left)
    assert set(data.items[1:]) == {video for _, video in left}


def test_a_portion_that_is_no_number_is_unknown_and_counts_as_nothing():
    """Compared, NaN is more than any number."""
    nan = float("nan")
    rows = [
        ("a", "v", "watch", 0.9, 4.0),
        ("a", "w", "watch", nan, 4.0),
        ("a", "x", "like", nan, 4.0),
    ]
    rows += [("a", "y", "rating", 1.0, nan), ("a", "z", "rating", 1.0, 5.0)]
    names = ["user_id", "video_id", "event", "value", "rating"]
    events = pl.DataFrame(rows, schema=names, orient="row")
    for exposures in (False, True):
        config = DatasetConfig(exposures=exposures, rating_above=3.0)
        data = Dataset.of(pack([events], None, config))
        assert [data.items[i] for i in data.item] == ["v", "x", "z"]
    assert "w" not in data.items, "nor was it refused: nobody measured it"
