"""Every route with no key, a wrong one, and one of each scope; and bodies that are too long."""

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from reelm.serve.gate import ServiceConfig, wanted
from reelm.serve.keys import SCOPES, Keys
from reelm.serve.service import create_app

OPEN = {"/health/live", "/health/ready", "/docs", "/operator"}
NEEDS = {
    ("GET", "/v1/feed/{user}"): "feed",
    ("GET", "/v1/similar/{video}"): "feed",
    ("GET", "/v1/videos/{video}"): "feed",
    ("GET", "/media/{video}"): "feed",
    ("HEAD", "/media/{video}"): "feed",
    ("GET", "/api/recommend/{user}"): "feed",
    ("POST", "/v1/session"): "feed",
    ("POST", "/v1/events"): "write",
    ("POST", "/v1/videos"): "write",
    ("POST", "/api/feedback"): "write",
    ("PUT", "/api/feedback"): "write",
    ("PUT", "/v1/videos/{video}/notes/{prompt}"): "edit",
    ("GET", "/v1/users"): "admin",
    ("DELETE", "/v1/users/{user}"): "admin",
    ("POST", "/v1/admin/run"): "admin",
    ("POST", "/v1/admin/rollback"): "admin",
    ("GET", "/metrics"): "admin",
    ("GET", "/v1/admin/overview"): "admin",
    ("GET", "/v1/admin/ab"): "admin",
}


def client_of(engine, keys, **more):
    app = create_app(engine, keys=keys, public=True, **more)
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


def routes(app):
    for route in app.routes:
        if isinstance(route, APIRoute):
            yield from ((method, route.path_format) for method in route.methods)


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys.json")


def test_every_route_is_in_the_matrix(engine):
    found = {(m, p) for m, p in routes(create_app(engine)) if p not in OPEN}
    assert found == set(NEEDS)


@pytest.mark.parametrize("route", sorted(NEEDS), ids=" ".join)
def test_the_matrix(engine, keys, route):
    method, path = route
    path = path.replace("{user}", "u3").replace("{video}", "v020").replace("{prompt}", "attributes")
    sent = {scope: keys.add(scope, [scope]) for scope in SCOPES}
    sent |= {"none": "", "wrong": sent["admin"][:-1]}
    with client_of(engine, keys) as client:
        for name, key in sent.items():
            headers = {"x-api-key": key} if key else {}
            status = client.request(method, path, headers=headers).status_code
            if name in ("none", "wrong"):
                assert status == 401, name
            elif name in (NEEDS[route], "admin"):
                assert status not in (401, 403) or (path == "/v1/videos" and status == 403), name
                assert status < 500
            else:
                assert status == 403, name


@pytest.mark.parametrize("path", [*sorted(OPEN), "/", "/main.js", "/api.js", "/openapi.json"])
def test_health_page_and_description_are_open(engine, keys, path):
    keys.add("x", ["feed"])
    with client_of(engine, keys) as client:
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/v1/nothing", "/v1", "/api", "/api/new", "/v1/admin", "/metrics/x", "/media", "/v1/users/"],
)
def test_what_nobody_thought_of_is_closed(path):
    assert wanted("GET", path) == "admin"
    assert wanted("PATCH", path) == "admin"


def test_other_ways_to_write_a_path_open_nothing(engine, keys):
    key = keys.add("x", ["feed"])
    with client_of(engine, keys) as client:
        for path in ("/v1/feed/../users", "/v1/%75sers", "//v1/users", "/v1/users/", "/V1/users"):
            answered = client.get(path, headers={"x-api-key": key})
            assert answered.status_code in (403, 404, 200), path
            assert "total" not in answered.text, path


def test_the_key_may_come_as_a_bearer(engine, keys):
    key = keys.add("x", ["feed"])
    with client_of(engine, keys) as client:
        headers = {"authorization": f"Bearer {key}"}
        assert client.get("/v1/feed/u3", headers=headers).status_code == 200


