"""Killed five times with SIGKILL, at random moments, annotate and encode end with the same files as
undisturbed, and no part is done twice."""

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

import tiny_clips
from reelm import files
from reelm.data.tables import read_features, read_notes

KILLS = 5
VIDEOS, PART = 34, 2
STAGES = ("annotate", "encode")

CHILD = """
import os, signal, sys, threading, time
from pathlib import Path
import polars as pl
from reelm.annotate import AnnotateConfig, annotate
from reelm.backends.fake import Fake, FakeConfig
from reelm.data.tables import Catalog
from reelm.encode import EncodeConfig, encode
from reelm.encoders.signal import Signal
from reelm.prompts.attributes import Attributes

stage, catalog, work, log = sys.argv[1], *map(Path, sys.argv[2:5])

def note(word):
    with log.open("a") as file:
        file.write(f"{word} {os.getpid()}\\n")

class Slow(Fake):
    def answer(self, requests):
        for request in requests:
            note(request.key)
        return super().answer(requests)

class Signals(Signal):
    def encode(self, inputs):
        time.sleep(0.05 * len(inputs))
        note("encoded")
        return super().encode(inputs)

def reaper(more, delay):
    done = lambda: sum(1 for p in work.glob("*/*/part-*") if p.parent.parent.name != "frames")
    end = done() + more
    while done() < end:
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)

note("start")
if len(sys.argv) > 6:
    given = int(sys.argv[6]), float(sys.argv[7])
    threading.Thread(target=reaper, args=given, daemon=True).start()
made = Catalog(catalog, pl.read_parquet(catalog / "videos.parquet"), pl.DataFrame())
limits = {"part": int(sys.argv[5]), "seconds": 120}
if stage == "annotate":
    backend = Slow(FakeConfig(seconds=0.05))
    print(annotate(made, backend, Attributes, AnnotateConfig(**limits), work))
else:
    print(encode(made, Signals(), EncodeConfig(**limits), work))
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("catalog")
    paths = tiny_clips.write(folder / "clips", VIDEOS - 2)
    for n, original in enumerate(paths[:2]):
        copy = folder / "clips" / f"w{n}.mp4"
        copy.write_bytes(original.read_bytes())
        paths.append(copy)
    tiny_clips.catalog(folder, paths).videos.write_parquet(folder / "videos.parquet")
    return folder


def run(stage: str, catalog: Path, work: Path, log: Path, *reaper: object) -> tuple[int, str]:
    """Exit code and output of the stage in a process of its own."""
    command = [sys.executable, "-c", CHILD, stage, catalog, work, log, PART, *reaper]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout.strip()


def content(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, but for those that hold times."""
    timed = (files.MANIFEST, "cost.jsonl")
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name not in timed}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_killed_five_times_it_ends_as_if_nothing_had_happened(stage, catalog, tmp_path):
    rng = random.Random(stage)
    calm = Path(run(stage, catalog, tmp_path / "calm", tmp_path / "calm.txt")[1])
    where = catalog, tmp_path / "work", tmp_path / "log.txt"
    log = where[-1]
    for _ in range(KILLS):  # SIGKILL a moment after one part more is done
        code, _ = run(stage, *where, 1, rng.uniform(0, 0.2))
        assert code == -signal.SIGKILL, "the stage ended before it was killed"
    folder = Path(run(stage, *where)[1])

    assert folder.name == calm.name
    assert content(folder) == content(calm)
    facts, undisturbed = files.manifest(folder), files.manifest(calm)
    for name in ("rows", "failed", "key", "settings"):
        assert facts[name] == undisturbed[name]
    lines = [json.loads(line) for line in (folder / "cost.jsonl").read_text().splitlines()]
    assert sorted(line["part"] for line in lines) == list(range((VIDEOS - 2) // PART))

    asked = Counter(line.split()[0] for line in log.read_text().splitlines())
    assert asked["start"] == KILLS + 1
    if stage == "annotate":
        assert_asked_once(asked, read_notes(folder))
    else:
        assert asked["encoded"] <= (VIDEOS - 2) // PART + KILLS
        assert len(read_features(folder).ids) == VIDEOS


def assert_asked_once(asked: Counter, notes: pl.DataFrame) -> None:
    """Only the part that was under way when a kill came may have been asked about again."""
    assert len(notes) == VIDEOS and notes["answer"].null_count() == 0
    again = [name for name, times in asked.items() if name != "start" and times > 1]
    assert len(again) <= KILLS * PART
    assert not asked["w0"] and not asked["w1"], "copies are not asked about"
