"""The log that a service gathered: each event once, as it was meant, of nobody who was deleted."""

from dataclasses import replace

import polars as pl
import pytest
from typer.testing import CliRunner

from reelm import files
from reelm.cli import app
from reelm.data.dataset import Dataset
from reelm.data.tables import read_catalog
from reelm.ingest import IngestConfig, ingest
from reelm.serve import queries
from reelm.serve.engine import Engine
from reelm.serve.gathering import gather
from reelm.serve.records import StoredEvent, Upload
from reelm.serve.store import Store

from .conftest import USERS, video

NOW = 1_790_000_000.0625
"""Long after the log of the catalogue; its fraction must come through."""
FAST = IngestConfig(moments=1, workers=1)


@pytest.fixture
def store(where):
    opened = Store(where)
    yield opened
    opened.close()


def done(kind, number=3, user="u1", at=0.0, portion=None, feed=None, creator=None):
    names = f"{kind} {number} {user} {at} {feed}"
    named = "" if creator else video(number)
    return StoredEvent(names, user, named, kind, NOW + at, portion, feed, creator)


def gathered(store, catalog, folder):
    """The log that was gathered, by the user's own events: video, event, seconds from NOW, value.
    What the catalogue had is told by its time."""
    gather(store, catalog, folder)
    return pl.read_parquet(folder / "events.parquet")


def newer(log, user="u1"):
    mine = log.filter((pl.col("user_id") == user) & (pl.col("timestamp") > NOW - 1000))
    return [
        (row["video_id"], row["event"], row["timestamp"] - NOW, row["value"])
        for row in mine.to_dicts()
    ]


def test_what_the_catalogue_had_stays_and_what_was_done_follows(store, catalog, tmp_path):
    store.add_events([done("like", at=2), done("watch", 9, at=1, portion=0.75)])
    log = gathered(store, catalog, tmp_path)
    assert log.height == catalog.events.height + 2
    assert log[: catalog.events.height].equals(catalog.events.select(log.columns))
    assert newer(log) == [(video(9), "watch", 1, 0.75), (video(3), "like", 2, 1.0)]
    assert "users.parquet" not in [path.name for path in tmp_path.iterdir()]


