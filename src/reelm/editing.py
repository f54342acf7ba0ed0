"""The contact sheet as a page on which notes can be corrected, for people at this machine.

It listens on the loopback address only. Each form carries a token of this run, so that a page from
elsewhere cannot send corrections; the page runs no scripts and may be framed by nobody.
"""

import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from reelm.correct import correct
from reelm.errors import ConfigError, ReelmError, StaleFolder
from reelm.look import Form, Gallery
from reelm.serve.server import address_of, listening

HOST = "127.0.0.1"
HOSTS = [HOST, "localhost"]
MOST_BYTES = 64 * 1024  # of a form
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def create_editor(gallery: Gallery, token: str | None = None) -> FastAPI:
    """The page as a value: tests build one in memory, `edit` serves one.

    Args:
        token: what forms must send back; drawn here if None.

    Raises:
        ConfigError: there are no notes that could be corrected.
    """
    if gallery.notes is None:
        raise ConfigError("there are no notes to correct. Run `reelm annotate` first.")
    proof = token or secrets.token_urlsafe()
    app = FastAPI(title="ReeLM notes", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    def page(author: str = "") -> HTMLResponse:
        return _page(gallery, Form(proof, author))

    @app.post("/correct")
    async def keep(request: Request) -> Response:
        sent = _form(await _body(request))
        if not secrets.compare_digest(sent.get("token", "").encode(), proof.encode()):
            told = "this form is not of this page, or the page was started anew. Load it again."
            return HTMLResponse(told, 403, HEADERS)
        return await run_in_threadpool(_keep, gallery, proof, sent)

    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    return app


def edit(gallery: Gallery, port: int, announce: Callable[[str], Any]) -> None:
    """Serve the page until interrupted.

    Args:
        port: 0 takes a free one.
        announce: called with the address once the port is taken.

    Raises:
        ConfigError: the port is taken, or there are no notes.
    """
    app = create_editor(gallery)
    with listening(HOST, port) as listener:
        announce(address_of(listener))
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, ws="none",
            lifespan="off",
        )  # fmt: skip
        uvicorn.Server(settings).run(sockets=[listener])


def _keep(gallery: Gallery, proof: str, sent: dict[str, str]) -> Response:
    """Keep a correction and show the page again, or show what is wrong with it."""
    video, author = sent.get("video", ""), sent.get("author", "")
    begins = "field."
    values = {n.removeprefix(begins): v for n, v in sent.items() if n.startswith(begins)}
    assert gallery.notes is not None
    try:
        correct(
            gallery.notes, video, values, author, sent.get("why", ""), sent.get("version") or None
        )
    except ReelmError as error:
        status = 409 if isinstance(error, StaleFolder) else 400
        return _page(gallery, Form(proof, author, str(error), video, values), status)
    return RedirectResponse(f"/?author={quote(author)}#{quote(video)}", 303, HEADERS)


def _page(gallery: Gallery, form: Form, status: int = 200) -> HTMLResponse:
    return HTMLResponse(gallery.html(form), status, HEADERS)


async def _body(request: Request) -> bytes:
    """What was sent, cut off where no form would be so long."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            return b""
    return body


def _form(body: bytes) -> dict[str, str]:
    """Fields of a form, each once; empty for what is no form."""
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=200)
    except (ValueError, UnicodeDecodeError):
        return {}
    return {name: values[-1] for name, values in fields.items()}
