"""Group commit: writers that wait at the same time share one transaction and one sync to disk."""

import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
MOST = 256
"""Jobs in one transaction, so that the first of them does not wait for ever."""


class _Job(Generic[T]):
    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.work, self.done = work, False
        self.value: T
        self.error: BaseException | None = None

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self.value


class Commits:
    """Runs writing jobs on one connection; each is kept whole or not at all.

    Whoever finds the connection free does all jobs that wait; the others find theirs done.
    """

    def __init__(self, db: sqlite3.Connection, lock: threading.RLock) -> None:
        """`lock` guards `db`, also for others who use it."""
        self._db, self._lock = db, lock
        self._waiting: list[_Job[Any]] = []
        self._door = threading.Lock()

    def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` gives, after it was committed and synced.

        Raises:
            whatever `work` raises; then nothing of it is kept.
        """
        job = _Job(work)
        with self._door:
            self._waiting.append(job)
        while not job.done:
            with self._lock:
                if not job.done:
                    self._together()
        return job.result()

    def _together(self) -> None:
        with self._door:
            jobs, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._one(job)
            self._db.execute("COMMIT")
        except BaseException as error:
            for job in jobs:
                job.error = job.error or error
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if not isinstance(error, sqlite3.Error):
                raise
        finally:
            for job in jobs:
                job.done = True

    def _one(self, job: _Job[Any]) -> None:
        self._db.execute("SAVEPOINT job")
        try:
            job.value = job.work(self._db)
        except Exception as error:  # noqa: BLE001 - it belongs to the one who asked
            job.error = error
            self._db.execute("ROLLBACK TO job")
        self._db.execute("RELEASE job")
