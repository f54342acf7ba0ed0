"""What users really have in their files, and what becomes of it; docs/data.md has the table."""

import json
import zipfile

import numpy as np
import polars as pl
import pytest

from reelm import files
from reelm.data.dataset import Dataset
from reelm.data.split import SplitConfig, split
from reelm.data.tables import read_catalog
from reelm.errors import BadData
from reelm.ingest import IngestConfig, ingest, summary

HEAD = "user_id,video_id,timestamp\n"


@pytest.fixture
def come_in(tmp_path):
    """Ingest a text or a frame; gives the dataset, the manifest, and what was set aside."""

    def run(content, name="log.csv", encoding="utf-8", **settings):
        path = tmp_path / name
        if isinstance(content, pl.DataFrame):
            content.write_parquet(path)
        else:
            path.write_text(content, encoding=encoding)
        folder = ingest(path, tmp_path / "work", IngestConfig(**settings))
        aside = pl.read_parquet(folder / "quarantine.parquet").select("place", "reason").rows()
        return Dataset.load(read_catalog(folder)), folder, aside

    return run


def histories(data):
    return {u: [data.items[i] for i in data.history(data.row(u))] for u in data.users}


def test_unknown_columns_stay_out_and_are_named(come_in):
    data, folder, aside = come_in("user_id,colour,video_id,mood\nu,red,v,good\n")
    assert histories(data) == {"u": ["v"]}
    assert files.manifest(folder)["unused"] == ["colour", "mood"]
    assert "not used: colour, mood" in summary(folder).splitlines()
    assert not aside


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (
            "user_id,video_id,timestmp",
            r"'timestmp' looks like 'timestamp'.*--map timestamp=timestmp\. .*--map timestamp=$",
        ),
        ("user_id,video_id,Raiting", "'Raiting' looks like 'rating'"),
        ("user_id,vido_id,timestamp", r"video_id. Did you mean 'vido_id'.*--map video_id=NAME"),
    ],
)
def test_columns_with_nearly_a_known_name_are_asked_about(come_in, header, says):
    with pytest.raises(BadData, match=says):
        come_in(header + "\nu,v,1700000000\n")


def test_a_column_may_be_said_to_be_nothing(come_in):
    text = "user_id,video_id,timestmp,rating\nu,v,soon,x\n"
    data, folder, aside = come_in(text, mapping={"timestamp": "", "rating": ""})
    assert histories(data) == {"u": ["v"]}
    assert files.manifest(folder)["unused"] == ["timestmp", "rating"]
    assert np.isnan(data.time).all()
    assert not aside


def test_unsorted_times_are_sorted_and_equal_ones_keep_the_files_order(come_in):
    rows = ["u,late,1700000300", "u,b,1700000100", "u,a,1700000100", "u,early,1700000000.5"]
    data, _, aside = come_in(HEAD + "\n".join(rows) + "\n")
    assert histories(data) == {"u": ["early", "b", "a", "late"]}
    assert data.time.tolist() == [1700000000.5, 1700000100, 1700000100, 1700000300]
    assert not aside


def test_rows_without_a_time_are_set_aside_where_others_have_one(come_in):
    data, folder, aside = come_in(HEAD + "u,a,1700000000\nu,b,\nu,c,nonsense\nu,d,1700000001\n")
    assert histories(data) == {"u": ["a", "d"]}
    assert aside == [("log.csv:3", "no time"), ("log.csv:4", "unreadable time")]
    assert "set aside: 1 event: no time" in summary(folder)


def test_a_log_without_times_goes_by_its_order(come_in):
    data, _, aside = come_in("user_id,video_id\nu,c\nu,a\nu,b\n")
    assert histories(data) == {"u": ["c", "a", "b"]}
    assert split(data).name == "leave_last_two"
    assert not aside


def test_duplicate_events_are_one_and_the_others_are_set_aside(come_in):
    rows = [
        "u,a,1700000000",
        "u,b,1700000000",
        "u,a,1700000000",
        "u,a,1700000009",
        "w,a,1700000000",
    ]
    data, folder, aside = come_in(HEAD + "\n".join([*rows, rows[0]]) + "\n")
    assert histories(data) == {"u": ["a", "b", "a"], "w": ["a"]}
    assert aside == [("log.csv:4", "same event again"), ("log.csv:7", "same event again")]
    counted = files.manifest(folder)["rows"]
    assert (counted["events_in"], counted["events"]) == (6, 4)


