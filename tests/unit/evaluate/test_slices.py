from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from reelm import train
from reelm.data.split import leave_last_two
from reelm.data.tables import Features
from reelm.evaluate import Lists, evaluate
from reelm.evaluate.slices import sliced


def parts(targets, way):
    return {part["part"]: part for part in sliced(targets, (2,))[way]}


def test_each_target_counts_in_its_own_part():
    rows = {
        "question": [4, 4, 4, 9, 12],
        "rank": [1, 5, 2, 1, 7],
        "history": [3, 3, 3, 0, 51],
        "frequency": [0, 0, 5, 6, 101],
    }
    targets = pl.DataFrame(rows)
    found = parts(targets, "frequency")
    assert list(found) == ["0", "1-5", "6-20", "> 100"]
    assert (found["0"]["questions"], found["0"]["targets"]) == (1, 2)
    assert found["0"]["metrics"]["recall@2"] == 0.5  # one of two, and a list of two could hold both
    assert found["1-5"]["metrics"]["recall@2"] == 1  # its place in the whole pool, 2, counts
    assert found["> 100"]["metrics"]["mrr"] == pytest.approx(1 / 7)
    found = parts(targets, "history")
    assert {name: part["questions"] for name, part in found.items()} == {
        "0": 1,
        "3-5": 1,
        "> 50": 1,
    }
    assert found["3-5"]["metrics"]["recall@2"] == 1  # three targets, two hits, two places
    found = parts(targets, "seen")
    assert (found["cold"]["questions"], found["warm"]["questions"]) == (1, 3)
    assert found["warm"]["metrics"]["recall@2"] == pytest.approx(2 / 3)
    assert found["cold"]["margins"]["recall@2"] == 0


def test_slices_of_an_evaluation(asked):
    """With one target each, the parts of every way add up to the pool, and cold is what is cold."""
    some = asked(users=60, most=1)
    report = evaluate(some.model, some.questions, ("mixed", "cold"), (5,))
    counts = some.data.counts[some.questions.target]
    for way, found in report.slices["mixed"].items():
        assert sum(part["questions"] for part in found) == 60, way
        total = sum(part["questions"] * part["metrics"]["recall@5"] for part in found)
        assert total / 60 == pytest.approx(report["recall@5"]), way
    seen = {part["part"]: part["questions"] for part in report.slices["mixed"]["seen"]}
    assert seen == {"cold": (counts == 0).sum(), "warm": (counts > 0).sum()}
    assert [part["part"] for part in report.slices["cold"]["frequency"]] == ["0"]


def test_targets_are_told_apart_by_the_features_their_videos_have(two_tastes):
    table = Features("sound", ("v0", "v1", "v2", "v3"), np.ones((4, 2), np.float32))
    has = {"sound": np.isin(two_tastes.items, table.ids)} | two_tastes.has_feature
    data = replace(two_tastes, has_feature=has)
    cut = leave_last_two(data)
    run = train.fit(cut, "popularity")
    report = evaluate(run, cut.test, ("mixed",), (5,), Lists.of(cut.train))
    found = {part["part"]: part["targets"] for part in report.slices["mixed"]["tables"]}
    with_sound = int(np.isin([data.items[t] for t in cut.test.target], table.ids).sum())
    assert found == {"sound+text": with_sound, "text": 24 - with_sound}
    assert "tables" not in evaluate(run, cut.test, ("mixed",), (5,)).slices["mixed"]
