"""Two runs side by side: who is shown which, and what the report makes of it."""

import json
from itertools import count

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from reelm.cli import app
from reelm.errors import ConfigError
from reelm.models.popularity import Popularity
from reelm.runs import Run
from reelm.serve import trials
from reelm.serve.engine import Engine
from reelm.serve.gate import ServiceConfig
from reelm.serve.records import Feed, Impression, Known, StoredEvent
from reelm.serve.served import Served, UnknownRun
from reelm.serve.server import open_served, store_of
from reelm.serve.service import create_app
from reelm.serve.store import Store

from .test_served import no_models, work  # noqa: F401  (fixtures)

USERS = [f"p{n}" for n in range(400)]


@pytest.fixture
def store(where):
    opened = Store(where)
    yield opened
    opened.close()


def show(store, user, run="r", videos=("v1", "v2")):
    """A feed of a user; its id."""
    feed = Feed(f"f-{user}-{run}", user, False)
    places = enumerate(videos)
    store.add_impressions(
        feed, [Impression(n, video, "model", 1.0, "", run=run) for n, video in places], Known()
    )
    return feed.feed_id


NUMBERS = count()


def tell(store, user, feed, kind, video, portion=None):
    event = StoredEvent(f"t{next(NUMBERS)}", user, video, kind, 1e9, portion, feed)
    store.add_events([event])


def test_a_user_stays_in_an_arm_and_arms_have_their_share(where):
    first = Store(where)
    trial = trials.begin(first, "ab", 0.3)
    arms = [trials.arm_of(first, trial, user) for user in USERS]
    assert 0.2 < arms.count("b") / len(USERS) < 0.4
    first.close()
    again = Store(where)
    assert trials.begin(again, "ab", 0.3) == trial, "it began once"
    assert [trials.arm_of(again, trial, user) for user in USERS] == arms
    other = trials.begin(again, "next", 0.3)
    assert [trials.arm_of(again, other, user) for user in USERS] != arms
    again.close()


def test_more_share_only_moves_users_to_b(store):
    small, large = (trials.begin(store, "ab", share) for share in (0.2, 0.6))
    for user in USERS:
        moved = trials.arm_of(store, small, user), trials.arm_of(store, large, user)
        assert moved != ("b", "a")


def test_the_report_counts_by_hand(store):
    show(store, "early")  # before the trial: not counted
    trial = trials.begin(store, "ab", 0.5)
    mine = {arm: [u for u in USERS if trials.arm_of(store, trial, u) == arm][:2] for arm in "ab"}
    for arm, users in mine.items():
        for user in users:
            feed = show(store, user, f"run-{arm}")
            tell(store, user, feed, "watch", "v1", 0.5 if arm == "a" else 3.0)
    one, other = mine["a"]
    tell(store, one, f"f-{one}-run-a", "watch", "v1", 0.25)  # taken up again
    tell(store, one, f"f-{one}-run-a", "like", "v1")
    tell(store, other, f"f-{other}-run-a", "like", "v1")
    tell(store, other, f"f-{other}-run-a", "unlike", "v1")
    tell(store, other, f"f-{other}-run-a", "skip", "v2")
    tell(store, one, "elsewhere", "like", "v2")  # of another feed
    found = trials.report(store)
    assert (found.a.users, found.a.impressions, found.a.met) == (2, 4, 3)
    assert found.a.portion == pytest.approx((0.75 + 0.5) / 2)
    assert found.a.likes == pytest.approx(0.5) and found.a.skips == pytest.approx(0.25)
    assert found.a.met_each == pytest.approx(1.5)
    assert found.b.portion == 1.0, "replays are cut"
    assert found.differences["portion"].mean == pytest.approx(1 - 0.625)
    assert found.a.runs == {"run-a": 4} and found.b.runs == {"run-b": 4}
    assert not found.warnings


def test_a_lost_arm_is_noticed(store):
    trial = trials.begin(store, "ab", 0.5)
    for user in USERS[:60]:
        if trials.arm_of(store, trial, user) == "a":
            show(store, user)
    found = trials.report(store)
    assert found.b.users == 0 and "sample ratio mismatch" in found.warnings[0]
    assert "portion" not in found.differences


