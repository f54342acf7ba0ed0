"""Users of a long past are kept in memory; what is kept is what the store has."""

import threading
import time

import pytest

from reelm.serve import queries, seen
from reelm.serve.database import Session, Unavailable
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.records import Feed, Impression, Known, StoredEvent
from reelm.serve.seen import LongPasts
from reelm.serve.store import Store

from .conftest import video


@pytest.fixture(autouse=True)
def two_are_many(monkeypatch):
    monkeypatch.setattr(seen, "LEAST", 2)


def event(number, item, name="watch", user="u"):
    return StoredEvent(f"e{number}", user, item, name, float(number), 0.9)


def after(*written):
    """A store in which the n-th of these was written in the user's n-th turn, as `of` reads it."""
    return lambda turn: [(v, n) for n, v in enumerate(written, 1) if n > turn]


def test_of_who_has_seen_much_only_what_is_new_is_read_and_of_others_all():
    kept, asked = LongPasts(), []

    def read(turn):
        asked.append(turn)
        return after("v1", "v2", "v3")(turn)

    first = kept.of("u", None, after("v1", "v2"))
    again = kept.of("u", None, read)
    assert again is first and again.ids == ["v1", "v2", "v3"]
    kept.of("w", None, after("v1"))
    assert kept.of("w", None, read).ids == ["v1", "v2", "v3"]
    assert asked == [2, -1]


def test_what_two_read_at_the_same_time_is_taken_once():
    kept = LongPasts()
    kept.of("u", None, after("v1", "v2"))

    def slow(turn):
        kept.of("u", None, after("v1", "v2", "v3", "v4"))
        return after("v1", "v2", "v3", "v4", "v5")(turn)

    assert kept.of("u", None, slow).ids == ["v1", "v2", "v3", "v4", "v5"]
    assert kept._size == 5

    def late(turn):
        kept.of("u", None, after("v1", "v2", "v3", "v4", "v5", "v6"))
        return after("v1", "v2", "v3", "v4", "v5")(turn)

    assert kept.of("u", None, late).ids == ["v1", "v2", "v3", "v4", "v5", "v6"]


def test_who_was_deleted_meanwhile_begins_anew():
    kept = LongPasts()
    kept.of("u", None, after("v1", "v2"))
    assert kept.of("u", 7.0, after("v9")).ids == ["v9"]
    kept.of("u", 7.0, after("v9", "v8"))

    def read(turn):  # it ends after the deletion that it does not know of
        kept.drop("u")
        return after("v1", "v2")(turn)

    kept.of("u", 7.0, read)
    assert kept.of("u", 8.0, after()).ids == []


def test_a_store_that_does_not_answer_changes_nothing():
    kept = LongPasts()
    kept.of("u", None, after("v1", "v2"))

    def broken(turn):
        raise Unavailable("store", "no answer")

    with pytest.raises(Unavailable):
        kept.of("u", None, broken)
    assert kept.of("u", None, after("v1", "v2", "v3")).ids == ["v1", "v2", "v3"]


def test_whoever_asked_longest_ago_makes_room():
    kept, two = LongPasts(most=5), ("v1", "v2")
    for user in ("a", "b"):
        kept.of(user, None, after(*two))
    kept.of("a", None, after(*two))
    kept.of("c", None, after(*two))
    assert [user in kept for user in "abc"] == [True, False, True]
    kept.of("c", None, after(*two, "v3", "v4"))
    assert [user in kept for user in "ac"] == [False, True]
    kept.of("d", None, after("v1", "v2", "v3", "v4", "v5", "v6"))
    assert [user in kept for user in "cd"] == [False, True], "one alone may be too long"


def test_many_threads_find_all_that_was_written():
    kept, written, lock = LongPasts(), [], threading.Lock()
    missed = []

    def work(name):
        for n in range(200):
            with lock:
                written.append(f"{name}-{n}")
            there = len(written)
            found = kept.of("u", None, lambda turn: after(*written[:])(turn))
            missed.extend(set(written[:there]) - set(found.ids))
            if n % 50 == 49:
                kept.drop("u")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not missed
    assert sorted(kept.of("u", None, after(*written)).ids) == sorted(written), "none twice"


@pytest.fixture
def read_rows(monkeypatch):
    """How many rows each look at what was seen has read."""
    found, rows = [], Session.rows

    def counting(self, statement, *values):
        told = rows(self, statement, *values)
        if statement == queries.SEEN:
            found.append(len(told))
        return told

    monkeypatch.setattr(Session, "rows", counting)
    return found


