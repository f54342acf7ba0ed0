"""Videos that come by the service: checked at once, watched in the background, then in the feed."""

import logging
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from reelm import files
from reelm.errors import MediaError, ReelmError, refusal
from reelm.media.examine import Examiner
from reelm.runs import Run
from reelm.serve.fetch import FetchConfig, fetch
from reelm.serve.records import Upload
from reelm.serve.scratch import Scratch
from reelm.serve.served import Served
from reelm.serve.videos import CODECS
from reelm.serve.watching import Watcher

log = logging.getLogger(__name__)
MOMENTS = 6
"""Frames that a file must give."""
LATEST = 20
"""Finished videos that are remembered."""
AGAIN_S = 5.0
"""Pause after something other than a video went wrong: the store does not answer, say."""
REST = 5
"""While videos wait, the feed is told of finished ones when this many times what the telling took
has passed, since that grows with the catalogue."""
MADE = re.compile("up-[0-9a-f]{16}")
"""Ids that are made here; one that another file took beforehand would keep its own file out."""
MATROSKA = b"\x1aE\xdf\xa3"
"""How WebM files begin."""


class UploadConfig(FetchConfig):
    """Section [uploads]."""

    waiting: PositiveInt = 16
    """Videos that may wait to be watched; more are refused until later."""
    at_once: PositiveInt = 2
    """Files that are checked at the same time; more are refused until later."""
    decode_s: PositiveFloat = 10.0
    """Wall time for decoding one file, after which it is refused."""
    decode_mb: PositiveInt = 1024
    """Memory for decoding one file, in MiB."""
    longest_s: PositiveFloat = 600.0
    """Longest video."""
    widest: PositiveInt = 4096
    """Pixels on the longer side."""


class Refused(ReelmError):
    """A video that is not taken; the message says why."""


class Taken(ReelmError):
    """The id that a video was to have belongs to another one."""


class Busy(ReelmError):
    """Too many videos are waiting; try again later."""


@dataclass(frozen=True)
class Told:
    """What the sender says of a video."""

    video_id: str | None = None
    """Its id; by default one is made from the file's hash."""
    title: str | None = None
    hashtags: str | None = None
    creator: str | None = None
    licence: str | None = None
    language: str | None = None
    age_rating: str | None = None


@dataclass(frozen=True)
class Finished:
    """What became of a video that waited."""

    video_id: str
    status: str
    """ready or failed."""
    reason: str
    began_at: float
    """Seconds UTC."""
    seconds: float
    """That watching took."""


