import time

import pytest
from fastapi.testclient import TestClient

from reelm.serve.service import create_app

from .conftest import video


@pytest.fixture
def client(engine):
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:
        yield client


def line(**more):
    facts = {"FeedbackType": "like", "UserId": "s", "ItemId": video(20)}
    return facts | {"Timestamp": "2026-05-01T10:00:00Z", "Comment": "", "Categories": []} | more


def test_recommendations_are_ids_and_do_not_come_twice(client):
    first = client.get("/api/recommend/u3?n=7").json()
    second = client.get("/api/recommend/u3?n=7").json()
    assert len(set(first + second)) == 14


def test_feedback_is_stored_once(client, engine):
    lines = [line(), line(FeedbackType="read", Value=0.4), line(FeedbackType="click")]
    assert client.post("/api/feedback", json=lines).json() == {"RowAffected": 3}
    assert client.put("/api/feedback", json=lines).json() == {"RowAffected": 0}
    stored = {(e.type, e.portion) for e in engine.store.events("s")}
    assert stored == {("like", None), ("watch", 0.4), ("watch", 1.0)}


def test_a_time_without_a_zone_is_utc_wherever_the_machine_stands(client, engine, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        lines = [line(), line(FeedbackType="read", Timestamp="2026-05-01T10:00:00")]
        assert client.post("/api/feedback", json=lines).json() == {"RowAffected": 2}
    finally:
        monkeypatch.undo()
        time.tzset()
    assert {event.timestamp for event in engine.store.events("s")} == {1777629600.0}


@pytest.mark.parametrize(
    "wrong",
    [{"FeedbackType": "buy"}, {"UserId": ""}, {"Value": -1}, {"Timestamp": "9999-12-31T23:59:59Z"},
     {"Timestamp": "0001-01-01T00:00:00"}, {"Timestamp": "soon"}],
)  # fmt: skip
def test_wrong_feedback_is_refused_whole(client, engine, wrong):
    answered = client.post("/api/feedback", json=[line(), line(**wrong)])
    assert answered.status_code == 422
    assert answered.json()["error"]
    assert not engine.store.events("s")
