"""The HTTP service: feed, events, health, metrics, the page, and what lies around them."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from anyio import to_thread
from fastapi import FastAPI, Query, Response
from fastapi import Path as PathValue
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from reelm import __version__
from reelm.data.dataset import Dataset
from reelm.errors import BadData
from reelm.models.popularity import Popularity, PopularityConfig
from reelm.runs import Run
from reelm.serve.correcting import add_corrections
from reelm.serve.counters import Counters
from reelm.serve.engine import Engine
from reelm.serve.facets import tags_of
from reelm.serve.gate import Gate, ServiceConfig
from reelm.serve.gorse import add_gorse
from reelm.serve.keys import Keys
from reelm.serve.messages import (
    ArmName,
    Deleted,
    Events,
    FeedItem,
    FeedPage,
    Id,
    Recorded,
    RunName,
    RunNow,
    UserIds,
)
from reelm.serve.overview import Kept, add_overview, count_page
from reelm.serve.pace import EVENTS, Pace
from reelm.serve.records import Impression
from reelm.serve.screening import add_videos, address
from reelm.serve.served import Served
from reelm.serve.session import add_session
from reelm.serve.shell import Shell, explain_errors
from reelm.serve.trials import TrialReport, report
from reelm.serve.uploads import Uploads
from reelm.serve.videos import Videos

PAGE = Path(__file__).parent / "page"
HANDS = 8
"""Requests that are worked on at once. More would not be quicker, since one thread of Python runs
at a time: they would wait for each other in the middle of their work instead of before it."""
ROOM = 2**23
"""Bytes that the disk of the store needs to have free."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")

ITEM = ("title", "hashtags", "creator", "duration_s")
"""Catalogue columns that a feed tells."""

UserId = Annotated[Id, PathValue()]
Size = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=200)]


def create_app(
    of: Engine | Served, hosts: Sequence[str] = LOOPBACK, uploads: Uploads | None = None,
    keys: Keys | None = None, config: ServiceConfig | None = None, public: bool = False,
) -> FastAPI:  # fmt: skip
    """The whole service as a value: tests build one in memory, `serve` serves one.

    Requests whose Host header is not in `hosts` are refused, so that a page elsewhere cannot
    reach the service by a name that leads here.

    Args:
        uploads: takes videos; without it none are taken.
        keys: who may call; without it, or while it is empty and not `public`, everybody.
    """
    served = of if isinstance(of, Served) else Served(of)
    config = config or ServiceConfig()

    pace = Pace(config.wait_s)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = HANDS
        beating = asyncio.create_task(pace.beat())
        if uploads is not None:
            uploads.start()
        yield
        beating.cancel()
        if uploads is not None:
            uploads.stop()

    app = FastAPI(
        title="ReeLM", version=__version__, docs_url=None, redoc_url=None, lifespan=life,
        description="A feed of micro-videos: what to show next, and why.",
    )  # fmt: skip
    app.state.pace, counters = pace, Counters()
    _add_feed(app, served, counters, pace)
    add_videos(app, served, uploads)
    add_corrections(app, served)
    add_session(app, keys)
    add_gorse(app, served, counters, pace)
    _add_admin(app, served)
    rows = Kept(lambda: served.engine.store.counts())
    add_overview(app, served, counters, uploads, rows)
    _add_operations(app, served, counters, uploads, rows)
    explain_errors(app)
    longest = uploads.config.max_bytes if uploads else config.max_body
    app.add_middleware(Gate, keys=keys, required=public, config=config, longest=longest)
    if config.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(config.origins), allow_methods=["GET", "POST"],
            allow_headers=["content-type", "x-api-key"],
        )  # fmt: skip
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*hosts, *config.hosts])
    app.add_middleware(Shell, counters=counters)
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app


def description() -> dict[str, Any]:
    """The interface in OpenAPI 3.1; the same for every run."""
    log = pl.DataFrame({"user_id": ["u"], "video_id": ["v"]})
    data = Dataset.build(log)
    engine = Engine(Run.of("popularity", Popularity(PopularityConfig(), data), data))
    try:
        return create_app(engine).openapi()
    finally:
        engine.store.close()


