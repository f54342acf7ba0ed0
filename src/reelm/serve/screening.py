"""Routes about videos: facts, likeness, files, and taking new ones."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as PathValue
from fastapi.responses import FileResponse
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from reelm.errors import refusal
from reelm.serve.messages import Id, Similar, Taken, VideoFacts, VideoUri
from reelm.serve.records import Upload
from reelm.serve.served import Served
from reelm.serve.uploads import Told, Uploads
from reelm.serve.videos import Videos

HANDS = 4
"""Uploads that are worked on at once; of these `uploads.at_once` are decoded, the others wait for
room or are refused."""
FULL_S = 60
"""Seconds after which what could not be written may be sent again."""
log = logging.getLogger(__name__)
VideoId = Annotated[Id, PathValue()]
Size = Annotated[int, Query(ge=1, le=100)]
BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": VideoUri.model_json_schema()},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    **{told.name: {"type": "string", "maxLength": 2000} for told in fields(Told)},
                },
            }
        },
    },
}
"""How a video may be sent."""
ANSWERS = {
    200: "The same file was here already.", 403: "No videos are taken.",
    409: "The id is taken.", 413: "Too long.", 415: "Neither of the two kinds.",
    422: "It cannot be fetched, decoded or played; the error says why.", 429: "Too many at once.",
}  # fmt: skip


def add_videos(app: FastAPI, served: Served, uploads: Uploads | None) -> None:
    """Add what is told of videos, and, where there is room for them, how new ones are taken."""

    @app.get("/v1/similar/{video:path}", tags=["videos"])
    def similar(video: VideoId, n: Size = 10) -> list[Similar]:
        """Videos like this one, best first."""
        engine = served.engine
        found, videos = engine.similar(video, n), engine.videos
        return [Similar(item_id=v, score=s, title=videos.fact(v, "title")) for v, s in found]

    @app.get("/v1/videos/{video:path}", tags=["videos"])
    def facts(video: VideoId) -> VideoFacts:
        """What the catalogue and the notes say of a video, and where the notes come from."""
        engine = served.engine
        upload = engine.store.upload(video)
        if upload is not None and video not in engine.videos.row:
            return _waiting(upload)
        row, videos = engine.known(video), engine.videos
        hidden = videos.hidden(video)
        return VideoFacts(
            item_id=video,
            title=videos.fact(video, "title"),
            facts=videos.facts(video),
            notes=videos.answers(video),
            provenance=videos.notes.sources(video),
            corrections=videos.notes.versions(video),
            watched=int(videos.counts[row]),
            video_url=address(videos, video),
            problem=f"not shown: {hidden}" if hidden else (upload and upload.reason) or None,
        )

    @app.head("/media/{video:path}", include_in_schema=False)
    @app.get("/media/{video:path}", tags=["videos"], response_class=FileResponse)
    def media(video: VideoId) -> FileResponse:
        """The file of a catalogue video, whole or by Range. The id is looked up, never a path."""
        videos = served.engine.videos
        path = videos.path.get(video)
        if path is None or not path.is_file():
            raise HTTPException(404, f"no playable file for video {video!r}")
        return FileResponse(
            path,
            media_type=videos.media_type(video),
            headers={"cache-control": "private, max-age=3600"},
        )

    _add_taking(app, uploads)


def _add_taking(app: FastAPI, uploads: Uploads | None) -> None:
    # threads of their own: a file that is decoded for seconds holds none of those that answer
    hands = CapacityLimiter(HANDS)

    @app.post(
        "/v1/videos", tags=["videos"], status_code=202, response_model=Taken,
        openapi_extra={"requestBody": BODY},
        responses={code: {"description": said} for code, said in ANSWERS.items()},
    )  # fmt: skip
    async def take(request: Request, response: Response) -> Taken:
        """Take a video, as a file or by its URI. It is checked before the answer, then watched,
        and in the feed a few seconds later; `GET /v1/videos/{item_id}` says how far it is.
        """
        if uploads is None:
            raise HTTPException(403, "this service takes no videos: it has no folder for them.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            body = await request.body()
            upload, new = await to_thread.run_sync(_by_uri, uploads, body, limiter=hands)
        elif kind == "multipart/form-data":
            upload, new = await _by_form(uploads, request, hands)
        else:
            raise HTTPException(415, "send application/json with a uri, or multipart/form-data")
        if not new:
            response.status_code = 200
        return Taken(item_id=upload.video_id, status=upload.status, new=new)  # type: ignore[arg-type]


def address(videos: Videos, video: str) -> str | None:
    """Where the page finds the file of a video."""
    return f"/media/{quote(video, safe='')}" if video in videos.path else None


@contextmanager
def written() -> Iterator[None]:
    """Where files cannot be written, as on a full disk, the client may come again; the log names
    the place."""
    try:
        yield
    except Exception as error:
        told = refusal(error)
        if told is None:
            raise
        log.error("nothing can be written: %s", told)
        why = told.rpartition(": ")[2]
        raise HTTPException(
            503, f"the service cannot keep files now: {why}", {"retry-after": str(FULL_S)}
        ) from error


def _by_uri(uploads: Uploads, body: bytes) -> tuple[Upload, bool]:
    asked = _checked(lambda: VideoUri.model_validate_json(body))
    with written():
        return uploads.take_uri(asked.uri, Told(**asked.model_dump(exclude={"uri"})))


async def _by_form(
    uploads: Uploads, request: Request, hands: CapacityLimiter
) -> tuple[Upload, bool]:
    async with request.form(max_files=1, max_fields=8, max_part_size=16384) as form:
        return await to_thread.run_sync(_take, uploads, form, limiter=hands)


def _take(uploads: Uploads, form: FormData) -> tuple[Upload, bool]:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise HTTPException(422, "file: send the video as the part called file")
    told = {name: value for name, value in form.multi_items() if name != "file" and value}
    checked = _checked(lambda: VideoUri.model_validate(told | {"uri": "https://"}))
    with written(), TemporaryDirectory(dir=uploads.scratch.folder) as folder:
        path = Path(folder) / "video"
        with path.open("wb") as copy:
            shutil.copyfileobj(file.file, copy)
        return uploads.take(path, Told(**checked.model_dump(exclude={"uri"})))


def _checked(make: Callable[[], VideoUri]) -> VideoUri:
    try:
        return make()
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()]
        raise HTTPException(422, "; ".join(wrong[:5])) from error


def _waiting(upload: Upload) -> VideoFacts:
    """A video that the feed does not know yet, also if it will in a moment."""
    status = "failed" if upload.status == "failed" else "queued"
    return VideoFacts(
        item_id=upload.video_id, title=upload.row.get("title"), facts={}, notes={}, provenance=[],
        watched=0, video_url=None, status=status, problem=upload.reason or None,
    )  # fmt: skip
