"""Logs of many kinds come in by well-known names; bad rows are set aside, never the whole file."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from reelm.errors import BadData, ConfigError
from reelm.formats.base import EVENTS, QUARANTINE, VIDEOS, ReadOptions
from reelm.formats.table import Table

GOOD = [("u1", "v1", 1.7e9, 0.5), ("u2", "v2", 1.7e9 + 60, 1.25)]


def read(source, **options):
    return Table().read(source, ReadOptions(**options))


def rows(tables):
    return tables.events.select("user_id", "video_id", "timestamp", "value").rows()


@pytest.fixture
def log(tmp_path):
    def write(text, name="log.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    "header",
    [
        "user_id,video_id,timestamp,value",
        "userID,itemID,datetime,portion",
        "USER,Movie_Id,ts,watch_ratio",
    ],
)
def test_columns_are_known_by_common_names(log, header):
    tables = read(log(header + "\nu1,v1,1700000000,0.5\nu2,v2,1700000060,1.25\n"))
    assert rows(tables) == GOOD
    assert tables.events.schema == EVENTS
    assert tables.mapping["user_id"] == f"{header.split(',')[0]} of log.csv"
    assert tables.events["order"].to_list() == [0, 1]


def test_the_same_log_in_every_file_format(log, tmp_path):
    frame = pl.DataFrame(GOOD, ["user", "item", "time", "portion"], orient="row")
    frame.write_parquet(tmp_path / "log.parquet")
    frame.write_csv(tmp_path / "log.tsv", separator="\t")
    frame.write_ndjson(tmp_path / "log.jsonl")
    for name in ("log.parquet", "log.tsv", "log.jsonl"):
        assert rows(read(tmp_path / name)) == GOOD, name


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        ("1700000000", "seconds"),
        ("1700000000000", "milliseconds"),
        ("1700000000000000", "microseconds"),
        ("2023-11-14T22:13:20Z", "dates"),
        ("2023-11-14 22:13:20", "dates"),
        ("2023-11-14T23:13:20+01:00", "dates"),
        ("2023-11-14T22:13:20.000+0000", "dates"),
    ],
)
def test_times_in_any_unit(log, written, unit):
    tables = read(log(f"user,item,time\nu,v,{written}\n"))
    assert tables.events["timestamp"].to_list() == [1.7e9]
    assert tables.mapping["timestamp"] == f"time of log.csv ({unit})"


@pytest.mark.parametrize("name", ["when", "watched_at", "viewedAt", "event_time"])
def test_times_by_their_other_names(log, name):
    assert read(log(f"user,item,{name}\nu,v,5\n")).events["timestamp"].to_list() == [5.0]


def test_whether_something_was_watched_is_not_taken_for_a_misspelt_time(log):
    assert read(log("user,item,watched\nu,v,yes\n")).unused == ["watched"]


def test_days_and_minutes_are_dates_too(log):
    tables = read(log("user,item,time\nu,v,2023-11-14\nu,v,2023-11-14 22:13\n"))
    assert tables.events["timestamp"].to_list() == [1699920000.0, 1699999980.0]


MIXED = ("1700000000000", "2023-11-14T22:13:20Z", "1700000000", "20231114", "soon")


@pytest.mark.parametrize("mostly", ["1700000000000", "2023-11-14T22:13:20Z"])
def test_numbers_and_dates_in_one_column(log, mostly):
    lines = [f"u{n},v,{at}" for n, at in enumerate((*MIXED, *(mostly,) * 6))]
    tables = read(log("\n".join(["user,item,time", *lines])))
    times = dict(tables.events.select(pl.col("user_id").cast(pl.String), "timestamp").rows())
    dates = mostly != MIXED[0]
    assert times["u0"] == times["u1"] == 1.7e9
    assert times["u2"] == (1.7e9 if dates else 1.7e6)  # one unit for all where numbers are many
    lost = ["20231114", "soon"] if dates else ["soon"]  # a date without signs is no number of 1970
    assert tables.quarantine["reason"].unique().to_list() == ["unreadable time"]
    assert tables.quarantine["detail"].to_list() == lost
    both = "dates and numbers" if dates else "dates and milliseconds"
    assert tables.mapping["timestamp"] == f"time of log.csv ({both})"


def test_what_a_column_of_times_holds_is_told_of_all_its_pieces(log, monkeypatch):
    monkeypatch.setattr("reelm.formats.blocks.reading.PIECE", 2)
    days = "".join(f"u,v{n},2023-11-1{n}\n" for n in range(4))
    tables = read(log(f"user,item,time\n{days}u,w,1700000000\nu,x,1700000001\nu,y,2024-01-01\n"))
    assert tables.mapping["timestamp"] == "time of log.csv (dates and numbers)"
    lost = read(log("user,item,time\nu,v,31.12.2025\n", "other.csv"))
    assert lost.mapping["timestamp"] == "time of other.csv (none can be read)"


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.csv.gz", "log.tsv.gz", "log.txt.gz"])
def test_every_sign_between_columns_compressed_or_not(tmp_path, sign, name, monkeypatch):
    monkeypatch.setattr("reelm.formats.blocks.reading.PIECE", 1)
    lines = ["user,item,time,portion", *(",".join(map(str, row)) for row in GOOD)]
    data = "\n".join(lines).replace(",", sign).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert rows(read(tmp_path / name)) == GOOD


def test_compressed_json_lines_and_tables_of_a_folder(tmp_path):
    lines = [
        json.dumps(dict(zip(["user", "item", "time", "portion"], r, strict=True))) for r in GOOD
    ]
    text = "\n".join([lines[0], "no JSON", lines[1]])
    (tmp_path / "events.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "videos.csv.gz").write_bytes(gzip.compress(b"video_id,title\nv1,One\n"))
    tables = read(tmp_path)
    assert rows(tables) == GOOD
    assert tables.videos.select("video_id", "title").rows() == [("v1", "One")]
    assert tables.quarantine["place"].to_list() == ["events.jsonl.gz:2"]


@pytest.mark.parametrize("name", ["log.csv.gz", "log.jsonl.gz"])
def test_a_compressed_file_that_is_cut_off_is_refused(tmp_path, name):
    whole = "user,item\n" + "".join(f"u{n},v{n * 7919}\n" for n in range(9999))
    (tmp_path / name).write_bytes(gzip.compress(whole.encode())[:-5000])
    kind = name.split(".")[1]
    with pytest.raises(BadData, match=rf"{name}: cannot be read as {kind}"):
        read(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_told_and_how_to_change_it(tmp_path, encoding):
    (tmp_path / "log.csv").write_bytes("user,item\nu,v\n".encode(encoding))
    with pytest.raises(BadData, match=r"log.csv: text in UTF-16. Save it as UTF-8"):
        read(tmp_path / "log.csv")


def test_semicolons_and_decimal_commas(log):
    text = "user;item;time;portion\nu1;v1;1700000000;0,5\nu2;v2;1700000060;1,25\n"
    assert rows(read(log("\ufeff" + text))) == GOOD


def test_commas_that_may_part_thousands_are_not_read_as_points(log):
    tables = read(log("user\titem\tportion\nu\tv\t1,250\nu\tw\t1250\n", "log.tsv"))
    assert tables.events["value"].to_list() == [1250.0]
    assert tables.quarantine.select("reason", "detail").rows() == [("unreadable value", "1,250")]
    told = read(log("user\titem\tportion\nu\tv\t1,250\nu\tw\t0,5\n", "other.tsv"))
    assert told.events["value"].to_list() == [1.25, 0.5]


def test_parquet_dates_and_numbers_as_ids(tmp_path):
    at = pl.Series([1_700_000_000_000]).cast(pl.Datetime("ms"))
    frame = pl.DataFrame({"user": [7.0], "item": pl.Series([9], dtype=pl.Int16), "time": at})
    frame.write_parquet(tmp_path / "log.parquet")
    events = read(tmp_path / "log.parquet").events
    assert events.select("user_id", "video_id", "timestamp").rows() == [("7", "9", 1.7e9)]


BAD = """user,item,time,portion
u1,v1,1700000000,0.5
,v1,1700000000,0.5
u1, ,1700000000,0.5
u1,v1,soon,0.5
u1,v1,,0.5
u1,v1,1700000000,much
u1,v1,1700000000,nan
u1,v1,1700000000,-0.5
u1,v1,1700000000,
u1
u2,v2,1700000060,1.25
"""


def test_bad_rows_are_set_aside_with_place_and_reason(log):
    tables = read(log(BAD))
    assert rows(tables) == GOOD
    assert tables.quarantine.schema == QUARANTINE
    assert tables.quarantine.select("place", "reason").rows() == [
        ("log.csv:3", "no user id"),
        ("log.csv:4", "no video id"),
        ("log.csv:5", "unreadable time"),
        ("log.csv:6", "no time"),
        ("log.csv:7", "unreadable value"),
        ("log.csv:8", "value is not finite"),
        ("log.csv:9", "value is negative"),
        ("log.csv:10", "no portion"),
        ("log.csv:11", "no video id"),
    ]
    assert tables.rows_in == tables.events.height + tables.quarantine.height == 11


def test_broken_json_lines_are_set_aside(log):
    good = [json.dumps({"user": u, "item": v, "time": t, "portion": p}) for u, v, t, p in GOOD]
    path = log(f'{good[0]}\n{{"user": "u3"\n[1]\n\n{good[1]}\n', "log.jsonl")
    tables = read(path)
    assert rows(tables) == GOOD
    assert tables.quarantine.select("place", "reason").rows() == [
        ("log.jsonl:2", "not JSON"),
        ("log.jsonl:3", "not JSON"),
    ]
    assert tables.rows_in == 4


def test_broken_lines_are_told_of_the_table_that_they_are_in(log, tmp_path):
    path = log("user,item\nu1,v1\n")
    for name, key in (("videos", "video_id"), ("users", "user_id")):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"{key}": "a"}}\nno JSON\n')
    told = read(path, items=tmp_path / "videos.jsonl", users=tmp_path / "users.jsonl").quarantine
    assert told.select("table", "place").rows() == [
        ("videos", "videos.jsonl:2"), ("users", "users.jsonl:2"),
    ]  # fmt: skip


def test_the_callers_mapping_comes_first(log):
    path = log("who,user,item,when\nu1,x,v1,1700000000\n")
    tables = read(path, mapping={"user_id": "who", "timestamp": "when"})
    assert tables.events.select("user_id", "timestamp").rows() == [("u1", 1.7e9)]


def test_mistakes_in_the_mapping_name_the_nearest(log):
    path = log("who,item\nu,v\n")
    with pytest.raises(BadData, match=r"'whom' for user_id\. Did you mean 'who'"):
        read(path, mapping={"user_id": "whom"})
    with pytest.raises(ConfigError, match="Did you mean 'user_id'"):
        read(path, mapping={"user_ids": "who"})
    with pytest.raises(BadData, match="no column is known as user_id"):
        read(path)


def test_words_for_events_and_their_values(log):
    text = "user,item,event,value\n" + "".join(
        f"u,v,{word},{value}\n"
        for word, value in [
            ("View", 0.3),
            ("favorite", ""),
            ("skip", 0.1),
            ("rating", 4),
            ("huh", 2),
        ]
    )
    events = read(log(text)).events
    assert events.select("event", "value", "rating").rows() == [
        ("watch", 0.3, None),
        ("like", 1.0, None),
        ("skip", 0.1, None),
        ("rating", 1.0, 4.0),
        ("huh", 1.0, None),
    ]


def test_ratings_are_events_that_count_once(log):
    events = read(log("user,item,rating\nu,v,4\n")).events
    assert events.select("event", "value", "rating").rows() == [("rating", 1.0, 4.0)]


def test_watch_time_over_duration_is_the_portion(log):
    events = read(log("user,item,watch_time,duration\nu,v,5,10\nu,w,15,10\n")).events
    assert events["value"].to_list() == [0.5, 1.5]
    assert "watch_s" not in events.columns
    later = read(log("user,item,play_time_ms\nu,v,2500\n")).events
    assert later.select("value", "watch_s").rows() == [(None, 2.5)]


@pytest.mark.parametrize(
    ("header", "rows", "shares"),
    [
        ("watch_time_ms,duration_s", "5000,10", [0.5]),
        ("watch_seconds,duration_ms", "5,10000", [0.5]),
        ("play_time_ms,duration_ms", "5000,10000", [0.5]),
        ("play_duration,video_duration", "5000,10000", [0.5]),
    ],
)
def test_spans_are_in_the_units_that_their_names_say(log, header, rows, shares):
    assert read(log(f"user,item,{header}\nu,v,{rows}\n")).events["value"].to_list() == shares


@pytest.mark.parametrize("name", ["percent", "pct", "watch_percent"])
def test_percents_become_shares(log, name):
    tables = read(log(f"user,item,{name}\nu,a,93\nu,b,55%\nu,c,soon\nu,d,\nu,e,-3\nu,f,150\n"))
    assert tables.events["value"].to_list() == [0.93, 0.55, 1.5]
    assert tables.events["event"].unique().to_list() == ["watch"]
    assert tables.quarantine.select("reason", "detail").rows() == [
        ("unreadable percent", "soon"), ("no portion", None), ("percent is negative", None),
    ]  # fmt: skip


def test_portions_that_look_like_percents_are_asked_about(log):
    path = log("user,item,portion\nu,a,93\nu,b,55\nu,c,1\n")
    with pytest.raises(
        BadData, match=r"'portion' are above 1.5, such as 93.*--map percent=portion"
    ):
        read(path)
    assert read(path, mapping={"percent": "portion"}).events["value"].to_list() == [
        0.93,
        0.55,
        0.01,
    ]
    assert read(path, mapping={"value": "portion"}).events["value"].to_list() == [93, 55, 1]


def test_percents_that_look_like_portions_are_asked_about(log):
    path = log("user,item,percent\nu,a,0.93\nu,b,0\nu,c,1.2\n")
    with pytest.raises(BadData, match=r"no value of 'percent' is above 1.5.*--map value=percent"):
        read(path)
    assert read(path, mapping={"value": "percent"}).events["value"].to_list() == [0.93, 0, 1.2]
    told = read(path, mapping={"percent": "percent"}).events["value"].to_list()
    assert told == pytest.approx([0.0093, 0, 0.012])


def test_replays_ratings_and_other_events_are_no_percents(log):
    text = (
        "user,item,event,value\nu,a,watch,0.5\nu,b,watch,3\nu,c,rating,5\nu,d,huh,9\nu,e,like,7\n"
    )
    assert read(log(text)).events["value"].to_list() == [0.5, 3, 1, 1, 1]


def test_splits_by_number_and_by_name(log):
    text = "user,item,x_label\nu,a,0\nu,b,1\nu,c,2\nu,d,valid\nu,e,\n"
    assert read(log(text)).events["split"].to_list() == ["train", "valid", "test", "valid", None]


def folder_of(tmp_path):
    """A folder as `reelm world` leaves it: log, item table, users and clips."""
    (tmp_path / "videos").mkdir()
    for name in ("v1.mp4", "v2.mp4", "extra.webm"):
        (tmp_path / "videos" / name).write_bytes(name.encode())
    (tmp_path / "events.csv").write_text("user,item,time\nu1,v1,1700000000\nu2,v9,1700000000\n")
    (tmp_path / "videos.csv").write_text(
        "video_id,path,title,tags,author,upload_time,license,language,age_rating\n"
        'v1,videos/v1.mp4,"One, two",#a #b,c1,1600000000,CC0,en,12\n'
        "v2,,Two,,,,,,\n"
        "v2,,again,,,,,,\n"
        ",,nameless,,,,,,\n"
    )
    (tmp_path / "users.csv").write_text("user_id,age\nu1,30\nu1,31\n")
    return tmp_path


def test_a_folder_brings_its_tables_and_clips(tmp_path):
    tables = read(folder_of(tmp_path))
    assert tables.videos.schema == VIDEOS
    assert tables.videos.rows() == [
        ("v1", f"{tmp_path}/videos/v1.mp4", "One, two", "#a #b", "c1", 1.6e9, "CC0",
         "en", "12"),
        ("v2", f"{tmp_path}/videos/v2.mp4", "Two", *[None] * 6),
        ("extra", f"{tmp_path}/videos/extra.webm", *[None] * 7),
    ]  # fmt: skip
    assert tables.users is not None
    assert tables.users.rows() == [("u1", "30")]
    assert tables.quarantine.select("table", "place", "reason").rows() == [
        ("videos", "videos.csv:4", "listed twice"),
        ("videos", "videos.csv:5", "no video id"),
        ("users", "users.csv:3", "listed twice"),
    ]
    assert [path.name for path in Table().clips(tmp_path, ReadOptions())] == [
        "extra.webm",
        "v1.mp4",
        "v2.mp4",
    ]


def test_a_list_of_files_and_shared_stems(tmp_path, log):
    for name in ("a.mp4", "a.webm", "b.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(b"x")
    listed = log("a.mp4\na.webm\n\nb.mp4\nc.mp4\n", "list.txt")
    tables = read(log("user,item\nu,c.mp4\nu,b\n"), videos=listed)
    assert tables.videos["video_id"].to_list() == ["a.mp4", "a.webm", "b", "c.mp4"]


def test_a_file_called_with_and_without_its_ending_is_one_video(tmp_path, log):
    for name in ("a.mp4", "b.mp4", "b.webm", "c.mp4"):
        (tmp_path / name).touch()
    text = "user,item\nu,a\nw,a.mp4\nu,b\nw,b.mp4\nu,c.mp4\n"
    tables = read(log(text), videos=tmp_path)
    assert tables.events["video_id"].to_list() == ["a", "a", "b", "b.mp4", "c.mp4"]
    paths = dict(tables.videos.select("video_id", pl.col("path").str.split("/").list.last()).rows())
    assert paths == {"a": "a.mp4", "b.mp4": "b.mp4", "b.webm": "b.webm", "c.mp4": "c.mp4"}
    told = tables.mapping["videos.path"]
    assert "the log calls 1 of them by more than one name" in told
    assert "names of several files, given to none: 1, such as b (b.mp4, b.webm)" in told


def test_clips_alone_are_a_catalogue(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    tables = read(tmp_path)
    assert tables.videos["video_id"].to_list() == ["a"]
    assert tables.events.height == 0


def test_what_is_not_there_is_said_so(tmp_path, log):
    with pytest.raises(BadData, match="no such log or folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(BadData, match="holds no log"):
        read(tmp_path)
    broken = log("this is no parquet", "log.parquet")
    with pytest.raises(BadData, match="cannot be read as parquet"):
        read(broken)
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.mp4")
    with pytest.raises(BadData, match="no list of paths in UTF-8"):
        read(log("user,item\nu,v\n"), videos=tmp_path / "list.txt")
    with pytest.raises(BadData, match="neither a folder"):
        read(log("user,item\nu,v\n"), videos=Path("/nowhere/at/all"))
