"""A real PostgreSQL server that the tests start, kill and start again."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode

import psycopg

DEBIAN = Path("/usr/lib/postgresql")
OWNERS = ("postgres", "nobody")
"""Whom root becomes, as the server refuses to run as root."""
SETTINGS = (
    "listen_addresses=", "fsync=on", "synchronous_commit=on", "autovacuum=off",
    "max_connections=40", "wal_level=replica", "shared_buffers=16MB",
)  # fmt: skip


def program(name: str) -> str | None:
    """A program of PostgreSQL, the newest that is installed."""
    newest_first = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda p: -float(p.parts[-3]))
    return str(newest_first[0]) if newest_first else shutil.which(name)


def missing() -> str | None:
    """Why no server can be started here."""
    absent = [name for name in ("initdb", "postgres") if program(name) is None]
    return f"no {' nor '.join(absent)}: apt-get install postgresql" if absent else None


class Server:
    """One server on a socket of its own, in a folder that is removed at the end."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="reelm-pg-", dir="/tmp"))  # sockets: short paths
        self.data, self._process = self._home / "data", None
        self._as, self._made = self._other_user(), 0
        try:
            initdb = [program("initdb"), "-D", self.data, "-U", "reelm", "-A", "trust", "-N",
                      "-E", "UTF8", "--locale=C"]  # fmt: skip
            subprocess.run(initdb, check=True, capture_output=True, cwd="/", **self._as)
            self.start()
        except BaseException:
            self.close()
            raise

    def _other_user(self) -> dict:
        if os.geteuid() != 0:
            return {}
        names = {entry.pw_name for entry in pwd.getpwall()}
        owner = pwd.getpwnam(next(name for name in OWNERS if name in names))
        os.chown(self._home, owner.pw_uid, owner.pw_gid)
        return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}

    def start(self) -> None:
        """Start, recovering first if it was killed, and wait until it answers."""
        options = [part for setting in SETTINGS for part in ("-c", setting)]
        # a test that is killed takes its server along, where the system can do that
        bound = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        command = [*bound, program("postgres"), "-D", self.data, "-k", self._home, *options]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd="/", start_new_session=True,
                env={"LC_ALL": "C", "PATH": os.environ["PATH"]}, **self._as,
            )  # fmt: skip
        end = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise RuntimeError((self._home / "log").read_text()) from None
                time.sleep(0.02)

    def kill(self) -> None:
        """End the server and all its processes at once, as if it were the power."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        theirs = [int(pid) for pid in children.read_text().split()]
        for pid in (self._process.pid, *theirs):  # each backend is in a group of its own
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def url(self, name: str, **more: str) -> str:
        """The address of a database of that name."""
        return f"postgresql://reelm@/{name}?{urlencode({'host': self._home, **more})}"

    def say(self, statement: str) -> None:
        """Run a statement in the database that is there from the start."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as db:
            db.execute(statement)

    @contextmanager
    def room(self) -> Iterator[str]:
        """The address of a new, empty schema, which is removed after the block; a database of its
        own would take a second, and a server that was killed syncs every file it has."""
        self._made += 1
        name = f"room{self._made}"
        self.say(f"CREATE SCHEMA {name}")
        yield self.url("postgres", options=f"-csearch_path={name}")
        self.say(f"DROP SCHEMA {name} CASCADE")

    def close(self) -> None:
        """End the server and remove its folder."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._home, ignore_errors=True)
