import json
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from reelm import evaluate, files, runs, train
from reelm.config import parse
from reelm.data.dataset import Dataset
from reelm.data.split import SplitConfig, joined, leave_last_two, split
from reelm.errors import BadData, ConfigError, MissingInput
from reelm.evaluate import ranking
from reelm.evaluate.report import Report


def cold_world():
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"v{v}") for u in range(30) for v in rng.permutation(20)[:6]]
    data = Dataset.build(
        pl.DataFrame(rows, schema=["user_id", "video_id"], orient="row"),
        videos=[f"v{v}" for v in range(25)],
    )
    return split(data, SplitConfig(name="cold_item", valid_share=0.1, test_share=0.2))


def test_pools_hold_what_they_should():
    cut = cold_world()
    report = evaluate.evaluate(train.fit(cut, "popularity"), cut.test)
    warm = int((cut.train.counts > 0).sum())
    cold = len(set(cut.test.target.tolist()))
    assert report.candidates == {"mixed": 25, "warm": warm, "cold": cold}
    assert report.questions["cold"] == report.asked == len(cut.test)
    assert report.questions["warm"] == 0
    assert math.isnan(report["warm/recall@10"])
    assert cold <= 5 and report["cold/recall@5"] == 1.0
    assert report.chance["cold"]["recall@10"] == 1.0


def test_a_question_counts_in_each_pool_by_its_own_targets():
    scores = {"pool": ["warm", "warm"], "user": [0, 1], "history": [1, 1], "targets": [1, 2]}
    table = pl.DataFrame({**scores, "candidates": [10, 20], "recall@5": [1.0, 0.0]})
    report = Report.of(table, {"warm": 30}, (5,), 4)
    assert report["warm/recall@5"] == 0.5
    assert report.chance["warm"]["recall@5"] == pytest.approx((5 / 10 + 5 / 20) / 2)
    assert report.margins["warm"]["recall@5"] == pytest.approx(1.96 * math.sqrt(0.5) / 2**0.5)


def test_small_batches_change_nothing(two_tastes, monkeypatch):
    cut = leave_last_two(two_tastes)
    run = train.fit(cut, "item_knn")
    whole = evaluate.evaluate(run, cut.test)
    monkeypatch.setattr(ranking, "TILE", 13 * 5)
    small = evaluate.evaluate(run, cut.test)
    by = ["pool", "user"]
    assert small.per_user.sort(by).equals(whole.per_user.sort(by))


def test_chance_is_what_chance_gets():
    """A model that draws its scores is as good as the report says chance is."""
    cut = cold_world()
    model = train.fit(cut, "popularity").model
    rng = np.random.default_rng(1)
    found = []
    for _ in range(200):
        model.total.copy_(model.total.new_tensor(rng.random(len(model.total))))
        report = evaluate.evaluate(model, cut.test, ("mixed",), (5,))
        found.append(report["recall@5"])
    assert np.mean(found) == pytest.approx(report.chance["mixed"]["recall@5"], rel=0.1)


def test_a_pool_that_is_none_is_refused(two_tastes):
    cut = leave_last_two(two_tastes)
    with pytest.raises(ConfigError, match="'hot'"):
        evaluate.evaluate(train.fit(cut, "popularity"), cut.test, ("hot",))


def test_nothing_asked_is_an_empty_report(two_tastes):
    cut = leave_last_two(two_tastes)
    none = cut.test.take(np.zeros(0, np.int64))
    report = evaluate.evaluate(train.fit(cut, "popularity"), none)
    assert report.asked == 0
    assert math.isnan(report["recall@10"])


@pytest.fixture
def made(two_tastes, tmp_path):
    cut = leave_last_two(two_tastes)
    config = train.find("item_knn").Config()
    run = runs.load(train.train_run(cut, "item_knn", config, train.TrainConfig(), tmp_path))
    return cut, run, tmp_path


def test_a_report_folder_for_people_and_programs(made):
    cut, run, work = made
    folder = evaluate.test(run, cut, work)
    assert files.finished(folder)
    facts = json.loads((folder / "report.json").read_text())
    assert facts["about"]["model"] == "item_knn"
    assert facts["pools"]["mixed"]["questions"] == 24
    assert "NaN" not in (folder / "report.json").read_text()
    page = (folder / "report.html").read_text()
    assert page.count("<h2>Pool ") == 3
    assert "http" not in page  # needs nothing else
    rows = pl.read_parquet(folder / "per_user.parquet")
    assert set(rows["user_id"]) == set(run.users)
    assert rows.filter(pl.col("pool") == "mixed")["recall@10"].mean() == pytest.approx(
        facts["pools"]["mixed"]["metrics"]["recall@10"]
    )


