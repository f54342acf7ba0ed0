"""What the service must remember: events, feeds and what each feed showed. One SQLite file.

The file keeps its schema version; an older file is brought up to date when it is opened. Writing
ahead (WAL) lets a killed process lose nothing that it acknowledged.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reelm.errors import BadData

MEMORY = ":memory:"

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
)
"""Statements that lead from version n to n + 1. Never change one that was released: add one."""

VERSION = len(MIGRATIONS)


@dataclass(frozen=True)
class StoredEvent:
    """One line of the log as a client sent it."""

    event_id: str
    """Chosen by the client; sending it twice stores it once."""
    user_id: str
    video_id: str
    type: str
    """watch, like, unlike, share or skip."""
    timestamp: float
    """Seconds UTC."""
    portion: float | None = None
    """Share of the video that was watched; only for watch. Replays may exceed 1."""
    feed_id: str | None = None


@dataclass(frozen=True)
class Feed:
    """One sitting of one user; nothing is shown twice in it."""

    feed_id: str
    user_id: str
    again: bool
    """Videos seen in earlier feeds may come back."""


@dataclass(frozen=True)
class Impression:
    """One place of a feed, as it was answered."""

    position: int
    video_id: str
    source: str
    """model, new or fallback; scores compare within one source only."""
    score: float
    reason: str
    """One sentence."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the sentence rests on: field to value."""
    because: tuple[str, ...] = ()
    """Videos of the user's past that share these facts."""


class Store:
    """Events, feeds, impressions and users in one SQLite file; safe to use from several threads."""

    def __init__(self, path: Path | str = MEMORY) -> None:
        """Open or create the file and bring it to this version.

        Raises:
            BadData: the file is no store, or a newer version of this package wrote it.
        """
        self.path = path
        self._lock = threading.RLock()
        if path != MEMORY:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        try:
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
                self._db.execute(f"PRAGMA {pragma}")
            self._migrate()
        except sqlite3.DatabaseError as error:
            self.close()
            raise BadData(f"{path}: not a store of events and feeds: {error}") from error
        except BadData:
            self.close()
            raise

    def close(self) -> None:
        """Give the file back; nothing may be asked afterwards."""
        with self._lock:
            self._db.close()

    def version(self) -> int:
        """The schema version of the open file."""
        return self._all("SELECT max(version) FROM schema_version")[0][0] or 0

    def add_events(self, events: Iterable[StoredEvent]) -> int:
        """Store each event whose id is not there yet, all or none; the number of new ones."""
        now, new = time.time(), 0
        with self._writing() as db:
            for e in events:
                row = (e.event_id, e.user_id, e.video_id, e.type, e.timestamp)
                new += db.execute(
                    "INSERT INTO events VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
                    (*row, e.portion, e.feed_id, now),
                ).rowcount
                self._touch(db, e.user_id, now)
        return new

    def events(self, user_id: str) -> list[StoredEvent]:
        """All events of one user, oldest first."""
        rows = self._all(
            "SELECT event_id, user_id, video_id, type, timestamp, portion, feed_id FROM events"
            " WHERE user_id = ? ORDER BY timestamp, received_at, event_id",
            user_id,
        )
        return [StoredEvent(*row) for row in rows]

    def add_feed(self, feed: Feed) -> None:
        """Remember a new feed."""
        now = time.time()
        with self._writing() as db:
            db.execute(
                "INSERT INTO feeds VALUES (?,?,?,?)", (feed.feed_id, feed.user_id, feed.again, now)
            )
            self._touch(db, feed.user_id, now)

    def feed(self, feed_id: str) -> Feed | None:
        """The feed of that id, if this store knows it."""
        rows = self._all("SELECT feed_id, user_id, again FROM feeds WHERE feed_id = ?", feed_id)
        return Feed(rows[0][0], rows[0][1], bool(rows[0][2])) if rows else None

    def add_impressions(self, feed: Feed, shown: Sequence[Impression]) -> None:
        """Remember what a page of a feed showed.

        Raises:
            sqlite3.IntegrityError: a video or a position would come twice in one feed.
        """
        now = time.time()
        rows = []
        for i in shown:
            grounds = json.dumps([dict(i.facts), i.because])
            place = (feed.feed_id, i.position, feed.user_id, i.video_id)
            rows.append((*place, i.source, i.score, i.reason, grounds, now))
        with self._writing() as db:
            db.executemany("INSERT INTO impressions VALUES (?,?,?,?,?,?,?,?,?)", rows)

    def impressions(self, feed_id: str) -> list[Impression]:
        """All that a feed has shown so far, in order of position."""
        rows = self._all(
            "SELECT position, video_id, source, score, reason, grounds FROM impressions"
            " WHERE feed_id = ? ORDER BY position",
            feed_id,
        )
        out = []
        for row in rows:
            facts, because = json.loads(row[5])
            out.append(Impression(*row[:5], facts=facts, because=tuple(because)))
        return out

    def seen(self, user_id: str) -> set[str]:
        """Videos that any feed showed to the user, or that any event of the user names."""
        rows = self._all(
            "SELECT video_id FROM impressions WHERE user_id = ?"
            " UNION SELECT video_id FROM events WHERE user_id = ?",
            user_id,
            user_id,
        )
        return {row[0] for row in rows}

    def counts(self) -> dict[str, int]:
        """Rows of each table, for the metrics page."""
        tables = ("users", "events", "feeds", "impressions")
        return {t: self._all(f"SELECT count(*) FROM {t}")[0][0] for t in tables}

    def _migrate(self) -> None:
        with self._writing() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS schema_version"
                " (version INTEGER PRIMARY KEY, applied_at REAL NOT NULL)"
            )
            at = self.version()
            if at > VERSION:
                raise BadData(
                    f"{self.path}: written by a newer reelm (schema {at}, this one knows "
                    f"{VERSION}). Upgrade reelm or name another store file."
                )
            for number in range(at, VERSION):
                for statement in MIGRATIONS[number]:
                    db.execute(statement)
                db.execute("INSERT INTO schema_version VALUES (?,?)", (number + 1, time.time()))

    @staticmethod
    def _touch(db: sqlite3.Connection, user_id: str, now: float) -> None:
        db.execute(
            "INSERT INTO users VALUES (?,?,?)"
            " ON CONFLICT (user_id) DO UPDATE SET last_seen = excluded.last_seen",
            (user_id, now, now),
        )

    def _all(self, query: str, *values: object) -> list[tuple]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
