"""A real second stage over a real first one, its failures, and what it does not know."""

import re

import numpy as np
import polars as pl
import pytest
import torch
from fastapi.testclient import TestClient

from reelm.data.dataset import Dataset, DatasetConfig
from reelm.data.packing import pack
from reelm.errors import ConfigError
from reelm.models.din import DINConfig
from reelm.runs import Run, save
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.gate import ServiceConfig
from reelm.serve.ranking import Ranking
from reelm.serve.records import StoredEvent
from reelm.serve.served import Served, UnknownRun
from reelm.serve.server import open_served
from reelm.serve.service import create_app
from reelm.serve.store import Store
from reelm.train import TrainConfig, build, train

from .conftest import USERS, WATCHED, events, kind, video
from .test_served import no_models, work  # noqa: F401  (fixtures)

SETTINGS = DINConfig(dim=8, hidden=(16,), unit=4)


def exposed() -> pl.DataFrame:
    """The log, and for each user five videos of the next kind that were left at once."""
    rows = []
    for user in range(USERS):
        others = [n for n in range(WATCHED) if kind(n) == (kind(user) + 1) % 6][:5]
        rows += [(f"u{user}", video(n), 1e6 + n, "watch", 0.05) for n in others]
    left = pl.DataFrame(rows, schema=events().columns, orient="row")
    return pl.concat([events(), left])


@pytest.fixture(scope="module")
def din():
    """Trained for a moment, so that its chances differ."""
    known = Dataset.of(pack([exposed()], None, DatasetConfig(exposures=True)))
    model = build("din", SETTINGS, known, 0)
    train(model, known, TrainConfig(epochs=4, batch_size=64, learning_rate=0.02))
    return Run.of("din", model, known)


def engine(run, catalog, din, **config):
    made = Ranking(din) if din else None
    return Engine(run, catalog, None, Store(), EngineConfig(new_share=0.0, **config), made)


def test_the_best_are_put_in_the_rankers_order(run, catalog, din):
    plain, staged = engine(run, catalog, None), engine(run, catalog, din, ranker_candidates=2)
    first = [i.video_id for i in plain.feed("u3", 3).items]
    shown = staged.feed("u3", 3).items
    assert {i.video_id for i in shown[:2]} == set(first[:2])
    assert [i.source for i in shown] == ["ranked", "ranked", "model"]
    chances = [i.score for i in shown[:2]]
    assert chances == sorted(chances, reverse=True) and 0 < min(chances) <= max(chances) < 1
    assert shown[0].run.endswith("+din") and shown[0].reason
    rows = [din.item_rows[i.video_id] for i in shown[:2]]
    history = [din.item_rows[run.items[row]] for row in run.history("u3")]
    with torch.inference_mode():
        user = torch.tensor([din.user_rows["u3"]])
        scores = din.model.score(user, torch.tensor([history]), torch.tensor([rows]))
        likely = din.model.probability(scores)[0]
    assert np.allclose(chances, likely, atol=1e-6), "the calibrated chance of the run itself"


def test_pages_go_on_without_repeats(run, catalog, din):
    staged = engine(run, catalog, din, ranker_candidates=4)
    page, seen = staged.feed("u5", 6), []
    while page.items:
        seen += [i.video_id for i in page.items]
        page = staged.feed("u5", 6, page.next_cursor) if page.next_cursor else page
        if not page.next_cursor:
            seen += [i.video_id for i in page.items]
            break
    assert len(seen) == len(set(seen)) > 30


@pytest.mark.parametrize("how", ["raises", "nan"])
def test_a_failure_leaves_the_first_order_and_is_counted(run, catalog, din, how, monkeypatch):
    def broken(user, history, candidates):
        if how == "raises":
            raise RuntimeError("out of memory")
        return torch.full(candidates.shape, torch.nan)

    monkeypatch.setattr(din.model, "score", broken)
    plain, staged = engine(run, catalog, None), engine(run, catalog, din)
    client = TestClient(create_app(Served(staged)), base_url="http://localhost")
    shown = client.get("/v1/feed/u3?n=3").json()["items"]
    assert [i["item_id"] for i in shown] == [i.video_id for i in plain.feed("u3", 3).items]
    assert {i["source"] for i in shown} == {"model"}
    told = client.get("/metrics").text
    assert re.search(r"^reelm_ranker_failures_total 1$", told, re.MULTILINE)


def test_what_it_cannot_rate_stays_in_the_first_order(run, catalog, din):
    asked = Ranking(din)
    history = [run.items[row] for row in run.history("u3")]
    likely = asked("u3", history, [video(3), "never heard of", video(9)])
    assert np.isfinite(likely[[0, 2]]).all() and np.isnan(likely[1])
    assert np.isnan(asked("u3", [], [video(3)])).all(), "no history, no rating"
    assert asked.failures == 0


def test_strangers_are_not_ranked(run, catalog, din):
    assert {i.source for i in engine(run, catalog, din).feed("nobody", 5).items} == {"fallback"}


def test_the_ranker_knows_nothing_of_a_user_who_was_deleted(run, catalog, din, monkeypatch):
    staged = engine(run, catalog, din)
    asked = []
    monkeypatch.setattr(staged.ranking._model, "score", lambda user, *_: asked.append(user.item()))
    like = StoredEvent("e1", "u3", video(3), "like", 1e9)
    staged.store.add_events([like])
    staged.feed("u3", 3)
    staged.store.delete_user("u3")
    staged.store.add_events([like._replace(event_id="e2")])
    staged.feed("u3", 3)
    assert asked == [din.user_rows["u3"], -1]


def test_variety_is_put_on_top(run, catalog, din, notes):
    orders = []
    for strength in (0.0, 0.9):
        config = EngineConfig(new_share=0.0, rerank="mmr", rerank_strength=strength)
        staged = Engine(run, catalog, notes, Store(), config, Ranking(din))
        staged.store.add_events([StoredEvent("e", "u3", video(4), "like", 1e9)])
        shown = [i for i in staged.feed("u3", 9).items if i.source == "ranked"]
        orders.append([i.video_id for i in shown])
    assert set(orders[0]) == set(orders[1]) and orders[0] != orders[1]


def test_newcomers_are_rated_by_what_they_did_here(run, catalog, din):
    staged = engine(run, catalog, din)
    staged.store.add_events([StoredEvent("e", "new", video(3), "like", 1e9)])
    assert staged.feed("new", 3).items[0].source == "ranked"


def test_a_retriever_is_no_second_stage(run):
    with pytest.raises(ConfigError, match="rates no single places"):
        Ranking(run)


def test_the_setting_names_a_run_for_each_arm(work, din):  # noqa: F811
    folder = work / "runs" / "din-1"
    folder.mkdir()
    save(din, folder, {"model": SETTINGS}, [], stage="train", inputs={}, settings={})
    how = ServiceConfig(ranker="din-1", ab="b")
    served = open_served(work / "runs" / "b", service=how)
    assert served.engine.ranking and served.arm("b").engine.ranking is None
    served.use("a")
    assert served.engine.ranking and served.engine.run.name == "item_knn", "it outlives a change"
    served.engine.store.close()
    with pytest.raises(UnknownRun):
        open_served(work / "runs" / "b", service=ServiceConfig(ranker="din-2"))
