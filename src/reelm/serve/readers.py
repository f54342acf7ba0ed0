"""Sessions that many threads share: each asks on a free one, and on a new one if that is lost."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from reelm.serve.database import Database, Session, Unavailable

T = TypeVar("T")


class Readers:
    """A few sessions, opened when they are first needed."""

    def __init__(self, database: Database, count: int) -> None:
        self._database, self._count = database, count
        self._free: queue.LifoQueue[Session | None] = queue.LifoQueue()
        self._taking = threading.Lock()
        for _ in range(count):
            self._free.put(None)

    def do(self, work: Callable[[Session], T]) -> T:
        """What `work` gives. If its session is lost it is done once more, on a new one: it must
        not write.

        Raises:
            Unavailable: the database does not answer there either.
        """
        session = self._free.get()
        try:
            if session is not None:
                try:
                    return work(session)
                except Unavailable:
                    if not session.lost:
                        raise
                    session.close()
            session = None
            session = self._database.connect()
            return work(session)
        finally:
            self._free.put(session)

    @contextmanager
    def waiting(self) -> Iterator[list[Session]]:
        """All sessions that are open; while the block runs nobody else has one."""
        with self._taking:
            held = [self._free.get() for _ in range(self._count)]
        try:
            yield [session for session in held if session is not None]
        finally:
            for session in held:
                self._free.put(session)

    def close(self) -> None:
        """Give all sessions back, each when it is free."""
        with self.waiting() as sessions:
            for session in sessions:
                session.close()
