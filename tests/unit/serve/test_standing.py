"""What is popular of late, and what is new."""

import numpy as np
import polars as pl
import pytest

from reelm.serve import standing as module
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.records import StoredEvent
from reelm.serve.standing import StandingRules, standing
from reelm.serve.store import Store
from reelm.serve.videos import Videos

IDS = ("", "old", "late", "liked", "skipped")


def videos(counts=(0, 4, 1, 1, 0)):
    table = pl.DataFrame({"video_id": IDS[1:], "uploaded_at": [1.0, 2.0, 3.0, 4.0]})
    return Videos(IDS, np.array(counts), table)


def log(*rows):
    return pl.DataFrame(
        rows, ["video_id", "timestamp", "event", "value"], orient="row", strict=False
    )


OLD = [("old", float(n), "watch", 1.0) for n in range(8)]
LATE = [("late", float(n), "watch", 0.9) for n in (100, 101, 102)]
NO_AGE = {"freshness": 0.0}


@pytest.fixture(autouse=True)
def short_logs_count(monkeypatch):
    monkeypatch.setattr(module, "LEAST", 1)


def test_late_favourites_pass_old_ones_only_where_age_counts():
    events = log(*OLD, *LATE)
    of_late = standing(videos(), events, StandingRules(popular_within=0.2, **NO_AGE), 0.5)
    assert of_late[2] == 1.0 > of_late[1] > 0
    ever = standing(videos(), events, StandingRules(popular_within=None, **NO_AGE), 0.5)
    assert ever[1] == 1.0 and ever[2] == 0.25, "by the counts of training"


def test_a_weight_by_hand():
    """Four interactions, half for each one that came after."""
    events = log(("old", 1.0, "watch", 1.0), ("late", 2.0, "watch", 1.0), ("old", 3.0, "like", 1.0))
    found = standing(videos(), events, StandingRules(popular_within=1 / 3, **NO_AGE), 0.5)
    assert found[1:3] == pytest.approx([1.0, 0.5 / 1.25])


def test_what_was_left_does_not_count():
    events = log(*LATE, ("skipped", 200.0, "watch", 0.1), ("skipped", 201.0, "skip", 0.1))
    assert standing(videos(), events, StandingRules(**NO_AGE), 0.5)[4] == 0


@pytest.mark.parametrize("events", [None, log(*LATE).drop("timestamp"), log(*LATE)[:0]])
def test_without_times_the_counts_of_training_are_taken(events):
    assert standing(videos(), events, StandingRules(**NO_AGE), 0.5)[1] == 1.0


def test_unknown_videos_and_missing_times_are_passed_over():
    events = log(*LATE, ("nobody", 300.0, "like", 1.0), ("old", None, "like", 1.0))
    found = standing(videos(), events, StandingRules(**NO_AGE), 0.5)
    assert found[2] == 1.0 and found[1] == 0 and found[0] == 0


def test_the_newest_stands_highest_by_age():
    found = standing(videos(), None, StandingRules(freshness=1.0), 0.5)
    assert found.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_standing_counts_for_newcomers_and_less_for_others(run, catalog, notes):
    """The more a user has done, the nearer are scores to the model's own."""
    apart = []
    for watched in (1, 6):
        pages = []
        for newcomer in (0.0, 1.0):
            config = EngineConfig(new_share=0.0, newcomer=newcomer)
            engine = Engine(run, catalog, notes, Store(), config)
            mine = [f"v{n:03d}" for n in range(2, 48, 6)][:watched]
            events = [StoredEvent(f"e{n}", "new", v, "like", 1.0 + n) for n, v in enumerate(mine)]
            engine.store.add_events(events)
            shown = engine.feed("new", 40).items
            pages.append({i.video_id: i.score for i in shown if i.source == "model"})
        plain, leaning = pages
        spread = np.std(list(plain.values()))
        apart.append(np.mean([abs(leaning[v] - plain[v]) for v in plain if v in leaning]) / spread)
    assert apart[0] > apart[1] > 0
