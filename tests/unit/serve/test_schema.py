"""Stores of earlier versions open and keep every row."""

import re
import sqlite3
from pathlib import Path

import pytest

from reelm.errors import BadData
from reelm.serve.database import database
from reelm.serve.queries import LAST, NEWEST, SEEN
from reelm.serve.records import Impression, StoredEvent
from reelm.serve.schema import MIGRATIONS, VERSION
from reelm.serve.store import Store

STORES = Path(__file__).parent / "stores"
TABLES = ("users", "feeds", "impressions", "events")


def written(where) -> None:
    """A store as the first version left it; that version knew SQLite only, so the statements are
    said in the words of the other."""
    kept = database(where)
    db = kept.connect()
    lines = (STORES / "v1.sql").read_text().splitlines()
    for statement in lines[1:]:
        db.run(kept.defined(statement))
    db.close()


def rows(where) -> dict[str, list[tuple]]:
    db = database(where).connect()
    found = {t: db.rows(f"SELECT * FROM {t} ORDER BY 1, 2") for t in TABLES}
    db.close()
    return found


def test_an_old_store_is_brought_up_to_date_with_all_its_rows(where):
    written(where)
    before = rows(where)
    store = Store(where)
    assert store.version() == VERSION
    assert store.impressions("f1") == [
        Impression(0, "v1", "model", 0.25, "Why.", {"colour": "red"}, ("v7", "v9")),
        Impression(1, "v2", "new", 0.5, "New."),
    ]
    assert store.events("u2") == [StoredEvent("e3", "u2", "v1", "skip", 1790000007.0)]
    assert store.add_events([StoredEvent("e1", "u1", "v1", "watch", 1.0, 0.1)]) == 0
    store.close()
    after = rows(where)
    assert {t: len(r) for t, r in after.items()} == {t: len(r) for t, r in before.items()}
    assert [row[:8] for row in after["events"]] == before["events"]
    assert [row[:9] for row in after["impressions"]] == before["impressions"]


def test_a_migration_that_fails_leaves_the_store_as_it_was(where, monkeypatch):
    written(where)
    before = rows(where)
    broken = (*MIGRATIONS[1], "CREATE TABLE users (twice TEXT)")
    monkeypatch.setattr("reelm.serve.schema.MIGRATIONS", (MIGRATIONS[0], broken))
    with pytest.raises(BadData, match="already exists"):
        Store(where)
    monkeypatch.undo()
    assert rows(where) == before
    Store(where).close()


def test_the_first_migration_is_what_the_first_version_wrote(tmp_path):
    """A released migration that was changed would part new stores from old ones."""
    db = sqlite3.connect(":memory:")
    for statement in MIGRATIONS[0]:
        db.execute(statement)
    new = {r[0]: r[1] for r in db.execute("SELECT name, sql FROM sqlite_master WHERE sql > ''")}
    db.close()
    written(tmp_path / "store.sqlite")
    old = sqlite3.connect(tmp_path / "store.sqlite")
    kept = dict(old.execute("SELECT name, sql FROM sqlite_master WHERE sql > ''").fetchall())
    old.close()
    assert {n: re.sub(r"\s+", " ", sql) for n, sql in kept.items() if n in new} == new


def test_both_kinds_of_store_have_the_same_columns(url, tmp_path):
    """A type of SQLite that is not said in PostgreSQL's words would be missed here."""
    stores = (tmp_path / "store.sqlite", url)
    for where in stores:
        Store(where).close()
    lite, other = (database(where).connect() for where in stores)
    types = {"TEXT": "text", "REAL": "double precision", "INTEGER": "integer"}
    for table in (*TABLES, "uploads", "forgotten", "facts", "schema_version"):
        here = {r[1]: types[r[2]] for r in lite.rows(f"PRAGMA table_info({table})")}
        query = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = ?"
        query += " AND table_schema = current_schema()"
        assert dict(other.rows(query, table)) == here, table
    lite.close()
    other.close()


@pytest.mark.parametrize(
    ("query", "indexes"),
    [
        (LAST, ["lasting_events"]),
        (NEWEST, ["events_of_user"]),
        (SEEN, ["impressions_in_turn", "events_in_turn"]),
    ],
)
def test_what_is_known_of_a_user_is_found_by_indexes_of_its_own(tmp_path, query, indexes):
    """Else a page of a user of many events goes through all of them."""
    store = Store(tmp_path / "store.sqlite")
    said = query.replace("LIMIT ?", "LIMIT 9").replace("turn > ?", "turn > 5")
    plan = store._all(f"EXPLAIN QUERY PLAN {said}", *["u"] * said.count("?"))
    used = [line[-1] for line in plan if "INDEX" in line[-1]]
    assert len(used) == len(indexes)
    for line, index in zip(used, indexes, strict=True):
        assert f"INDEX {index} (user_id=?" in line
    store.close()


def test_postgresql_finds_what_is_new_to_a_user_by_an_index(url):
    store = Store(url)
    store.add_events([StoredEvent(f"e{n}", f"u{n % 9}", f"v{n}", "like", n) for n in range(3000)])
    db = database(url).connect()
    db.run("ANALYZE")
    plan = "\n".join(line for (line,) in db.rows(f"EXPLAIN {SEEN}", "u1", 5, "u1", 5))
    newest = "\n".join(line for (line,) in db.rows(f"EXPLAIN {NEWEST}", "u1", 30))
    db.close()
    assert "events_in_turn" in plan and "Seq Scan on events" not in plan
    assert "Index Scan Backward using events_of_user" in newest, "not all of a user's are sorted"
    store.close()
