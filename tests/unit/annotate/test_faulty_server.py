"""A server that fails in a quarter of its tries: each item ends as answer or typed failure."""

import sys
import threading
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from grey import Decoded
from reelm import annotate as verb
from reelm import files
from reelm.annotate import AnnotateConfig, annotate, way
from reelm.backends.base import KINDS, Answer, Failure
from reelm.backends.blocks import http
from reelm.backends.fake import Fake
from reelm.backends.openai_http import OpenAIHTTP, OpenAIHTTPConfig
from reelm.data.tables import Catalog, read_notes
from reelm.errors import BackendError
from reelm.prompts.attributes import Attributes

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
import faulty_server

SHARES = {"500": 0.10, "hang": 0.03, "cut": 0.06, "malformed": 0.06}


@pytest.fixture
def catalog(tmp_path, monkeypatch) -> Catalog:
    """120 videos."""
    monkeypatch.setattr(verb, "Decoder", Decoded)
    names = [f"v{n:03d}" for n in range(120)]
    columns = {
        "video_id": names,
        "path": [f"/nowhere/{name}.mp4" for name in names],
        "sha256": [f"{2 * n:064x}" for n in range(120)],
    }
    return Catalog(tmp_path / "catalog", pl.DataFrame(columns), pl.DataFrame())


