"""A store in a PostgreSQL database, which several services may share."""

import hashlib
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from reelm.errors import BadData, ConfigError, MissingPackage, ReelmError
from reelm.serve.database import WAIT_S, Collision, Database, Session, Unavailable
from reelm.serve.readers import Readers

log = logging.getLogger(__name__)

OLDEST = 130000
"""The first version with gen_random_uuid, as libpq numbers it."""
POLL_S = 0.005
DEFAULTS = {
    "application_name": "reelm",
    "connect_timeout": str(WAIT_S),
    "tcp_user_timeout": str(1000 * WAIT_S),  # a host that is gone says nothing
}
"""Of each connection, where the address does not say otherwise."""
SETTINGS = (
    f"SET lock_timeout = '{WAIT_S}s'; SET idle_in_transaction_session_timeout = '{3 * WAIT_S}s'; "
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'"
)
WRITER = "7267694, 1"
"""Key of the lock that a writing transaction holds; feeds have keys of one number."""
TYPES = (
    (r" WITHOUT ROWID\b", ""),
    (r"\bREAL\b", "DOUBLE PRECISION"),
    (r"\bTEXT\b", 'TEXT COLLATE "C"'),  # in the order of SQLite, whatever the server's language
    (r"lower\(hex\(randomblob\(16\)\)\)", "replace(gen_random_uuid()::text, '-', '')"),
)
CLEARED = ("impressions", "feeds", "events", "users", "pg_statistic")
"""What is rewritten when a user is deleted; the last holds frequent values of the others."""
OLDER = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() AND age(backend_xmin) > age(?::text::xid)"
)


class Postgres(Database):
    """One database of a server. Writing transactions of all services take turns, as in SQLite."""

    readers = 4
    begin = f"BEGIN; SELECT pg_advisory_xact_lock({WRITER})"

    def __init__(self, url: str) -> None:
        """
        Raises:
            ConfigError: libpq cannot read the address.
            MissingPackage: psycopg is not installed.
        """
        self._driver = _driver()
        self._told = DEFAULTS | _parsed(self._driver, url)
        self.address = _public(self._told)
        self.errors = (self._driver.Error,)
        self._held, self._warned = Readers(self, 1), False

    def _connect(self) -> Session:
        try:
            raw = self._driver.connect(**self._told, autocommit=True)
        except self._driver.Error as error:
            raise Unavailable(self.address, error) from error
        session = Session(raw, self)
        try:
            self._check(raw)
            session.run(SETTINGS)
            self._warn(session)
        except BaseException:
            session.close()
            raise
        return session

    def _check(self, raw: Any) -> None:
        encoding = raw.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise BadData(
                f"{self.address}: holds text as {encoding}, which cannot hold every id. Make the "
                "database anew: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
            )
        if raw.info.server_version < OLDEST:
            raise BadData(
                f"{self.address}: PostgreSQL {raw.info.server_version // 10000}; the store needs "
                f"{OLDEST // 10000} or newer."
            )

    def _warn(self, session: Session) -> None:
        if not self._warned and session.rows("SELECT current_setting('fsync')") == [("off",)]:
            log.warning(
                "store %s: fsync is off; a crash may take acknowledged events", self.address
            )
        self._warned = True

    def spelled(self, statement: str) -> str:
        """With `%s` for `?`; no statement of the store has either in it for another reason."""
        return statement.replace("?", "%s")

    def defined(self, statement: str) -> str:
        """With the types of PostgreSQL."""
        for pattern, instead in TYPES:
            statement = re.sub(pattern, instead, statement)
        return statement

    def lost(self, raw: Any) -> bool:
        """Whether the server, or the way to it, has gone."""
        return raw.closed

    def problem(self, error: Exception, raw: Any) -> ReelmError | None:
        """Broken rules, and a server that is gone, stopping, held or not the one that writes."""
        state = getattr(error, "sqlstate", None)
        if isinstance(error, self._driver.IntegrityError):
            rule = getattr(error, "diag", None)  # its words would tell the values
            return Collision(self.address, getattr(rule, "constraint_name", None) or "a rule")
        standby = state == "25006"
        if not standby and not isinstance(
            error, self._driver.OperationalError | self._driver.InterfaceError
        ):
            return None
        if standby or state is None or state.startswith(("08", "57P", "25P03")):
            raw.close()  # the server is going, though the driver may not have seen it yet
        return Unavailable(self.address, error)

    def sync(self) -> None:
        """Nothing to do: a commit waits for it, as the server may end before this process."""

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """By an advisory lock; if the server is restarted meanwhile it is lost, and the table's
        own rule is what is left."""
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        self._take(key)
        try:
            yield
        finally:
            with suppress(ReelmError):
                self._held.do(lambda db: db.rows("SELECT pg_advisory_unlock(?)", key))

    def _take(self, key: int) -> None:
        end = time.monotonic() + WAIT_S
        while not self._held.do(lambda db: db.rows("SELECT pg_try_advisory_lock(?)", key))[0][0]:
            if time.monotonic() > end:
                raise Unavailable(self.address, f"another service held the feed for {WAIT_S} s")
            time.sleep(POLL_S)

    def scrub(self, db: Session) -> None:
        """Write the tables and their statistics anew, without the dead rows.

        The write-ahead log keeps what was written to it until the server uses its files again.
        """
        try:
            self._wait_for_older(db)
            for table in CLEARED:
                db.run(f"VACUUM (FULL, ANALYZE) {table}")
        except Unavailable as error:
            raise Unavailable(
                self.address,
                "rows are deleted, but their bytes may still be in the tables; delete the user "
                f"again ({error.__cause__ or error})",
            ) from error

    def _wait_for_older(self, db: Session) -> None:
        """Until no transaction is left that may still see what was deleted; such rows stay."""
        now, end = (
            db.rows("SELECT pg_current_xact_id()::xid::text")[0][0],
            time.monotonic() + WAIT_S,
        )
        while db.rows(OLDER, now)[0][0]:
            if time.monotonic() > end:
                raise Unavailable(self.address, "a transaction that began before has not ended")
            time.sleep(POLL_S)

    def close(self) -> None:
        """Give back the session that holds locks."""
        super().close()
        self._held.close()


def _driver() -> ModuleType:
    try:
        import psycopg
        import psycopg.conninfo
    except ImportError as error:
        raise MissingPackage("psycopg", "postgres", "a store in PostgreSQL") from error
    return psycopg


def _parsed(driver: ModuleType, url: str) -> dict[str, str]:
    """What libpq understands by an address.

    A password with bare @ or / would be read as another host, port or database, and shown as such.
    """
    path = url.partition("?")[0].partition("//")[2].partition("/")[2]
    try:
        told = {k: str(v) for k, v in driver.conninfo.conninfo_to_dict(url).items()}
        numbers = told.get("port", "0").split(",")
        sound = all(n.isdecimal() for n in numbers) and "@" not in told.get("host", "") + path
    except driver.Error:  # its words may hold a part of the password: they are not passed on
        told, sound = {}, False
    if not sound:
        raise ConfigError(
            "serve.store: not an address that libpq reads as it is meant. Write "
            "postgresql://user@host/name, special characters with %: %40 for @, %2F for /."
        )
    return told


def _public(told: dict[str, str]) -> str:
    """The address without what is secret."""
    user, host, port = (told.get(name, "") for name in ("user", "host", "port"))
    socket = f"?host={host}" if host.startswith("/") else ""
    who = f"{user}@" if user else ""
    where = "" if socket else host
    return f"postgresql://{who}{where}{':' + port if port else ''}/{told.get('dbname', '')}{socket}"