def test_no_trial_is_an_error_that_says_so(store):
    with pytest.raises(ConfigError, match=r"serve\.ab"):
        trials.report(store)


def test_the_command_needs_a_store(tmp_path):
    done = CliRunner().invoke(app, ["ab-report", "--work", str(tmp_path)])
    assert isinstance(done.exception, ConfigError) and "no store" in str(done.exception)


@pytest.fixture
def divided(work):  # noqa: F811
    made = open_served(work / "runs" / "b", service=ServiceConfig(ab="a"))
    yield made
    made.engine.store.close()


def arms(served):
    trial, store = served.trial, served.engine.store
    return {a: [u for u in USERS if trials.arm_of(store, trial, u) == a][:20] for a in "ab"}


def test_each_arm_is_shown_its_run_by_both_interfaces(divided, work):  # noqa: F811
    client = TestClient(create_app(divided), base_url="http://localhost")
    by = arms(divided)
    for arm, run in (("a", "b"), ("b", "a")):
        for user in by[arm]:
            assert client.get(f"/v1/feed/{user}?n=3").status_code == 200
            assert client.get(f"/api/recommend/{user}?n=3").status_code == 200
        told = client.get("/v1/admin/ab").json()[arm]
        assert told["runs"] == {run: 120} and told["users"] == 20
    command = ["ab-report", "--work", str(work), "--json"]
    done = CliRunner().invoke(app, command)
    assert json.loads(done.output)["a"]["impressions"] == 120
    assert "arm b was shown: a (120)" in CliRunner().invoke(app, command[:-1]).output


def test_each_arm_is_changed_and_changed_back_alone(divided):
    client = TestClient(create_app(divided), base_url="http://localhost")
    said = client.post("/v1/admin/run", json={"run": "b", "arm": "b"})
    assert said.status_code == 200 and said.json()["run"] == "b"
    assert divided.arm("b").engine.run.name == divided.engine.run.name == "popularity"
    client.post("/v1/admin/run", json={"run": "a"})
    assert divided.engine.run.name == "item_knn"
    assert client.post("/v1/admin/rollback", json={"arm": "b"}).json()["run"] == "a"
    assert client.post("/v1/admin/rollback").json()["run"] == "b"
    assert client.post("/v1/admin/rollback", json={"arm": "c"}).status_code == 422
    users = {trials.arm_of(divided.engine.store, divided.trial, "u3") for _ in range(3)}
    assert len(users) == 1, "an arm outlives changes of its run"


def test_what_comes_is_known_to_both_arms(divided):
    before = divided.engine, divided.arm("b").engine
    divided.refresh()
    assert divided.engine is not before[0] and divided.arm("b").engine is not before[1]


def test_without_a_trial_there_is_no_arm_b(run):
    served = Served(Engine(run))
    assert served.of("anybody") is served.engine
    with pytest.raises(UnknownRun, match=r"serve\.ab"):
        served.arm("b")


def test_a_second_run_that_is_not_there(work):  # noqa: F811
    with pytest.raises(UnknownRun, match="Finished runs: a, b"):
        open_served(work / "runs" / "b", service=ServiceConfig(ab="c"))
    Store(store_of(work / "runs" / "b")).close()  # it is not held


def test_an_engine_in_memory_can_be_divided(run, catalog):
    store = Store()
    data = Run.of("popularity", Popularity(Popularity.Config(), _hollow(run)), _hollow(run))
    other = Served(Engine(data, catalog, store=store))
    served = Served(Engine(run, catalog, store=store), trial=(trials.begin(store, "x", 0.5), other))
    names = {served.of(user).run.name for user in USERS[:20]}
    assert names == {"item_knn", "popularity"}
    store.close()


def _hollow(run):
    from reelm.data.dataset import Dataset

    from .conftest import events

    return Dataset.build(events(), videos=list(run.items[1:]))
