"""A feed from shortlists is the feed of the whole catalogue, as far as it can be."""

import pytest

from reelm.data.dataset import Dataset
from reelm.runs import Run
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.records import StoredEvent
from reelm.serve.store import Store
from reelm.train import TrainConfig, fit

from .conftest import VIDEOS, events, video


@pytest.fixture(scope="module")
def trained(catalog):
    data = Dataset.build(events(), videos=catalog.videos.drop("duplicate_of"))
    from reelm.models.mf import MFConfig

    return Run.of("mf", fit(data, "mf", MFConfig(dim=8), TrainConfig(epochs=3)).model, data)


def engines(run, catalog, notes):
    for ann_from in (10**6, 2):
        yield Engine(run, catalog, notes, Store(), EngineConfig(ann_from=ann_from, new_share=0.2))


def drained(engine, user):
    page = engine.feed(user, 7)
    shown = list(page.items)
    while page.next_cursor:
        page = engine.feed(user, 7, page.next_cursor)
        shown += page.items
    return shown


def test_the_model_puts_the_same_videos_first(trained, catalog, notes):
    whole, short = engines(trained, catalog, notes)
    assert short._shortlist is not None and whole._shortlist is None
    for user in ("u3", "u11"):
        first = [
            [(i.video_id, round(i.score, 4)) for i in e.feed(user, 8).items if i.source == "model"]
            for e in (whole, short)
        ]
        assert first[0] and first[0] == first[1]


@pytest.mark.parametrize("user", ["u3", "stranger", "blocker"])
def test_shortlists_leave_nothing_out_and_repeat_nothing(
    trained, catalog, notes, user, monkeypatch
):
    for name in ("DEFAULTS", "NEWEST", "DRAWN"):
        monkeypatch.setattr(f"reelm.serve.pools.{name}", 6)
    _, engine = engines(trained, catalog, notes)
    if user == "blocker":
        block = StoredEvent("e", user, "", "block", 1e9, None, None, "creator5")
        follow = StoredEvent("f", user, "", "follow", 1e9, None, None, "creator4")
        engine.store.add_events([block, follow])
    shown = [i.video_id for i in drained(engine, user)]
    seen = {trained.items[row] for row in trained.history(user)}
    expected = {video(n) for n in range(2, VIDEOS) if user != "blocker" or n % 7 != 5}
    assert len(shown) == len(set(shown))
    assert set(shown) == expected - seen
