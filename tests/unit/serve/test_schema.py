"""Stores of earlier versions open and keep every row."""

import re
import sqlite3
from pathlib import Path

import pytest

from reelm.serve.schema import MIGRATIONS, VERSION
from reelm.serve.store import Impression, Store, StoredEvent

STORES = Path(__file__).parent / "stores"


def old_store(folder: Path) -> Path:
    path = folder / "store.sqlite"
    db = sqlite3.connect(path)
    db.executescript((STORES / "v1.sql").read_text())
    db.close()
    return path


def rows(path: Path) -> dict[str, list[tuple]]:
    db = sqlite3.connect(path)
    tables = ("users", "feeds", "impressions", "events")
    found = {t: db.execute(f"SELECT * FROM {t} ORDER BY 1, 2").fetchall() for t in tables}
    db.close()
    return found


def test_an_old_store_is_brought_up_to_date_with_all_its_rows(tmp_path):
    path = old_store(tmp_path)
    before = rows(path)
    store = Store(path)
    assert store.version() == VERSION
    assert store.impressions("f1") == [
        Impression(0, "v1", "model", 0.25, "Why.", {"colour": "red"}, ("v7", "v9")),
        Impression(1, "v2", "new", 0.5, "New."),
    ]
    assert store.events("u2") == [StoredEvent("e3", "u2", "v1", "skip", 1790000007.0)]
    assert store.add_events([StoredEvent("e1", "u1", "v1", "watch", 1.0, 0.1)]) == 0
    store.close()
    after = rows(path)
    assert {t: len(r) for t, r in after.items()} == {t: len(r) for t, r in before.items()}
    assert [row[:8] for row in after["events"]] == before["events"]
    assert [row[:9] for row in after["impressions"]] == before["impressions"]


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = old_store(tmp_path)
    before = rows(path)
    broken = (*MIGRATIONS[1], "CREATE TABLE users (twice TEXT)")
    monkeypatch.setattr("reelm.serve.schema.MIGRATIONS", (MIGRATIONS[0], broken))
    with pytest.raises(Exception, match="already exists"):
        Store(path)
    monkeypatch.undo()
    assert rows(path) == before
    Store(path).close()


def test_the_first_migration_is_what_the_first_version_wrote(tmp_path):
    """A released migration that was changed would part new stores from old ones."""
    db = sqlite3.connect(":memory:")
    for statement in MIGRATIONS[0]:
        db.execute(statement)
    new = {r[0]: r[1] for r in db.execute("SELECT name, sql FROM sqlite_master WHERE sql > ''")}
    db.close()
    old = sqlite3.connect(old_store(tmp_path))
    kept = dict(old.execute("SELECT name, sql FROM sqlite_master WHERE sql > ''").fetchall())
    old.close()
    assert {n: re.sub(r"\s+", " ", sql) for n, sql in kept.items() if n in new} == new
