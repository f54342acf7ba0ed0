"""The operator's answer: what it says is what happened."""

import json

import pytest
from fastapi.testclient import TestClient

from reelm import files
from reelm.serve.overview import AT_LEAST_S, Kept
from reelm.serve.served import Parts, Served
from reelm.serve.server import open_served
from reelm.serve.service import create_app
from reelm.serve.store import Store
from reelm.serve.uploads import Finished

from .conftest import SUBJECTS, VIDEOS, answer, video
from .test_served import work  # noqa: F401 - a fixture
from .test_uploads import Seer, opened


@pytest.fixture
def client(engine):
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:
        yield client


def overview(client):
    return client.get("/v1/admin/overview").json()


def like(number, user="new"):
    names = {"event_id": f"e{user}{number}", "user_id": user, "item_id": video(number)}
    return names | {"type": "like", "timestamp": 1.7e9}


def test_it_answers_before_anything_happened(client):
    now = overview(client)
    assert now["requests_per_s"] == 0 and now["topics"] == [] and now["events"] == {}
    assert now["fallback_share"] is None and now["cold_share"] is None
    assert now["latency_ms"]["feed"] == {"requests": 0, "p50": None, "p95": None, "p99": None}
    assert len(now["minutes"]) == 60 and not any(m["requests"] for m in now["minutes"])
    assert now["run"]["name"] == "item_knn" and not now["run"]["changeable"]
    assert now["uploads"] == {"taken": False, "waiting": 0, "room": 0, "latest": []}
    assert now["cost"] is None
    assert now["notes"] == {"prompts": ["attributes"], "noted": VIDEOS - 2, "corrected": 0}


def test_the_numbers_are_those_of_what_was_asked(client, engine):
    pages = [client.get(f"/v1/feed/{user}?n=7").json() for user in ("u3", "u4", "stranger")]
    client.post("/v1/events", json={"events": [like(20), like(21), like(20)]})
    client.post("/api/feedback", json=[{"FeedbackType": "like", "UserId": "g", "ItemId": video(9)}])
    client.get("/v1/videos/nothing")
    client.get(f"/media/{video(20)}")
    items = [item for page in pages for item in page["items"]]
    now = overview(client)
    assert sum(m["requests"] for m in now["minutes"]) == 6
    assert sum(m["media"] for m in now["minutes"]) == 1
    assert sum(m["feeds"] for m in now["minutes"]) == 3 == now["latency_ms"]["feed"]["requests"]
    assert now["latency_ms"]["all"]["requests"] == 6
    assert now["events"] == {"like": 4}
    assert now["store"]["events"] == 3 and now["store"]["feeds"] == 3
    sources = [item["source"] for item in items]
    assert now["places"] == {s: sources.count(s) for s in set(sources)}
    assert now["fallback_share"] == pytest.approx(sources.count("fallback") / len(items))
    cold = [not engine.videos.counts[engine.videos.row[item["item_id"]]] for item in items]
    assert now["cold_share"] == pytest.approx(sum(cold) / len(items)) and sum(cold)
    about = [answer(int(item["item_id"][1:]))["subject"] for item in items]
    told = {topic["name"]: topic for topic in now["topics"]}
    assert {name: t["places"] for name, t in told.items()} == {
        s: about.count(s) for s in set(about)
    }
    assert set(told) <= set(SUBJECTS)
    for topic in told.values():
        assert topic["share"] == pytest.approx(topic["places"] / len(items))
        assert sum(topic["minutes"]) == topic["places"]


def test_faults_of_the_service_are_counted(engine, monkeypatch):
    monkeypatch.setattr(engine, "feed", lambda *_: 1 / 0)
    app = create_app(engine)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        client.get("/v1/feed/u3")
        client.get("/v1/feed/%00")
        assert sum(m["errors"] for m in overview(client)["minutes"]) == 1


def test_runs_are_offered_and_a_rollback_is_told(work):  # noqa: F811
    served = open_served(work / "runs" / "b")
    with TestClient(create_app(served), base_url="http://127.0.0.1") as client:
        told = overview(client)["run"]
        assert (told["name"], told["model"], told["others"]) == ("b", "popularity", ["a"])
        assert told["changeable"] and told["before"] is None
        client.post("/v1/admin/run", json={"run": "a"})
        told = overview(client)["run"]
        assert (told["name"], told["others"], told["before"]) == ("a", ["b"], "b")
        client.post("/v1/admin/rollback")
        assert overview(client)["run"]["name"] == "b"
    served.engine.store.close()


def test_cost_comes_from_the_ledgers(work):  # noqa: F811
    folder = work / "runs" / "b"
    facts = json.loads((folder / files.MANIFEST).read_text())
    (folder / files.MANIFEST).write_text(json.dumps(facts | {"seconds": 12.5}))
    served = open_served(folder)
    with TestClient(create_app(served), base_url="http://127.0.0.1") as client:
        assert overview(client)["cost"]["seconds"] == 12.5
        assert overview(client)["cost"]["tokens_in"] is None
    served.engine.store.close()


def test_uploads_that_wait_and_that_are_done(run, catalog, notes, tmp_path):
    served = Served(Parts(run, catalog, notes, Store(tmp_path / "store.sqlite")))
    uploads = opened(served, tmp_path, Seer())
    uploads.latest.append(Finished("v", "failed", "why", 1.0, 2.0))
    uploads.latest.append(Finished("w", "ready", "", 3.0, 2.0))
    client = TestClient(create_app(served, uploads=uploads), base_url="http://127.0.0.1")
    told = overview(client)["uploads"]
    assert told["taken"] and told["room"] == 2
    assert [one["video_id"] for one in told["latest"]] == ["w", "v"]
    assert told["latest"][1]["reason"] == "why"
    served.engine.store.close()


def test_looking_again_and_again_does_not_count_the_rows_again(client, engine, monkeypatch):
    """As Prometheus and the operator's page do, also where that takes seconds."""
    counted, real = [], engine.store.counts
    monkeypatch.setattr(engine.store, "counts", lambda: counted.append(1) or real())
    for _ in range(2):
        assert 'reelm_store_rows{table="events"} 0' in client.get("/metrics").text
        assert overview(client)["store"]["events"] == 0
    assert counted == [1]


def test_what_is_slow_to_count_is_counted_rarely():
    now, made = [0.0], []

    def make():
        made.append(now[0])
        now[0] += 1.0  # it takes a second
        return len(made)

    kept = Kept(make, lambda: now[0])
    assert [kept.get()[0], kept.get()[0]] == [1, 1]
    now[0] += AT_LEAST_S + 1
    assert kept.get()[0] == 1, "a hundred times as long as it took"
    now[0] += 100
    assert kept.get()[0] == 2