def test_a_watch_in_pieces_is_one(store, catalog, tmp_path):
    pieces = [done("watch", at=n, portion=0.25, feed="f") for n in range(3)]
    again = [done("watch", at=50 + n, portion=0.5) for n in range(2)]  # of no feed: two watches
    store.add_events([*pieces, *again])
    assert newer(gathered(store, catalog, tmp_path)) == [
        (video(3), "watch", 2, 0.75), (video(3), "watch", 50, 0.5), (video(3), "watch", 51, 0.5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("events", "left"),
    [
        ([done("like"), done("unlike", at=1)], []),
        ([done("like"), done("unlike", at=1), done("like", at=2)], ["like"]),
        ([done("like"), done("unlike", 9, at=1)], ["like"]),
        ([done("like"), done("unlike", user="u2", at=1)], ["like"]),
        ([done("watch", portion=1.0), done("less_like_this", at=1)], ["less_like_this"]),
        (
            [done("watch", portion=1.0), done("less_like_this", at=1),
             done("undo_less_like_this", at=2)],
            ["watch"],
        ),
        ([done("like"), done("block", at=1), done("unblock", at=2)], ["like"]),
        ([done("block"), done("like", at=1)], ["block", "like"]),
        ([done("follow", creator="creator3")], []),
    ],
)  # fmt: skip
def test_what_was_taken_back_or_refused_is_left_out(store, catalog, tmp_path, events, left):
    store.add_events(events)
    assert [event for _, event, _, _ in newer(gathered(store, catalog, tmp_path))] == left


def test_what_the_catalogue_had_can_be_taken_back(store, catalog, tmp_path):
    user, watched = catalog.events.row(0)[:2]
    store.add_events([StoredEvent("e", user, watched, "less_like_this", NOW)])
    log = gathered(store, catalog, tmp_path)
    pair = log.filter(user_id=user, video_id=watched)
    assert pair["event"].to_list() == ["less_like_this"]
    assert log.height == catalog.events.height


def test_of_a_deleted_user_nothing_from_before_is_left(store, catalog, tmp_path, monkeypatch):
    people = pl.DataFrame({"user_id": [f"u{n}" for n in range(USERS)], "age": [20] * USERS})
    with_users = replace(catalog, users=people)
    store.add_events([done("like", user="u1"), done("like", user="u2")])
    monkeypatch.setattr("time.time", lambda: NOW + 10)
    store.delete_user("u1")
    store.add_events([done("share", user="u1", at=20)])
    log = gathered(store, with_users, tmp_path)
    assert log.filter(user_id="u1")["event"].to_list() == ["share"]
    assert log.filter(user_id="u2").height == 6
    assert sorted(pl.read_parquet(tmp_path / "users.parquet")["user_id"]) == sorted(
        f"u{n}" for n in range(USERS) if n != 1
    )
    without = catalog.events.filter(pl.col("user_id") != "u1").height
    assert files.manifest(tmp_path)["rows"]["left out, of deleted users"] == 5
    assert log.height == without + 2
    gather(store, catalog, tmp_path)
    assert not (tmp_path / "users.parquet").exists(), "those of the catalogue before"


def test_gathered_and_taken_in_again_and_again_each_event_comes_once(
    store, catalog, tmp_path, monkeypatch
):
    monkeypatch.setattr(queries, "EVERY_EVENT", queries.EVERY_EVENT[:-5] + "2")
    work, out = tmp_path / "work", tmp_path / "gathered"
    catalog = replace(catalog, videos=catalog.videos.drop("path"))  # those files are all the same
    store.add_events([done("watch", portion=0.3, feed="f"), done("like", 9), done("like", 15)])
    first = read_catalog(ingest(gather(store, catalog, out), work, FAST))
    assert first.events.height == catalog.events.height + 3
    again = read_catalog(ingest(gather(store, first, out), work, FAST))
    assert again.events.sort(pl.all()).equals(first.events.sort(pl.all()))
    store.add_events([done("watch", at=5, portion=0.3, feed="f"), done("unlike", 9, at=6)])
    last = read_catalog(ingest(gather(store, again, out), work, FAST))
    assert [(v, e) for v, e, _, _ in newer(last.events)] == [
        (video(15), "like"), (video(3), "watch"),
    ]  # fmt: skip
    assert newer(last.events)[1][2:] == (5, pytest.approx(0.6))
    data = Dataset.load(last)
    mine = {data.items[item] for item in data.item[data.user == data.users.index("u1")]}
    assert {video(3), video(15)} <= mine, "a watch in two pieces counts as in the feed"


def test_videos_that_came_by_the_service_are_in_the_table(store, catalog, tmp_path):
    row = {"video_id": "new", "path": str(tmp_path / "new.mp4"), "title": "New", "language": "de",
           "uploaded_at": NOW, "bytes": 5}  # fmt: skip
    store.put_upload(Upload("new", "aa", "ready", row=row))
    store.put_upload(Upload("waits", "bb", "queued", row=row | {"video_id": "waits"}))
    store.put_upload(Upload(video(5), "cc", "ready", row=row | {"video_id": video(5)}))
    store.add_events([StoredEvent("e", "u1", "new", "like", NOW)])
    gather(store, catalog, tmp_path / "out")
    videos = pl.read_parquet(tmp_path / "out" / "videos.parquet")
    assert videos["video_id"].to_list() == [*catalog.videos["video_id"], "new"]
    assert videos.row(-1, named=True).items() >= {"title": "New", "language": "de"}.items()
    (tmp_path / "new.mp4").write_bytes(b"no video, but a file")
    taken = read_catalog(ingest(tmp_path / "out", tmp_path / "work", FAST))
    assert taken.videos.filter(video_id="new")["path"].item() == str(tmp_path / "new.mp4")
    assert taken.events.filter(video_id="new").height == 1


def test_videos_of_other_nights_are_found_where_they_are_now(store, catalog, tmp_path):
    old = pl.lit("/elsewhere/uploads/files/") + pl.col("video_id") + ".mp4"
    moved = replace(catalog, videos=catalog.videos.with_columns(path=old))
    path = tmp_path / f"{video(5)}.mp4"
    store.put_upload(Upload(video(5), "cc", "ready", row={"video_id": video(5), "path": str(path)}))
    gather(store, moved, tmp_path / "out")
    paths = dict(
        pl.read_parquet(tmp_path / "out" / "videos.parquet")["video_id", "path"].iter_rows()
    )
    assert paths[video(5)] == str(path)
    assert paths[video(6)] == f"/elsewhere/uploads/files/{video(6)}.mp4"


def test_what_was_shown_is_told_with_its_chances(store, catalog, run, notes, tmp_path, monkeypatch):
    monkeypatch.setattr(queries, "EVERY_IMPRESSION", queries.EVERY_IMPRESSION[:-5] + "3")
    engine = Engine(run, catalog, notes, store)
    page = engine.feed("u3", 7)
    engine.feed("u4", 4)
    gather(store, catalog, tmp_path)
    shown = pl.read_parquet(tmp_path / "impressions.parquet")
    assert shown.height == 11
    mine = shown.filter(feed_id=page.feed_id).sort("position")
    assert mine["video_id"].to_list() == [item.video_id for item in page.items]
    assert mine["user_id"].unique().to_list() == ["u3"]
    store.delete_user("u3")
    gather(store, catalog, tmp_path)
    assert pl.read_parquet(tmp_path / "impressions.parquet")["user_id"].unique().item() == "u4"


def test_a_split_that_came_with_the_catalogue_is_said_to_be_lost(store, catalog, tmp_path):
    cut = replace(catalog, log=catalog.events.with_columns(split=pl.lit("train")))
    assert files.manifest(gather(store, cut, tmp_path))["cut"]
    assert not files.manifest(gather(store, catalog, tmp_path))["cut"]


def test_the_command_gathers_beside_a_running_service(catalog, tmp_path):
    work, source = tmp_path / "work", tmp_path / "source"
    source.mkdir()
    catalog.events.write_csv(source / "events.csv")
    ingest(source, work, FAST)
    refused = CliRunner().invoke(app, ["gather", "--work", str(work)])
    assert "no store" in str(refused.exception)
    running = Store(work / "serve" / "store.sqlite")
    running.add_events([done("like")])
    told = CliRunner().invoke(app, ["gather", "--work", str(work)])
    running.close()
    assert told.exit_code == 0, told.output
    assert told.output.splitlines()[-1] == str(work / "gathered")
    assert f"events: {catalog.events.height + 1}" in told.output


def test_a_gathering_that_is_killed_leaves_no_folder_that_seems_whole(
    store, catalog, tmp_path, monkeypatch
):
    folder = gather(store, catalog, tmp_path)
    assert files.finished(folder)
    store.add_events([done("like", at=2)])

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "finish", full)
    with pytest.raises(OSError, match="No space"):
        gather(store, catalog, tmp_path)
    assert not files.finished(folder)