def test_a_public_service_whose_last_key_is_revoked_stays_closed(engine, keys):
    key = keys.add("x", ["feed"])
    with client_of(engine, keys) as client:
        keys.revoke(key.split("_")[1])
        assert client.get("/v1/feed/u3", headers={"x-api-key": key}).status_code == 401


def test_on_loopback_the_first_key_closes_the_service(engine, keys):
    with TestClient(create_app(engine, keys=keys), base_url="http://127.0.0.1") as client:
        assert client.get("/v1/feed/u3").status_code == 200
        keys.add("x", ["feed"])
        assert client.get("/v1/feed/u3").status_code == 401


def test_rate_limits_are_by_key(engine, keys):
    one, two = keys.add("one", ["feed"]), keys.add("two", ["feed"])
    with client_of(engine, keys, config=ServiceConfig(rate=0.01, burst=3)) as client:
        said = [client.get("/v1/users", headers={"x-api-key": one}) for _ in range(4)]
        assert [s.status_code for s in said] == [403, 403, 403, 429]
        assert int(said[-1].headers["retry-after"]) > 0
        assert client.get("/v1/feed/u3", headers={"x-api-key": two}).status_code == 200
        guesses = [client.get("/v1/users", headers={"x-api-key": str(n)}) for n in range(4)]
        assert [g.status_code for g in guesses] == [401, 401, 401, 429], "guessing is slow"


@pytest.mark.parametrize("honest", [True, False])
def test_long_bodies_are_refused(engine, honest):
    body = b'{"events": [' + b" " * 5000 + b"]}"
    sent = body if honest else iter([body[:3000], body[3000:]])  # the latter has no length
    with TestClient(
        create_app(engine, config=ServiceConfig(max_body=4096)), base_url="http://127.0.0.1"
    ) as client:
        answered = client.post(
            "/v1/events", content=sent, headers={"content-type": "application/json"}
        )
        assert answered.status_code == 413
        assert "4096 bytes" in answered.json()["error"]


def test_other_sites_may_call_only_where_they_are_named(engine):
    asks = {"origin": "https://a.example", "access-control-request-method": "GET"}
    for origins, allowed in (((), None), (("https://a.example",), "https://a.example")):
        app = create_app(engine, config=ServiceConfig(origins=origins))
        with TestClient(app, base_url="http://127.0.0.1") as client:
            answered = client.options("/v1/feed/u3", headers=asks)
            assert answered.headers.get("access-control-allow-origin") == allowed


def test_a_session_opens_media_and_nothing_else(engine, keys):
    key = keys.add("page", ["feed", "write"])
    with client_of(engine, keys) as client:
        said = client.post("/v1/session", headers={"x-api-key": key})
        assert said.json()["name"] == "page" and said.json()["scopes"] == ["feed", "write"]
        cookie = said.headers["set-cookie"]
        for word in ("HttpOnly", "SameSite=strict", "Path=/media/"):
            assert word in cookie
        assert key.split("_", 2)[2] not in cookie
        value = cookie.partition("=")[2].partition(";")[0]
        client.cookies.clear()
        sent = {"cookie": f"reelm_media={value}"}
        assert client.get("/media/v020", headers=sent).status_code == 200
        for method, path in NEEDS:
            if path != "/media/{video}":
                filled = path.replace("{user}", "u3").replace("{video}", "v020")
                assert client.request(method, filled, headers=sent).status_code == 401, path
        keys.revoke(key.split("_")[1])
        assert client.get("/media/v020", headers=sent).status_code == 401


def test_a_session_needs_feed_and_asks_nothing_where_no_key_is_asked(engine, keys):
    with client_of(engine, keys) as client:
        key = keys.add("writer", ["write"])
        answered = client.post("/v1/session", headers={"x-api-key": key})
        assert answered.status_code == 403 and "set-cookie" not in answered.headers
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:
        said = client.post("/v1/session")
        assert said.json() == {"name": None, "scopes": list(SCOPES), "expires_at": None}
        assert "set-cookie" not in said.headers
