"""Popularity and item-kNN on the real sets, against figures that others computed once with other
code: full ranking, history masked, both fitted on everything before the test.

The others broke ties in some order, where we count them against the model, so figures may be a
little lower here.
"""

import polars as pl
import pytest

from reelm.data.dataset import Dataset
from reelm.data.split import SplitConfig, split
from reelm.evaluate import evaluate
from reelm.models.ease import EASEConfig
from reelm.train import fit


def lists(path):
    table = pl.read_parquet(path).explode("items")
    return table.select(user_id="user", video_id="items", event=pl.lit("interaction"))


def ml1m(folder):
    table = pl.read_parquet(folder / "ml1m" / "interactions.parquet").sort("user", "pos")
    return table.select(user_id="user", video_id="item", event=pl.lit("rating")), None


def beauty(folder):
    return lists(folder / "amazon_beauty" / "sequences.parquet"), None


def microlens(folder):
    return lists(folder / "microlens50k_dev" / "sequences.parquet"), None


def tiktok(folder):
    table = pl.read_parquet(folder / "tiktok" / "interactions.parquet")
    names = {0: "train", 1: "valid", 2: "test"}
    part = pl.col("split").replace_strict(names, return_dtype=pl.String)
    events = table.select(user_id="user", video_id="item", event=pl.lit("interaction"), split=part)
    return events, [str(video) for video in range(6710)]  # 465 of them are not in training


ANCHORS = [
    (ml1m, "popularity", {"recall@10": 0.0364, "ndcg@10": 0.0179}),
    (ml1m, "item_knn", {"recall@10": 0.0704, "ndcg@10": 0.0365}),
    (beauty, "popularity", {"hit@5": 0.0077, "hit@10": 0.0135, "hit@20": 0.0217}),
    (beauty, "item_knn", {"hit@5": 0.0450, "hit@10": 0.0643, "ndcg@10": 0.0376}),
    (microlens, "popularity", {"recall@10": 0.0030, "recall@20": 0.0051}),
    (microlens, "item_knn", {"recall@10": 0.0405, "recall@20": 0.0657, "ndcg@20": 0.0267}),
    (tiktok, "popularity", {"recall@5": 0.0440, "recall@20": 0.0597, "ndcg@20": 0.0255}),
    (tiktok, "item_knn", {"recall@5": 0.0041, "recall@10": 0.0075, "ndcg@20": 0.0051}),
]


@pytest.mark.parametrize(
    ("source", "model", "expected"), ANCHORS, ids=[f"{a[0].__name__}-{a[1]}" for a in ANCHORS]
)
def test_figures_are_those_of_the_data_folders(source, model, expected, data_folder):
    events, videos = source(data_folder)
    data = Dataset.build(events, videos=videos)
    name = "leave_last_two" if data.split is None else "given"
    cut = split(data, SplitConfig(name=name, join_valid=name != "given"))
    report = evaluate(fit(cut, model), cut.test, ("mixed",))
    for metric, figure in expected.items():
        assert report[metric] == pytest.approx(figure, abs=1e-3), metric


def test_tiktok_recall_at_20_lies_where_ties_leave_it(data_folder):
    """The data folder says .0119. Most users have one or two videos, whose neighbours have equal
    cosines by the hundred: .0108 with ties against the model, .0113 on average over orders of the
    ties, .0499 with all in its favour. The order behind .0119 is not known."""
    events, videos = tiktok(data_folder)
    cut = split(Dataset.build(events, videos=videos))
    report = evaluate(fit(cut, "item_knn"), cut.test, ("mixed",))
    assert 0.0105 < report["recall@20"] <= 0.0119


@pytest.mark.slow
def test_tiktok_by_ease(data_folder):
    """Its ridge is the best on validation, of 20, 35, 50 and 100."""
    events, videos = tiktok(data_folder)
    cut = split(Dataset.build(events, videos=videos))
    report = evaluate(fit(cut, "ease", EASEConfig(ridge=35.0)), cut.test, ("mixed",))
    assert report["recall@20"] == pytest.approx(0.0889, abs=1e-3)
    assert report["ndcg@20"] == pytest.approx(0.0403, abs=1e-3)
