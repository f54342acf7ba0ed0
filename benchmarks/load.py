"""The service under load over a large catalogue: latency, lost events, memory, and its limits.

    python benchmarks/load.py [--items 1000000] [--rates 300] [--seconds 300] [--work work/load]

A run with made-up vectors is written once and served by `reelm serve` in a process of its own; this
process asks. Requests come at random times at a fixed rate, whether or not the service keeps up
(Poisson), and a request's time counts from when it was due, so that waiting in a queue is not
hidden. Two of three ask for a feed (a third of these for its next page), one of three sends events.

Four lines come out, the first for each rate: `steady`; `killed`, where the server is ended by
SIGKILL in the middle and started again, and every event that was acknowledged is looked for in the
store; `most`, as fast as eight connections can ask; and `limits`, what the bare framework and one
product of the table of vectors with a state can do on this machine.
"""

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import torch
from harness import percentile, report, timed

from reelm import files, runs, sources
from reelm.data.dataset import Dataset
from reelm.models.sasrec import SASRecConfig
from reelm.runs import Run
from reelm.train import build

PEOPLE = 20_000  # who ask; the first half are known from training
KEPT_S = 3  # the server closes connections that were quiet for five
WATCHED = 40  # interactions of each of them in training


@dataclass
class Tally:
    """What came of the requests."""

    spans: dict[str, list[float]] = field(default_factory=lambda: {"feed": [], "events": []})
    """Milliseconds from when a request was due."""
    errors: list[str] = field(default_factory=list)
    refused: int = 0
    """Requests that the service turned away, because it had no time for them."""
    acknowledged: list[str] = field(default_factory=list)
    """Ids of events."""
    cursors: dict[int, str] = field(default_factory=dict)
    """The next page of each person's feed."""


def run_folder(work: Path, items: int, dim: int) -> Path:
    """A run over `items` videos, all of them seen in training; written once."""
    folder = work / "runs" / f"sasrec-{items}-{dim}"
    if (folder / "manifest.json").is_file():
        return folder
    rng = np.random.default_rng(0)
    people = max(1, items // WATCHED)
    log = pl.DataFrame(
        {
            "user_id": [f"u{n % people}" for n in range(items)],
            "video_id": [f"v{n}" for n in rng.permutation(items)],
        }
    )
    data = Dataset.build(log, videos=[f"v{n}" for n in range(items)])
    sources.Sources(catalog=catalog_folder(work, items)).save(folder)
    model = build("sasrec", SASRecConfig(dim=dim), data, seed=0)
    run = Run.of("sasrec", model, data)
    return runs.save(run, folder, {"model": SASRecConfig(dim=dim)}, [], stage="train", key="load")


def catalog_folder(work: Path, items: int) -> Path:
    """A catalogue without files: ids, titles, creators of fifty videos each, hashtags, days."""
    rng, folder = np.random.default_rng(1), work / "catalog" / str(items)
    folder.mkdir(parents=True, exist_ok=True)
    tags = rng.integers(0, 2000, (items, 2))
    pl.DataFrame(
        {
            "video_id": [f"v{n}" for n in range(items)],
            "title": [f"video {n}" for n in range(items)],
            "creator": [f"c{n // 50}" for n in range(items)],
            "hashtags": [f"#t{one} #t{other}" for one, other in tags],
            "uploaded_at": rng.uniform(1.7e9, 1.75e9, items),
            "duration_s": rng.uniform(5, 60, items),
            "status": ["ok"] * items,
        }
    ).write_parquet(folder / "videos.parquet")
    schema = {"user_id": pl.String, "video_id": pl.String, "event": pl.String,
              "timestamp": pl.Float64, "value": pl.Float64}  # fmt: skip
    pl.DataFrame(schema=schema).write_parquet(folder / "events.parquet")
    return files.finish(folder, stage="ingest", key="load")


@contextmanager
def served(folder: Path, more: list[str]) -> Iterator[tuple[psutil.Process, int]]:
    """`reelm serve` in a process of its own, ready to answer; the process and its port."""
    port = _free_port()
    command = [sys.executable, "-m", "reelm", "serve", str(folder), "--port", str(port), *more]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            asyncio.run(_ready(server, port))
            yield psutil.Process(server.pid), port
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)


async def _ready(server: subprocess.Popen[bytes], port: int, limit_s: float = 180) -> None:
    end = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with connected(port) as ask:
                if (await ask("GET", "/health/ready", None))[0] < 500:
                    return
        if server.poll() is not None or time.monotonic() > end:
            raise SystemExit("the service did not become ready")
        await asyncio.sleep(0.2)


