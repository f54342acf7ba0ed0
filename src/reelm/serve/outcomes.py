"""What the store keeps and tells of trials: who was divided how, and what each user did."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Trial:
    """Users divided between two runs."""

    name: str
    share: float
    """Of all users, in arm b."""
    began_at: float
    """Seconds UTC."""


@dataclass(frozen=True)
class Outcome:
    """What one user was shown by one run, and what came of it."""

    COUNTED: ClassVar = ("impressions", "met", "watched", "portion", "liked", "skipped")
    user_id: str
    run: str
    impressions: int
    met: int
    """Places with a watch, like, share or skip in the same feed."""
    watched: int
    portion: float
    """Sum over watched places; replays cut at 1."""
    liked: int
    skipped: int


OUTCOMES = """
WITH met AS (
    SELECT user_id, feed_id, video_id, sum(portion) AS portion,
        sum(CASE type WHEN 'like' THEN 1 WHEN 'unlike' THEN -1 ELSE 0 END) AS likes,
        sum(CASE type WHEN 'skip' THEN 1 ELSE 0 END) AS skips
    FROM events WHERE received_at >= ? AND feed_id IS NOT NULL
        AND type IN ('watch', 'like', 'unlike', 'share', 'skip')
    GROUP BY user_id, feed_id, video_id)
SELECT i.user_id, i.run, count(*), count(met.video_id), count(met.portion),
    coalesce(sum(CASE WHEN met.portion > 1 THEN 1.0 ELSE met.portion END), 0.0),
    coalesce(sum(CASE WHEN met.likes > 0 THEN 1 ELSE 0 END), 0),
    coalesce(sum(CASE WHEN met.skips > 0 THEN 1 ELSE 0 END), 0)
FROM impressions i LEFT JOIN met ON met.user_id = i.user_id AND met.feed_id = i.feed_id
    AND met.video_id = i.video_id
WHERE i.created_at >= ? GROUP BY i.user_id, i.run"""
