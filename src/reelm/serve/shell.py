"""What lies around every answer: security headers, counting, and errors as JSON."""

import logging
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reelm.errors import ReelmError, StaleFolder, UnknownUser
from reelm.serve.correcting import UnknownNote
from reelm.serve.counters import Counters
from reelm.serve.database import Collision, Unavailable
from reelm.serve.engine import UnknownVideo
from reelm.serve.fetch import RefusedUri
from reelm.serve.pace import Late
from reelm.serve.served import UnknownRun
from reelm.serve.uploads import Busy, Refused, Taken

log = logging.getLogger(__name__)

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The page may load nothing from elsewhere, run no inline script, and be framed by nobody."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
STATUS: dict[type[ReelmError], int] = {
    UnknownUser: 404, UnknownVideo: 404, UnknownRun: 404, UnknownNote: 404, Taken: 409,
    StaleFolder: 409, Collision: 409, Refused: 422, RefusedUri: 422, Busy: 429, Unavailable: 503,
    Late: 503,
}  # fmt: skip
"""What the client hears of our errors; others are 400."""
AGAIN_S: dict[type[ReelmError], int] = {Busy: 5, Unavailable: 5, Late: 1}
"""Seconds after which it may try again."""


class Shell:
    """Adds the headers to each answer and counts it."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self._app, self._counters = app, counters
        self._headers = [(k.encode(), v.encode()) for k, v in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path_format", "page")
            self._counters.request(route, status, time.perf_counter() - start)


def explain_errors(app: FastAPI) -> None:
    """Answer every error as {"error": "..."}: ours and the client's with their words, bugs not."""

    def ours(_: Request, error: ReelmError) -> JSONResponse:
        wait = AGAIN_S.get(type(error))
        headers = None if wait is None else {"retry-after": str(wait)}
        return _said(str(error), STATUS.get(type(error), 400), headers)

    def refused(_: Request, error: HTTPException) -> JSONResponse:
        return _said(str(error.detail), error.status_code, error.headers)

    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]]
        return _said("; ".join(wrong), 422)

    def bug(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _said("internal error; the service's log has the details", 500)

    handlers: list[tuple[type[Exception], Callable[..., Any]]] = [
        (ReelmError, ours), (HTTPException, refused), (RequestValidationError, invalid),
        (Exception, bug),
    ]  # fmt: skip
    for kind, handler in handlers:
        app.add_exception_handler(kind, handler)


def _said(message: str, status: int, headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status, headers=headers)
