"""What the service must remember: events, feeds and what each feed showed.

In one SQLite file, or in PostgreSQL. The store keeps its schema version; an older one is brought up
to date when it is opened. What was acknowledged is on disk: commits are synced, and writers that
wait together share one. Feeds and what they showed are not acknowledged: a page does not wait for
the disk. They outlive the process like all else, and may be lost when the power goes.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from reelm.serve import queries, schema
from reelm.serve.commits import Commits
from reelm.serve.database import MEMORY, Collision, Session, database
from reelm.serve.outcomes import OUTCOMES, Outcome, Trial
from reelm.serve.readers import Readers
from reelm.serve.records import Feed, Impression, Known, StoredEvent, Upload
from reelm.serve.seen import LongPasts, Seen

LOCKS = 64
FEW = 20
"""Feeds that are removed at a time."""
T = TypeVar("T")


class Store:
    """Events, feeds, impressions and users; safe to use from several threads.

    Every method raises Unavailable where the database does not answer; then nothing was
    acknowledged, and asking again is safe.
    """

    def __init__(self, where: Path | str = MEMORY, beside: Path | None = None) -> None:
        """Open or create the store and bring it to this version.

        Args:
            where: an SQLite file, `postgresql://user@host/name`, or MEMORY.
            beside: the folder in which uploads lie, for a store that has none of its own.

        Raises:
            BadData: what is there is no store, or a newer version of this package wrote it.
            ConfigError: the address cannot be read.
            Unavailable: nobody answers there.
        """
        self._database = database(where)
        self.address, self.folder = self._database.address, self._database.folder
        self.forgets = where == MEMORY
        """Whether all is lost at the end of the process."""
        self.beside = None if self.forgets else self.folder or beside
        """Where uploads lie; None for a store that can have none."""
        self.long_pasts = LongPasts()
        self._counting, self._scrubbing = threading.Lock(), 0
        self._locks = [threading.Lock() for _ in range(LOCKS)]
        first = self._database.connect()
        try:
            schema.migrate(self._database, first)
            self._salt = first.rows("SELECT value FROM facts WHERE name = 'salt'")[0][0]
        except BaseException:
            first.close()
            self._database.close()
            raise
        self._commits = Commits(self._database, first)
        count = self._database.readers  # they need not wait for a writer's sync
        self._readers = Readers(self._database, count) if count else None
        self._aside = Readers(self._database, 1) if count else None
        """For what goes through whole tables: feeds do not wait for it."""

    def close(self) -> None:
        """Give the database back; nothing may be asked afterwards."""
        self._database.close()
        self._commits.close()
        with self._commits.waiting() as db:
            for pool in filter(None, (self._readers, self._aside)):
                pool.close()
            db.close()

    def version(self) -> int:
        """The schema version of the open store."""
        return self._all("SELECT max(version) FROM schema_version")[0][0] or 0

    @contextmanager
    def alone(self, feed_id: str) -> Iterator[None]:
        """Hold a feed, so that its next places are chosen by one request at a time, of all
        services that share the store."""
        with self._locks[hash(feed_id) % LOCKS], self._database.alone(feed_id):
            yield

    @property
    def quick(self) -> bool:
        """Whether it answers at once: no server to wait for, and nobody's traces being scrubbed."""
        return (self.forgets or self.folder is not None) and not self._scrubbing

    @contextmanager
    def _slow(self) -> Iterator[None]:
        with self._counting:
            self._scrubbing += 1
        try:
            yield
        finally:
            with self._counting:
                self._scrubbing -= 1

    def add_events(self, events: Iterable[StoredEvent], synced: bool = True) -> int:
        """Store each event whose id is not there yet, all or none; the number of new ones.

        Args:
            synced: wait for the disk; without it nothing is to be acknowledged before `sync`.
        """
        now, given = time.time(), list(events)
        rows = [
            (e.event_id, e.user_id, e.video_id, e.type, e.timestamp, e.portion, e.feed_id, now,
             e.creator, e.user_id)
            for e in given
        ]  # fmt: skip

        def write(db: Session) -> int:
            queries.touch(db, {e.user_id for e in given}, now)
            return db.run_many(queries.NEW_EVENT, rows)

        return self._commits.do(write, synced)

    def sync(self) -> Future[None]:
        """Done when all that was stored before is on the disk."""
        return self._commits.sync()

    def events(self, user_id: str) -> list[StoredEvent]:
        """All events of one user, oldest first."""
        return list(map(StoredEvent._make, self._all(queries.EVENTS, user_id)))

    def every_event(self) -> Iterator[list[tuple]]:
        """All events of all users as rows of `StoredEvent`, a piece at a time, in no order that
        means anything; feeds do not wait for it."""
        return self._pieces(queries.EVERY_EVENT, "")

    def every_impression(self) -> Iterator[list[tuple]]:
        """All that was ever shown, a piece at a time, as feed, position, user, video, source,
        score, time, run, propensity; feeds do not wait for it."""
        return self._pieces(queries.EVERY_IMPRESSION, "", -1)

    def deleted(self, users: Iterable[str]) -> dict[str, float]:
        """Those of these users who were deleted, and when for the last time (seconds UTC)."""
        ends = dict(self._slowly(lambda db: db.rows("SELECT digest, deleted_at FROM forgotten")))
        found = ((user, ends.get(self._digest(user))) for user in (users if ends else ()))
        return {user: end for user, end in found if end is not None}

    def known(self, user_id: str, newest: int = 300) -> Known:
        """What is known of one user.

        Args:
            newest: events that are read at most, besides those that last.
        """
        digest = self._digest(user_id)

        def read(db: Session) -> Known:
            deleted_at = queries.deleted_at(db, digest)  # first: who is deleted from here on
            events = queries.recent(db, user_id, newest)  # has another, and this is of no use
            return Known(events, self._seen(db, user_id, deleted_at), deleted_at)

        return self._read(read)

    def _seen(self, db: Session, user_id: str, deleted_at: float | None) -> Seen:
        def read(turn: int) -> list[tuple[str, int]]:
            return db.rows(queries.SEEN, user_id, turn, user_id, turn)

        return self.long_pasts.of(user_id, deleted_at, read)

    def feed(self, feed_id: str) -> Feed | None:
        """The feed of that id, if this store knows it."""
        rows = self._all("SELECT feed_id, user_id, again FROM feeds WHERE feed_id = ?", feed_id)
        return Feed(rows[0][0], rows[0][1], bool(rows[0][2])) if rows else None

    def add_impressions(
        self, feed: Feed, shown: Sequence[Impression], begins: Known | None = None
    ) -> bool:
        """Remember what a page of a feed showed; False if its user was deleted meanwhile.

        Args:
            begins: of the first page, with which the feed begins: what it was chosen from.

        Raises:
            Collision: a video or a position would come twice in one feed.
        """
        now, digest = time.time(), self._digest(feed.user_id)
        rows = []
        for i in shown:
            grounds = json.dumps([dict(i.facts), i.because])
            place = (feed.feed_id, i.position, feed.user_id, i.video_id)
            why = (i.source, i.score, i.reason, grounds)
            rows.append((*place, *why, now, i.run, i.propensity, feed.user_id))

        def write(db: Session) -> bool:
            if begins is None:
                if not db.rows("SELECT 1 FROM feeds WHERE feed_id = ?", feed.feed_id):
                    return False
            elif queries.deleted_at(db, digest) != begins.deleted_at:
                return False
            else:
                row = (feed.feed_id, feed.user_id, int(feed.again), now)
                db.run("INSERT INTO feeds VALUES (?,?,?,?)", *row)
            queries.touch(db, (feed.user_id,), now)
            db.run_many(queries.NEW_IMPRESSION, rows)
            return True

        return self._commits.do(write, synced=False)

    def shown(self, feed_id: str) -> list[str]:
        """The videos that a feed has shown so far, in order of position."""
        query = "SELECT video_id FROM impressions WHERE feed_id = ? ORDER BY position"
        return [row[0] for row in self._all(query, feed_id)]

    def impressions(self, feed_id: str, start: int = 0, count: int = 2**31) -> list[Impression]:
        """What a feed has shown so far, in order of position: at most `count` from `start` on."""
        rows = self._all(
            "SELECT position, video_id, source, score, reason, grounds, run, propensity"
            " FROM impressions WHERE feed_id = ? AND position >= ? ORDER BY position LIMIT ?",
            feed_id, start, count,
        )  # fmt: skip
        out = []
        for row in rows:
            facts, because = json.loads(row[5])
            grounds = {"facts": facts, "because": tuple(because)}
            out.append(Impression(*row[:5], **grounds, run=row[6], propensity=row[7]))
        return out

    def delete_user(self, user_id: str) -> dict[str, int]:
        """Remove all rows of a user and every trace of them in the tables; rows by table.

        What stays is a salted hash, by which `known` says that the run's history of this user
        must not be used either.

        Raises:
            Unavailable: the rows are deleted, but somebody keeps their bytes.
        """

        def write(db: Session) -> dict[str, int]:
            tables = ("impressions", "feeds", "events", "users")  # what refers to others first
            removed = {
                table: db.run(f"DELETE FROM {table} WHERE user_id = ?", user_id) for table in tables
            }
            db.run(
                "INSERT INTO forgotten VALUES (?,?)"
                " ON CONFLICT (digest) DO UPDATE SET deleted_at = excluded.deleted_at",
                self._digest(user_id), time.time(),
            )  # fmt: skip
            return removed

        removed = self._commits.do(write, synced=False)
        self.long_pasts.drop(user_id)
        self.sync().result()
        with self._slow(), self._commits.waiting() as db, ExitStack() as others:
            for pool in filter(None, (self._readers, self._aside)):
                others.enter_context(pool.waiting())
            self._database.scrub(db)
        return removed

    def forget_shown(self, before: float) -> int:
        """Remove feeds that began before a moment (seconds UTC), and what they showed; how many.

        Events stay. A few at a time, so that writers wait for milliseconds only.
        """
        old = self._slowly(lambda db: db.rows(queries.OLD_FEEDS, before))
        for at in range(0, len(old), FEW):
            some = old[at : at + FEW]

            def write(db: Session, some: list[tuple] = some) -> None:
                for table in ("impressions", "feeds"):  # what refers to others first
                    db.run_many(f"DELETE FROM {table} WHERE feed_id = ?", some)

            self._commits.do(write, synced=False)
        self.long_pasts.clear()  # else what was forgotten would stay seen
        return len(old)

    def put_upload(self, upload: Upload) -> None:
        """Remember an upload, in place of what was known of it.

        Raises:
            Collision: its id is that of another file, or its file has another id.
        """
        texts = (upload.row, upload.answer, upload.provenance, upload.vectors)
        told = [json.dumps(dict(value)) for value in texts]
        row = (upload.video_id, upload.sha256, upload.status, upload.reason, *told, time.time())
        statement = (
            "INSERT INTO uploads VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (video_id) DO UPDATE SET"
            " status = excluded.status, reason = excluded.reason, row = excluded.row,"
            " answer = excluded.answer, provenance = excluded.provenance,"
            " vectors = excluded.vectors WHERE uploads.sha256 = excluded.sha256"
        )

        def write(db: Session) -> None:
            if not db.run(statement, *row):
                raise Collision(self.address, "the video_id belongs to another file")

        self._commits.do(write)

    def uploads(self) -> list[Upload]:
        """All uploads, oldest first."""
        rows = self._all(f"{queries.UPLOADS} ORDER BY created_at, video_id")
        return [self._upload(row) for row in rows]

    def upload(self, video_id: str) -> Upload | None:
        """The upload with this id."""
        rows = self._all(f"{queries.UPLOADS} WHERE video_id = ?", video_id)
        return self._upload(rows[0]) if rows else None

    def upload_of(self, sha256: str) -> Upload | None:
        """The upload of the file with this hash; an id that is written like one is only a name."""
        rows = self._all(f"{queries.UPLOADS} WHERE sha256 = ?", sha256)
        return self._upload(rows[0]) if rows else None

    def uploaded(self, videos: Collection[str]) -> set[str]:
        """Those of these that came by the service, whatever has become of them."""
        query = f"SELECT video_id FROM uploads WHERE video_id IN ({', '.join('?' * len(videos))})"
        return {row[0] for row in self._all(query, *videos)}

    def _upload(self, row: Sequence[Any]) -> Upload:
        """A row of the table; its file is the one beside the store, should both have been moved."""
        found = Upload(*row[:4], *map(json.loads, row[4:]))
        if self.beside is None or "path" not in found.row:
            return found
        beside = self.beside / Path(*Path(found.row["path"]).parts[-3:])  # uploads/files/name
        if not beside.is_file():
            return found
        return replace(found, row={**found.row, "path": str(beside)})

    def draw(self, what: str, user_id: str) -> float:
        """A number in 0..1, always the same for this store, this purpose and this user."""
        digest = hashlib.sha256(f"{self._salt}\x00{what}\x00{user_id}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def begin_trial(self, trial: Trial) -> Trial:
        """Remember a trial; where one of that name and share is known, that one."""
        key = f"trial {trial.share!r} {trial.name}"
        row = (key, json.dumps([trial.name, trial.share, trial.began_at]))
        self._commits.do(
            lambda db: db.run("INSERT INTO facts VALUES (?,?) ON CONFLICT DO NOTHING", *row)
        )
        mine = (trial.name, trial.share)
        return next(one for one in self.trials() if (one.name, one.share) == mine)

    def trials(self) -> list[Trial]:
        """All trials, in the order in which they began."""
        rows = self._all("SELECT value FROM facts WHERE name LIKE ?", "trial %")
        return sorted((Trial(*json.loads(row[0])) for row in rows), key=lambda t: t.began_at)

    def outcomes(self, since: float) -> list[Outcome]:
        """What users were shown since then (seconds UTC) and did with it, by run.

        It goes through all of that; feeds do not wait for it.
        """
        rows = self._slowly(lambda db: db.rows(OUTCOMES, since, since))
        return [Outcome(*row) for row in rows]

    def counts(self) -> dict[str, int]:
        """Rows of each table, for the metrics page; feeds do not wait for it."""
        ask = "SELECT count(*) FROM "
        return self._slowly(lambda db: {t: db.rows(ask + t)[0][0] for t in schema.TABLES})

    def _digest(self, user_id: str) -> str:
        return hashlib.sha256(f"{self._salt}{user_id}".encode()).hexdigest()

    def _all(self, query: str, *values: object) -> list[tuple]:
        return self._read(lambda db: db.rows(query, *values))

    def _read(self, work: Callable[[Session], T]) -> T:
        return self._readers.do(work) if self._readers else self._commits.do(work, synced=False)

    def _pieces(self, query: str, *after: object) -> Iterator[list[tuple]]:
        """Rows of a query from one key on to the next; its first columns are the key."""
        while rows := self._slowly(lambda db, after=after: db.rows(query, *after)):
            yield rows
            after = rows[-1][: len(after)]

    def _slowly(self, work: Callable[[Session], T]) -> T:
        return self._aside.do(work) if self._aside else self._read(work)
