"""The route by which the page lets its video elements in: a key for a cookie that opens media."""

import time

from fastapi import FastAPI, Request, Response

from reelm.serve.gate import COOKIE, MEDIA
from reelm.serve.keys import SCOPES, Key, Keys
from reelm.serve.messages import Session

LASTS_S = 12 * 3600


def add_session(app: FastAPI, keys: Keys | None) -> None:
    """Add the route."""

    @app.post("/v1/session", tags=["feed"])
    def session(request: Request, response: Response) -> Session:
        """Say what the key that was sent opens, and set a cookie by which `<video>` may load media.

        The cookie is no key: it opens `GET /media/` alone, no script can read it, other sites
        cannot send it, and it ends with the browser's session, with the key or after twelve hours.
        """
        key: Key | None = getattr(request.state, "key", None)
        if keys is None or key is None:
            return Session(name=None, scopes=list(SCOPES), expires_at=None)
        until = int(time.time()) + LASTS_S
        response.set_cookie(
            COOKIE, keys.media_pass(key, until), path=MEDIA, httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return Session(name=key.name, scopes=list(key.scopes), expires_at=until)
