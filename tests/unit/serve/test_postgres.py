"""What is peculiar to PostgreSQL: several services, a server that goes away, secrets, refusals."""

import logging
import sys
import threading
from functools import partial

import psycopg
import pytest
from starlette.testclient import TestClient

from reelm.config import parse
from reelm.errors import BadData, ConfigError, MissingPackage
from reelm.serve import queries
from reelm.serve.database import Collision, Unavailable, database
from reelm.serve.engine import Engine
from reelm.serve.gate import ServiceConfig
from reelm.serve.records import Feed, Impression, Known, StoredEvent, Upload
from reelm.serve.served import Parts, Served
from reelm.serve.service import create_app
from reelm.serve.store import Store

from .test_uploads import Seer, opened, until


@pytest.fixture
def two(url):
    """Stores of two services on one database."""
    stores = Store(url), Store(url)
    yield stores
    for store in stores:
        store.close()


def at_once(*calls):
    """Do all in threads of their own; what each gave, or raised."""
    given = [None] * len(calls)

    def do(place):
        try:
            given[place] = calls[place]()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            given[place] = error

    threads = [threading.Thread(target=do, args=(n,)) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given


def test_two_services_give_one_page_of_one_feed(two, run, catalog, notes):
    engines = [Engine(run, catalog, notes, store) for store in two]
    first = engines[0].feed("u3", 4)
    for _ in range(5):
        at = first.next_cursor
        pages = at_once(*[partial(engines[n % 2].feed, "u3", 4, at) for n in range(8)])
        assert all(one == pages[0] for one in pages), pages
        first = pages[0]
    shown = [i.video_id for i in two[1].impressions(first.feed_id)]
    assert len(shown) == len(set(shown)) == 24


def test_a_service_waits_for_the_feed_that_another_holds(two):
    order = []

    def second():
        with two[1].alone("f"):
            order.append("second")

    with two[0].alone("f"), two[1].alone("g"):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.1)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_a_feed_that_is_never_let_go_is_said(two, monkeypatch):
    monkeypatch.setattr("reelm.serve.postgres.WAIT_S", 0.05)
    with two[0].alone("f"), pytest.raises(Unavailable, match="held the feed"), two[1].alone("f"):
        pass


def test_without_the_lock_the_table_itself_refuses_two_at_one_place(two):
    feed = Feed("f", "u", False)
    two[0].add_impressions(feed, [Impression(0, "v1", "model", 1.0, "Why.")], Known())
    with pytest.raises(Collision, match=r"impressions_pkey.*again"):
        two[1].add_impressions(feed, [Impression(0, "v2", "model", 1.0, "Why.")])


def test_what_a_user_saw_by_another_service_is_seen_here(two, monkeypatch):
    """Also where this one keeps what he saw before, and where he was deleted by the other."""
    monkeypatch.setattr("reelm.serve.seen.LEAST", 2)
    feed, shown = Feed("f", "u", False), [Impression(n, f"v{n}", "new", 1.0, "") for n in range(4)]
    two[0].add_impressions(feed, shown[:2], Known())
    assert [len(store.known("u").seen.ids) for store in two] == [2, 2]
    two[0].add_impressions(feed, shown[2:])
    two[1].add_events([StoredEvent("e", "u", "v9", "like", 1.0)])
    for store in two:
        assert set(store.known("u").seen.ids) == {"v0", "v1", "v2", "v3", "v9"}
    two[0].delete_user("u")
    assert two[1].known("u").seen.ids == []
    two[1].add_events([StoredEvent("e", "u", "v5", "like", 1.0)])
    assert two[0].known("u").seen.ids == ["v5"]


def test_who_is_deleted_while_he_is_read_gets_no_page_of_his_old_past(two, monkeypatch):
    two[0].add_events([StoredEvent("e", "u", "v9", "like", 1.0)])
    recent = queries.recent

    def slow(*asked):
        found = recent(*asked)
        two[1].delete_user("u")
        return found

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(queries, "recent", slow)
        known = two[0].known("u")
    assert known.events
    page = [Impression(0, "v1", "model", 1.0, "Because you liked v9.")]
    assert not two[0].add_impressions(Feed("f", "u", False), page, known)


def test_writers_of_two_services_neither_lose_nor_block_each_other(two):
    """Events of the same users and of the same ids in opposite orders, which would deadlock."""
    names = [f"{n:03d}" for n in range(40)]

    def write(store, order):
        for start in range(0, len(names), 4):
            some = [*names[start:], *names[:start]][::order]
            store.add_events([StoredEvent(f"e{n}", f"u{n}", "v", "like", 1.0) for n in some])

    ways = [(two[n % 2], 1 if n < 2 else -1) for n in range(4)]
    assert at_once(*[partial(write, *way) for way in ways]) == [None] * 4
    assert two[0].counts()["events"] == two[1].counts()["users"] == len(names)


def test_a_writer_that_is_held_up_says_so(two, url, monkeypatch):
    monkeypatch.setattr("reelm.serve.postgres.SETTINGS", "SET lock_timeout = '50ms'")
    third = Store(url)
    with two[0]._commits.waiting() as db:
        db.begin()
        with pytest.raises(Unavailable, match=r"lock timeout.*send it again"):
            third.add_events([StoredEvent("e", "u", "v", "like", 1.0)])
        db.run("ROLLBACK")
    assert third.add_events([StoredEvent("e", "u", "v", "like", 1.0)]) == 1
    third.close()