class Uploads:
    """Takes videos; one thread watches them in the order in which they came."""

    def __init__(
        self,
        served: Served,
        folder: Path,
        watcher: Callable[[], Watcher],
        config: UploadConfig | None = None,
    ) -> None:
        """
        Args:
            folder: where files are kept; they are served from there.
            watcher: asked for once more when the run was changed.
        """
        self.config = config or UploadConfig()
        self._served, self.folder, self._make = served, folder, watcher
        self._line: deque[str] = deque()
        self._come, self._ended = threading.Condition(), threading.Event()
        self._room = threading.BoundedSemaphore(self.config.at_once)
        self._taking = threading.Lock()
        self._thread: threading.Thread | None = None
        self.latest: deque[Finished] = deque(maxlen=LATEST)
        self.scratch = Scratch(folder)
        (folder / "files").mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Begin to watch, first what waited when the service was stopped; what a killed one left
        half fetched or half checked is taken away."""
        self.scratch.sweep()
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Let the thread end after the video that it is at; the others wait for the next start."""
        if self._thread is not None:
            with self._come:
                self._ended.set()
                self._come.notify()
            self._thread.join(seconds)
        self.scratch.close()

    @property
    def waiting(self) -> int:
        """Videos that are not watched yet."""
        return len(self._line)

    def take_uri(self, uri: str, told: Told) -> tuple[Upload, bool]:
        """Fetch a video and take it; see `take`.

        Raises:
            RefusedUri: it cannot be fetched or must not be.
        """
        with self._place(), TemporaryDirectory(dir=self.scratch.folder) as folder:
            path = Path(folder) / "fetched"
            fetch(uri, path, self.config)
            return self._take(path, told)

    def take(self, path: Path, told: Told) -> tuple[Upload, bool]:
        """Check a file, copy it here and let it wait; the upload, and whether it is a new one.

        A file that is here already, under whatever name, gives the upload of then.

        Raises:
            Refused: it cannot be decoded, or not be played, or its id is that of another's file.
            Taken: its id belongs to another video, or the catalogue has the file.
            Busy: too many are waiting.
        """
        with self._place():
            return self._take(path, told)

    def _place(self) -> "_Room":
        return _Room(self._room)

    def _take(self, path: Path, told: Told) -> tuple[Upload, bool]:
        sha256 = files.sha256(path)
        made = f"up-{sha256[:16]}"
        if told.video_id and MADE.fullmatch(told.video_id) and told.video_id != made:
            raise Refused(
                f"video_id {told.video_id!r}: written like the ids that are made from a file's "
                "hash, and this file has another. Choose one of your own, or leave it out."
            )
        store = self._served.engine.store
        there = store.upload_of(sha256)
        if there is not None and there.status != "failed":
            return there, False
        known = self._served.engine.videos.with_file(sha256)
        if known is not None and there is None:
            raise Taken(f"this very file is in the catalogue already, as {known!r}.")
        facts = self._examined(path)
        with self._taking:
            there = store.upload_of(sha256)  # it may have come twice at the same time
            if there is not None and there.status != "failed":
                return there, False
            name = there.video_id if there else told.video_id or made
            if name in self._served.engine.videos.row or _other(self._upload(name), sha256):
                raise Taken(f"video_id {name!r} is taken; choose another, or leave it out.")
            if len(self._line) >= self.config.waiting:
                raise Busy(f"{self.config.waiting} videos wait to be watched. Try again later.")
            kept = self.folder / "files" / f"{sha256}{_suffix(path)}"
            with files.atomic(kept) as tmp:
                shutil.copyfile(path, tmp)
            row = _row(name, sha256, kept, facts, told)
            upload = Upload(name, sha256, "queued", row=row)
            store.put_upload(upload)
            self._wait(name)
        return upload, True

    def _upload(self, name: str) -> Upload | None:
        return self._served.engine.store.upload(name)

    def _examined(self, path: Path) -> dict[str, Any]:
        """What the file holds, found out in a process of its own.

        Raises:
            Refused: it does not decode, or is longer, larger or other than we show.
        """
        limits = self.config.decode_s, self.config.decode_mb * 2**20
        with TemporaryDirectory(dir=self.scratch.folder) as findings:
            looked = Examiner(Path(findings), MOMENTS, *limits).examine([path], 1, lambda _: None)
        looked = looked.row(0, named=True)
        if looked.get("usable") is False:
            why = MediaError(path.name, looked["reason"], looked["detail"] or "").why
            why = why.replace(str(path), "the file")
            raise Refused(f"the file is not a video that can be decoded: {why}")
        side = max(looked.get("width") or 0, looked.get("height") or 0)
        if (looked.get("duration_s") or 0) > self.config.longest_s:
            raise Refused(f"longer than {self.config.longest_s:g} s: {looked['duration_s']:.0f} s")
        if side > self.config.widest:
            raise Refused(f"more than {self.config.widest} pixels on a side: {side}")
        if looked.get("video_codec") not in CODECS:
            raise Refused(
                f"codec {looked.get('video_codec')}: browsers do not play it. "
                f"Send one of {', '.join(sorted(CODECS))} in MP4 or WebM."
            )
        return looked

    def _work(self) -> None:
        """One video after the other, whatever befalls the store or the run meanwhile."""
        desk, left = _Desk(self._served, self._make), False
        while not self._ended.is_set():
            name = None
            try:
                desk.ready()
                if not left:
                    self._wait(*self._left())
                    left = True
                name = self._next()
                upload = self._upload(name) if name else None
                if upload is not None and upload.status == "queued":
                    desk.ready()  # another run may be served by now
                    self._finish(desk.watcher, upload)
                    desk.news = True
                if desk.news and (not self._line or desk.rested):
                    desk.tell()
            except Exception:
                log.exception("uploads wait, and are tried again")
                if name:
                    self._wait(name)
                self._ended.wait(AGAIN_S)
        desk.close()

    def _left(self) -> list[str]:
        """Videos that waited when the service was stopped; not those that wait for another one."""
        queued = [u for u in self._served.engine.store.uploads() if u.status == "queued"]
        here = [one.video_id for one in queued if Path(one.row["path"]).is_file()]
        if len(here) < len(queued):
            log.warning("%d uploads wait whose files are not here", len(queued) - len(here))
        return here

    def _wait(self, *names: str) -> None:
        """Put videos at the end of the line that are not in it."""
        with self._come:
            self._line += [name for name in names if name not in self._line]
            self._come.notify()

    def _next(self) -> str | None:
        """The video that has waited for longest; None at the end."""
        with self._come:
            self._come.wait_for(lambda: self._line or self._ended.is_set())
            return None if self._ended.is_set() else self._line.popleft()

    def _finish(self, watcher: Watcher, upload: Upload) -> None:
        """Watch, and keep what came of it."""
        began = time.time()
        try:
            seen = watcher.watch(upload.row)
            done = replace(
                upload, status="ready", reason="; ".join(seen.missing), answer=seen.answer,
                provenance=seen.provenance, vectors=seen.vectors,
            )  # fmt: skip
        except Exception as error:
            if refusal(error):  # of the disk, and not of this video
                raise
            log.exception("upload %s could not be watched", upload.video_id)
            why = str(error) if isinstance(error, ReelmError) else "internal error, see the log"
            done = replace(upload, status="failed", reason=why)
        self._served.engine.store.put_upload(done)
        took = time.time() - began
        self.latest.append(Finished(done.video_id, done.status, done.reason, began, took))


