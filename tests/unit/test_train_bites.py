"""The loop and the files of a run: what a reader of its results trusts without looking."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from killing import Killed, killed_after
from reelm import files, runs
from reelm import train as verb
from reelm.config import Config
from reelm.data.dataset import Dataset
from reelm.data.split import leave_last_two
from reelm.errors import ConfigError, NonFinite
from reelm.models.base import Retriever
from reelm.models.sasrec import SASRecConfig
from reelm.train import TrainConfig

SMALL = SASRecConfig(dim=8, layers=1, heads=1, feedforward=8, max_length=8)


@pytest.fixture
def data() -> Dataset:
    """Twelve users, ten videos, each user one step further round the circle."""
    rows = [(f"u{u}", f"v{(u + step) % 10}", float(step)) for u in range(12) for step in range(6)]
    schema = ["user_id", "video_id", "timestamp"]
    return Dataset.build(pl.DataFrame(rows, schema=schema, orient="row"))


class Slope(Retriever):
    """One weight whose gradient is always the same, so that its path is known."""

    Config = Config

    def __init__(self, data, slope=1.0):
        super().__init__(None, data)
        self.weight = nn.Parameter(torch.zeros(()))
        self.slope = slope
        self.gradients = []
        self.weight.register_post_accumulate_grad_hook(lambda p: self.gradients.append(p.grad + 0))

    def batches(self, data, size, rng):
        return iter(range(3))

    def loss(self, batch):
        return {"slope": self.slope * self.weight}

    def score(self, user, history):
        return self.weight.expand(len(history), len(self.counts))


def test_gradients_of_one_step_do_not_reach_the_next(data):
    model = Slope(data, 0.1)
    verb.train(model, data, TrainConfig(epochs=2))
    assert [g.item() for g in model.gradients] == pytest.approx([0.1] * 6)


def test_a_loss_that_is_no_number_stops_training(data):
    with pytest.raises(NonFinite, match="slope"):
        verb.train(Slope(data, float("nan")), data, TrainConfig(epochs=1))


def test_training_never_looks_at_the_test(data, tmp_path, monkeypatch):
    split = leave_last_two(data)
    shown = []
    ask = verb.evaluate

    def watched(model, questions, **rest):
        shown.append(questions)
        return ask(model, questions, **rest)

    monkeypatch.setattr(verb, "evaluate", watched)
    config = TrainConfig(epochs=1)
    verb.train_run(split, "sasrec", SMALL, config, tmp_path)
    verb.fit(split, "sasrec", SMALL, config)
    assert len(shown) == 2
    for questions in shown:
        assert np.array_equal(questions.target, split.valid.target)


def test_the_weights_that_were_best_are_kept(data, monkeypatch):
    said = iter([0.1, 0.5, 0.3, 0.2])
    monkeypatch.setattr(verb, "evaluate", lambda *_, **__: {"mixed/ndcg@10": next(said)})
    model = Slope(data)
    rows = verb.train(model, data, TrainConfig(epochs=4), leave_last_two(data).valid)
    assert [row.get("kept") for row in rows] == [None, 1.0, None, None]
    short = Slope(data)
    verb.train(short, data, TrainConfig(epochs=2))
    assert model.weight.item() == pytest.approx(short.weight.item())


@pytest.mark.parametrize("after", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("extra", [{}, {"average": 0.9}, {"precision": "bfloat16"}])
def test_a_killed_training_ends_as_if_it_had_not_been_killed(
    data, tmp_path, monkeypatch, after, extra
):
    """Three steps an epoch: it is killed in the middle of one, or between two."""
    split = leave_last_two(data)
    config = TrainConfig(epochs=4, batch_size=4, checkpoint_s=0, learning_rate=0.05, **extra)
    whole = verb.train_run(split, "sasrec", SMALL, config, tmp_path / "whole")
    with killed_after(after, monkeypatch):
        verb.train_run(split, "sasrec", SMALL, config, tmp_path / "cut")
    torch.manual_seed(99)  # the second process starts from other chance
    cut = verb.train_run(split, "sasrec", SMALL, config, tmp_path / "cut")
    assert _losses(cut) == pytest.approx(_losses(whole), abs=0)
    one, other = (runs.load(folder).model.state_dict() for folder in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)


def _losses(folder) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss/sampled"] for line in lines]


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"epochs": 2}, {"learning_rate": 0.1}, {"batch_size": 3}]
)
def test_other_settings_are_another_run(data, tmp_path, other):
    split = leave_last_two(data)
    first = verb.train_run(split, "popularity", _popularity(), TrainConfig(), tmp_path)
    again = verb.train_run(split, "popularity", _popularity(), TrainConfig(), tmp_path)
    config = TrainConfig(**other)
    second = verb.train_run(split, "popularity", _popularity(), config, tmp_path)
    assert first == again != second


def _popularity():
    from reelm.models.popularity import PopularityConfig

    return PopularityConfig()


@pytest.mark.parametrize("file", ["ids.parquet", "histories.parquet", "card.md"])
def test_a_run_that_was_cut_off_while_it_was_saved_is_not_finished(
    data, tmp_path, monkeypatch, file
):
    atomic = files.atomic

    def fatal(path):
        if path.name == file:
            raise Killed
        return atomic(path)

    monkeypatch.setattr(files, "atomic", fatal)
    split = leave_last_two(data)
    with pytest.raises(Killed):
        verb.train_run(split, "popularity", _popularity(), TrainConfig(), tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    assert not files.finished(folder)


def test_padding_and_what_was_watched_are_never_recommended(data):
    run = verb.fit(data, "popularity")
    table = run.recommend(["u0", "a stranger"], k=99)
    assert "" not in table["item_id"]
    known = {run.items[row] for row in run.history("u0")}
    mine = set(table.filter(user_id="u0")["item_id"])
    assert mine == set(run.items[1:]) - known
    assert set(table.filter(user_id="a stranger")["item_id"]) == set(run.items[1:])
    alike = run.similar(["v0"], k=99)
    assert not {"", "v0"} & set(alike["item_id"])


def test_the_step_size_falls_along_half_a_cosine(data, monkeypatch):
    paces = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW,
        "step",
        lambda self: paces.append(self.param_groups[0]["lr"]) or step(self),
    )
    config = TrainConfig(epochs=4, schedule="cosine", learning_rate=0.1)
    verb.train(Slope(data), data, config)
    expected = [0.1, 0.1 * (1 + 0.5**0.5) / 2, 0.05, 0.1 * (1 - 0.5**0.5) / 2]
    assert paces == pytest.approx([pace for pace in expected for _ in range(3)])


def test_a_run_takes_the_mean_of_the_weights(data):
    """The weight falls by the step size at each step, as the gradient is always the same."""
    model, mean, pace = Slope(data), 0.0, 0.1
    config = TrainConfig(epochs=9, average=0.8, learning_rate=pace, weight_decay=0)
    verb.train(model, data, config)
    for step in range(1, 28):
        share = min(0.8, step / (step + 10))  # the first weights, far off, are soon forgotten
        mean = share * mean - (1 - share) * pace * step
    assert model.weight.item() == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_told_in_a_line(data, device):
    with pytest.raises(ConfigError, match=rf"^train.device = '{device}': .+ Use cpu") as told:
        verb.train(Slope(data), data, TrainConfig(epochs=1, device=device))
    assert "\n" not in str(told.value)