@pytest.fixture
def asked(catalog, tmp_path, monkeypatch):
    """A function that annotates against a server with faults; notes and what the server saw."""
    monkeypatch.setattr(http, "BACKOFF_S", 0.01)
    monkeypatch.setattr(way.time, "sleep", lambda _: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def ask(name, **faults):
        server = faulty_server.Faulty(**faults)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        config = OpenAIHTTPConfig(
            model="m", base_url=url, timeout_s=0.4, image_format="png", structured="json_schema"
        )
        backend = OpenAIHTTP(config)
        try:
            config = AnnotateConfig(part=40, patience_s=20)
            notes = read_notes(annotate(catalog, backend, Attributes, config, tmp_path / name))
        finally:
            server.ended.set()
            backend.close()
            server.shutdown()
            server.server_close()
            thread.join()
        return notes, server.seen

    return ask


def test_every_item_ends_as_the_right_answer_or_as_a_typed_failure(asked):
    calm, _ = asked("calm", shares={}, stubborn=0.0)
    assert calm["answer"].null_count() == 0
    notes, seen = asked("wild", shares=SHARES, stubborn=0.05, outage=(60, 0.3))
    assert notes["video_id"].to_list() == calm["video_id"].to_list()
    failed = notes.filter(pl.col("answer").is_null())
    assert 0 < len(failed) < 20 and set(failed["error_kind"]) <= set(KINDS)
    assert failed["error"].null_count() == 0
    said = notes.filter(pl.col("answer").is_not_null()).join(calm, on="video_id", suffix="_calm")
    assert (said["answer"] == said["answer_calm"]).all()
    assert {fault for _, fault in seen} == {"", "silent", *SHARES}
    assert len(seen) < 120 + 100 + 120, "retries keep to their budget"


def test_a_request_that_never_comes_through_does_not_close_the_way(catalog, tmp_path, monkeypatch):
    monkeypatch.setattr(way.time, "sleep", lambda _: None)
    bad = {f"v{n:03d}" for n in range(20, 30)}

    class Picky(Fake):
        def answer(self, requests):
            said = super().answer(requests)
            return [Failure("http_500", "no") if r.key in bad else a
                    for r, a in zip(requests, said, strict=True)]  # fmt: skip

    config = AnnotateConfig(part=40, patience_s=5)
    notes = read_notes(annotate(catalog, Picky(), Attributes, config, tmp_path))
    assert set(notes.filter(pl.col("answer").is_null())["video_id"]) == bad


def test_the_lost_take_turns_where_nothing_came_through(catalog, tmp_path, monkeypatch):
    monkeypatch.setattr(way.time, "sleep", lambda _: None)

    class Restarted(Fake):
        left = 40 + 3

        def answer(self, requests):
            said = super().answer(requests)
            gone = min(self.left, len(said))
            self.left -= gone
            lost = [n < gone or r.key == "v000" for n, r in enumerate(requests)]
            return [Failure("timeout", "5 s") if x else a for x, a in zip(lost, said, strict=True)]

    config = AnnotateConfig(part=40, patience_s=5)
    notes = read_notes(annotate(catalog, Restarted(), Attributes, config, tmp_path))
    assert notes.filter(pl.col("answer").is_null())["video_id"].to_list() == ["v000"]
    calm = read_notes(annotate(catalog, Fake(), Attributes, config, tmp_path / "calm"))
    both = notes.filter(pl.col("answer").is_not_null()).join(calm, on="video_id")
    assert (both["answer"] == both["answer_right"]).all(), "answers keep their places"


def lost_from(gone, back, kind, always=()):
    """A backend that loses requests from a place in their order to another, and some always."""

    class Losing(Fake):
        asked = 0

        def answer(self, requests):
            said, start = super().answer(requests), self.asked
            self.asked += len(requests)
            lost = [gone <= start + n < back or r.key in always for n, r in enumerate(requests)]
            return [Failure(kind, "no") if x else a for x, a in zip(lost, said, strict=True)]

    return Losing()


def first(catalog, count):
    return Catalog(catalog.folder, catalog.videos.head(count), catalog.events)


def test_few_videos_wait_for_a_server_too(catalog, tmp_path, monkeypatch):
    monkeypatch.setattr(way.time, "sleep", lambda _: None)
    few, config = first(catalog, 3), AnnotateConfig(part=40, patience_s=5)
    back = lost_from(0, 6, "connection")
    notes = read_notes(annotate(few, back, Attributes, config, tmp_path))
    assert notes["answer"].null_count() == 0
    hasty = config.model_copy(update={"patience_s": 0.0})
    with pytest.raises(BackendError, match="nothing came through for 0 s"):
        annotate(few, lost_from(0, 999, "connection"), Attributes, hasty, tmp_path / "gone")
    assert not list((tmp_path / "gone").rglob(files.MANIFEST))


def test_one_that_is_too_much_is_not_taken_for_a_server_that_is_gone(catalog, tmp_path):
    config = AnnotateConfig(part=40, patience_s=0)
    slow = lost_from(0, 999, "timeout")
    notes = read_notes(annotate(first(catalog, 1), slow, Attributes, config, tmp_path))
    assert notes["error_kind"].to_list() == ["timeout"]


def test_what_came_through_before_says_whether_small_parts_or_the_server_are_at_fault(
    catalog, tmp_path
):
    few, config = first(catalog, 12), AnnotateConfig(part=4, patience_s=0)
    bad = {f"v{n:03d}" for n in range(4, 8)}
    notes = annotate(few, lost_from(0, 0, "timeout", bad), Attributes, config, tmp_path)
    assert set(read_notes(notes).filter(pl.col("answer").is_null())["video_id"]) == bad
    with pytest.raises(BackendError, match="nothing came through"):
        annotate(few, lost_from(4, 999, "timeout"), Attributes, config, tmp_path / "gone")


def test_what_is_asked_twice_is_paid_for_twice(monkeypatch):
    monkeypatch.setattr(way.time, "sleep", lambda _: None)
    tries = Counter()

    def ask(requests):
        tries.update(requests)
        empty = Failure("bad_response", "no text", 7, 5, 0.5)
        return [empty if n > 0 and tries[n] == 1 else Answer("{}", 7, 1, 0.5) for n in requests]

    said = way.Way("", 5).through(list(range(way.FEW + 1)), ask)
    assert said == [Answer("{}", 14, 2, 1.0)] + [Answer("{}", 14, 6, 1.0)] * way.FEW