def test_events_of_one_moment_that_differ_are_no_duplicates(come_in):
    text = "user_id,video_id,timestamp,event\nu,a,1700000000,watch\nu,a,1700000000,like\n"
    data, folder, aside = come_in(text)
    assert files.manifest(folder)["rows"]["events"] == 2
    assert histories(data) == {"u": ["a"]}  # a watch and its like are one interaction
    assert data.removed == {"repeats": 1}
    assert not aside


def test_repeats_without_a_time_are_views_of_another_day(come_in):
    data, _, aside = come_in("user_id,video_id\nu,a\nu,b\nu,a\n")
    assert histories(data) == {"u": ["a", "b", "a"]}
    assert not aside


@pytest.mark.parametrize("name", ["leave_last_two", "global_time", "random"])
def test_users_with_one_event_teach_and_are_not_asked(come_in, name):
    rows = [f"u{n},v{n % 3},{1700000000 + n}" for n in range(5)]
    more = [f"busy,v{n},{1700000100 + n}" for n in range(3)]
    data, _, aside = come_in(HEAD + "\n".join(rows + more) + "\n")
    config = SplitConfig(name=name, valid_share=0, test_share=0.2)
    cut = split(data, config)
    once = {data.row(f"u{n}") for n in range(5)}
    asked = {*cut.test.users.tolist(), *cut.valid.users.tolist()}
    assert not asked & once
    assert len(cut.train) >= 5
    assert not aside


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("log.csv", "", r"log\.csv: cannot be read as csv: empty"),
        ("log.csv", HEAD, r"log\.csv: not one good row; there is a header and no row"),
        ("log.jsonl", "", r"log\.jsonl"),
        ("log.parquet", pl.DataFrame(schema={"user": pl.String, "item": pl.String}), "no row"),
        ("log.parquet", "", r"log\.parquet: cannot be read as parquet"),
        ("x.inter", "", r"x\.inter: cannot be read as inter: empty"),
    ],
)
def test_an_empty_file_is_named(come_in, name, content, says):
    with pytest.raises(BadData, match=says):
        come_in(content, name)


@pytest.mark.parametrize("name", ["log.xlsx", "log.ods", "log.csv"])
def test_a_spreadsheet_is_told_from_text(tmp_path, name):
    with zipfile.ZipFile(tmp_path / name, "w") as book:
        book.writestr("content.xml", "<user_id>")
    with pytest.raises(BadData, match=rf"{name}: a spreadsheet .*as CSV"):
        ingest(tmp_path / name, tmp_path / "work", IngestConfig())


def test_ids_as_floats_are_whole_numbers_again(come_in):
    ids = pl.DataFrame(
        {"user_id": [1.0, 2.0, None, float("nan")], "video_id": [7.0, 8.0, 7.0, 7.0]}
    )
    data, _, aside = come_in(ids, "log.parquet")
    assert histories(data) == {"1": ["7"], "2": ["8"]}
    assert aside == [("log.parquet:2", "no user id"), ("log.parquet:3", "no user id")]


def test_ids_as_floats_in_text_are_whole_numbers_again(come_in):
    data, _, aside = come_in("user_id,video_id\n1.0,v1.0\n2.0,1.5\n,v\n1,w\n")
    assert histories(data) == {"1": ["v1.0", "w"], "2": ["1.5"]}
    assert aside == [("log.csv:4", "no user id")]


def test_floats_that_cannot_be_exact_ids_are_refused(come_in):
    ids = pl.DataFrame({"user_id": [2.0**60], "video_id": [1]})
    with pytest.raises(BadData, match=r"'user_id' holds ids as floats above 2\^53"):
        come_in(ids, "log.parquet")


