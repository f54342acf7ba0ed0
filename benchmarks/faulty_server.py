"""Annotation against a server that fails: how many items are lost, and what becomes of the others.

    python benchmarks/faulty_server.py [--items 300] [--kills 3] [--outage 8] [--work work/faulty]

A small HTTP server, a process of its own, answers chat completions by a hash of the pictures it is
shown. Of all tries 10 % get HTTP 500, 5 % hang, 5 % get a reply cut in the middle and 5 % an answer
that is no JSON; 2 % of the items get nothing but one of these, however often they are asked about.
Once it goes silent for some seconds. `reelm annotate` asks it about rendered clips: in peace; with
faults; and with faults and SIGKILL. One JSON line says what came of it.
"""

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
from harness import report

from reelm.backends.fake import made_up
from reelm.backends.openai_http import OpenAIHTTPConfig
from reelm.data.tables import read_notes
from reelm.ingest import IngestConfig, ingest
from reelm.world.clips import sample_clip
from reelm.world.mp4 import write_mp4

SMALL = {"width": 90, "height": 160, "fps": 4}
SHARES = {"500": 0.10, "hang": 0.05, "cut": 0.05, "malformed": 0.05}
STUBBORN = 0.02
TIMEOUT_S = 1.5
RETRIES = 4
CLI = [sys.executable, "-c", "from reelm.cli import main; main()"]