def test_a_page_of_a_long_past_reads_what_came_since_the_last_one(where, read_rows):
    store = Store(where)
    shown = [Impression(n, f"v{n}", "model", 1.0, "") for n in range(50)]
    store.add_impressions(Feed("f1", "u", False), shown[:40], Known())
    store.add_events([event(n, f"v{n}") for n in range(30)])
    store.known("u")
    store.add_impressions(Feed("f1", "u", False), shown[40:])
    store.add_events([event(99, "v0"), event(100, "v60"), event(101, "v70", user="w")])
    assert set(store.known("u").seen.ids) == {"v60", *(f"v{n}" for n in range(50))}
    store.known("u")
    assert read_rows == [40, 12, 0]
    store.close()


@pytest.mark.parametrize("kept", [2, 10**9])
def test_a_store_says_the_same_whether_it_keeps_users_or_not(where, monkeypatch, kept):
    monkeypatch.setattr(seen, "LEAST", kept)
    store = Store(where)
    shown = [Impression(n, f"v{n}", "model", 1.0, "") for n in range(3)]
    store.add_impressions(Feed("f1", "u", False), shown[:2], Known())
    assert set(store.known("u").seen.ids) == {"v0", "v1"}
    store.add_impressions(Feed("f1", "u", False), shown[2:])
    store.add_events([event(1, "v8"), event(2, "v9", user="w")])
    assert set(store.known("u").seen.ids) == {"v0", "v1", "v2", "v8"}
    store.delete_user("u")
    assert "u" not in store.long_pasts
    assert store.known("u").seen.ids == []
    store.close()


def test_a_disk_that_does_not_sync_leaves_what_is_kept_as_the_store_has_it(tmp_path, monkeypatch):
    store = Store(tmp_path / "store.sqlite")
    store.add_events([event(1, "v1"), event(2, "v2")])
    store.known("u")

    def broken():
        raise Unavailable("store", "no space left")

    monkeypatch.setattr(store._commits._syncs, "_sync", broken)
    with pytest.raises(Unavailable):
        store.add_events([event(3, "v3")])
    assert "u" in store.long_pasts and set(store.known("u").seen.ids) == {"v1", "v2", "v3"}
    with pytest.raises(Unavailable):
        store.delete_user("u")
    assert "u" not in store.long_pasts and store.known("u").seen.ids == []
    store.close()


def test_what_is_forgotten_is_not_kept_either(where):
    store = Store(where)
    shown = [Impression(n, f"v{n}", "model", 1.0, "") for n in range(3)]
    store.add_impressions(Feed("f1", "u", False), shown, Known())
    store.add_events([event(1, "v8")])
    assert len(store.known("u").seen.ids) == 4 and "u" in store.long_pasts
    store.forget_shown(time.time() + 1)
    assert store.known("u").seen.ids == ["v8"]
    store.close()


def test_the_newest_events_are_read_and_what_lasts_however_old(where):
    store = Store(where)
    store.add_events(
        [
            event(1, "v1", "block"), event(2, "v2"), event(3, "v3", "less_like_this"),
            event(4, "", "follow"), *(event(n, f"v{n}") for n in range(5, 10)),
        ]
    )  # fmt: skip
    known = store.known("u", newest=2)
    assert [e.event_id for e in known.events] == ["e1", "e3", "e4", "e8", "e9"]
    assert {"v2", "v5", "v9"} <= set(known.seen.ids), "what is not read was seen all the same"
    assert [e.event_id for e in store.known("u", newest=6).events] == [
        "e1", "e3", "e4", "e5", "e6", "e7", "e8", "e9",
    ]  # fmt: skip
    store.close()


def test_pages_of_a_long_past_repeat_nothing_and_heed_old_blocks(run, catalog, notes):
    engine = Engine(run, catalog, notes, Store(), EngineConfig(max_events=1))
    engine.store.add_events([event(1, video(2), "block"), event(2, video(3), "skip")])
    shown = []
    for page in range(4):
        items = [i.video_id for i in engine.feed("u", 3).items]
        engine.store.add_events([event(10 * page + 10, items[0])])
        shown += items
    assert "u" in engine.store.long_pasts
    assert len(set(shown)) == 12 and not {video(2), video(3)} & set(shown)
    assert engine.past("u").blocked == {engine.videos.row[video(2)]}
