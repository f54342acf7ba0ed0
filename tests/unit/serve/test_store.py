import sqlite3
import threading

import pytest

from reelm.errors import BadData
from reelm.serve.schema import VERSION
from reelm.serve.store import Feed, Impression, Store, StoredEvent

FEED = Feed("f1", "u1", False)


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
    store.add_feed(FEED)
    store.add_impressions(FEED, [Impression(0, "v1", "model", 1.0, "Why.")])
    with pytest.raises(sqlite3.IntegrityError):
        store.add_impressions(
            FEED, [Impression(1, "v2", "new", 1.0, ""), Impression(2, "v1", "new", 1.0, "")]
        )
    assert [i.video_id for i in store.impressions("f1")] == ["v1"], "half a page was kept"


def test_everything_is_there_after_opening_again(tmp_path):
    path = tmp_path / "deep" / "store.sqlite"
    shown = Impression(0, "v1", "model", 0.25, "Why.", {"colour": "red"}, ("v7", "v9"))
    first = Store(path)
    first.add_feed(FEED)
    first.add_impressions(FEED, [shown])
    first.add_events([watch(4)])
    first.close()
    second = Store(path)
    assert second.feed("f1") == FEED
    assert second.impressions("f1") == [shown]
    assert second.seen("u1") == {"v1", "v4"}
    assert second.version() == VERSION
    assert second.counts() == {"users": 1, "events": 1, "feeds": 1, "impressions": 1, "uploads": 0}
    second.close()


def test_a_newer_store_is_refused(tmp_path):
    path = tmp_path / "store.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO schema_version VALUES (?, 0)", (VERSION + 1,))
    db.close()
    with pytest.raises(BadData, match="newer reelm"):
        Store(path)


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "store.sqlite"
    path.write_text("no database, only words, and quite a few of them " * 20)
    with pytest.raises(BadData, match="not a store"):
        Store(path)


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
