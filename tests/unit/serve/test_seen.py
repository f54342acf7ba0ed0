"""Users of a long past are kept in memory; what is kept is what the store has."""

import threading

import pytest

from reelm.serve import seen
from reelm.serve.database import Unavailable
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.records import Feed, Impression, Known, StoredEvent
from reelm.serve.seen import LongPasts
from reelm.serve.store import Store

from .conftest import video


@pytest.fixture(autouse=True)
def two_are_many(monkeypatch):
    monkeypatch.setattr(seen, "LEAST", 2)


def nobody_reads():
    raise AssertionError("the store was read again")


def event(number, item, name="watch", user="u"):
    return StoredEvent(f"e{number}", user, item, name, float(number), 0.9)


def test_who_has_seen_much_is_read_once_and_others_each_time():
    kept = LongPasts()
    first = kept.of("u", lambda: ["v1", "v2"])
    kept.add("u", ["v3"])
    again = kept.of("u", nobody_reads)
    assert again is first and again.ids == ["v1", "v2", "v3"]
    kept.of("w", lambda: ["v1"])
    assert kept.of("w", lambda: ["v1", "v9"]).ids == ["v1", "v9"]


def test_what_is_written_while_the_store_is_read_is_not_missed():
    kept = LongPasts()

    def read():
        kept.add("u", ["v3"])
        return ["v1", "v2"]

    assert set(kept.of("u", read).ids) == {"v1", "v2", "v3"}
    assert set(kept.of("u", nobody_reads).ids) == {"v1", "v2", "v3"}


def test_who_is_dropped_while_the_store_is_read_is_not_kept():
    kept = LongPasts()

    def read():
        kept.drop("u")
        return ["v1", "v2"]

    kept.of("u", read)
    assert "u" not in kept
    assert kept.of("u", lambda: []).ids == []


def test_a_store_that_does_not_answer_leaves_nothing_behind():
    kept = LongPasts()
    with pytest.raises(AssertionError):
        kept.of("u", nobody_reads)
    assert "u" not in kept and not kept._reading


def test_whoever_asked_longest_ago_makes_room():
    kept = LongPasts(most=5)
    for user in ("a", "b"):
        kept.of(user, lambda: ["v1", "v2"])
    kept.of("a", nobody_reads)
    kept.of("c", lambda: ["v1", "v2"])
    assert [user in kept for user in "abc"] == [True, False, True]
    kept.add("c", ["v3", "v4"])
    assert [user in kept for user in "ac"] == [False, True]
    kept.of("d", lambda: ["v1", "v2", "v3", "v4", "v5", "v6"])
    assert [user in kept for user in "cd"] == [False, True], "one alone may be too long"


def test_many_threads_keep_all_that_was_written():
    kept, written = LongPasts(), []

    def work(name):
        for n in range(200):
            written.append(f"{name}-{n}")
            kept.add("u", [f"{name}-{n}"])
            kept.of("u", lambda: list(written))
            if n % 50 == 49:
                kept.drop("u")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(kept.of("u", lambda: list(written)).ids) >= set(written)


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
