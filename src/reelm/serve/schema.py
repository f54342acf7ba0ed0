"""The store's tables, and what is peculiar to SQLite: the one place that knows the dialect."""

import sqlite3
import time
from pathlib import Path

from reelm.errors import BadData

MEMORY = ":memory:"
WAIT_S = 10
"""How long another process may hold the file before a statement fails."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE users (user_id TEXT PRIMARY KEY, first_seen REAL NOT NULL,"
        " last_seen REAL NOT NULL) WITHOUT ROWID",
        "CREATE TABLE events (event_id TEXT PRIMARY KEY, user_id TEXT NOT NULL,"
        " video_id TEXT NOT NULL, type TEXT NOT NULL, timestamp REAL NOT NULL, portion REAL,"
        " feed_id TEXT, received_at REAL NOT NULL) WITHOUT ROWID",
        "CREATE INDEX events_of_user ON events (user_id, timestamp)",
        "CREATE TABLE feeds (feed_id TEXT PRIMARY KEY, user_id TEXT NOT NULL,"
        " again INTEGER NOT NULL, created_at REAL NOT NULL) WITHOUT ROWID",
        "CREATE TABLE impressions (feed_id TEXT NOT NULL REFERENCES feeds, position INTEGER"
        " NOT NULL, user_id TEXT NOT NULL, video_id TEXT NOT NULL, source TEXT NOT NULL,"
        " score REAL NOT NULL, reason TEXT NOT NULL, grounds TEXT NOT NULL,"
        " created_at REAL NOT NULL,"
        " PRIMARY KEY (feed_id, position), UNIQUE (feed_id, video_id)) WITHOUT ROWID",
        "CREATE INDEX impressions_of_user ON impressions (user_id, video_id)",
    ),
    (
        "ALTER TABLE events ADD COLUMN creator TEXT",
        "CREATE INDEX feeds_of_user ON feeds (user_id)",
        "CREATE TABLE forgotten (digest TEXT PRIMARY KEY, deleted_at REAL NOT NULL) WITHOUT ROWID",
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "INSERT INTO facts VALUES ('salt', lower(hex(randomblob(16))))",
        "CREATE TABLE uploads (video_id TEXT PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE,"
        " status TEXT NOT NULL, reason TEXT NOT NULL, row TEXT NOT NULL, answer TEXT NOT NULL,"
        " provenance TEXT NOT NULL, vectors TEXT NOT NULL, created_at REAL NOT NULL) WITHOUT ROWID",
    ),
    (
        "ALTER TABLE impressions ADD COLUMN run TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE impressions ADD COLUMN propensity REAL",
    ),
)
"""Statements that lead from version n to n + 1. Never change one that was released: add one."""

VERSION = len(MIGRATIONS)
PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",  # in WAL, NORMAL may lose what was acknowledged when the power goes
    "foreign_keys=ON",
    "secure_delete=ON",
)
TABLES = ("users", "events", "feeds", "impressions", "uploads")
"""What the metrics page counts."""


def connect(path: Path | str) -> sqlite3.Connection:
    """A connection that begins its transactions only when told to."""
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=WAIT_S)
    try:
        for pragma in PRAGMAS:
            db.execute(f"PRAGMA {pragma}")
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def version(db: sqlite3.Connection) -> int:
    """The schema version of an open file; 0 for a new one."""
    return db.execute("SELECT max(version) FROM schema_version").fetchone()[0] or 0


def migrate(db: sqlite3.Connection, path: Path | str) -> None:
    """Bring a file to this version, wholly or not at all.

    Raises:
        BadData: a newer version of this package wrote it.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        _steps(db, path)
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _steps(db: sqlite3.Connection, path: Path | str) -> None:
    db.execute(
        "CREATE TABLE IF NOT EXISTS schema_version"
        " (version INTEGER PRIMARY KEY, applied_at REAL NOT NULL)"
    )
    at = version(db)
    if at > VERSION:
        raise BadData(
            f"{path}: written by a newer reelm (schema {at}, this one knows "
            f"{VERSION}). Upgrade reelm or name another store file."
        )
    for number in range(at, VERSION):
        for statement in MIGRATIONS[number]:
            db.execute(statement)
        db.execute("INSERT INTO schema_version VALUES (?,?)", (number + 1, time.time()))


def scrub(db: sqlite3.Connection, path: Path | str) -> None:
    """Leave nothing of deleted rows in the file: rewrite it, then empty the log beside it.

    Overwriting freed cells (secure_delete) is not enough, as pages that were split keep old copies.

    Raises:
        BadData: another process reads the file and so keeps the log.
    """
    db.execute("VACUUM")
    if path != MEMORY and db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        raise BadData(
            f"{path}: rows are deleted, but another process holds the log in which they still "
            "stand. End it and delete the user again."
        )
