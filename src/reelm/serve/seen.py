"""What users of a long past have seen, kept in memory between their pages.

Nothing comes twice in a feed, so each page needs all that its user ever saw, and reading that anew
takes ever longer. Of those who are kept only what was written since is read, also where other
services wrote it. Of users with little the store is asked for all each time.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

LEAST = 300
"""Videos from which on a user is kept."""
MOST = 500_000
"""Videos of all users who are kept, some 50 MB."""


@dataclass(eq=False)
class Seen:
    """Videos that one user was shown, or that an event names; never fewer than there were."""

    deleted_at: float | None = None
    """When the user was deleted before it was read; see `Known`."""
    ids: list[str] = field(default_factory=list)
    """In no order, some perhaps twice."""
    turn: int = -1
    """The last of the user's turns that is in it: each writing about a user is one."""

    def add(self, found: Sequence[tuple[str, int]]) -> None:
        """Take in videos with their turns, of which some may be in it."""
        self.ids.extend(video for video, turn in found if turn > self.turn)
        self.turn = max([self.turn, *(turn for _, turn in found)])  # two may read at once


class LongPasts:
    """Who has seen much; safe to use from several threads."""

    def __init__(self, most: int = MOST) -> None:
        """`most` is how many videos are kept, of all users."""
        self._lock, self._most, self._size = threading.Lock(), most, 0
        self._kept: OrderedDict[str, Seen] = OrderedDict()

    def of(
        self, user: str, deleted_at: float | None, read: Callable[[int], Sequence[tuple[str, int]]]
    ) -> Seen:
        """All that a user has seen since he was deleted, if ever.

        Args:
            read: the videos of all turns after this one, each with its last turn.
        """
        with self._lock:
            seen = self._kept.get(user)
            if seen is None or seen.deleted_at != deleted_at:
                seen = Seen(deleted_at)
            turn = seen.turn
        found = read(turn)
        with self._lock:
            self._let_go(user)  # before it grows, as its length counts
            seen.add(found)
            if len(seen.ids) >= LEAST:
                self._kept[user] = seen
                self._size += len(seen.ids)
                self._make_room()
        return seen

    def drop(self, user: str) -> None:
        """Forget a user whom the store has forgotten."""
        with self._lock:
            self._let_go(user)

    def clear(self) -> None:
        """Forget all, as the store has forgotten what some of them have seen."""
        with self._lock:
            self._kept.clear()
            self._size = 0

    def __contains__(self, user: str) -> bool:
        return user in self._kept

    def _make_room(self) -> None:
        while self._size > self._most and len(self._kept) > 1:
            self._let_go(next(iter(self._kept)))

    def _let_go(self, user: str) -> None:
        gone = self._kept.pop(user, None)
        self._size -= len(gone.ids) if gone else 0
