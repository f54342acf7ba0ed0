"""Published data sets come in as their READMEs count them, and small copies of each layout do."""

import numpy as np
import polars as pl
import pytest

from reelm.errors import BadData
from reelm.formats import FORMATS
from reelm.formats.base import EVENTS, VIDEOS, ReadOptions
from reelm.registry import find

COUNTS = {  # format and folder: users, videos, events, features
    ("tiktok", "tiktok"): (9308, 6710, 68722, {"audio": 128, "image": 128}),
    ("microlens", "microlens50k_dev"): (40000, 18930, 287081, {}),
    ("ml1m", "ml1m"): (6040, 3416, 999611, {}),
    ("collm", "ml1m"): (838, 3255, 51623, {}),
    ("goodreads", "goodreads_llm"): (23089, 16833, 180240, {}),
    ("beauty", "amazon_beauty"): (22363, 12101, 198502, {}),
    ("beauty", "amazon_sports"): (35598, 18357, 296337, {}),
}


def read(name, folder):
    return find("formats", FORMATS, name)().read(folder, ReadOptions())


@pytest.mark.parametrize(("name", "folder"), COUNTS)
def test_counts_are_those_of_the_readme(name, folder, data_folder):
    tables = read(name, data_folder / folder)
    widths = {n: v.shape[1] for n, (_, v) in tables.features.items()}
    events = tables.events
    seen = (events["user_id"].n_unique(), tables.videos.height, events.height, widths)
    assert seen == COUNTS[name, folder]
    assert tables.quarantine.height == 0
    assert (tables.videos.schema, events.schema) == (VIDEOS, EVENTS)
    assert set(events["value"]) == {1.0}


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_folder_is_refused(name, tmp_path):
    with pytest.raises(BadData, match=str(tmp_path)):
        read(name, tmp_path)


def test_tiktok(tmp_path):
    log = {"user": [0, 1, 1], "item": [2, 0, 1], "split": [0, 1, 2]}
    pl.DataFrame(log).write_parquet(tmp_path / "interactions.parquet")
    image = np.arange(8, dtype=np.float16).reshape(4, 2)
    np.savez(tmp_path / "features.npz", image=image)
    tables = read("tiktok", tmp_path)
    assert tables.events["split"].to_list() == ["train", "valid", "test"]
    assert tables.videos["video_id"].to_list() == ["0", "1", "2", "3"]
    ids, vectors = tables.features["image"]
    assert list(ids) == ["0", "1", "2", "3"]
    assert vectors.dtype == np.float32
    assert vectors.tolist() == image.tolist()


def test_microlens(tmp_path):
    sequences = {"user": [5, 3], "items": [[9, 8], [8]]}
    pl.DataFrame(sequences).write_parquet(tmp_path / "sequences.parquet")
    titles = {"item": [8, 9], "title": ["eight", "nine"]}
    pl.DataFrame(titles).write_parquet(tmp_path / "titles.parquet")
    tables = read("microlens", tmp_path)
    columns = ("user_id", "video_id", "order")
    assert tables.events.select(columns).rows() == [("5", "9", 0), ("5", "8", 1), ("3", "8", 2)]
    assert dict(tables.videos.select("video_id", "title").rows()) == {"8": "eight", "9": "nine"}


def test_ml1m_keeps_the_order_of_time_where_times_are_missing(tmp_path):
    log = {
        "user": [1, 1, 1],
        "item": [10, 20, 30],
        "pos": [1, 0, 2],
        "split": [1, 0, 2],
        "rating": [None, 4, None],
        "timestamp": [None, 978300000, None],
    }
    pl.DataFrame(log).write_parquet(tmp_path / "interactions.parquet")
    movies = {"item": [10, 20, 30, 40], "title": list("abcd"), "genres": ["A|B"] * 4}
    pl.DataFrame(movies).write_parquet(tmp_path / "movies.parquet")
    pl.DataFrame({"user": [1], "gender": ["F"]}).write_parquet(tmp_path / "users.parquet")
    tables = read("ml1m", tmp_path)
    assert tables.events.select("video_id", "timestamp", "rating", "split", "event").rows() == [
        ("20", 978300000.0, 4.0, "train", "rating"),
        ("10", None, None, "valid", "rating"),
        ("30", None, None, "test", "rating"),
    ]
    assert tables.videos["video_id"].to_list() == ["10", "20", "30"]
    assert set(tables.videos["hashtags"]) == {"A B"}
    assert tables.users is not None
    assert tables.users.rows() == [("1", "F")]


