"""New videos in a trained run: scored by content as if they had been there."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reelm.data.dataset import Dataset
from reelm.data.tables import Features
from reelm.models.content import Content
from reelm.models.item_knn import ItemKNN
from reelm.models.sasrec import SASRec
from reelm.runs import Run
from reelm.serve.grown import Scale, features_of, grow

from .conftest import VIDEOS, WATCHED, events, video


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(4)
    vectors = rng.normal(3, 2, (VIDEOS, 7)).astype(np.float32)
    return Features("text", tuple(video(n) for n in range(VIDEOS)), vectors)


@pytest.fixture(scope="module")
def data(table):
    return Dataset.build(events(), [table], videos=[video(n) for n in range(VIDEOS)])


def sasrec(data, **more):
    torch.manual_seed(1)
    config = SASRec.Config(items="both", features=("text",), dim=8, heads=1, **more)
    return Run.of("sasrec", SASRec(config, data), data)


def runs(data):
    return {
        "content": Run.of("content", Content(Content.Config(), data), data),
        "sasrec": sasrec(data),
        "separate": sasrec(data, table="separate"),
        "ages": sasrec(data, ages=4),
        "taste": sasrec(data, taste=("text",)),
    }


@pytest.mark.parametrize("name", ["content", "sasrec", "separate", "ages", "taste"])
def test_a_twin_of_a_video_that_training_never_saw_scores_like_it(data, table, name):
    run, cold = runs(data)[name], WATCHED + 3
    raw = [float(x) for x in table.vectors[cold]]
    grown = grow(run, {"twin": {"text": raw}}, {"text": Scale.of(table, run)})
    assert grown.items[-1] == "twin" and len(grown.items) == len(run.items) + 1
    history = [run.item_rows[video(n)] for n in (7, 13, 19)]
    before, after = run.score([history])[0], grown.score([history])[0]
    assert torch.allclose(after[1:-1], before[1:], atol=1e-4)
    if name != "ages":  # there the twin is younger
        assert torch.isclose(after[-1], before[run.item_rows[video(cold)]], atol=1e-3)
    assert grown.counts[-1] == 0
    assert len(run.items) == len(run.model.counts), "the run that is served now is not touched"


@pytest.mark.parametrize(
    "vectors", [{}, {"other": [0.0] * 7}, {"text": [0.0] * 6}], ids=["none", "other", "short"]
)
def test_without_the_right_vectors_the_run_stays(data, table, vectors):
    run = runs(data)["sasrec"]
    assert grow(run, {"new": vectors}, {"text": Scale.of(table, run)}) is run


def test_a_model_of_ids_stays(data, table):
    run = Run.of("item_knn", ItemKNN(ItemKNN.Config(), data), data)
    assert features_of(run) == ()
    assert grow(run, {"new": {"text": [0.0] * 7}}, {"text": Scale.of(table, run)}) is run


def test_a_scale_that_is_not_the_models_is_found_out(data, table):
    run = runs(data)["sasrec"]
    scale = Scale.of(table, run)
    wrong = replace(scale, mean=scale.mean + 1)
    assert grow(run, {"new": {"text": [0.0] * 7}}, {"text": wrong}) is run
