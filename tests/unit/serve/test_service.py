import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from fastapi.testclient import TestClient

from reelm.data.tables import Catalog
from reelm.serve.database import Unavailable
from reelm.serve.engine import Engine
from reelm.serve.records import Upload
from reelm.serve.service import create_app
from reelm.serve.store import Store

from .conftest import VIDEOS, answer, video


@pytest.fixture
def client(engine):
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:
        yield client


def watch(number, **more):
    facts = {"event_id": f"e{number}", "type": "watch", "user_id": "u3", "item_id": video(20)}
    return facts | {"timestamp": 1.7e9, "portion": 0.8} | more


def send(client, *events):
    return client.post("/v1/events", json={"events": list(events)})


def test_a_feed_in_pages(client):
    first = client.get("/v1/feed/u3?n=3").json()
    second = client.get("/v1/feed/u3", params={"n": 3, "cursor": first["next_cursor"]}).json()
    assert first["feed_id"] == second["feed_id"]
    ids = [item["item_id"] for page in (first, second) for item in page["items"]]
    assert len(set(ids)) == 6
    item = first["items"][0]
    assert item["video_url"] == f"/media/{item['item_id']}"
    assert item["title"].startswith("<b>clip</b>"), "titles are sent as they are, shown as text"
    assert item["source"] in {"model", "new", "fallback"}
    assert item["reason"].endswith(".")
    assert all(tag.startswith("#") for tag in item["hashtags"])


def test_ids_may_hold_anything_printable(client):
    for user in ("a%2Fb", "%F0%9F%98%80", "..%2F..%2Fetc", "a%20b"):
        assert client.get(f"/v1/feed/{user}?n=2").status_code == 200


def test_events_are_idempotent(client, engine):
    assert send(client, watch(1), watch(2)).json() == {
        "stored": 2,
        "repeated": 0,
        "unknown_videos": 0,
    }
    assert send(client, watch(2), watch(3)).json() == {
        "stored": 1,
        "repeated": 1,
        "unknown_videos": 0,
    }
    assert [e.portion for e in engine.store.events("u3")] == [0.8] * 3


def test_events_about_videos_that_nobody_knows_are_kept_and_told(client, engine, caplog):
    """A client with wrong ids sees it at once, and so does the operator; nothing is lost."""
    engine.store.put_upload(Upload("waits", "aa", "queued", row={"path": "a.mp4"}))
    names = [video(20), "waits", "typo", "typo", "lost"]
    batch = [watch(n, item_id=name) for n, name in enumerate(names)]
    follow = {"event_id": "f", "type": "follow", "user_id": "u3", "creator": "nobody"}
    told = {"stored": 6, "repeated": 0, "unknown_videos": 3}
    assert send(client, *batch, follow).json() == told
    assert [e.video_id for e in engine.store.events("u3")].count("typo") == 2
    send(client, watch(9))
    line = {"FeedbackType": "like", "UserId": "u", "ItemId": "typo"}
    assert client.post("/api/feedback", json=[line]).json() == {"RowAffected": 1}
    assert "\nreelm_events_unknown_videos_total 4\n" in client.get("/metrics").text
    assert client.get("/v1/admin/overview").json()["unknown_videos"] == 4
    assert caplog.text.count("not known here, such as 'typo'") in (1, 2), "once in a minute"


def test_events_are_acknowledged_only_when_they_are_on_the_disk(client, engine, monkeypatch):
    begun, written, disk = threading.Event(), threading.Event(), engine.store._commits._syncs

    def slow():
        begun.set()
        assert written.wait(10)

    monkeypatch.setattr(disk, "_sync", slow)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send, client, watch(1))
        assert begun.wait(10) and engine.store.events("u3") and not answer.done()
        written.set()
        assert answer.result(10).is_success

    def full():
        raise Unavailable("store", "disk full")

    monkeypatch.setattr(disk, "_sync", full)
    assert send(client, watch(2)).status_code == 503
    monkeypatch.undo()
    assert send(client, watch(2)).json() == {"stored": 0, "repeated": 1, "unknown_videos": 0}, (
        "sent again, it is safe"
    )


def test_a_page_that_takes_long_is_made_by_another_thread(client, engine, monkeypatch):
    threads = []
    feed = engine.feed
    monkeypatch.setattr(
        engine, "feed", lambda *a: (threads.append(threading.current_thread()), feed(*a))[1]
    )
    for videos in (VIDEOS, 1):
        monkeypatch.setattr("reelm.serve.engine.QUICK", videos + 2)
        assert client.get("/v1/feed/u3").is_success
    assert "AnyIO worker" not in threads[0].name and "AnyIO worker" in threads[1].name


@pytest.mark.parametrize(
    "wrong",
    [
        {"portion": None},
        {"portion": -0.1},
        {"portion": 1e9},
        {"type": "like"},
        {"type": "buy"},
        {"timestamp": 1.7e12},
        {"user_id": ""},
        {"item_id": "a\x00b"},
        {"event_id": "x" * 257},
        {"potion": 1},
    ],
)
def test_wrong_events_are_refused_whole(client, engine, wrong):
    answered = send(client, watch(1), watch(2, **wrong))
    assert answered.status_code == 422
    assert "events.1" in answered.json()["error"]
    assert not engine.store.events("u3")


