"""What is written for other libraries comes back as the same interactions, split and features."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from reelm import files, train
from reelm.data.dataset import Dataset
from reelm.data.split import SplitConfig, split
from reelm.data.tables import Catalog, Features, read_catalog, read_features
from reelm.errors import BadData, ConfigError, StaleFolder
from reelm.evaluate import evaluate
from reelm.export import export, summary
from reelm.ingest import IngestConfig, ingest

REELM = Path(sys.executable).parent / "reelm"
ODD = ["a\tb", "a\nb", "a/b", 'a"b"', '"q"', "Ünï", "x,y", "1e5", "07", str(2**40 + 1), "#c", "a b"]


def events(users=8, timed=True):
    rng = np.random.default_rng(5)
    rows = [
        (
            f"u{user}",
            f"v{video}",
            1.7e9 + 7 * user + 100.25 * place,
            round(float(rng.uniform(0.5, 1)), 3),
        )
        for user in range(users)
        for place, video in enumerate(rng.permutation(12)[:6])
    ]
    names = ["user_id", "video_id", "timestamp", "value"]
    table = pl.DataFrame(rows, schema=names, orient="row").with_row_index("order")
    return table if timed else table.drop("timestamp", "value")


def data_of(timed=True, videos=None):
    ids = tuple(f"v{n}" for n in range(14))  # v12 and v13 were never watched
    looks = Features("image", ids, np.random.default_rng(1).normal(size=(14, 3)).astype("f4"))
    return Dataset.build(events(timed=timed), [looks], videos=videos if videos is not None else ids)


def back(folder, layout, tmp_path):
    made = ingest(folder, tmp_path / "work", IngestConfig(format=layout))
    found = [read_features(path, path.name) for path in sorted((made / "features").glob("*"))]
    return made, Dataset.load(read_catalog(made), found)


def same(one, other):
    assert (one.users, one.items) == (other.users, other.items)
    for name in ("offsets", "item", "time", "value"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name


def asked(questions):
    rows = range(len(questions))
    return [(*map(list, (questions.history(q), questions.targets(q))),) for q in rows]


@pytest.mark.parametrize("timed", [True, False])
def test_recbole_brings_back_the_interactions(tmp_path, timed):
    data = data_of(timed)
    folder = export("recbole", data, tmp_path / "out")
    assert {path.suffix for path in folder.iterdir()} == {".inter", ".item", ".user", ".json"}
    _, again = back(folder, "recbole", tmp_path)
    same(data, again)
    assert again.split is None
    header = (folder / "reelm.inter").read_text().splitlines()[0]
    more = "\ttimestamp:float\tportion:float" if timed else ""
    assert header == "user_id:token\titem_id:token" + more


@pytest.mark.parametrize("name", ["leave_last_two", "random", "global_time", "cold_item"])
def test_recbole_brings_back_the_split(tmp_path, name):
    data = data_of()
    cut = split(data, SplitConfig(name=name, valid_share=0.2, test_share=0.2))
    folder = export("recbole", data, tmp_path / "out", cut, name="x")
    assert {path.name for path in folder.glob("*.inter")} == {
        "x.train.inter", "x.valid.inter", "x.test.inter",
    }  # fmt: skip
    _, again = back(folder, "recbole", tmp_path)
    same(data, again)
    assert again.split.tolist() == cut.label.tolist()
    assert files.manifest(folder)["split"] == {
        str(n): int((cut.label == n).sum()) for n in set(cut.label.tolist())
    }
    once = split(again)
    assert once.name == "given"
    assert once.train.item.tolist() == cut.train.item.tolist()
    if name == "leave_last_two":
        assert asked(once.valid) == asked(cut.valid)
        assert asked(once.test) == asked(cut.test)


def test_mmrec_brings_back_interactions_split_and_features(tmp_path):
    data = data_of()
    cut = split(data, SplitConfig(name="leave_last_two"))
    folder = export("mmrec", data, tmp_path / "out", cut)
    _, again = back(folder, "mmrec", tmp_path)
    with (folder / "i_id_mapping.csv").open() as file:
        number = {row["video_id"]: row["itemID"] for row in csv.DictReader(file, delimiter="\t")}
    assert again.items == ("", *(number[video] for video in data.items[1:]))
    assert again.users == tuple(str(row) for row in range(len(data.users)))
    for name in ("offsets", "item", "time"):
        assert getattr(again, name).tolist() == getattr(data, name).tolist()
    assert again.split.tolist() == cut.label.tolist()
    assert np.array_equal(again.features["image"].numpy(), data.features["image"].numpy())
    assert asked(split(again).test) == asked(cut.test)


def test_what_a_layout_cannot_hold_is_refused(tmp_path):
    with pytest.raises(BadData, match="cut the data first"):
        export("mmrec", data_of(), tmp_path / "out")
    with pytest.raises(BadData, match="recbole, mmrec can"):
        export("tiktok", data_of(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("id", ["12.0", " x", "nan", "x\n", "e\u0301"])
def test_ids_that_would_come_back_as_others_are_refused(tmp_path, id):
    log = pl.DataFrame({"user_id": ["u", "u"], "video_id": ["fine", id]})
    with pytest.raises(BadData, match="would be read as"):
        export("recbole", Dataset.build(log), tmp_path / "out")
    assert not list(tmp_path.rglob("*.inter"))


def test_odd_ids_survive_both_ways(tmp_path):
    log = pl.DataFrame({"user_id": [*ODD, *ODD], "video_id": [*reversed(ODD), *ODD]})
    data = Dataset.build(log, videos=ODD)
    folder = export("recbole", data, tmp_path / "out")
    _, again = back(folder, "recbole", tmp_path)
    same(data, again)


def test_titles_and_users_come_along(tmp_path):
    table = pl.DataFrame(
        {
            "video_id": ["v1", "v0"],
            "title": ["tab\there", 'two\nlines "quoted"'],
            "uploaded_at": [None, 1.6e9],
        }
    )
    people = pl.DataFrame({"user_id": ["u1"], "age": [31], "town": ["Köln"]})
    catalog = Catalog(tmp_path, table, pl.DataFrame(), people)
    folder = export("recbole", data_of(videos=table), tmp_path / "out", catalog=catalog)
    assert (folder / "reelm.user").read_text().splitlines()[0] == (
        "user_id:token\tage:float\ttown:token"
    )
    made, again = back(folder, "recbole", tmp_path)
    videos = read_catalog(made).videos.filter(pl.col("title").is_not_null())
    assert dict(videos.select("video_id", "title").iter_rows()) == dict(
        table.select("video_id", "title").iter_rows()
    )
    assert again.uploaded[again.items.index("v0")] == 1.6e9
    assert read_catalog(made).users.filter(user_id="u1").row(0) == ("u1", "31", "Köln")


def test_one_of_three_files_missing_is_said_so(tmp_path):
    data = data_of()
    folder = export("recbole", data, tmp_path / "out", split(data))
    (folder / "reelm.valid.inter").unlink()
    with pytest.raises(BadData, match=r"reelm\.valid\.inter is not"):
        ingest(folder, tmp_path / "work", IngestConfig(format="recbole"))


def test_the_command_writes_what_it_says(tmp_path):
    log = tmp_path / "log.csv"
    events().write_csv(log)
    made = ingest(log, tmp_path / "work", IngestConfig())
    command = [REELM, "export", "recbole", "--work", tmp_path / "work", "--set", "export.name=mine"]
    run = subprocess.run(
        [*command, "--set", "split.name=random", "--set", "dataset.min_item=2"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    folder = tmp_path / "work" / "export" / "recbole"
    assert run.stdout.splitlines()[-1] == str(folder)
    assert run.stdout.startswith(summary(folder))
    sizes = [len((folder / f"mine.{p}.inter").read_text().splitlines()) - 1 for p in
             ("train", "valid", "test")]  # fmt: skip
    assert sum(sizes) == files.manifest(folder)["rows"]["interactions"] == len(events())
    assert sizes[1] == sizes[2] == 5
    assert len((folder / "mine.item").read_text().splitlines()) - 1 <= 12
    wrong = subprocess.run(
        [REELM, "export", "recbol", "--work", tmp_path / "work"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "Did you mean 'recbole'" in wrong.stderr
    assert made.is_dir()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    other = files.finish(tmp_path / "run", stage="train", rows=3)
    before = (other / files.MANIFEST).read_bytes()
    with pytest.raises(StaleFolder, match="not empty and holds no export"):
        export("recbole", data_of(), other)
    assert [p.name for p in other.iterdir()] == [files.MANIFEST]
    assert (other / files.MANIFEST).read_bytes() == before


def test_what_an_export_left_before_is_taken_away(tmp_path):
    data, folder = data_of(), tmp_path / "out"
    export("recbole", data, folder, split(data))
    (folder / "mine.txt").write_text("not of the export")
    export("recbole", data, folder)
    assert sorted(p.name for p in folder.iterdir()) == [
        "manifest.json", "mine.txt", "reelm.inter", "reelm.item", "reelm.user",
    ]  # fmt: skip
    with pytest.raises(BadData, match="cut the data first"):
        export("mmrec", data, folder)
    assert files.manifest(folder)["settings"]["format"] == "recbole"


def late_comers():
    """A log, and a cut after which some users come who have no history then."""
    late = pl.DataFrame(
        {
            "user_id": ["new", "new", "last"],
            "video_id": ["v1", "v2", "v3"],
            "timestamp": [1.7e9 + 800, 1.7e9 + 900, 1.7e9 + 999],
            "value": [1.0, 1.0, 1.0],
        }
    )
    data = Dataset.build(pl.concat([events().drop("order"), late]).with_row_index("order"))
    return data, SplitConfig(name="global_time", valid_from=1.7e9 + 400, test_from=1.7e9 + 500)


def test_metrics_are_the_same_before_the_way_out_and_after_the_way_back(tmp_path):
    data, config = late_comers()
    cut = split(data, config)
    folder = export("recbole", data, tmp_path / "out", cut)
    assert "--set split.name=given --set split.strangers=false" in summary(folder)
    _, again = back(folder, "recbole", tmp_path)
    assert len(split(again).test) == len(cut.test) + 2, "by itself it asks all"
    once = split(again, SplitConfig(**files.manifest(folder)["read_back"]))
    for name in ("popularity", "item_knn"):
        found = [evaluate(train.fit(one, name), one.test).pools for one in (cut, once)]
        assert found[0] == found[1] and found[0]["mixed"]
        found = [evaluate(train.fit(one, name), one.valid).pools for one in (cut, once)]
        assert found[0] == found[1]


@pytest.mark.parametrize(
    ("name", "more", "same"),
    [
        ("leave_last_two", {}, {"name": "given"}),
        ("leave_last_two", {"join_valid": True}, {"name": "given", "join_valid": True}),
        ("cold_item", {"valid_share": 0.3}, None),  # its test questions show training alone
    ],
)
def test_it_is_said_how_the_same_is_asked_again(tmp_path, name, more, same):
    data = data_of()
    folder = export("recbole", data, tmp_path / "out", split(data, SplitConfig(name=name, **more)))
    assert files.manifest(folder)["read_back"] == same
    assert ("other questions" in summary(folder)) == (same is None)


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match="leave nothing to learn from"):
        split(data_of(), SplitConfig(name="random", valid_share=0.5, test_share=0.5))
