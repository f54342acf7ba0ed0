"""The store's tables and how a store of an earlier version gets them.

Written in SQLite's words; `Database.defined` says them in those of another.
"""

import time
from contextlib import suppress

from reelm.errors import BadData, ReelmError
from reelm.serve.database import Database, Session

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
    (
        "DROP INDEX events_of_user",
        "CREATE INDEX events_of_user ON events (user_id, timestamp, video_id)",
        "CREATE INDEX lasting_events ON events (user_id, timestamp) WHERE type IN"
        " ('follow', 'unfollow', 'block', 'unblock', 'less_like_this', 'undo_less_like_this')",
    ),
    (
        "ALTER TABLE users ADD COLUMN turns INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE events ADD COLUMN turn INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE impressions ADD COLUMN turn INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX events_in_turn ON events (user_id, turn, video_id)",
        "DROP INDEX impressions_of_user",
        "CREATE INDEX impressions_in_turn ON impressions (user_id, turn, video_id)",
    ),
)
"""Statements that lead from version n to n + 1. Never change one that was released: add one."""

VERSION = len(MIGRATIONS)
TABLES = ("users", "events", "feeds", "impressions", "uploads")
"""What the metrics page counts."""


def version(db: Session) -> int:
    """The schema version of an open store; 0 for a new one."""
    return db.rows("SELECT max(version) FROM schema_version")[0][0] or 0


def migrate(database: Database, db: Session) -> None:
    """Bring a store to this version, wholly or not at all.

    Raises:
        BadData: a newer version of this package wrote it, or it is something else.
    """
    try:
        db.begin()
        _steps(database, db)
        db.run("COMMIT")
    except BaseException as error:
        with suppress(ReelmError, *database.errors):
            db.run("ROLLBACK")
        if isinstance(error, database.errors):
            raise BadData(
                f"{database.address}: not a store of events and feeds, nor empty: {error}. "
                "Name another as serve.store."
            ) from error
        raise


def _steps(database: Database, db: Session) -> None:
    db.run(
        database.defined(
            "CREATE TABLE IF NOT EXISTS schema_version"
            " (version INTEGER PRIMARY KEY, applied_at REAL NOT NULL)"
        )
    )
    at = version(db)
    if at > VERSION:
        raise BadData(
            f"{database.address}: written by a newer reelm (schema {at}, this one knows "
            f"{VERSION}). Upgrade reelm or name another store as serve.store."
        )
    for number in range(at, VERSION):
        for statement in MIGRATIONS[number]:
            db.run(database.defined(statement))
        db.run("INSERT INTO schema_version VALUES (?,?)", number + 1, time.time())
