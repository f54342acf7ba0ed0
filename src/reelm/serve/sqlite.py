"""A store in one SQLite file, or in memory."""

import sqlite3
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from reelm.errors import BadData, ReelmError
from reelm.serve.database import MEMORY, WAIT_S, Collision, Database, Session, Unavailable

PRAGMAS = (
    "journal_mode=WAL",
    "foreign_keys=ON",
    "secure_delete=ON",
)
PASSING = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
)  # fmt: skip
"""Errors of the file and not of a statement: the disk is full, another process holds it."""


class SQLite(Database):
    """The dialect in which the store's statements are written."""

    begin = (
        ("PRAGMA synchronous=NORMAL", "BEGIN IMMEDIATE"),  # in WAL, this does not sync a commit
        ("PRAGMA synchronous=FULL", "BEGIN IMMEDIATE"),
    )
    errors = (sqlite3.Error,)

    def __init__(self, path: Path | str) -> None:
        self._path, self.address = path, str(path)
        self.readers = 0 if path == MEMORY else 1  # a database in memory is its one connection's
        self.folder = None if path == MEMORY else Path(path).parent
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def _connect(self) -> Session:
        opened: list[sqlite3.Connection] = []
        try:
            opened.append(
                sqlite3.connect(
                    self._path, check_same_thread=False, isolation_level=None, timeout=WAIT_S
                )
            )
            for pragma in PRAGMAS:
                opened[0].execute(f"PRAGMA {pragma}")
        except sqlite3.DatabaseError as error:
            for connection in opened:
                connection.close()
            raise BadData(f"{self.address}: not a store of events and feeds: {error}") from error
        return Session(opened[0], self)

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
        code = getattr(error, "sqlite_errorcode", None)
        passing = code is not None and (code & 0xFF) in PASSING  # the low byte is the kind
        return Unavailable(self.address, error) if passing else None

    def alone(self, name: str) -> AbstractContextManager[None]:
        """Nothing to do: a file serves one process."""
        return nullcontext()

    def scrub(self, db: Session) -> None:
        """Rewrite the file, then empty the log beside it.

        Overwriting freed cells (secure_delete) is not enough, as pages that were split keep old
        copies.
        """
        db.run("VACUUM")
        if self._path != MEMORY and db.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:
            raise Unavailable(
                self.address,
                "rows are deleted, but another process holds the log in which they still stand; "
                "end it and delete the user again",
            )