class _Desk:
    """Who watches at present, and what the feed has not been told of; used by one thread."""

    def __init__(self, served: Served, make: Callable[[], Watcher]) -> None:
        self._served, self._make = served, make
        self._watcher: Watcher | None = None
        self._run: Run | None = None
        self._told_at, self._took = 0.0, 0.0
        self.news = False
        """Whether there is anything to tell."""

    @property
    def watcher(self) -> Watcher:
        assert self._watcher is not None  # `ready` comes first
        return self._watcher

    def ready(self) -> None:
        """Have a watcher with the encoders of the present run."""
        run = self._served.parts.run if self._served.parts else None
        if self._watcher is not None and run is self._run:
            return
        made, first = self._make(), self._watcher is None
        self.close()
        self._watcher, self._run = made, run
        if first:
            made.warm()

    @property
    def rested(self) -> bool:
        """Whether the feed may be told again though others wait."""
        return time.monotonic() - self._told_at > REST * self._took

    def tell(self) -> None:
        """Let the feed know of all that is finished."""
        began = time.monotonic()
        self._served.refresh()
        self.news, self._told_at = False, time.monotonic()
        self._took = self._told_at - began

    def close(self) -> None:
        """Let the watcher go."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None


class _Room:
    """A place among those that are checked at once, or `Busy`."""

    def __init__(self, room: threading.BoundedSemaphore) -> None:
        self._room = room

    def __enter__(self) -> None:
        if not self._room.acquire(timeout=0.5):
            raise Busy("other videos are being checked. Try again in a second.")

    def __exit__(self, *_: object) -> None:
        self._room.release()


def _other(upload: Upload | None, sha256: str) -> bool:
    """Whether an id belongs to a file other than this one."""
    return upload is not None and upload.sha256 != sha256


def _suffix(path: Path) -> str:
    """By what the file is, not by what it is called."""
    with path.open("rb") as file:
        return ".webm" if file.read(4) == MATROSKA else ".mp4"


def _row(
    name: str, sha256: str, path: Path, facts: Mapping[str, Any], told: Told
) -> dict[str, Any]:
    """The columns of a catalogue."""
    kept = ("bytes", "duration_s", "fps", "width", "height", "has_audio", "video_codec")
    return {
        **asdict(told), "video_id": name, "path": str(path), "sha256": sha256, "ok": True,
        "duplicate_of": None, "uploaded_at": time.time(), **{k: facts.get(k) for k in kept},
    }  # fmt: skip