class Ask:
    """One connection that is kept open: sends a request, reads its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def __call__(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        """Status and body of the answer."""
        sent = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            f"content-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n"
        )
        self._writer.write(head.encode() + sent)
        told = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin1").lower()
        length = int(told.partition("content-length:")[2].partition("\r\n")[0])
        return int(told.split(" ", 2)[1]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Give the connection back."""
        self._writer.close()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Ask]:
    """A connection while the block runs."""
    ask = Ask(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield ask
    finally:
        ask.close()


class Crowd:
    """People who ask and tell, over connections that are kept open."""

    def __init__(self, seed: int, items: int, port: int) -> None:
        self.tally, self._rng = Tally(), random.Random(seed)
        self._items, self._port = items, port
        self._free: list[tuple[float, Ask]] = []  # since when they are free
        self._named = f"{seed}-{time.time_ns()}"

    def request(self) -> tuple[str, str, str, object]:
        """Kind, method, path and body of the next request."""
        person = self._rng.randrange(PEOPLE)
        name = f"u{person}" if person < PEOPLE // 2 else f"w{person}"
        if self._rng.random() < 2 / 3:
            cursor = self.tally.cursors.pop(person, "") if self._rng.random() < 1 / 3 else ""
            path = f"/v1/feed/{name}?n=10" + (f"&cursor={cursor}" if cursor else "")
            return "feed", "GET", path, person
        told = []
        for _ in range(self._rng.randrange(1, 4)):
            number = self._rng.getrandbits(64)
            told.append(
                {
                    "event_id": f"{self._named}-{number}", "user_id": name, "type": "watch",
                    "item_id": f"v{self._rng.randrange(self._items)}", "timestamp": time.time(),
                    "portion": round(self._rng.random(), 3),
                }
            )  # fmt: skip
        return "events", "POST", "/v1/events", {"events": told}

    async def one(self, due: float) -> None:
        """Make one request and count what came of it."""
        kind, method, path, body = self.request()
        person, sent = (body, None) if kind == "feed" else (None, body)
        try:
            ask = await self._connection()
            status, said = await ask(method, path, sent)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.tally.errors.append(f"{kind}: {type(error).__name__}")
            return
        self._free.append((time.perf_counter(), ask))
        if status == 503:
            self.tally.refused += 1
            return
        self.tally.spans[kind].append(1e3 * (time.perf_counter() - due))
        if status != 200:
            self.tally.errors.append(f"{kind}: {status} {said[:80]!r}")
        elif kind == "events":
            assert isinstance(sent, dict)
            self.tally.acknowledged += [event["event_id"] for event in sent["events"]]
        else:
            following = json.loads(said)["next_cursor"]
            if following:
                self.tally.cursors[person] = following  # type: ignore[index]

    async def _connection(self) -> Ask:
        """The one that was used last, or a new one where the server may have closed it by now."""
        if self._free:
            since, ask = self._free.pop()
            if time.perf_counter() - since < KEPT_S:
                return ask
            ask.close()
        return Ask(*await asyncio.open_connection("127.0.0.1", self._port))

    async def at_rate(self, rate: float, seconds: float) -> None:
        """Requests at random times, `rate` a second in the mean, whatever has come back."""
        waiting: set[asyncio.Task[None]] = set()
        due, end = time.perf_counter(), time.perf_counter() + seconds
        while due < end:
            due += self._rng.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self.one(due))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        if waiting:
            await asyncio.wait(waiting)

    async def at_most(self, connections: int, seconds: float) -> None:
        """Requests one after the other on each of some connections."""
        end = time.perf_counter() + seconds

        async def line() -> None:
            while time.perf_counter() < end:
                await self.one(time.perf_counter())

        await asyncio.gather(*(line() for _ in range(connections)))

    def figures(self, seconds: float) -> dict[str, object]:
        """Latencies, errors and rates."""
        found: dict[str, object] = {}
        everything = [span for spans in self.tally.spans.values() for span in spans]
        for kind, spans in {"all": everything, **self.tally.spans}.items():
            for share in (0.5, 0.99, 0.999):
                if spans:
                    found[f"{kind}_p{100 * share:g}_ms"] = percentile(spans, share)
        return found | {
            "requests": len(everything), "a_second": len(everything) / seconds,
            "refused": self.tally.refused, "errors": len(self.tally.errors),
            "first_errors": self.tally.errors[:3],
            "acknowledged": len(self.tally.acknowledged),
        }  # fmt: skip


