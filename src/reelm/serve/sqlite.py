"""A store in one SQLite file, or in memory."""

import logging
import os
import sqlite3
import threading
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

from reelm.errors import BadData, ReelmError
from reelm.serve.database import MEMORY, WAIT_S, Collision, Database, Session, Unavailable

log = logging.getLogger(__name__)

PRAGMAS = (
    "foreign_keys=ON",
    "secure_delete=ON",
)
WAL = ("synchronous=NORMAL", "wal_autocheckpoint=0")
"""A commit does not wait for the disk, as `sync` does that; nor for the log to be put into the
file, as a thread does that."""
EACH_S = 2.0
"""How often the log is put into the file."""
LONG = 10_000
"""Pages of the log from which on writers are held for a moment, so that it can begin anew."""
HOLD_S = 0.005
"""For how long at most; if somebody reads for longer, it is tried again the next time."""
PASSING = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
)  # fmt: skip
"""Errors of the file and not of a statement: the disk is full, another process holds it."""

FOREIGN = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
"""Errors of a file that holds something else."""


class SQLite(Database):
    """The dialect in which the store's statements are written."""

    begin = "BEGIN IMMEDIATE"
    errors = (sqlite3.Error,)

    def __init__(self, path: Path | str) -> None:
        self._path, self.address = path, str(path)
        self.readers = 0 if path == MEMORY else 1  # a database in memory is its one connection's
        self.folder = None if path == MEMORY else Path(path).parent
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        self._log = Path(f"{path}-wal")
        self._logged = False  # until a connection says so: some file systems cannot
        self._clearing, self._ended = threading.Lock(), threading.Event()

    def _connect(self) -> Session:
        try:
            raw = sqlite3.connect(
                self._path, check_same_thread=False, isolation_level=None, timeout=WAIT_S
            )
            with ExitStack() as undone:
                undone.callback(raw.close)
                self._set(raw)
                undone.pop_all()
        except sqlite3.DatabaseError as error:
            if _kind(error) in FOREIGN:
                told = f"not a store of events and feeds: {error}"
            else:
                told = f"cannot be opened: {error}. It and its folder must be there and writable."
            raise BadData(f"{self.address}: {told}") from error
        return Session(raw, self)

    def _set(self, raw: sqlite3.Connection) -> None:
        logged = raw.execute("PRAGMA journal_mode=WAL").fetchone()[0] == "wal"
        for pragma in (*PRAGMAS, *(WAL if logged else ())):
            raw.execute(f"PRAGMA {pragma}")
        if logged and not self._logged:
            threading.Thread(target=self._clear, name="store log", daemon=True).start()
            self._logged = True

    def spelled(self, statement: str) -> str:
        """As it is."""
        return statement

    def defined(self, statement: str) -> str:
        """As it is."""
        return statement

    def lost(self, raw: Any) -> bool:
        """Never: there is nobody at the other end."""
        return False

    def problem(self, error: Exception, raw: Any) -> ReelmError | None:
        """Broken rules, and what befalls a file."""
        if isinstance(error, sqlite3.IntegrityError):
            return Collision(self.address, str(error))
        return Unavailable(self.address, error) if _kind(error) in PASSING else None

    def sync(self) -> None:
        """Sync the log, in which all is that was committed and is not in the file yet.

        SQLite could do it within the commit; then all writers would wait for the disk.
        """
        if not self._logged:
            return
        try:
            with self._log.open("r+b") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise Unavailable(self.address, error) from error

    def close(self) -> None:
        """Let the thread go that looks after the log."""
        super().close()
        self._ended.set()
        with self._clearing:
            pass  # it is not at it any more

    def _clear(self) -> None:
        """Put the log into the file now and then, beside those who write."""
        while not self._ended.wait(EACH_S):
            with self._clearing:
                if self._ended.is_set():
                    return
                try:
                    self._checkpoint()
                except sqlite3.Error as error:  # nothing is lost: the log keeps it until next time
                    log.warning("store %s: its log was not put into it: %s", self.address, error)

    def _checkpoint(self) -> None:
        with closing(sqlite3.connect(self._path, timeout=HOLD_S)) as db:
            pages = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
            if pages >= LONG:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")  # what came meanwhile: little is left
                db.execute("PRAGMA wal_checkpoint(RESTART)")

    def alone(self, name: str) -> AbstractContextManager[None]:
        """Nothing to do: a file serves one process."""
        return nullcontext()

    def scrub(self, db: Session) -> None:
        """Rewrite the file, then empty the log beside it.

        Overwriting freed cells (secure_delete) is not enough, as pages that were split keep old
        copies.
        """
        with self._clearing:
            db.run("VACUUM")
            if self._path != MEMORY and db.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:
                raise Unavailable(
                    self.address,
                    "rows are deleted, but another process holds the log in which they still "
                    "stand; end it and delete the user again",
                )


def _kind(error: Exception) -> int | None:
    """The kind of an SQLite error, which is the low byte of its code."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