def _add_feed(app: FastAPI, served: Served, counters: Counters, pace: Pace) -> None:
    @app.get("/v1/feed/{user:path}", tags=["feed"], response_model=FeedPage)
    async def feed(
        user: UserId, n: Size = 10, cursor: Cursor = None, again: bool = False
    ) -> Response:
        """The next videos for any user, known or not. Without a cursor a new feed begins.

        Within a feed no video comes twice. With `again`, videos of earlier feeds may come back.
        """
        since, engine = pace.since(), served.of(user)
        if engine.quick:
            return page(since, engine, user, n, cursor, again)
        return await run_in_threadpool(page, since, engine, user, n, cursor, again)

    def page(
        since: float, engine: Engine, user: str, n: int, cursor: str | None, again: bool
    ) -> Response:
        pace.admit(since)
        found = engine.feed(user, n, cursor, again)
        items = [_item(engine.videos, shown) for shown in found.items]
        count_page(counters, engine.videos, found.items, [item.hashtags for item in items])
        told = FeedPage(feed_id=found.feed_id, items=items, next_cursor=found.next_cursor)
        return _answered(told)

    @app.post("/v1/events", tags=["feed"], response_model=Recorded)
    async def events(batch: Events) -> Response:
        """Store what users did. Idempotent: an event id that is there already changes nothing."""
        since, store = pace.since(), served.engine.store

        def kept(synced: bool) -> tuple[int, list[str]]:
            pace.admit(since, EVENTS)
            return store.add_events(given, synced), served.unknown(given)

        given = [event.stored() for event in batch.events]
        if store.quick:
            new, unknown = kept(synced=False)
            await asyncio.wrap_future(store.sync())
        else:
            new, unknown = await run_in_threadpool(kept, synced=True)
        counters.events((event.type for event in given), unknown)
        repeated = len(given) - new
        return _answered(Recorded(stored=new, repeated=repeated, unknown_videos=len(unknown)))

    @app.get("/v1/users", tags=["feed"])
    def users(n: Size = 20) -> UserIds:
        """Some users of the training log, spread over it, without those who were deleted."""
        known = served.engine.run.users
        some = known[:: max(1, len(known) // n)][:n]
        deleted = served.engine.store.deleted(some)
        return UserIds(users=[one for one in some if one not in deleted], total=len(known))


def _add_admin(app: FastAPI, served: Served) -> None:
    @app.delete("/v1/users/{user:path}", tags=["admin"])
    def delete(user: UserId) -> Deleted:
        """Remove all that is stored of a user: events, feeds, impressions, every byte of them.

        The run's weights and its training log are not changed, but its history of this user is no
        longer read.
        """
        return Deleted(removed=served.engine.store.delete_user(user))

    @app.post("/v1/admin/run", tags=["admin"])
    def use(body: RunName) -> RunNow:
        """Serve another run from the next request on; requests under way keep the present one."""
        arm = served.arm(body.arm)
        return _now(arm, arm.use(body.run))

    @app.post("/v1/admin/rollback", tags=["admin"])
    def back(body: ArmName | None = None) -> RunNow:
        """Serve the run again that was served before the last change."""
        arm = served.arm(body.arm if body else "a")
        return _now(arm, arm.back())

    @app.get("/v1/admin/ab", tags=["admin"])
    def ab(name: Annotated[str | None, Query(max_length=64)] = None) -> TrialReport:
        """What came of the newest trial, or of the newest of that name, by arm."""
        return report(served.engine.store, name)


def _now(served: Served, name: str) -> RunNow:
    return RunNow(run=name, videos=int(served.engine.videos.usable.sum()))


def _add_operations(
    app: FastAPI, served: Served, counters: Counters, uploads: Uploads | None,
    rows: Kept[dict[str, int]],
) -> None:  # fmt: skip
    @app.head("/health/live", include_in_schema=False)
    @app.get("/health/live", tags=["operations"])
    def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.head("/health/ready", include_in_schema=False)
    @app.get("/health/ready", tags=["operations"])
    def ready() -> Response:
        """The store answers, its disk has room, and there is something to show."""
        engine = served.engine
        problem = _problem(engine)
        facts = {"run": engine.run.name, "videos": int(engine.videos.usable.sum())}
        status = {"status": "ok", **facts} if problem is None else {"error": problem, **facts}
        return JSONResponse(status, status_code=200 if problem is None else 503)

    @app.get("/metrics", tags=["operations"], response_class=PlainTextResponse)
    def metrics() -> str:
        """Counters and latencies, in the text form that Prometheus reads."""
        waiting = uploads.waiting if uploads else 0
        return counters.text(rows.get()[0], waiting, served.failures)

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html")

    @app.get("/operator", include_in_schema=False)
    def operator() -> FileResponse:
        return FileResponse(PAGE / "operator.html")


def _problem(engine: Engine) -> str | None:
    """Why this engine cannot serve at the moment."""
    try:
        engine.store.version()
    except BadData as error:
        return str(error)
    folder = engine.store.folder
    if folder is not None and shutil.disk_usage(folder).free < ROOM:
        return "the disk that holds the store is full"
    return None if engine.videos.usable.any() else "no video of the catalogue can be shown"


def _answered(told: BaseModel) -> Response:
    """As JSON; what we made ourselves need not be checked again, as FastAPI would."""
    return Response(told.model_dump_json(), media_type="application/json")


def _item(videos: Videos, shown: Impression) -> FeedItem:
    video = shown.video_id
    facts = videos.facts(video, ITEM)
    return FeedItem(
        item_id=video,
        score=shown.score,
        source=shown.source,  # type: ignore[arg-type]
        reason=shown.reason,
        facts=dict(shown.facts),
        because=list(shown.because),
        title=facts.get("title"),
        hashtags=tags_of(facts.get("hashtags")),
        creator=facts.get("creator"),
        video_url=address(videos, video),
        duration_s=facts.get("duration_s"),
    )
