import json
import os
from dataclasses import replace

import polars as pl
import pytest

from reelm import files, runs, train
from reelm.data.dataset import Dataset
from reelm.data.split import leave_last_two
from reelm.errors import BadData
from reelm.models.popularity import PopularityConfig

QUICK = train.TrainConfig(epochs=1)


@pytest.fixture
def folder(two_tastes, tmp_path):
    split = leave_last_two(two_tastes)
    return train.train_run(split, "item_knn", train.find("item_knn").Config(), QUICK, tmp_path)


def test_an_answer_is_a_table(folder):
    run = runs.load(folder)
    table = run.recommend(["u0", "nobody"], k=3)
    assert table.schema == runs.ANSWER
    assert table["user_id"].to_list() == ["u0"] * 3 + ["nobody"] * 3
    assert table["rank"].to_list() == [1, 2, 3] * 2
    assert table["source"].to_list() == ["model"] * 3 + ["fallback"] * 3
    best = table.filter(pl.col("user_id") == "u0")
    assert best["score"].is_sorted(descending=True)
    assert not set(best["item_id"]) & {run.items[i] for i in run.history("u0")}


def test_what_was_viewed_may_be_kept(folder):
    run = runs.load(folder)
    table = run.recommend(["u0"], k=12, filter_viewed=False)
    assert len(table) == 12
    assert len(run.recommend(["u0"], k=100)) == 12 - 3


def test_strangers_get_popular_videos_each_in_an_order_of_their_own():
    rows = [(f"u{u}", f"v{v}") for u in range(40) for v in range(u % 40)]
    data = Dataset.build(pl.DataFrame(rows, schema=["user_id", "video_id"], orient="row"))
    run = train.fit(data, "popularity", PopularityConfig())
    strangers = [f"s{i}" for i in range(200)]
    table = run.recommend(strangers, k=5)
    assert run.recommend(strangers, k=5).equals(table)
    lists = table.group_by("user_id").agg("item_id")["item_id"].to_list()
    assert len(set(map(tuple, lists))) > 100
    rows = pl.Series([run.item_rows[video] for video in table["item_id"]])
    assert run.counts[rows.to_numpy()].mean() > 1.2 * run.counts[1:].mean()


def test_nobody_is_an_empty_table(folder):
    run = runs.load(folder)
    assert run.recommend([]).schema == runs.ANSWER
    assert len(run.similar(["v0"], 3)) == 3


def test_one_id_is_not_its_letters(folder):
    run = runs.load(folder)
    assert run.recommend("u0", k=3).equals(run.recommend(["u0"], k=3))
    assert run.similar("v0", k=3).equals(run.similar(["v0"], k=3))


def test_videos_alike_are_of_one_taste_and_not_the_video_itself(folder):
    table = runs.load(folder).similar(["v2", "unheard"], k=4)
    assert table.columns[0] == "video_id"
    alike = table.filter(pl.col("video_id") == "v2")
    assert all(int(v[1:]) % 2 == 0 and v != "v2" for v in alike["item_id"])
    assert set(table.filter(pl.col("video_id") == "unheard")["source"]) == {"fallback"}


@pytest.mark.parametrize("name", ["mf", "sasrec", "ease", "item_knn", "popularity"])
def test_a_video_of_which_nothing_is_known_is_like_none_and_none_like_it(two_tastes, name):
    """Its vector, if it has one, is the one that it began with."""
    rows = [(u, two_tastes.items[i]) for u in two_tastes.users for i in range(1, 6)]
    events = pl.DataFrame(rows, ["user_id", "video_id"], orient="row")
    run = train.fit(
        Dataset.build(events, videos=["new", *two_tastes.items[1:7]]), name, None, QUICK
    )
    table = run.similar([two_tastes.items[1], "new"], k=9)
    alike = table.filter(pl.col("video_id") != "new")
    assert set(alike["item_id"]) == set(two_tastes.items[2:6])
    assert set(alike["source"]) == {"model"}
    assert set(table.filter(video_id="new")["source"]) == {"fallback"}


def test_the_folder_is_readable_by_other_means(folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "card.md", "config.toml", "histories.parquet", "ids.parquet", "manifest.json",
        "metrics.jsonl", "model.safetensors",
    ]  # fmt: skip
    ids = pl.read_parquet(folder / "ids.parquet")
    assert ids["count"].sum() == 24 * 3
    assert json.loads((folder / "manifest.json").read_text())["rows"] == 24 * 3
    assert "users: 24, videos: 12" in (folder / "card.md").read_text()


def test_weights_of_another_model_are_refused(folder):
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text.replace('"item_knn"', '"popularity"'))
    with pytest.raises(BadData, match="do not fit popularity"):
        runs.load(folder)


@pytest.mark.parametrize(
    "part",
    ["manifest.json", "config.toml", "ids.parquet", "histories.parquet", "model.safetensors"],
)
def test_a_torn_part_is_named_in_a_line(folder, part):
    (folder / part).write_bytes((folder / part).read_bytes()[:4])
    with pytest.raises(BadData, match=r"a part is missing or torn: .*Train it again"):
        runs.load(folder)
    (folder / part).unlink()
    with pytest.raises(BadData, match=rf"(no {part}|{part}.*Train it again)"):
        runs.load(folder)


def test_others_may_read_a_run_and_what_they_may_not_is_not_called_torn(folder, monkeypatch):
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert len(set(modes.values())) == 1, modes
    weights, real = folder / "model.safetensors", os.access
    monkeypatch.setattr(os, "access", lambda one, mode: one != weights and real(one, mode))

    def closed(path):
        raise FileNotFoundError(f"No such file or directory: {path}")

    monkeypatch.setattr(runs.safetensors.torch, "load_file", closed)
    with pytest.raises(BadData, match=r"model\.safetensors: may not be read by this user"):
        runs.load(folder)


def test_a_run_says_what_was_left_out(two_tastes, tmp_path):
    data = replace(two_tastes, removed={"features.text": 2})
    split = leave_last_two(data)
    folder = train.train_run(split, "popularity", PopularityConfig(), QUICK, tmp_path)
    assert files.manifest(folder)["removed"] == {"features.text": 2}
    assert "- left out: 2 features.text" in (folder / "card.md").read_text()