def test_a_report_is_made_once(made):
    cut, run, work = made
    folder = evaluate.test(run, cut, work)
    before = (folder / "report.json").stat().st_mtime_ns
    assert evaluate.test(run, cut, work) == folder
    assert (folder / "report.json").stat().st_mtime_ns == before
    other = evaluate.test(run, cut, work, evaluate.EvaluateConfig(ks=(3,)))
    assert other != folder


def test_runs_that_were_not_saved_have_reports_of_their_own(two_tastes, tmp_path):
    """By their weights, and by settings that no weight tells of."""
    cut = leave_last_two(two_tastes)

    def asked(name, config=None):
        run = train.fit(cut, name, config, train.TrainConfig(epochs=1))
        return evaluate.test(run, cut, tmp_path)

    sasrec = train.find("sasrec").Config
    small = {"dim": 8, "layers": 1, "heads": 1, "items": "both"}
    one = asked("sasrec", sasrec(**small))
    assert one == asked("sasrec", sasrec(**small))
    assert one != asked("sasrec", sasrec(**small, cold_bonus=1.0))
    assert one != asked("sasrec", sasrec(**small, weigh="user"))


def test_a_run_of_other_videos_is_refused(made):
    _, run, work = made
    with pytest.raises(BadData, match="other videos"):
        evaluate.test(run, cold_world(), work)


def test_a_run_that_may_have_seen_the_test_is_refused(made):
    cut, _, work = made
    config, schedule = train.find("item_knn").Config(), train.TrainConfig()
    knows = joined(cut)
    run = runs.load(train.train_run(knows, "item_knn", config, schedule, work))
    with pytest.raises(BadData, match="may have seen what is asked"):
        evaluate.test(run, cut, work)
    assert files.finished(evaluate.test(run, knows, work))


def test_another_order_of_what_is_shown_is_another_question(two_tastes):
    cut = leave_last_two(two_tastes)
    item = cut.test.item.copy()
    item[:2] = item[1::-1]  # of the first history
    assert replace(cut.test, item=item).digest() != cut.test.digest()
    beyond = np.append(cut.test.item, cut.test.item[:1])  # nobody is shown it
    assert replace(cut.test, item=beyond).digest() == cut.test.digest()


def test_everything_a_report_can_hold(made):
    cut, run, work = made
    config = evaluate.EvaluateConfig(ks=(5, 10), sampled=7, sampled_seed=3)
    folder = evaluate.test(run, cut, work, config)
    facts = json.loads((folder / "report.json").read_text())["pools"]["mixed"]
    named = {"coverage@5", "popularity@5", "popularity_ratio@5", "novelty@5", "sampled7_ndcg@5"}
    assert named < set(facts["metrics"])
    assert "diversity@5" not in facts["metrics"]
    assert set(facts["slices"]) == {"seen", "frequency", "history", "tables"}
    targets = pl.read_parquet(folder / "targets.parquet")
    assert {"user_id", "video_id", "rank", "frequency"} < set(targets.columns)
    mixed = targets.filter(pl.col("pool") == "mixed")
    assert (mixed["rank"] <= 5).mean() == pytest.approx(facts["metrics"]["hit@5"])
    asked = [(run.users[u], run.items[t]) for u, t in zip(cut.test.users, cut.test.target)]  # noqa: B905
    assert set(zip(mixed["user_id"], mixed["video_id"], strict=True)) == set(asked)


def test_lists_can_be_left_out(made):
    cut, run, work = made
    folder = evaluate.test(run, cut, work, evaluate.EvaluateConfig(lists=False))
    facts = json.loads((folder / "report.json").read_text())["pools"]["mixed"]["metrics"]
    assert set(facts) == {"mrr"} | {
        f"{m}@{k}" for m in ("recall", "ndcg", "hit") for k in (5, 10, 20)
    }


def test_diversity_by_a_feature_that_is_not_there(made):
    cut, run, work = made
    with pytest.raises(MissingInput, match=r"evaluate.diversity_by needs features\.smell"):
        evaluate.test(run, cut, work, evaluate.EvaluateConfig(diversity_by="smell"))


@pytest.mark.parametrize("none", ["ks", "pools"])
def test_nothing_to_look_at_is_an_error_of_the_settings(none):
    with pytest.raises(ConfigError, match=rf"evaluate\.{none}: .* at least 1"):
        parse(evaluate.EvaluateConfig, {none: []}, "evaluate")
