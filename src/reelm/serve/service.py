"""The HTTP service: feed, events, videos, media files, health, metrics and the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Query, Response
from fastapi import Path as PathValue
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from reelm import __version__
from reelm.errors import BadData
from reelm.serve.counters import Counters
from reelm.serve.engine import Engine
from reelm.serve.messages import (
    Events,
    FeedItem,
    FeedPage,
    Id,
    Recorded,
    Similar,
    UserIds,
    VideoFacts,
)  # fmt: skip
from reelm.serve.shell import Shell, explain_errors
from reelm.serve.store import Impression
from reelm.serve.videos import Videos

PAGE = Path(__file__).parent / "page"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")

UserId = Annotated[Id, PathValue()]
VideoId = Annotated[Id, PathValue()]
Size = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=200)]


def create_app(engine: Engine, hosts: Sequence[str] = LOOPBACK) -> FastAPI:
    """The whole service as a value: tests build one in memory, `serve` serves one.

    Requests whose Host header is not in `hosts` are refused, so that a page elsewhere cannot
    reach the service by a name that leads here.
    """
    app = FastAPI(
        title="ReeLM", version=__version__, docs_url=None, redoc_url=None,
        description="A feed of micro-videos: what to show next, and why.",
    )  # fmt: skip
    counters = Counters()
    _add_feed(app, engine, counters)
    _add_videos(app, engine)
    _add_operations(app, engine, counters)
    explain_errors(app)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(Shell, counters=counters)
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app


def _add_feed(app: FastAPI, engine: Engine, counters: Counters) -> None:
    @app.get("/v1/feed/{user:path}", tags=["feed"])
    def feed(user: UserId, n: Size = 10, cursor: Cursor = None, again: bool = False) -> FeedPage:
        """The next videos for any user, known or not. Without a cursor a new feed begins.

        Within a feed no video comes twice. With `again`, videos of earlier feeds may come back.
        """
        page = engine.feed(user, n, cursor, again)
        for shown in page.items:
            counters.place(shown.source)
        items = [_item(engine.videos, shown) for shown in page.items]
        return FeedPage(feed_id=page.feed_id, items=items, next_cursor=page.next_cursor)

    @app.post("/v1/events", tags=["feed"])
    def events(batch: Events) -> Recorded:
        """Store what users did. Idempotent: an event id that is there already changes nothing."""
        new = engine.store.add_events([event.stored() for event in batch.events])
        for event in batch.events:
            counters.event(event.type)
        return Recorded(stored=new, repeated=len(batch.events) - new)

    @app.get("/v1/users", tags=["feed"])
    def users(n: Size = 20) -> UserIds:
        """Some users of the training log, spread over it."""
        known = engine.run.users
        step = max(1, len(known) // n)
        return UserIds(users=list(known[::step][:n]), total=len(known))


def _add_videos(app: FastAPI, engine: Engine) -> None:
    videos = engine.videos

    @app.get("/v1/similar/{video:path}", tags=["videos"])
    def similar(video: VideoId, n: Size = 10) -> list[Similar]:
        """Videos like this one, best first."""
        found = engine.similar(video, n)
        return [Similar(item_id=v, score=s, title=videos.fact(v, "title")) for v, s in found]

    @app.get("/v1/videos/{video:path}", tags=["videos"])
    def facts(video: VideoId) -> VideoFacts:
        """What the catalogue and the notes say of a video, and where the notes come from."""
        row = engine.known(video)
        return VideoFacts(
            item_id=video,
            title=videos.fact(video, "title"),
            facts=videos.facts(video),
            notes=videos.answers(video),
            provenance=[dict(source) for source in videos.notes.provenance],
            watched=int(videos.counts[row]),
            video_url=_address(videos, video),
        )

    @app.get("/media/{video:path}", tags=["videos"], response_class=FileResponse)
    def media(video: VideoId) -> FileResponse:
        """The file of a catalogue video, whole or by Range. The id is looked up, never a path."""
        path = videos.path.get(video)
        if path is None or not path.is_file():
            raise HTTPException(404, f"no playable file for video {video!r}")
        return FileResponse(
            path,
            media_type=videos.media_type(video),
            headers={"cache-control": "private, max-age=3600"},
        )


def _add_operations(app: FastAPI, engine: Engine, counters: Counters) -> None:
    @app.get("/health/live", tags=["operations"])
    def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/health/ready", tags=["operations"])
    def ready() -> Response:
        """The store answers and there is something to show."""
        problem = None
        try:
            engine.store.version()
        except BadData as error:
            problem = str(error)
        if not engine.videos.usable.any():
            problem = "no video of the catalogue can be shown"
        facts = {"run": engine.run.name, "videos": int(engine.videos.usable.sum())}
        status = {"status": "ok", **facts} if problem is None else {"error": problem, **facts}
        return JSONResponse(status, status_code=200 if problem is None else 503)

    @app.get("/metrics", tags=["operations"], response_class=PlainTextResponse)
    def metrics() -> str:
        """Counters and latencies, in the text form that Prometheus reads."""
        return counters.text(engine.store.counts())

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html")


def _item(videos: Videos, shown: Impression) -> FeedItem:
    video = shown.video_id
    return FeedItem(
        item_id=video,
        score=shown.score,
        source=shown.source,  # type: ignore[arg-type]
        reason=shown.reason,
        facts=dict(shown.facts),
        because=list(shown.because),
        title=videos.fact(video, "title"),
        hashtags=videos.hashtags(video),
        creator=videos.fact(video, "creator"),
        video_url=_address(videos, video),
        duration_s=videos.fact(video, "duration_s"),
    )


def _address(videos: Videos, video: str) -> str | None:
    return f"/media/{quote(video, safe='')}" if video in videos.path else None
