"""A deleted user is in no table and in no byte of the files; of PostgreSQL's, but for its log."""

import random
import sqlite3
import threading

import pytest

from reelm.serve.database import Unavailable, database
from reelm.serve.records import Feed, Impression, Known, StoredEvent
from reelm.serve.store import Store

SECRET = "person-8c1f"


def filled(where, rounds=4):
    """Many users in between, so that the pages of the file were split and moved."""
    store = Store(where)
    for round_ in range(rounds):
        for number in range(60):
            user = SECRET if number % 3 == 0 else f"other-{number}"
            feed = Feed(f"f-{user}-{round_}-{number}", user, False)
            shown = [Impression(n, f"v{n}", "model", 1.0, "Why. " * 9) for n in range(12)]
            store.add_impressions(feed, shown, Known())
            store.add_events(
                [
                    StoredEvent(f"e-{user}-{round_}-{number}-{n}", user, f"v{n}", "like", 1.0 * n)
                    for n in range(9)
                ]
            )
    return store


def everything_in(where):
    """Every value of every table of a PostgreSQL database, catalogues and statistics too."""
    db = database(where).connect()
    names = db.rows("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r'")
    text = "".join(str(db.rows(f"SELECT * FROM {name}")) for (name,) in names)
    db.close()
    return text


def left(server, where):
    """Files of a server in which the user stands, once all that is in memory is written."""
    db = database(where).connect()
    db.run("CHECKPOINT")
    db.close()
    files = [path for path in server.data.rglob("*") if path.is_file()]
    found = [
        path.relative_to(server.data) for path in files if SECRET.encode() in path.read_bytes()
    ]
    return {path.parts[0] for path in found}


def everything(path):
    """Every value of every table, as text."""
    db = sqlite3.connect(path)
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    text = "".join(str(db.execute(f"SELECT * FROM {name}").fetchall()) for name in names)
    db.close()
    return text


def test_nothing_is_left_of_a_deleted_user(tmp_path):
    path = tmp_path / "store.sqlite"
    store = filled(path)
    others = len(store.events("other-1"))
    assert SECRET.encode() in path.read_bytes() + path.with_name("store.sqlite-wal").read_bytes()
    removed = store.delete_user(SECRET)
    assert removed == {"impressions": 960, "feeds": 80, "events": 720, "users": 1}
    assert SECRET not in everything(path)
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes(), file
    assert store.known(SECRET).deleted_at and not store.known("other-1").deleted_at
    assert len(store.events("other-1")) == others
    store.close()


def test_nothing_but_the_log_of_postgresql_is_left_of_a_deleted_user(postgres, url):
    store = filled(url, 1)
    others = len(store.events("other-1"))
    db = database(url).connect()
    db.run("ANALYZE")
    db.close()
    assert SECRET in everything_in(url)
    assert left(postgres, url) == {"base", "pg_wal"}
    removed = store.delete_user(SECRET)
    assert removed == {"impressions": 240, "feeds": 20, "events": 180, "users": 1}
    assert SECRET not in everything_in(url)
    assert left(postgres, url) <= {"pg_wal"}
    assert store.known(SECRET).deleted_at and not store.known("other-1").deleted_at
    assert len(store.events("other-1")) == others
    store.close()


def test_a_transaction_that_still_sees_the_user_is_waited_for_and_said(postgres, url, monkeypatch):
    """PostgreSQL keeps rows that an older transaction may read; rewriting would copy them."""
    store, reader = Store(url), database(url).connect()
    store.add_events([StoredEvent(f"e-{SECRET}", SECRET, "v", "like", 1.0)])
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert len(reader.rows("SELECT video_id FROM uploads")) == 0
    monkeypatch.setattr("reelm.serve.postgres.WAIT_S", 0.2)
    with pytest.raises(Unavailable, match=r"rows are deleted.*delete the user again"):
        store.delete_user(SECRET)
    assert store.events(SECRET) == []
    monkeypatch.undo()
    done = threading.Thread(target=store.delete_user, args=(SECRET,))
    done.start()
    done.join(0.3)
    assert done.is_alive(), "the older transaction was not waited for"
    reader.run("ROLLBACK")
    reader.close()
    done.join(20)
    assert left(postgres, url) <= {"pg_wal"}
    store.close()


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_left_in_pages_that_were_split(tmp_path, seed):
    """Rows of many sizes: SQLite then leaves old copies of cells in pages, even with
    secure_delete; without rewriting the file about every second such store keeps some."""
    store, rng = Store(tmp_path / "store.sqlite"), random.Random(seed)
    for _ in range(120):
        user = SECRET if rng.random() < 0.2 else f"other-{rng.randrange(30)}"
        feed = Feed(f"{user}-{rng.random()}", user, False)
        long = rng.choice([50, 3000])
        shown = [
            Impression(n, f"v{n}", "new", 1.0, "w" * rng.randrange(1, long)) for n in range(12)
        ]
        store.add_impressions(feed, shown[: rng.randrange(1, 12)], Known())
    store.delete_user(SECRET)
    left = sum(file.read_bytes().count(SECRET.encode()) for file in tmp_path.iterdir())
    store.close()
    assert left == 0


def test_a_user_may_come_back_as_a_stranger(where):
    store = Store(where)
    store.add_events([StoredEvent("e1", "u", "v1", "like", 1.0)])
    store.delete_user("u")
    assert store.delete_user("u")["events"] == 0, "deleting twice is no error"
    assert store.add_events([StoredEvent("e1", "u", "v1", "like", 2.0)]) == 1
    assert [e.timestamp for e in store.events("u")] == [2.0]
    store.close()


def test_whoever_must_not_wait_is_told_while_traces_are_scrubbed(tmp_path, monkeypatch):
    """A request that is answered in the service's loop would make all others wait with it."""
    store, told = filled(tmp_path / "store.db", rounds=1), []
    scrub = store._database.scrub
    monkeypatch.setattr(store._database, "scrub", lambda db: (told.append(store.quick), scrub(db)))
    assert store.quick
    store.delete_user(SECRET)
    assert told == [False]
    assert store.quick
    store.close()
