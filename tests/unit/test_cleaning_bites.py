"""Rows in are rows kept plus rows set aside, and each of those says why."""

from reelm.formats.base import ReadOptions
from reelm.formats.table import Table

LOG = """user_id,video_id,timestamp,portion
u1,a,100,0.9
,a,101,0.9
u1,,102,0.9
u2,b,whenever,0.9
u2,b,104,-1
u3,c,105,much
u3,c,106,0.4
"""


def test_every_row_that_is_left_out_says_where_it_stood_and_why(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    read = Table().read(path, ReadOptions())
    assert read.rows_in == 7 == read.events.height + read.quarantine.height
    assert read.events["video_id"].to_list() == ["a", "c"]
    told = dict(zip(read.quarantine["place"], read.quarantine["reason"], strict=True))
    assert told == {
        "log.csv:3": "no user id",
        "log.csv:4": "no video id",
        "log.csv:5": "unreadable time",
        "log.csv:6": "value is negative",
        "log.csv:7": "unreadable value",
    }


def test_nothing_is_set_aside_without_a_fault(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,video_id\nu1,a\nu1,a\n")
    read = Table().read(path, ReadOptions())
    assert read.events.height == 2 and read.quarantine.is_empty()
