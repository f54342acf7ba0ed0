"""Group commit: writers that wait at the same time share one transaction, and one sync to disk.

Nobody writes while a transaction goes on; while the disk syncs, others may.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from reelm.errors import ReelmError
from reelm.serve.database import Database, Session, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")
MOST = 256
"""Jobs in one transaction, so that the first of them does not wait for ever."""


class _Job(Generic[T]):
    def __init__(self, work: Callable[[Session], T]) -> None:
        self.work, self.done = work, False
        self.value: T
        self.error: BaseException | None = None

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self.value


class Syncs:
    """Waits for the disk: one thread syncs, each time for all who asked before it began.

    A thread of our own: an executor takes nothing any more once the main thread has ended, and
    others may still write then.
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync, self._door, self._ended = sync, threading.Condition(), False
        self._next: Future[None] | None = None  # has not begun
        self._thread = threading.Thread(target=self._work, name="store sync", daemon=True)

    def ask(self) -> Future[None]:
        """Done, or failed with what was raised, when a sync that begins from now on has ended."""
        with self._door:
            if self._ended:
                raise RuntimeError("closed: nobody syncs any more")
            if self._next is None:
                self._next = Future()
                self._next.set_running_or_notify_cancel()  # others wait for it: nobody cancels it
                self._door.notify()
            if self._thread.ident is None:
                self._thread.start()
            return self._next

    def close(self) -> None:
        """Let the thread go, once all who asked have their answer; none can ask afterwards."""
        with self._door:
            self._ended = True
            self._door.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._door:
                while self._next is None and not self._ended:
                    self._door.wait()
                now, self._next = self._next, None
            if now is None:
                return
            try:
                self._sync()
            except Exception as error:  # noqa: BLE001 - told to all who asked
                now.set_exception(error)
            else:
                now.set_result(None)


class Commits:
    """Runs writing jobs on one session; each is kept whole or not at all.

    Whoever finds nobody at it does all jobs that wait, and wakes the others. A session that is lost
    takes the jobs of its transaction with it; the next jobs get a new one.
    """

    def __init__(self, database: Database, db: Session) -> None:
        self._database, self._db = database, db
        self._lock = threading.RLock()
        self._waiting: list[_Job[Any]] = []
        self._door, self._led = threading.Condition(), False
        self._syncs = Syncs(database.sync)

    def do(self, work: Callable[[Session], T], synced: bool = True) -> T:
        """What `work` gives, after it was committed.

        Args:
            synced: wait until it is on the disk. Without it the work outlives the end of this
                process, and may be lost with the machine's power.

        Raises:
            Unavailable: the database does not answer; whether the work is kept is not known if it
                was lost at the very end, so work that may be done twice is asked for again.
            whatever `work` raises; then nothing of it is kept.
        """
        job = _Job(work)
        with self._door:
            self._waiting.append(job)
            while self._led and not job.done:
                self._door.wait()
            leads = not job.done
            self._led |= leads
        if leads:
            self._lead(job)
        value = job.result()
        if synced:
            self.sync().result()
        return value

    def sync(self) -> Future[None]:
        """Done when all that was committed before is on the disk; see Database.sync."""
        return self._syncs.ask()

    def close(self) -> None:
        """Answer all who wait for the disk; nothing may be asked afterwards."""
        self._syncs.close()

    def _lead(self, job: _Job[Any]) -> None:
        try:
            with self._lock:
                while not job.done:
                    self._together()
        finally:
            with self._door:
                self._led = False
                self._door.notify_all()

    @contextmanager
    def waiting(self) -> Iterator[Session]:
        """The session, outside of any transaction; while the block runs nothing is written."""
        with self._lock:
            yield self._db

    def _together(self) -> None:
        with self._door:
            jobs, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        try:
            self._begin()
            for job in jobs:
                self._one(job, len(jobs) > 1)
            self._db.run("COMMIT")
        except BaseException as error:
            for job in jobs:
                job.error = job.error or error
            with suppress(ReelmError, *self._database.errors):  # there may be none
                self._db.run("ROLLBACK")
            if not isinstance(error, Exception):
                raise
        finally:
            for job in jobs:
                job.done = True

    def _begin(self) -> None:
        """Begin a transaction, on a new session if this one is lost: nothing was said on it yet."""
        if not self._db.lost:
            try:
                self._db.begin()
                return
            except Unavailable:
                if not self._db.lost:
                    raise
        self._db.close()
        self._db = self._database.connect()
        log.warning("store %s: the connection was lost, another is open", self._database.address)
        self._db.begin()

    def _one(self, job: _Job[Any], among_others: bool) -> None:
        if not among_others:  # what it raises ends the transaction, which is its own
            job.value = job.work(self._db)
            return
        self._db.run("SAVEPOINT job")
        try:
            job.value = job.work(self._db)
        except Exception as error:  # it belongs to the one who asked
            job.error = error
            if self._db.lost:
                raise
            self._db.run("ROLLBACK TO job")
        self._db.run("RELEASE job")