def test_beauty(tmp_path):
    pl.DataFrame({"user": [1], "items": [[2, 1]]}).write_parquet(tmp_path / "sequences.parquet")
    attributes = {"item": [1, 2], "attributes": [[7, 3], [3]]}
    pl.DataFrame(attributes).write_parquet(tmp_path / "item_attributes.parquet")
    tables = read("beauty", tmp_path)
    assert tables.events["video_id"].to_list() == ["2", "1"]
    assert tables.videos["hashtags"].to_list() == ["a7 a3", "a3"]


def test_recbole(tmp_path):
    (tmp_path / "x.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\ti1\t5\t1700000000\n"
    )
    (tmp_path / "x.item").write_text(
        "item_id:token\tname:token_seq\tclass:token_seq\ni1\tOne, two\ta b\n"
    )
    (tmp_path / "x.user").write_text("user_id:token\tage:float\nu1\t30\n")
    tables = read("recbole", tmp_path)
    assert tables.events.select("user_id", "video_id", "timestamp", "event", "rating").rows() == [
        ("u1", "i1", 1.7e9, "rating", 5.0)
    ]
    named = tables.videos.select("video_id", "title", "hashtags").rows()
    assert named == [("i1", "One, two", "a b")]
    assert tables.users is not None
    assert tables.users.rows() == [("u1", "30")]


def test_recbole_does_not_guess_between_two_sets(tmp_path):
    for name in ("x.inter", "y.inter"):
        (tmp_path / name).write_text("user_id:token\titem_id:token\n")
    with pytest.raises(BadData, match=r"found: x\.inter, y\.inter"):
        read("recbole", tmp_path)


def test_mmrec(tmp_path):
    (tmp_path / "baby.inter").write_text(
        "userID\titemID\trating\ttimestamp\tx_label\n0\t1\t5.0\t1700000000\t0\n0\t0\t3.0\t1700000001\t2\n"
    )
    np.save(tmp_path / "image_feat.npy", np.eye(2, 3))
    tables = read("mmrec", tmp_path)
    assert tables.events.select("video_id", "split").rows() == [("1", "train"), ("0", "test")]
    assert tables.features["image"][1].shape == (2, 3)
    np.save(tmp_path / "image_feat.npy", np.eye(1, 3))
    with pytest.raises(BadData, match="item 1 has no row"):
        read("mmrec", tmp_path)


def test_collm(tmp_path):
    for name, rows in {
        "train": [(7, 1, 1, 10)],
        "valid": [(7, 2, 0, 20)],
        "test": [(8, 2, 1, 30), (8, 9, 1, 31)],
    }.items():
        pl.DataFrame(rows, schema=["uid", "iid", "label", "timestamp"], orient="row").write_parquet(
            tmp_path / f"collm_{name}.parquet"
        )
    titles = {"iid": [1, 2], "title": ["one", "two"], "item": [318, 1234]}
    pl.DataFrame(titles).write_parquet(tmp_path / "collm_items.parquet")
    pl.DataFrame({"item": [318], "genres": ["Drama|War"]}).write_parquet(
        tmp_path / "movies.parquet"
    )
    tables = read("collm", tmp_path)
    assert tables.events["video_id"].to_list() == ["318", "1234", "1234"]
    assert tables.events["event"].to_list() == ["like", "dislike", "like"]
    assert tables.events["split"].to_list() == ["train", "valid", "test"]
    assert tables.events["timestamp"].to_list() == [10.0, 20.0, 30.0]
    assert tables.events["order"].to_list() == [0, 1, 2]
    assert tables.videos["hashtags"].to_list() == ["Drama War", None]
    assert tables.quarantine.select("place", "reason").rows() == [
        ("collm_test.parquet:1", "no video id")
    ]
    assert tables.rows_in == 4


def test_goodreads(tmp_path):
    users = {"uid": [0, 1], "history_bids": [[9, 8], [8]]}
    pl.DataFrame(users).write_parquet(tmp_path / "users.parquet")
    books = {"bid": [8, 9], "title": ["eight", "nine"], "llm_description": ["...", "..."]}
    pl.DataFrame(books).write_parquet(tmp_path / "books.parquet")
    tables = read("goodreads", tmp_path)
    assert tables.events["user_id"].to_list() == ["0", "0", "1"]
    assert tables.events["video_id"].to_list() == ["9", "8", "8"]
    assert tables.videos["title"].to_list() == ["eight", "nine"]