@pytest.mark.parametrize("name", ["log.csv", "log.parquet", "log.jsonl", "x.inter"])
def test_large_ids_are_exact(come_in, name):
    ids = [2**40, 2**40 + 1, 2**53 + 1, 2**62 + 1]
    table = pl.DataFrame({"user_id": ids, "video_id": ids[::-1]})
    texts = {
        "log.csv": table.write_csv(),
        "x.inter": table.rename(lambda n: n + ":token").write_csv(separator="\t"),
        "log.jsonl": "\n".join(json.dumps(row) for row in table.to_dicts()) + "\n",
        "log.parquet": table,
    }
    layout = "recbole" if name == "x.inter" else "table"
    data, _, _ = come_in(texts[name], name, format=layout)
    assert data.users == tuple(map(str, ids))
    assert data.items[1:] == tuple(map(str, ids[::-1]))


def test_unicode_ids_are_one_whatever_their_form(come_in):
    composed, apart = "caf\u00e9", "cafe\u0301"
    text = f"user_id,video_id\n{composed},視頻-🎬\n{apart},b\n  {composed} ,c\nСаша,視頻-🎬\n"
    data, _, aside = come_in(text)
    assert histories(data) == {composed: ["視頻-🎬", "b", "c"], "Саша": ["視頻-🎬"]}
    assert not aside


def test_ids_that_are_not_in_utf8_do_not_become_one(come_in):
    text = "user_id,video_id\nJosé,v\nJosè,v\nJose,v\nJose,é\n"
    data, _, aside = come_in(text, encoding="latin-1")
    assert histories(data) == {"Jose": ["v"]}
    assert [reason for _, reason in aside] == [
        "user id is not in UTF-8", "user id is not in UTF-8", "video id is not in UTF-8",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["log.json", "log.jsonl"])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_in_json_is_told_from_lines(come_in, name, indent):
    one = {"user_id": "u", "video_id": "v"}
    with pytest.raises(BadData, match=r"no line is a JSON object.*jq"):
        come_in(json.dumps([one], indent=indent), name)
    data, _, _ = come_in(json.dumps(one), name)
    assert histories(data) == {"u": ["v"]}


def test_words_for_nothing_are_no_ids(come_in):
    _, _, aside = come_in("user_id,video_id\nu,null\nNone,v\nnan,v\nu,v\n")
    assert [reason for _, reason in aside] == ["no video id", "no user id", "no user id"]


def test_signs_in_ids_survive(come_in):
    odd = ["a/b", "../x", "a\tb", "a\nb", 'say "hi"', "a,b", "#1", "%41", "a b"]
    table = pl.DataFrame({"user_id": ["u"] * len(odd), "video_id": odd})
    data, _, aside = come_in(table.write_csv())
    assert data.items[1:] == tuple(odd)
    assert not aside


def test_ids_that_are_neither_numbers_nor_text_are_refused(come_in):
    with pytest.raises(BadData, match=r"'video_id' holds List\(Int64\)"):
        come_in(pl.DataFrame({"user_id": [1], "video_id": [[1, 2]]}), "log.parquet")


def test_a_log_of_many_pieces_is_read_as_one(come_in, monkeypatch):
    rng = np.random.default_rng(3)
    rows = [f"u{u},v{v},{1700000000 + t}" for u, v, t in rng.integers(0, 9, (200, 3))]
    rows[77], rows[150] = "u1,,1700000000", rows[0]
    text = HEAD + "\n".join(rows) + "\n"
    whole, first, aside = come_in(text)
    monkeypatch.setattr("reelm.formats.blocks.reading.PIECE", 16)
    monkeypatch.setattr("reelm.data.tables.PIECE", 16)
    pieces, second, again = come_in(text, "again.csv")
    assert first != second
    assert whole.fingerprint == pieces.fingerprint
    assert [(place.replace("again", "log"), why) for place, why in again] == aside
    assert ("log.csv:79", "no video id") in aside


def test_the_unit_of_times_is_that_of_the_whole_log(come_in, monkeypatch):
    monkeypatch.setattr("reelm.formats.blocks.reading.PIECE", 4)
    rows = [f"u,v{n},{1_700_000_000_000 + n}" for n in range(12)]
    rows += ["u,early,5000", "u,early2,6000", "u,early3,7000", "u,early4,8000"]
    data, _, _ = come_in(HEAD + "\n".join(rows) + "\n")
    assert data.time[0] == 5.0
    assert data.time[-1] == pytest.approx(1_700_000_000.011)
