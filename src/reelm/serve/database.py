"""What the store asks of a database, whichever it is: sessions, transactions, errors of ours."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from reelm.errors import BadData, ReelmError

MEMORY = ":memory:"
WAIT_S = 10
"""How long another process may hold what a statement needs before the statement fails."""
POSTGRES = ("postgresql://", "postgres://")


class Unavailable(ReelmError):
    """The store's database does not answer, or is held by somebody else; nothing was said to be
    stored. Sending the same again is safe."""

    def __init__(self, address: str, why: object) -> None:
        reason = (str(why).strip().splitlines() or ["no reason given"])[0]
        super().__init__(
            f"store {address}: {reason}. What was sent may not be stored: send it again; "
            "an event id that is there already changes nothing."
        )
        self.address = address


class Collision(ReelmError):
    """A row that would stand beside one with which it may not stand, as two videos at one place."""

    def __init__(self, address: str, rule: str) -> None:
        super().__init__(f"store {address}: another request was there first ({rule}). Ask again.")
        self.rule = rule


class Session:
    """One connection. Statements write their values as `?`; errors that we know are ours."""

    def __init__(self, raw: Any, of: "Database") -> None:
        self.raw, self._of = raw, of

    @property
    def lost(self) -> bool:
        """Whether nothing can be asked here any more."""
        return self._of.lost(self.raw)

    def rows(self, statement: str, *values: object) -> list[tuple]:
        """All rows of a query."""
        return self._done(lambda db, said: _execute(db, said, values).fetchall(), statement)

    def run(self, statement: str, *values: object) -> int:
        """Rows that a statement changed."""
        return self._done(lambda db, said: _execute(db, said, values).rowcount, statement)

    def run_many(self, statement: str, rows: Sequence[Sequence[object]]) -> int:
        """Rows that a statement changed, which is run once for each of `rows`."""
        if not rows:
            return 0
        return self._done(lambda db, said: _many(db, said, rows), statement)

    def begin(self) -> None:
        """Begin a transaction that is the only writing one; see Database.begin."""
        self.run(self._of.begin)

    def close(self) -> None:
        """Give the connection back; a second time changes nothing."""
        self.raw.close()

    def _done(self, work: Any, statement: str) -> Any:
        try:
            return work(self.raw, self._of.spelled(statement))
        except self._of.errors as error:
            problem = self._of.problem(error, self.raw)
            if problem is None:
                raise
            raise problem from error


def _execute(db: Any, statement: str, values: Sequence[object]) -> Any:
    """Without values a driver may take several statements at once."""
    return db.execute(statement, values) if values else db.execute(statement)


def _many(db: Any, statement: str, rows: Sequence[Sequence[object]]) -> int:
    cursor = db.cursor()
    cursor.executemany(statement, rows)
    return cursor.rowcount


class Database(ABC):
    """One kind of database at one address; all that is peculiar to it."""

    address: str
    """For people: never with a password."""
    folder: Path | None = None
    """Where its files lie, if it is files."""
    readers: int
    """Sessions that may read beside the one that writes; 0 where that one must do both."""
    begin: str
    """Begins a transaction that is the only writing one. What it commits outlives the process, and
    after `sync` the machine."""
    errors: tuple[type[Exception], ...]
    """Of the driver; those that `problem` has no words for are bugs."""
    shut = False
    """Nothing is opened any more."""

    def connect(self) -> Session:
        """A session that begins transactions only when told to.

        Raises:
            Unavailable: nobody answers there.
            BadData: what answers cannot hold a store.
        """
        if self.shut:
            raise BadData(f"store {self.address}: closed; open it again to ask anything.")
        return self._connect()

    @abstractmethod
    def _connect(self) -> Session: ...

    @abstractmethod
    def spelled(self, statement: str) -> str:
        """A statement with its `?` as the driver wants them."""

    @abstractmethod
    def defined(self, statement: str) -> str:
        """A statement of `schema.MIGRATIONS`, which are written for SQLite, with types of here."""

    @abstractmethod
    def lost(self, raw: Any) -> bool:
        """Whether a connection of the driver is of no use any more."""

    @abstractmethod
    def problem(self, error: Exception, raw: Any) -> ReelmError | None:
        """An error of the driver in our words; None for a bug."""

    @abstractmethod
    def sync(self) -> None:
        """Wait until all that was committed is on the disk; others may write meanwhile.

        Raises:
            Unavailable: the disk does not take it.
        """

    @abstractmethod
    def alone(self, name: str) -> AbstractContextManager[None]:
        """Hold a name against other processes."""

    @abstractmethod
    def scrub(self, db: Session) -> None:
        """Leave nothing of deleted rows in the files.

        Raises:
            Unavailable: somebody keeps them; the rows are deleted, their bytes are not.
        """

    def close(self) -> None:
        """Give back what the database itself holds."""
        self.shut = True


def database(where: Path | str) -> Database:
    """The database of an address: a file, MEMORY, or `postgresql://user@host/name`.

    Raises:
        ConfigError: the address cannot be read.
        MissingPackage: PostgreSQL is asked for and its driver is not installed.
    """
    if isinstance(where, str) and where.startswith(POSTGRES):
        from reelm.serve.postgres import Postgres

        return Postgres(where)
    from reelm.serve.sqlite import SQLite

    return SQLite(where)