class Memory:
    """Resident memory of a process, looked at each second from a thread of its own."""

    def __init__(self, process: psutil.Process) -> None:
        self.sizes: list[float] = []
        self._process, self._stop = process, threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self._stop.wait(1.0):
            with contextlib.suppress(psutil.Error):
                self.sizes.append(self._process.memory_info().rss / 2**20)

    def figures(self) -> dict[str, float]:
        """MiB: a tenth of the time after the start, at the end, and at most."""
        self._stop.set()
        early = self.sizes[len(self.sizes) // 10]
        return {"memory_early_mib": early, "memory_late_mib": self.sizes[-1],
                "memory_most_mib": max(self.sizes)}  # fmt: skip


def lost(store: Path, ids: list[str]) -> int:
    """Acknowledged events that the store does not have."""
    db = sqlite3.connect(store)
    kept = {row[0] for row in db.execute("SELECT event_id FROM events")}
    db.close()
    return len(set(ids) - kept)


def steady(folder: Path, given: argparse.Namespace) -> None:
    """Each rate that was asked for, one after the other, for as long as was asked for."""
    with served(folder, given.more) as (server, port):
        # not counted: the models that watch uploads are loaded meanwhile
        asyncio.run(Crowd(1, given.items, port).at_rate(20, given.settle))
        for rate in given.rates:
            _steady(given, rate, server, port)


def _steady(given: argparse.Namespace, rate: float, server: psutil.Process, port: int) -> None:
    crowd, memory, before = Crowd(2, given.items, port), Memory(server), server.cpu_times()
    asyncio.run(crowd.at_rate(rate, given.seconds))
    after = server.cpu_times()
    spent = after.user + after.system - before.user - before.system
    asked = len(crowd.tally.spans["feed"]) + len(crowd.tally.spans["events"])
    report(
        "load/steady", _shape(given, rate), crowd.figures(given.seconds) | memory.figures(),
        cpu_ms_a_request=1e3 * spent / max(1, asked),
        lost=lost(given.work / "serve" / "store.sqlite", crowd.tally.acknowledged),
    )  # fmt: skip


def killed(folder: Path, given: argparse.Namespace) -> None:
    """SIGKILL in the middle of the load, and a new start."""
    store, acknowledged = given.work / "serve" / "store.sqlite", []
    for turn in range(given.kills):
        with served(folder, given.more) as (server, port):
            crowd = Crowd(10 + turn, given.items, port)
            end = threading.Timer(given.kill_after, server.kill)
            end.start()
            asyncio.run(crowd.at_rate(max(given.rates), given.kill_after + 1))
            acknowledged += crowd.tally.acknowledged
    with served(folder, given.more) as (_, port):  # opens the store that was left behind
        again = Crowd(99, given.items, port)
        asyncio.run(again.at_rate(max(given.rates), 5))
    report(
        "load/killed", _shape(given, max(given.rates)), {}, kills=given.kills,
        acknowledged=len(acknowledged), lost=lost(store, acknowledged),
        errors_afterwards=len(again.tally.errors),
    )  # fmt: skip


def most(folder: Path, given: argparse.Namespace) -> float:
    """As fast as eight connections can ask; requests a second."""
    with served(folder, given.more) as (_, port):
        asyncio.run(Crowd(3, given.items, port).at_rate(20, given.settle))
        crowd, seconds = Crowd(4, given.items, port), min(30.0, given.seconds)
        asyncio.run(crowd.at_most(8, seconds))
    figures = crowd.figures(seconds)
    report("load/most", _shape(given), figures, connections=8)
    return float(figures["a_second"])  # type: ignore[arg-type]


BARE = """
import json, sys, uvicorn
from fastapi import FastAPI, Response
app, said = FastAPI(), json.dumps({"items": ["x" * 250] * 10, "next_cursor": None})
@app.get("/{rest:path}")
def feed(rest: str) -> Response:
    return Response(said, media_type="application/json")
@app.post("/{rest:path}")
def events(rest: str, body: dict) -> dict[str, int]:
    return {"stored": len(body["events"])}
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""


def limits(given: argparse.Namespace, a_second: float) -> None:
    """What the framework alone answers, and how often the vectors can be gone through."""
    port = _free_port()
    with subprocess.Popen([sys.executable, "-c", BARE, str(port)]) as server:
        try:
            asyncio.run(_ready(server, port))
            crowd = Crowd(5, given.items, port)
            asyncio.run(crowd.at_most(8, 10.0))
        finally:
            server.terminate()
    bare = crowd.figures(10.0)["a_second"]
    vectors, state = torch.randn(given.items, given.dim), torch.randn(given.dim)
    product = timed(lambda: vectors @ state)["cpu_s"]
    report(
        "load/limits", _shape(given), {}, bare_a_second=bare, share_of_bare=a_second / float(bare),
        product_ms=1e3 * product, share_of_products=a_second * product,
    )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _shape(given: argparse.Namespace, rate: float | None = None) -> dict[str, object]:
    shape = {"items": given.items, "dim": given.dim, "seconds": given.seconds}
    return shape if rate is None else shape | {"rate": rate}


def main() -> None:
    """Write the run, then the four lines."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--items", type=int, default=1_000_000)
    ask.add_argument("--dim", type=int, default=64)
    ask.add_argument("--rates", type=float, nargs="+", default=[300], help="requests a second")
    ask.add_argument("--seconds", type=float, default=300)
    ask.add_argument("--settle", type=float, default=30, help="seconds before anything counts")
    ask.add_argument("--kills", type=int, default=3)
    ask.add_argument("--kill_after", type=float, default=10, help="seconds of load")
    ask.add_argument("--work", type=Path, default=Path("work/load"))
    ask.add_argument("--only", choices=("steady", "killed", "most"))
    ask.add_argument("more", nargs="*", help="given to reelm serve, behind --")
    given = ask.parse_args()
    folder = run_folder(given.work, given.items, given.dim)
    shutil.rmtree(given.work / "serve", ignore_errors=True)
    if given.only in (None, "steady"):
        steady(folder, given)
    if given.only in (None, "killed"):
        killed(folder, given)
    if given.only in (None, "most"):
        limits(given, most(folder, given))


if __name__ == "__main__":
    main()
