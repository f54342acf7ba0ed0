"""The columns of all videos say of each what the catalogue's line says."""

import numpy as np
import polars as pl
import pytest

from reelm.serve.videos import SHOWN, Videos

from .conftest import videos as table_of


@pytest.fixture
def table(tmp_path):
    return table_of(tmp_path)


def made(table, items=("", "v003", "v000", "gone", "v002")):
    return Videos(items, np.arange(len(items)), table)


def test_every_fact_is_the_catalogues(table):
    found = made(table)
    for line in table.to_dicts():
        video = line["video_id"]
        assert all(found.fact(video, name) == line[name] for name in table.columns)
        known = {n: line[n] for n in SHOWN if line.get(n) is not None}
        assert found.facts(video) == known
        assert (
            found.uploaded[found.ids.index(video)] == line["uploaded_at"]
            if (video in found.ids)
            else video == "v000"
        )


def test_rows_are_the_runs_then_the_catalogues_others(table):
    found = made(table)
    assert found.ids[:5] == ("", "v003", "v000", "gone", "v002") and found.trained == 5
    assert found.ids[5:] == tuple(v for v in table["video_id"] if v not in found.ids[:5])
    assert found.counts[5:].sum() == 0 and found.counts[1] == 1


def test_a_copy_has_its_firsts_row_and_its_own_facts(table):
    for items in (("", "v003"), ("", "v000")):
        found = made(table, items)
        assert found.row["v000"] == found.row["v006"] == found.ids.index("v006")
        assert found.fact("v000", "title") == "<b>clip</b> 0"
        assert found.path["v000"].name == "v000.mp4"
        assert ("v000" in found.ids) == ("v000" in items)


def test_what_cannot_be_shown_is_told_with_its_reason(table):
    said = made(table, ("",)).summary()
    assert said == "58 of 59 videos can be shown (left out: 1 broken)"
    (made(table).path["v003"]).unlink()
    odd = table.with_columns(
        video_codec=pl.when(pl.col("video_id") == "v010")
        .then(pl.lit("hevc"))
        .otherwise("video_codec"),
        path=pl.when(video_id="v011").then(None).otherwise("path"),
    )
    said = made(odd, ("",)).summary()
    assert said == (
        "55 of 59 videos can be shown (left out: 1 broken, 1 without a file, 1 of a codec that "
        "browsers do not play, 1 whose file is gone or is none of .m4v, .mov, .mp4, .webm)"
    )
    bare = made(table.drop("path", "ok", "duplicate_of"), ("",))
    assert bare.summary() == "60 of 60 videos can be shown"
    for videos, others in ((bare, ""), (made(table, ("",)), "1 broken, ")):
        videos.show_only(np.arange(len(videos.ids)) < 41)
        assert f"(left out: {others}" in videos.summary()
        assert videos.summary().endswith(" by the filters of [engine])")


def test_what_can_be_shown(table):
    found = made(table)
    shown = {found.ids[row] for row in np.flatnonzero(found.usable)}
    assert shown == set(table["video_id"]) - {"v000", "v001"}  # a copy, and a broken one
    (found.path["v003"]).unlink()
    assert "v003" not in made(table).path
    bare = made(table.drop("path", "ok", "duplicate_of"))
    assert bare.usable.sum() == len(bare.ids) - 1 and not bare.has_files


def test_videos_of_creators(table):
    found = made(table)
    mine = [n for n in range(2, 60) if n % 7 == 5]
    assert {found.ids[row] for row in found.by(["creator5"])} == {f"v{n:03d}" for n in mine}
    assert found.by(["nobody"]) == []


def test_what_is_not_known(table):
    found = made(table)
    assert found.fact("gone", "title") is None and found.fact("nobody", "title") is None
    assert found.fact("v003", "no such column") is None and found.facts("gone") == {}
    assert found.column("no such column") == [None] * len(found.ids)
    assert not np.isfinite(found.uploaded[found.row["gone"]])
    alone = Videos(("", "a"), np.array([0, 1]))
    assert alone.usable.tolist() == [False, True] and alone.facts("a") == {}


def test_of_two_lines_about_a_video_the_later_wins():
    table = pl.DataFrame({"video_id": ["a", "b", "a"], "title": ["one", "two", "three"]})
    assert made(table, ("", "a")).fact("a", "title") == "three"
