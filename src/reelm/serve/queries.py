"""What the store asks and writes, in words of SQL."""

from collections.abc import Iterable

from reelm.serve.database import Session
from reelm.serve.records import LASTING, StoredEvent

EVENT = "event_id, user_id, video_id, type, timestamp, portion, feed_id, creator"
EVENTS = f"SELECT {EVENT} FROM events WHERE user_id = ? ORDER BY timestamp, received_at, event_id"
"""Of one user, oldest first."""
NEWEST = (
    f"SELECT {EVENT} FROM events WHERE user_id = ?"
    " ORDER BY timestamp DESC, received_at DESC, event_id DESC LIMIT ?"
)
LAST = (
    f"SELECT {EVENT} FROM events WHERE user_id = ? AND type IN {LASTING}"
    " ORDER BY timestamp, received_at, event_id"
)
SEEN = (
    "SELECT video_id, max(turn) FROM"
    " (SELECT video_id, turn FROM impressions WHERE user_id = ? AND turn > ?"
    " UNION ALL SELECT video_id, turn FROM events WHERE user_id = ? AND turn > ?) AS seen"
    " GROUP BY video_id"
)
"""Of one user what came after a turn, each video with its last."""
TURN = "(SELECT turns FROM users WHERE user_id = ?)"
NEW_EVENT = f"INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,{TURN}) ON CONFLICT DO NOTHING"
NEW_IMPRESSION = f"INSERT INTO impressions VALUES (?,?,?,?,?,?,?,?,?,?,?,{TURN})"
"""Both after `touch`, in one transaction with it."""
PIECE = 50_000
EVERY_EVENT = f"SELECT {EVENT} FROM events WHERE event_id > ? ORDER BY event_id LIMIT {PIECE}"
EVERY_IMPRESSION = (
    "SELECT feed_id, position, user_id, video_id, source, score, created_at, run, propensity"
    f" FROM impressions WHERE (feed_id, position) > (?, ?) ORDER BY feed_id, position LIMIT {PIECE}"
)
UPLOADS = "SELECT video_id, sha256, status, reason, row, answer, provenance, vectors FROM uploads"
OLD_FEEDS = "SELECT feed_id FROM feeds WHERE created_at < ?"
"""Before a moment, in seconds UTC."""


def recent(db: Session, user_id: str, newest: int) -> tuple[StoredEvent, ...]:
    """So many events of a user, the newest, after those that last and are older."""
    found = [StoredEvent._make(row) for row in db.rows(NEWEST, user_id, newest)][::-1]
    if len(found) < newest:
        return tuple(found)
    there = {event.event_id for event in found}
    older = [StoredEvent._make(row) for row in db.rows(LAST, user_id)]
    return (*(event for event in older if event.event_id not in there), *found)


def deleted_at(db: Session, digest: str) -> float | None:
    """When the user of this digest was deleted for the last time."""
    rows = db.rows("SELECT deleted_at FROM forgotten WHERE digest = ?", digest)
    return rows[0][0] if rows else None


def touch(db: Session, users: Iterable[str], now: float) -> None:
    """These users are here now: what is written about them in this transaction is one turn."""
    db.run_many(
        "INSERT INTO users VALUES (?,?,?,1) ON CONFLICT (user_id) DO UPDATE SET"
        " last_seen = excluded.last_seen, turns = users.turns + 1",
        [(user, now, now) for user in users],
    )
