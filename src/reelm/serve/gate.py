"""What every request must pass: a key for what it asks, a limit on how often, one on how long."""

import math
from typing import Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, SecretStr
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reelm.config import Config
from reelm.serve.keys import Key, Keys
from reelm.serve.limits import Buckets

CLOSED = ("/v1/", "/api/", "/media/", "/metrics")
"""Paths that need a key; whatever is not named in SCOPES needs one for admin."""
SCOPES: tuple[tuple[str, str, str], ...] = (
    ("GET", "/v1/feed/", "feed"),
    ("GET", "/v1/similar/", "feed"),
    ("GET", "/v1/videos/", "feed"),
    ("GET", "/media/", "feed"),
    ("GET", "/api/recommend/", "feed"),
    ("POST", "/v1/session", "feed"),
    ("POST", "/v1/events", "write"),
    ("POST", "/v1/videos", "write"),
    ("POST", "/api/feedback", "write"),
    ("PUT", "/api/feedback", "write"),
    ("PUT", "/v1/videos/", "edit"),
)
"""Method, beginning of the path, scope. Health, the page and the description are open."""
UPLOADS = "/v1/videos"
MEDIA = "/media/"
COOKIE = "reelm_media"
"""A page's video elements cannot send a header, so this cookie opens media, and nothing else."""


class ServiceConfig(Config):
    """Section [serve]."""

    store: SecretStr | None = None
    """Where events and feeds are kept: a path of an SQLite file, or postgresql://user@host/name
    (extra `postgres`). Unset: `serve/store.sqlite` in the work folder. A password is better left to
    ~/.pgpass or PGPASSWORD."""
    hosts: tuple[str, ...] = ()
    """Names under which clients reach the service, besides loopback; others are refused."""
    origins: tuple[str, ...] = ()
    """Origins of other sites whose pages may call the service from a browser (CORS)."""
    rate: NonNegativeFloat = 200.0
    """Requests a second for each key, and for each address without one; 0 is no limit. Only where
    keys are asked for."""
    burst: PositiveInt = 400
    """Requests that may come at once after a quiet time."""
    max_body: int = Field(default=2 * 2**20, ge=1024)
    """Longest body of a request in bytes; that of a video is [uploads] max_bytes."""
    wait_s: NonNegativeFloat = 1.0
    """Seconds that a request for a feed may wait for its turn; events, twice that. When more is
    asked than can be answered, those that waited longer get 503 at once, and the others are in
    time; 0 is no limit."""

    shown_days: PositiveFloat | None = None
    """Days after which the service forgets what a feed showed; events stay. A video that was shown
    and met with no event may then come again, and reports of trials lack it. Unset: never."""
    ranker: str | None = None
    """A run of a ranker such as din, a folder beside the served one: it puts the best
    `engine.ranker_candidates` of the served run in order. Unset: there is no second stage."""
    ab: str | None = None
    """A second run, a folder beside the served one, for the users of arm b. Unset: no trial."""
    ab_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the users who are in arm b."""
    ab_ranker: str | None = None
    """The ranker of arm b, as `ranker` is that of arm a."""
    ab_name: str = Field(default="ab", min_length=1, max_length=64)
    """Name of the trial. Another name divides the users anew and begins another report."""


class Gate:
    """Stands before the routes."""

    def __init__(
        self, app: ASGIApp, keys: Keys | None, required: bool, config: ServiceConfig, longest: int
    ) -> None:
        """
        Args:
            required: refuse everything that is closed even while no key exists.
            longest: bytes of an upload.
        """
        self._app, self._keys, self._required, self._config = app, keys, required, config
        self._buckets = Buckets(config.rate, config.burst)
        self._longest = longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = await self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        limit = self._limit(scope)
        said = Headers(scope=scope).get("content-length", "")
        if said.isdigit() and int(said) > limit:
            await _said(413, _too_long(limit), connection="close")(scope, receive, send)
            return
        await self._app(scope, _counted(receive, limit), send)

    async def _refusal(self, scope: Scope) -> JSONResponse | None:
        keys = self._keys
        if keys is None or not (self._required or keys.any()):
            return None
        headers = Headers(scope=scope)
        sent = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        key = await run_in_threadpool(keys.check, sent) if sent else None
        if not sent and scope["method"] in ("GET", "HEAD") and scope["path"].startswith(MEDIA):
            shown = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
            key = await run_in_threadpool(keys.admitted, shown) if shown else None
        scope.setdefault("state", {})["key"] = key
        client = key.id if key else (scope.get("client") or ("", 0))[0]
        wait = self._buckets.take(client)
        if wait:
            seconds = str(math.ceil(wait))
            return _said(429, f"too many requests; try again in {seconds} s", retry_after=seconds)
        return _without(key, wanted(scope["method"], scope["path"]))

    def _limit(self, scope: Scope) -> int:
        upload = scope["method"] == "POST" and scope["path"] == UPLOADS
        return self._longest + 2**16 if upload else self._config.max_body


def wanted(method: str, path: str) -> str | None:
    """The scope that a request needs; None for what is open to all."""
    method = "GET" if method == "HEAD" else method
    for verb, start, scope in SCOPES:
        if method == verb and (path == start or (start.endswith("/") and path.startswith(start))):
            return scope
    closed = any(path.startswith(start) or path == start.rstrip("/") for start in CLOSED)
    return "admin" if closed else None


def _without(key: Key | None, scope: str | None) -> JSONResponse | None:
    """What a client hears whose key does not open this."""
    if scope is None or (key is not None and key.may(scope)):
        return None
    if key is None:
        told = "send a valid API key in the header X-API-Key; `reelm keys add` makes one"
        return _said(401, told, www_authenticate="ApiKey")
    return _said(403, f"this key has no scope {scope!r}; it has {', '.join(key.scopes)}")


def _counted(receive: Receive, limit: int) -> Receive:
    """The same body, ended when it grows too long, whatever its header said."""
    size = 0

    async def counting() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise HTTPException(413, _too_long(limit))
        return message

    return counting


def _too_long(limit: int) -> str:
    return f"the body is longer than {limit} bytes"


def _said(status: int, told: str, **headers: Any) -> JSONResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": told}, status_code=status, headers=named)