def test_a_restart_of_the_server_is_not_noticed_by_who_asks_afterwards(postgres, two, caplog):
    two[0].add_events([StoredEvent("e1", "u", "v", "like", 1.0)])
    assert [e.event_id for e in two[1].events("u")] == ["e1"]
    with two[1].alone("f"):
        postgres.kill()
        postgres.start()
    assert [e.event_id for e in two[1].events("u")] == ["e1"]
    with caplog.at_level(logging.WARNING):
        assert two[0].add_events([StoredEvent("e2", "u", "v", "like", 2.0)]) == 1
    assert "connection was lost" in caplog.text
    with two[1].alone("f"):
        assert len(two[0].events("u")) == 2


def test_a_session_that_the_server_ends_is_replaced(two, url):
    store = two[0]
    store.add_events([StoredEvent("e1", "u", "v", "like", 1.0)])
    assert len(store.events("u")) == 1
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'reelm' AND datname = current_database()"
        )
    assert len(store.events("u")) == 1
    assert store.add_events([StoredEvent("e2", "u", "v", "like", 1.0)]) == 1


def test_clients_are_told_to_come_again_while_the_server_is_away(
    postgres, two, run, catalog, notes
):
    event = {"event_id": "e1", "type": "like", "user_id": "u", "item_id": "v007"}
    asked = [("GET", "/v1/feed/u3", None), ("POST", "/v1/events", {"events": [event]}),
             ("GET", "/health/ready", None), ("GET", "/metrics", None)]  # fmt: skip
    app = create_app(Engine(run, catalog, notes, two[0]))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        page = client.get("/v1/feed/u3?n=3").json()
        postgres.kill()
        try:
            for method, path, body in asked:
                answer = client.request(method, path, json=body)
                assert answer.status_code == 503, (path, answer.text)
                assert int(answer.headers["retry-after"]) > 0
                assert "send it again" in answer.json()["error"]
            assert client.get("/health/live").status_code == 200
        finally:
            postgres.start()
        for method, path, body in asked:
            assert client.request(method, path, json=body).status_code == 200
        after = client.get(f"/v1/feed/u3?n=3&cursor={page['next_cursor']}").json()
    shown = [item["item_id"] for item in page["items"] + after["items"]]
    assert len(shown) == len(set(shown)) == 6


def test_a_password_is_never_shown(caplog):
    secret = "s3cr-et"
    text = f"postgresql://me:{secret}@127.0.0.1:1/feeds"
    with pytest.raises(Unavailable) as refused, caplog.at_level(logging.DEBUG):
        Store(text)
    assert "postgresql://me@127.0.0.1:1/feeds" in str(refused.value)
    said = []
    for password in (f"{secret}/x", f"7/{secret}", f"{secret}@", f"x@{secret}", f"7?{secret}"):
        with pytest.raises((ConfigError, Unavailable)) as odd:
            Store(f"postgresql://me:{password}@127.0.0.1:1/feeds")
        said.append(str(odd.value))
        assert isinstance(odd.value, Unavailable) or odd.value.__cause__ is None
    assert len([one for one in said if "serve.store" in one and "%40" in one]) >= 3
    shown = [*said, str(refused.value), caplog.text, repr(database(text)), database(text).address]
    config = parse(ServiceConfig, {"store": text}, "serve")
    shown += [repr(config), str(config.model_dump()), config.model_dump_json()]
    assert config.store is not None and config.store.get_secret_value() == text
    assert not [one for one in shown if secret in one]


def test_the_missing_driver_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingPackage, match=r"reelm\[postgres\]"):
        Store("postgresql:///feeds")


def test_a_database_that_cannot_hold_every_id_is_refused(postgres):
    postgres.say("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(BadData, match=r"SQL_ASCII.*UTF8"):
        Store(postgres.url("plain"))
    postgres.say("DROP DATABASE plain")


def test_every_commit_is_synced_whatever_the_role_says(postgres, url, caplog):
    postgres.say("ALTER ROLE reelm SET synchronous_commit = off")
    session = database(url).connect()
    postgres.say("ALTER ROLE reelm RESET synchronous_commit")
    assert session.rows("SHOW synchronous_commit") == [("on",)]
    session.close()
    assert "fsync" not in caplog.text


def test_a_role_without_privileges_will_do(postgres, url):
    """It owns nothing but its schema."""
    room = url.rpartition("%3D")[2]
    postgres.say("CREATE ROLE plain LOGIN")
    postgres.say(f"ALTER SCHEMA {room} OWNER TO plain")
    store = Store(url.replace("reelm@", "plain@"))
    store.add_events([StoredEvent("e", "u", "v", "like", 1.0)])
    assert store.delete_user("u")["events"] == 1
    store.close()
    postgres.say("DROP OWNED BY plain CASCADE")
    postgres.say("DROP ROLE plain")
    postgres.say(f"CREATE SCHEMA IF NOT EXISTS {room}")


def test_what_waits_for_another_service_is_left_to_it(run, catalog, notes, tmp_path, url, caplog):
    """One of another machine, on the same store: its file is not here, and not lost."""
    here, seer = tmp_path / "here.mp4", Seer()
    here.write_bytes(b"a film")
    served = Served(Parts(run, catalog, notes, Store(url, tmp_path)))
    for name, path in (("theirs", tmp_path / "far" / "away.mp4"), ("mine", here)):
        row = {"video_id": name, "path": str(path)}
        served.engine.store.put_upload(Upload(name, name, "queued", row=row))
    app = create_app(served, uploads=opened(served, tmp_path, seer))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        until(client, "mine", "ready")
        assert client.get("/v1/videos/theirs").json()["status"] == "queued"
    assert "1 uploads wait whose files are not here" in caplog.text and seer.seen == ["mine"]
    served.engine.store.close()
