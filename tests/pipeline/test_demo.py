"""The main job, small: rendered videos through all verbs, twice, and the feed that comes out."""

import json
import time
from contextlib import closing

import httpx2
import pytest

from reelm import demo, sources
from reelm.serve import server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    work = tmp_path_factory.mktemp("demo")
    said: list[str] = []
    best = demo.demo(demo.DemoConfig(videos=16, people=40, epochs=3), work, said.append)
    return work, best, said


def test_the_table_names_every_arm_and_chance(made):
    _, _, said = made
    table = next(text for text in said if text.startswith("6/6"))
    assert all(arm in table for arm in (*demo.ARMS, "chance", *demo.POOLS))


def test_every_stage_left_a_finished_folder(made):
    work, best, _ = made
    for stage in ("catalog", "notes", "features", "runs", "reports"):
        folders = [path for path in (work / stage).iterdir() if path.is_dir()]
        assert folders and all((path / "manifest.json").exists() for path in folders), stage
    assert best.parent == work / "runs"
    assert len(list((work / "features").iterdir())) == 3
    assert (work / "look.html").stat().st_size > 10_000


def test_rows_in_are_rows_out_plus_failed(made):
    work, _, _ = made
    (notes,) = (work / "notes").iterdir()
    facts = json.loads((notes / "manifest.json").read_text())
    assert facts["rows"] == 16 and facts["failed"] == 0


def test_a_second_run_reuses_everything_and_says_the_same(made):
    work, best, said = made
    again: list[str] = []
    before = {p: p.stat().st_mtime_ns for p in work.glob("*/*/manifest.json")}
    start = time.process_time()
    assert demo.demo(demo.DemoConfig(videos=16, people=40, epochs=3), work, again.append) == best
    assert time.process_time() - start < 20
    assert {p: p.stat().st_mtime_ns for p in work.glob("*/*/manifest.json")} == before
    assert again[-4] == said[-4]


def test_the_best_run_is_served(made):
    _, best, _ = made
    found = sources.load(best)
    engine = server.open_engine(best, found.catalog, found.notes)
    with (
        closing(engine.store),
        server.running(engine) as address,
        httpx2.Client(base_url=address) as client,
    ):
        page = client.get("/v1/feed/u0001", params={"n": 5}).json()
        assert 0 < len(page["items"]) <= 5
        video = client.get(page["items"][0]["video_url"])
        assert video.status_code == 200 and video.headers["content-type"] == "video/mp4"
        stranger = client.get("/v1/feed/nobody", params={"n": 5}).json()
        assert {item["source"] for item in stranger["items"]} <= {"fallback", "new"}
