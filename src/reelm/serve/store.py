"""What the service must remember: events, feeds and what each feed showed. One SQLite file.

The file keeps its schema version; an older file is brought up to date when it is opened. What was
acknowledged is on disk: each commit is synced, and writers that wait together share one.
"""

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelm.errors import BadData
from reelm.serve import schema
from reelm.serve.commits import Commits
from reelm.serve.schema import MEMORY

LOCKS = 64


@dataclass(frozen=True)
class StoredEvent:
    """One line of the log as a client sent it."""

    event_id: str
    """Chosen by the client; sending it twice stores it once."""
    user_id: str
    video_id: str
    """Empty where the event names a creator only."""
    type: str
    """watch, like, unlike, share, skip, follow, unfollow, block, unblock or less_like_this."""
    timestamp: float
    """Seconds UTC."""
    portion: float | None = None
    """Share of the video that was watched; only for watch. Replays may exceed 1."""
    feed_id: str | None = None
    creator: str | None = None
    """Whom a follow or a block is about, where it is not one video."""


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
    run: str = ""
    """Name of the run that chose it."""
    propensity: float | None = None
    """Chance with which this video was drawn for this place; None where nothing was drawn."""


@dataclass(frozen=True)
class Upload:
    """A video that came by the service, and what has become of it."""

    video_id: str
    sha256: str
    status: str
    """queued, ready or failed."""
    reason: str = ""
    """Why it failed, or what could not be done."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """The catalogue's columns."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    """What the model said of it."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the answer comes from."""
    vectors: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Vectors by what made them."""


class Store:
    """Events, feeds, impressions and users in one SQLite file; safe to use from several threads."""

    def __init__(self, path: Path | str = MEMORY) -> None:
        """Open or create the file and bring it to this version.

        Raises:
            BadData: the file is no store, or a newer version of this package wrote it.
        """
        self.path = path
        self._locks = [threading.Lock() for _ in range(LOCKS)]
        if path != MEMORY:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        opened: list[sqlite3.Connection] = []
        try:
            opened.append(schema.connect(path))
            schema.migrate(opened[0], path)
            if path != MEMORY:  # readers need not wait for a writer's sync
                opened.append(schema.connect(path))
        except sqlite3.DatabaseError as error:
            _close(opened)
            raise BadData(f"{path}: not a store of events and feeds: {error}") from error
        except BadData:
            _close(opened)
            raise
        self._writer, self._reader = opened[0], opened[-1]
        self._write_lock = threading.RLock()
        self._read_lock = self._write_lock if path == MEMORY else threading.RLock()
        self._commits = Commits(self._writer, self._write_lock)

    def close(self) -> None:
        """Give the file back; nothing may be asked afterwards."""
        with self._write_lock, self._read_lock:
            _close([self._reader, self._writer])

    def version(self) -> int:
        """The schema version of the open file."""
        return self._all("SELECT max(version) FROM schema_version")[0][0] or 0

    @contextmanager
    def alone(self, feed_id: str) -> Iterator[None]:
        """Hold a feed, so that its next places are chosen by one request at a time."""
        with self._locks[hash(feed_id) % LOCKS]:
            yield

    def add_events(self, events: Iterable[StoredEvent]) -> int:
        """Store each event whose id is not there yet, all or none; the number of new ones."""
        now, given = time.time(), list(events)

        def write(db: sqlite3.Connection) -> int:
            new = 0
            for e in given:
                row = (e.event_id, e.user_id, e.video_id, e.type, e.timestamp)
                new += db.execute(
                    "INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
                    (*row, e.portion, e.feed_id, now, e.creator),
                ).rowcount
            for user in {e.user_id for e in given}:
                _touch(db, user, now)
            return new

        return self._commits.do(write)

    def events(self, user_id: str) -> list[StoredEvent]:
        """All events of one user, oldest first."""
        rows = self._all(
            "SELECT event_id, user_id, video_id, type, timestamp, portion, feed_id, creator"
            " FROM events WHERE user_id = ? ORDER BY timestamp, received_at, event_id",
            user_id,
        )
        return [StoredEvent(*row) for row in rows]

    def add_feed(self, feed: Feed) -> None:
        """Remember a new feed."""
        now = time.time()

        def write(db: sqlite3.Connection) -> None:
            row = (feed.feed_id, feed.user_id, feed.again, now)
            db.execute("INSERT INTO feeds VALUES (?,?,?,?)", row)
            _touch(db, feed.user_id, now)

        self._commits.do(write)

    def feed(self, feed_id: str) -> Feed | None:
        """The feed of that id, if this store knows it."""
        rows = self._all("SELECT feed_id, user_id, again FROM feeds WHERE feed_id = ?", feed_id)
        return Feed(rows[0][0], rows[0][1], bool(rows[0][2])) if rows else None

    def add_impressions(self, feed: Feed, shown: Sequence[Impression]) -> bool:
        """Remember what a page of a feed showed; False if the feed was deleted meanwhile.

        Raises:
            sqlite3.IntegrityError: a video or a position would come twice in one feed.
        """
        now = time.time()
        rows = []
        for i in shown:
            grounds = json.dumps([dict(i.facts), i.because])
            place = (feed.feed_id, i.position, feed.user_id, i.video_id)
            why = (i.source, i.score, i.reason, grounds)
            rows.append((*place, *why, now, i.run, i.propensity))

        def write(db: sqlite3.Connection) -> bool:
            known = "SELECT 1 FROM feeds WHERE feed_id = ?"
            if db.execute(known, (feed.feed_id,)).fetchone() is None:
                return False
            db.executemany("INSERT INTO impressions VALUES (?,?,?,?,?,?,?,?,?,?,?)", rows)
            return True

        return self._commits.do(write)

    def impressions(self, feed_id: str) -> list[Impression]:
        """All that a feed has shown so far, in order of position."""
        rows = self._all(
            "SELECT position, video_id, source, score, reason, grounds, run, propensity"
            " FROM impressions WHERE feed_id = ? ORDER BY position",
            feed_id,
        )
        out = []
        for row in rows:
            facts, because = json.loads(row[5])
            out.append(Impression(*row[:5], facts, tuple(because), *row[6:]))
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

    def delete_user(self, user_id: str) -> dict[str, int]:
        """Remove all rows of a user and every trace of them in the file; rows by table.

        What stays is a salted hash, by which `forgotten` knows that the run's history of this
        user must not be used either.

        Raises:
            BadData: another process keeps the log; the rows are deleted, their bytes are not.
        """

        def write(db: sqlite3.Connection) -> dict[str, int]:
            tables = ("impressions", "feeds", "events", "users")  # what refers to others first
            removed = {
                table: db.execute(f"DELETE FROM {table} WHERE user_id = ?", (user_id,)).rowcount
                for table in tables
            }
            row = (self._digest(db, user_id), time.time())
            db.execute("INSERT OR REPLACE INTO forgotten VALUES (?,?)", row)
            return removed

        removed = self._commits.do(write)
        with self._write_lock, self._read_lock:
            schema.scrub(self._writer, self.path)
        return removed

    def forgotten(self, user_id: str) -> bool:
        """Whether this user was deleted at some time."""
        with self._read_lock:
            digest = self._digest(self._reader, user_id)
        return bool(self._all("SELECT 1 FROM forgotten WHERE digest = ?", digest))

    def put_upload(self, upload: Upload) -> None:
        """Remember an upload, in place of what was known of it."""
        texts = (upload.row, upload.answer, upload.provenance, upload.vectors)
        told = [json.dumps(dict(value)) for value in texts]
        row = (upload.video_id, upload.sha256, upload.status, upload.reason, *told, time.time())
        statement = (
            "INSERT INTO uploads VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (video_id) DO UPDATE SET"
            " status = excluded.status, reason = excluded.reason, row = excluded.row,"
            " answer = excluded.answer, provenance = excluded.provenance,"
            " vectors = excluded.vectors"
        )
        self._commits.do(lambda db: db.execute(statement, row))

    def uploads(self) -> list[Upload]:
        """All uploads, oldest first."""
        rows = self._all(
            "SELECT video_id, sha256, status, reason, row, answer, provenance, vectors"
            " FROM uploads ORDER BY created_at, video_id"
        )
        return [Upload(*row[:4], *map(json.loads, row[4:])) for row in rows]

    def upload(self, key: str) -> Upload | None:
        """The upload with this id or this SHA-256."""
        rows = self._all(
            "SELECT video_id, sha256, status, reason, row, answer, provenance, vectors"
            " FROM uploads WHERE video_id = ? OR sha256 = ?",
            key,
            key,
        )
        return Upload(*rows[0][:4], *map(json.loads, rows[0][4:])) if rows else None

    def counts(self) -> dict[str, int]:
        """Rows of each table, for the metrics page."""
        return {t: self._all(f"SELECT count(*) FROM {t}")[0][0] for t in schema.TABLES}

    @staticmethod
    def _digest(db: sqlite3.Connection, user_id: str) -> str:
        salt = db.execute("SELECT value FROM facts WHERE name = 'salt'").fetchone()[0]
        return hashlib.sha256(f"{salt}{user_id}".encode()).hexdigest()

    def _all(self, query: str, *values: object) -> list[tuple]:
        with self._read_lock:
            return self._reader.execute(query, values).fetchall()


def _touch(db: sqlite3.Connection, user_id: str, now: float) -> None:
    db.execute(
        "INSERT INTO users VALUES (?,?,?)"
        " ON CONFLICT (user_id) DO UPDATE SET last_seen = excluded.last_seen",
        (user_id, now, now),
    )


def _close(connections: Iterable[sqlite3.Connection]) -> None:
    for connection in connections:
        connection.close()
