"""What the service was told is kept whole or not at all; what it shows comes once."""

import polars as pl
import pytest

from reelm.data.dataset import Dataset
from reelm.models.popularity import Popularity
from reelm.runs import Run
from reelm.serve.engine import Engine
from reelm.serve.records import StoredEvent
from reelm.serve.store import Store


class Killed(Exception):
    """Stands for the end of the process."""


def test_of_a_batch_that_fails_nothing_is_kept():
    good = StoredEvent("e1", "u", "v", "watch", 1.0, 0.5)
    store = Store()

    def batch():
        yield good
        raise Killed

    with pytest.raises(Killed):
        store.add_events(batch())
    assert store.events("u") == []
    assert store.add_events([good]) == 1
    store.close()


def test_a_feed_that_may_bring_back_old_videos_shows_each_once():
    log = pl.DataFrame({"user_id": ["u", "u", "w"], "video_id": ["v0", "v1", "v0"]})
    data = Dataset.build(log, videos=[f"v{n}" for n in range(9)])
    engine = Engine(Run.of("popularity", Popularity(Popularity.Config(), data), data))
    first = engine.feed("u", 4, again=True)
    second = engine.feed("u", 4, first.next_cursor)
    shown = [i.video_id for i in first.items + second.items]
    assert len(shown) == len(set(shown)) == 8
    engine.store.close()
