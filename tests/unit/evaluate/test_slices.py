import polars as pl
import pytest

from reelm.evaluate import evaluate
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