class Faulty(ThreadingHTTPServer):
    """Chat completions with faults, all of them decided by a seed, the pictures and the try."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        port: int = 0,
        shares: Mapping[str, float] = SHARES,
        stubborn: float = STUBBORN,
        log: Path | None = None,
        outage: tuple[int, float] = (0, 0.0),
        seed: int = 0,
    ) -> None:
        """
        Args:
            shares: of tries, by fault.
            stubborn: share of items that get the same fault whenever they are asked about.
            log: where a line for each request goes.
            outage: after how many requests nothing is answered, and for how many seconds.
        """
        super().__init__(("127.0.0.1", port), _Handler)
        self.shares, self.stubborn, self.seed = shares, stubborn, seed
        self.tries: Counter[str] = Counter()
        self.seen: list[tuple[str, str]] = []
        self.ended = threading.Event()
        self._log, self._outage, self._silent_until = log, outage, 0.0
        self._lock = threading.Lock()

    def fault(self, item: str) -> str:
        """What happens to this try; an empty word if it is answered."""
        with self._lock:
            self.tries[item] += 1
            fault = self._silence() or self._drawn(item)
            self.seen.append((item, fault))
            if self._log:
                with self._log.open("a") as file:
                    file.write(f"{item} {fault or 'answered'}\n")
        return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are no news."""

    def _silence(self) -> str:
        after, seconds = self._outage
        if after and len(self.seen) == after:
            self._silent_until = time.monotonic() + seconds
        return "silent" if time.monotonic() < self._silent_until else ""

    def _drawn(self, item: str) -> str:
        always = self._chance(item, "always") < self.stubborn
        return self._of(self._chance(item, "which") * sum(self.shares.values())
                        if always else self._chance(item, self.tries[item]))  # fmt: skip

    def _of(self, chance: float) -> str:
        for fault, share in self.shares.items():
            if chance < share:
                return fault
            chance -= share
        return ""

    def _chance(self, item: str, what: object) -> float:
        digest = hashlib.sha256(f"{self.seed}:{item}:{what}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Faulty  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Quietly."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        item, answer = answered(body)
        fault = self.server.fault(item)
        if fault == "hang":
            self.server.ended.wait(20 * TIMEOUT_S)
        if fault in ("hang", "silent"):
            self.close_connection = True
            return
        if fault == "malformed":
            answer = answer[: len(answer) // 2] + " \n" * 20
        self._reply(500 if fault == "500" else 200, completion(answer), fault == "cut")

    def _reply(self, status: int, said: dict[str, Any], cut: bool) -> None:
        data = json.dumps({"error": "overheated"} if status == 500 else said).encode()
        data = data[: len(data) // 2] if cut else data
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def answered(body: Mapping[str, Any]) -> tuple[str, str]:
    """A name for the pictures of a request, and the answer that they get."""
    parts = body["messages"][0]["content"]
    shown = "".join(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
    item = hashlib.sha256(shown.encode()).hexdigest()[:16]
    told = body.get("response_format", {})
    schema = told.get("schema") or told.get("json_schema", {}).get("schema")
    if schema is None:
        schema = json.loads(parts[-1]["text"].rpartition("schema: ")[2])
    return item, json.dumps(made_up(schema, random.Random(item)))


def completion(text: str) -> dict[str, Any]:
    """A reply of the kind that OpenAI's servers give."""
    return {
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": len(text) // 4},
    }


class Served:
    """A server in a process of its own."""

    def __init__(self, log: Path, *options: str) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        command = [sys.executable, __file__, "--serve", str(log), *options]
        self.log = log
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def seen(self) -> list[tuple[str, str]]:
        """Item and fault of each request so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(item, fault) for item, fault in (line.split() for line in lines)]


def filmed(folder: Path, items: int) -> Path:
    """A catalogue of small rendered clips that nobody watched yet."""
    clips, rng = folder / "clips", random.Random(0)
    clips.mkdir(parents=True, exist_ok=True)
    for n in range(items):
        clip = sample_clip(rng)
        if not (clips / f"v{n:04d}.mp4").exists():
            write_mp4(clips / f"v{n:04d}.mp4", clip, **SMALL)
    return ingest(clips, folder, IngestConfig())


def start(catalog: Path, work: Path, port: int) -> subprocess.Popen[str]:
    """`reelm annotate` against a server of this machine."""
    sets = {"model": '"faulty"', "base_url": f'"http://127.0.0.1:{port}/v1"',
            "timeout_s": TIMEOUT_S, "retries": RETRIES}  # fmt: skip
    options = [
        text for name, value in sets.items() for text in ("--set", f"backend.{name}={value}")
    ]
    command = [*CLI, "annotate", "--backend", "openai_http", "--catalog", str(catalog),
               "--work", str(work), "--set", "annotate.patience_s=120", *options]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> pl.DataFrame:
    """The notes of a run that comes to its end."""
    out, _ = process.communicate()
    assert process.returncode == 0, out
    return read_notes(Path(out.strip().splitlines()[-1])).sort("video_id")


def killed(catalog: Path, work: Path, port: int, kills: int, usual_s: float) -> int:
    """Start and kill again and again; how often a run was cut off."""
    rng = random.Random(5)
    for done in range(kills):
        process = start(catalog, work, port)
        try:
            process.wait(rng.uniform(3, 3 + usual_s / 2))
            return done
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    return kills


def compared(notes: pl.DataFrame, calm: pl.DataFrame, served: Served) -> dict[str, Any]:
    """What became of the items, against a run in which nothing failed."""
    said = notes.filter(pl.col("answer").is_not_null())
    same = said.join(calm, on="video_id", suffix="_calm")
    untyped = notes.filter(pl.col("answer").is_null() & pl.col("error_kind").is_null())
    kinds = notes["error_kind"].drop_nulls().value_counts().sort("error_kind").rows()
    seen = served.seen()
    return {
        "lost": len(calm) - notes["video_id"].n_unique(),
        "answered": len(said),
        "failures": dict(kinds),
        "failures_without_kind": len(untyped),
        "answers_that_differ": same.filter(pl.col("answer") != pl.col("answer_calm")).height,
        "requests": len(seen),
        "faults": dict(sorted(Counter(fault for _, fault in seen if fault != "answered").items())),
        "most_tries_of_an_item": max(Counter(item for item, _ in seen).values()),
    }


def trial(asked: argparse.Namespace) -> dict[str, Any]:
    """Peace, faults, and faults with kills, each against a server and in a folder of its own."""
    catalog, stamp = filmed(asked.work, asked.items), f"{time.time_ns():x}"
    works = {name: asked.work / f"{name}-{stamp}" for name in ("calm", "faults", "kills")}
    with Served(works["calm"] / "log.txt", "--calm") as served:
        calm = ended(start(catalog, works["calm"], served.port))
    silence = ["--outage", str(asked.outage), "--outage-after", str(asked.items // 2)]
    begun = time.monotonic()
    with Served(works["faults"] / "log.txt", *silence) as served:
        notes = ended(start(catalog, works["faults"], served.port))
        told = compared(notes, calm, served)
    took = time.monotonic() - begun
    answered_ = sum(fault in ("answered", "malformed") for _, fault in served.seen())
    budget = OpenAIHTTPConfig(model="faulty").retry_budget
    told |= {"seconds": round(took, 1), "outage_s": asked.outage,
             "retries_allowed": round(budget + 0.2 * answered_)}  # fmt: skip
    with Served(works["kills"] / "log.txt") as served:
        kills = killed(catalog, works["kills"], served.port, asked.kills, took)
        wild = ended(start(catalog, works["kills"], served.port))
        more = compared(wild, calm, served)
    return {"items": asked.items, "faults": told, "kills": {"kills": kills, **more}}


def serve(asked: argparse.Namespace) -> None:
    """Serve until the process is ended; the port is the first line."""
    shares = {} if asked.calm else SHARES
    stubborn = 0.0 if asked.calm else STUBBORN
    made = Faulty(0, shares, stubborn, asked.serve, (asked.outage_after, asked.outage))
    print(made.server_address[1], flush=True)
    made.serve_forever()


def main() -> None:
    """The trial, or the server that it starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--outage", type=float, default=8.0, help="seconds of silence")
    parser.add_argument("--outage-after", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("work/faulty"))
    parser.add_argument("--serve", type=Path, help="only serve, and log requests here")
    parser.add_argument("--calm", action="store_true")
    asked = parser.parse_args()
    if asked.serve:
        serve(asked)
    else:
        report("faulty_server", trial(asked), {})


if __name__ == "__main__":
    main()
