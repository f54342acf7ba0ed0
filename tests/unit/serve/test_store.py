import sqlite3
import threading
from contextlib import closing

import pytest

from reelm.errors import BadData
from reelm.serve import sqlite
from reelm.serve.database import Collision, database
from reelm.serve.records import Feed, Impression, Known, StoredEvent, Upload
from reelm.serve.schema import VERSION
from reelm.serve.store import Store

FEED = Feed("f1", "u1", False)


@pytest.fixture
def store(where):
    opened = Store(where)
    yield opened
    opened.close()


def watch(number, user="u1", portion=0.5):
    return StoredEvent(f"e{number}", user, f"v{number}", "watch", 100.0 - number, portion, "f1")


def test_an_event_id_is_stored_once(store):
    assert store.add_events([watch(1), watch(2)]) == 2
    assert store.add_events([watch(2, portion=0.9), watch(3)]) == 1
    assert [(e.event_id, e.portion) for e in store.events("u1")] == [
        ("e3", 0.5), ("e2", 0.5), ("e1", 0.5),
    ]  # fmt: skip


def test_events_of_others_are_not_mine(store):
    store.add_events([watch(1), watch(2, user="u2")])
    assert [e.event_id for e in store.events("u2")] == ["e2"]


def test_a_feed_cannot_show_a_video_twice(store):
    store.add_impressions(FEED, [Impression(0, "v1", "model", 1.0, "Why.")], Known())
    with pytest.raises(Collision):
        store.add_impressions(
            FEED, [Impression(1, "v2", "new", 1.0, ""), Impression(2, "v1", "new", 1.0, "")]
        )
    assert [i.video_id for i in store.impressions("f1")] == ["v1"], "half a page was kept"


def test_a_folder_is_made(tmp_path):
    Store(tmp_path / "deep" / "store.sqlite").close()
    assert (tmp_path / "deep" / "store.sqlite").is_file()


def test_everything_is_there_after_opening_again(where):
    why = ("Why? 100 % ¿", {"colour": "rød\n"}, ("v7", "v9"), "run-1", 0.125)
    shown = Impression(0, "v1", "model", 0.25, *why)
    first = Store(where)
    first.add_impressions(FEED, [shown], Known())
    first.add_events([watch(4)])
    first.close()
    second = Store(where)
    assert second.feed("f1") == FEED
    assert second.impressions("f1") == [shown]
    assert second.events("u1") == [watch(4)]
    assert set(second.known("u1").seen.ids) == {"v1", "v4"}
    assert second.version() == VERSION
    assert second.counts() == {"users": 1, "events": 1, "feeds": 1, "impressions": 1, "uploads": 0}
    second.close()


def test_a_closed_store_says_so_or_fails(where):
    store = Store(where)
    store.add_events([watch(1)])
    store.close()
    with pytest.raises(Exception, match="closed"):
        store.add_events([watch(2)])
    with pytest.raises(Exception, match="closed"):
        store.events("u1")


def test_events_of_one_moment_come_in_one_order(store):
    """In the order of their ids as bytes, whatever the language of the server."""
    ids = ["a", "B", "é", "Z", "_", "b"]
    store.add_events([StoredEvent(id, "u1", "v", "like", 1.0) for id in ids])
    assert [e.event_id for e in store.events("u1")] == sorted(ids)


def test_an_upload_is_replaced_by_what_became_of_it(store):
    queued = Upload("v1", "ab12", "queued", "", {"title": "A 'cat' ? 100 %", "ok": True})
    store.put_upload(queued)
    ready = Upload("v1", "ab12", "ready", "no sound", queued.row, {"a": 1}, {}, {"m": [0.5]})
    store.put_upload(ready)
    assert store.uploads() == [ready] == [store.upload_of("ab12")] == [store.upload("v1")]
    assert store.upload("ab12") is None is store.upload_of("v1")
    with pytest.raises(Collision):
        store.put_upload(Upload("v2", "ab12", "queued"))
    with pytest.raises(Collision, match="belongs to another file"):
        store.put_upload(Upload("v1", "cd34", "queued"))
    assert store.uploads() == [ready]


def test_pages_of_a_deleted_feed_are_not_kept(store):
    store.add_impressions(FEED, [], Known())
    store.delete_user("u1")
    assert not store.add_impressions(FEED, [Impression(0, "v1", "model", 1.0, "Why.")])
    assert store.feed("f1") is None and store.impressions("f1") == []