def test_events_without_a_json_type_are_refused(client):
    body = '{"events": [{"event_id": "1", "type": "like", "user_id": "u", "item_id": "v"}]}'
    sent = client.post("/v1/events", content=body, headers={"content-type": "text/plain"})
    assert sent.status_code == 422, "a form of another site can send text, but not JSON"


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/v1/feed/u3?n=0", 422),
        ("/v1/feed/u3?n=1000", 422),
        ("/v1/feed/u3?cursor=nonsense", 400),
        ("/v1/feed/%00", 422),
        ("/v1/videos/nothing", 404),
        ("/v1/similar/nothing", 404),
        ("/media/nothing", 404),
        ("/nothing", 404),
    ],
)
def test_errors_are_json(client, address, status):
    answered = client.get(address)
    assert answered.status_code == status
    assert set(answered.json()) == {"error"}


def test_a_bug_is_500_without_details(engine, monkeypatch, caplog):
    monkeypatch.setattr(engine, "feed", lambda *_: 1 / 0)
    client = TestClient(
        create_app(engine), base_url="http://127.0.0.1", raise_server_exceptions=False
    )
    answered = client.get("/v1/feed/u3")
    assert answered.status_code == 500
    assert "division" not in answered.text
    assert "division" in caplog.text


def test_media_by_range(client):
    whole = client.get(f"/media/{video(20)}")
    assert whole.status_code == 200
    assert whole.headers["content-type"] == "video/mp4"
    part = client.get(f"/media/{video(20)}", headers={"range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == whole.content[10:20]


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", video(1), video(0) + ".mp4"],
)
def test_only_catalogue_files_are_served(client, path):
    assert client.get(f"/media/{path}").status_code == 404


def test_a_file_that_went_away_is_404(run, catalog, tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"x")
    videos = catalog.videos.with_columns(path=pl.lit(str(path)))
    with TestClient(
        create_app(Engine(run, Catalog(tmp_path, videos, catalog.events), None, Store())),
        base_url="http://127.0.0.1",
    ) as client:
        path.unlink()
        assert client.get(f"/media/{video(20)}").status_code == 404


def test_a_video_with_notes_and_where_they_come_from(client):
    facts = client.get(f"/v1/videos/{video(20)}").json()
    assert facts["notes"] == answer(20)
    assert facts["provenance"] == [{"prompt": "attributes", "model": "by hand"}]
    assert facts["watched"] > 0
    assert facts["facts"]["duration_s"] == 4.0
    assert "path" not in facts["facts"]


def test_a_video_that_is_not_shown_says_why(client):
    told = client.get(f"/v1/videos/{video(1)}").json()
    assert (told["problem"], told["video_url"]) == ("not shown: broken", None)
    assert client.get(f"/v1/videos/{video(2)}").json()["problem"] is None


def test_similar_videos(client):
    found = client.get(f"/v1/similar/{video(9)}?n=4").json()
    assert len(found) == 4
    assert found[0]["score"] >= found[-1]["score"]


def test_users_are_offered(client):
    known = client.get("/v1/users?n=5").json()
    assert known["total"] == 30
    assert len(set(known["users"])) == 5


def test_health(client, engine):
    assert client.get("/health/live").json() == {"status": "ok"}
    assert client.get("/health/ready").status_code == 200
    engine.videos.usable[:] = False
    assert client.get("/health/ready").status_code == 503


def test_a_full_disk_is_not_ready(run, tmp_path, monkeypatch):
    engine = Engine(run, store=Store(tmp_path / "store.sqlite"))
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:
        assert client.get("/health/ready").status_code == 200
        free = shutil.disk_usage(tmp_path)._replace(free=4096)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
        answer = client.get("/health/ready")
    engine.store.close()
    assert (answer.status_code, answer.json()["error"]) == (
        503, "the disk that holds the store is full",
    )  # fmt: skip


def test_health_and_files_answer_head(client):
    for path in ("/health/live", "/health/ready", f"/media/{video(9)}"):
        whole, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == whole.headers["content-length"]


def test_a_deleted_user_is_not_offered(client):
    name = client.get("/v1/users?n=5").json()["users"][2]
    assert client.delete(f"/v1/users/{name}").status_code == 200
    assert name not in client.get("/v1/users?n=5").json()["users"]


def test_metrics_count_routes_places_and_events(client):
    client.get("/v1/feed/u3?n=3")
    client.get("/v1/feed/u4?n=3")
    send(client, watch(1))
    client.get("/v1/feed/u3?n=0")
    text = client.get("/metrics").text
    assert 'reelm_requests_total{route="/v1/feed/{user}",status="200"} 2' in text
    assert 'reelm_requests_total{route="/v1/feed/{user}",status="422"} 1' in text
    assert 'reelm_request_seconds_count{route="/v1/feed/{user}"} 3' in text
    assert 'reelm_events_total{type="watch"} 1' in text
    places = [int(line.split()[1]) for line in text.splitlines() if "feed_places_total{" in line]
    assert sum(places) == 6


@pytest.mark.parametrize("address", ["/", "/v1/feed/u3", "/nothing", "/main.js", "/media/v020"])
def test_security_headers_are_on_everything(client, address):
    headers = client.get(address).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_other_hosts_are_refused(client):
    assert client.get("/health/live", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/health/live", headers={"host": "localhost:8000"}).status_code == 200


def test_page_and_docs_load_nothing_from_elsewhere(client):
    for address in ("/", "/docs"):
        text = client.get(address).text
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "https://" not in text
        for part in text.split('"'):
            if part.endswith((".js", ".css", ".svg")):
                assert client.get("/" + part.lstrip("/")).status_code == 200
    assert client.get("/openapi.json").json()["openapi"].startswith("3.1")


def test_the_page_never_writes_html():
    from reelm.serve.service import PAGE

    for path in PAGE.glob("*.js"):
        code = path.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in code, f"{path.name} uses {word}; titles are strangers' text"
