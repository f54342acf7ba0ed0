"""What users of a long past have seen, kept in memory between their pages.

Nothing comes twice in a feed, so each page needs all that its user ever saw, and reading that anew
takes ever longer. Of users with little the store is asked each time.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

LEAST = 300
"""Videos from which on a user is kept."""
MOST = 500_000
"""Videos of all users who are kept, some 50 MB."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Videos that one user was shown, or that an event names; never fewer than there were."""

    ids: list[str] = field(default_factory=list)
    """In no order, some perhaps twice."""


class LongPasts:
    """Who has seen much; safe to use from several threads.

    Whoever writes says so with `add` once the store has it, and nobody else may write to the store.
    """

    def __init__(self, most: int = MOST) -> None:
        """`most` is how many videos are kept, of all users."""
        self._lock, self._most, self._size = threading.Lock(), most, 0
        self._kept: OrderedDict[str, Seen] = OrderedDict()
        self._reading: dict[str, list[Seen]] = {}

    def of(self, user: str, read: Callable[[], list[str]]) -> Seen:
        """What a user has seen, as `read` finds it in the store if it is not kept."""
        with self._lock:
            kept = self._kept.get(user)
            if kept is not None:
                self._kept.move_to_end(user)
                return kept
            new = Seen()  # what is written while it is read is added to it
            self._reading.setdefault(user, []).append(new)
        try:
            found = read()
        except BaseException:
            with self._lock:
                self._done(user, new)
            raise
        with self._lock:
            new.ids.extend(found)
            if self._done(user, new) and len(new.ids) >= LEAST:
                self._keep(user, new)
        return new

    def add(self, user: str, videos: Iterable[str]) -> None:
        """What the store has just been told of a user."""
        more = list(videos)
        with self._lock:
            kept = self._kept.get(user)
            if kept is not None:
                kept.ids.extend(more)
                self._size += len(more)
                self._make_room()
            for new in self._reading.get(user, ()):
                new.ids.extend(more)

    def drop(self, user: str) -> None:
        """Forget a user whom the store has forgotten."""
        with self._lock:
            self._let_go(user)
            self._reading.pop(user, None)  # what is being read is not kept

    def __contains__(self, user: str) -> bool:
        return user in self._kept

    def _done(self, user: str, new: Seen) -> bool:
        """Whether what was read may be kept: its user was not dropped meanwhile."""
        others = self._reading.get(user, [])
        if new not in others:
            return False
        others.remove(new)
        if not others:
            del self._reading[user]
        return True

    def _keep(self, user: str, new: Seen) -> None:
        self._let_go(user)  # another thread may have read the same
        self._kept[user] = new
        self._size += len(new.ids)
        self._make_room()

    def _make_room(self) -> None:
        while self._size > self._most and len(self._kept) > 1:
            self._let_go(next(iter(self._kept)))

    def _let_go(self, user: str) -> None:
        gone = self._kept.pop(user, None)
        self._size -= len(gone.ids) if gone else 0