def test_the_first_page_of_a_user_who_was_deleted_meanwhile_is_not_kept(store):
    """Else it would tell of events that are to be gone."""
    page = [Impression(0, "v1", "model", 1.0, "Why.")]
    for _ in range(2):  # a user who was never deleted, and one who was
        known = store.known("u1")
        store.delete_user("u1")
        assert not store.add_impressions(FEED, page, known)
        assert store.feed("f1") is None and store.impressions("f1") == []
    assert store.add_impressions(FEED, page, store.known("u1"))


def test_a_newer_store_is_refused(where):
    Store(where).close()
    other = database(where)
    db = other.connect()
    db.run("INSERT INTO schema_version VALUES (?, 0)", VERSION + 1)
    db.close()
    other.close()
    with pytest.raises(BadData, match="newer reelm"):
        Store(where)


def test_something_else_is_refused(where):
    other = database(where)
    db = other.connect()
    db.run("CREATE TABLE users (name TEXT)")
    db.close()
    other.close()
    with pytest.raises(BadData, match=r"not a store.*already exists.*serve\.store"):
        Store(where)


def test_a_store_that_is_refused_is_let_go(tmp_path):
    """Not looked after by a thread for as long as the process lives."""
    path, before = tmp_path / "store.sqlite", set(threading.enumerate())
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE users (name TEXT)")
    with pytest.raises(BadData, match="not a store"):
        Store(path)
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()
    assert not path.with_name("store.sqlite-wal").exists(), "somebody still has it open"


def test_it_may_be_closed_twice(where):
    store = Store(where)
    store.add_events([watch(1)])
    assert store.events("u1")
    store.close()
    store.close()


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "store.sqlite"
    path.write_text("no database, only words, and quite a few of them " * 20)
    with pytest.raises(BadData, match="not a store"):
        Store(path)


def test_a_place_that_cannot_be_opened_is_not_called_something_else(tmp_path):
    with pytest.raises(BadData, match=r"cannot be opened.*writable") as told:
        Store(tmp_path)  # a folder
    assert "not a store" not in str(told.value)


def test_threads_lose_nothing(store):
    def work(start):
        for number in range(start, start + 50):
            store.add_events([watch(number)])

    threads = [threading.Thread(target=work, args=(40 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.events("u1")) == 170  # 4 x 50, overlapping by 10


def test_a_log_that_cannot_be_put_into_the_file_is_told_and_loses_nothing(
    tmp_path, monkeypatch, caplog
):
    tried = threading.Event()

    def full(_):
        tried.set()
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(sqlite, "EACH_S", 0.01)
    monkeypatch.setattr(sqlite.SQLite, "_checkpoint", full)
    opened = Store(tmp_path / "store.db")
    assert tried.wait(30)
    assert opened.add_events([watch(1)]) == 1
    opened.close()  # waits for whoever is at the log
    assert "disk full" in caplog.text


def test_feeds_do_not_wait_while_whole_tables_are_read(store):
    told = []
    asking = threading.Thread(target=lambda: told.append(store.counts()), daemon=True)
    with store._readers.waiting():  # nobody can read for a feed, so counting does not do it there
        asking.start()
        asking.join(20)
        assert told == [dict.fromkeys(("users", "events", "feeds", "impressions", "uploads"), 0)]
        assert store.outcomes(0.0) == []


def test_what_was_shown_long_ago_is_forgotten_and_what_was_done_is_not(store, monkeypatch):
    monkeypatch.setattr("reelm.serve.store.FEW", 2)
    clock = [1000.0]
    monkeypatch.setattr("time.time", lambda: clock[0])
    for number in range(5):
        clock[0] += 100
        feed = Feed(f"f{number}", "u1", False)
        places = [Impression(n, f"v{10 * number + n}", "model", 1.0, "") for n in range(3)]
        store.add_impressions(feed, places, Known())
    store.add_events([StoredEvent("e", "u1", "v1", "watch", 1100.0, 0.5, "f0")])
    assert store.forget_shown(1350.0) == 3
    assert store.forget_shown(1350.0) == 0
    assert [bool(store.feed(f"f{n}")) for n in range(5)] == [False] * 3 + [True] * 2
    assert store.counts()["impressions"] == 6 and len(store.events("u1")) == 1
    assert set(store.known("u1").seen.ids) == {"v1", *(f"v{n}" for n in (30, 31, 32, 40, 41, 42))}
    feed, late = Feed("f0", "u1", False), Impression(3, "v3", "model", 1.0, "")
    assert not store.add_impressions(feed, [late]), "a feed that is forgotten does not go on"
