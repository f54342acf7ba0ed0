"""What commands say of themselves: which notes they took, what failed and why, and what to do."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

import tiny_clips
from grey import Decoded
from reelm import annotate as verb
from reelm import asked, files, note_commands
from reelm.backends.base import Failure
from reelm.backends.fake import Fake
from reelm.cli import app
from reelm.data.tables import read_catalog
from reelm.errors import BackendError, BadData
from reelm.ingest import IngestConfig, ingest
from reelm.world import WorldConfig, render

VIDEOS = [f"v{n:02d}" for n in range(10)]


def ran(work: Path, *words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [*map(str, words), "--work", str(work)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """A work folder with a catalogue of ten videos, of which three people watched all."""
    monkeypatch.setattr(verb, "Decoder", Decoded)
    folder = tmp_path / "work" / "catalog" / "c"
    folder.mkdir(parents=True)
    columns = {
        "video_id": VIDEOS,
        "path": [f"/nowhere/{name}.mp4" for name in VIDEOS],
        "sha256": [f"{n:064x}" for n in range(10)],
        "title": [None, *(f"clip {name}" for name in VIDEOS[1:])],
    }
    pl.DataFrame(columns).write_parquet(folder / "videos.parquet")
    rows = [(f"u{user}", video, "like", float(at)) for user in range(3)
            for at, video in enumerate(VIDEOS)]  # fmt: skip
    events = pl.DataFrame(rows, schema=["user_id", "video_id", "event", "timestamp"], orient="row")
    events.write_parquet(folder / "events.parquet")
    files.finish(folder, stage="ingest")
    return tmp_path / "work"


@pytest.fixture
def server(monkeypatch):
    """Answers with its `status`; with 200 what a model says of a caption."""
    message = {"message": {"content": '{"caption": "A cat."}'}, "finish_reason": "stop"}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            data = json.dumps({"choices": [message]}).encode()
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def to_server(server) -> tuple[str, ...]:
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    return (
        *("annotate", "--backend", "openai_http", "--prompt", "caption"),
        *("--set", "backend.model=m", "--set", f"backend.base_url={url}"),
    )


def test_a_server_that_turns_all_down_leaves_no_notes_and_the_same_command_goes_on(work, server):
    server.status = 401
    error = ran(work, *to_server(server), code=1).exception
    assert isinstance(error, BackendError) and "/v1/chat/completions turns all" in str(error)
    assert "OPENAI_API_KEY" in str(error)
    assert not list((work / "notes").glob(f"*/{files.MANIFEST}"))
    server.status = 200
    told = ran(work, *to_server(server)).stdout.splitlines()
    assert told[0].startswith("caption: 10 rows, 0 failed") and "--retry-failed" not in told[1]
    assert files.manifest(Path(told[-1]))["failed"] == 0


class Refusing(Fake):
    """Refuses what is in `bad`, by id."""

    bad: frozenset[str] = frozenset(VIDEOS)

    def answer(self, requests):
        said = super().answer(requests)
        return [Failure("refused", "no") if r.key in self.bad else a
                for r, a in zip(requests, said, strict=True)]  # fmt: skip


@pytest.mark.parametrize(("bad", "code"), [(VIDEOS, 1), (VIDEOS[:2], 0)])
def test_what_failed_is_said_to_be_asked_again_on_demand(work, monkeypatch, bad, code):
    monkeypatch.setattr(asked, "maker", lambda *_: Refusing())
    monkeypatch.setattr(Refusing, "bad", frozenset(bad))
    again = f"--retry-failed asks again about the {len(bad)} that failed"
    for _ in range(2):
        told = ran(work, "annotate", "--backend", "fake", code=code).stdout.splitlines()
        assert told[0].startswith(f"attributes: 10 rows, {len(bad)} failed ({len(bad)} refused)")
        assert told[1] == again and (Path(told[2]) / files.MANIFEST).is_file() and len(told) == 3
    told = ran(work, "annotate", "--backend", "fake", "--retry-failed", code=code).stdout
    assert "--retry-failed" not in told
    monkeypatch.setattr(Refusing, "bad", frozenset())
    told = ran(work, "annotate", "--backend", "fake", "--retry-failed").stdout.splitlines()
    assert told[0].startswith("attributes: 10 rows, 0 failed") and len(told) == 2


def annotated(work: Path, prompt: str, monkeypatch, bad=()) -> Path:
    monkeypatch.setattr(asked, "maker", lambda *_: Refusing())
    monkeypatch.setattr(Refusing, "bad", frozenset(bad))
    return Path(ran(work, "annotate", "--prompt", prompt).stdout.splitlines()[-1])


def test_encode_says_what_it_read_and_what_failed(work, monkeypatch):
    notes = annotated(work, "attributes", monkeypatch, VIDEOS[:4])
    done = ran(work, "encode", "--encoder", "hashing", "--input", "notes")
    assert done.stderr == f"notes: {notes}, the newest that fit; --notes names others\n"
    first, last = done.stdout.splitlines()
    assert first == "10 rows, 4 failed (4 no answer in the notes)" and files.finished(Path(last))
    named = ran(work, "encode", "--encoder", "hashing", "--input", "notes", "--notes", notes)
    assert named.stderr == "" and named.stdout == done.stdout
    assert ran(work, "encode", "--encoder", "hashing").stdout.startswith("10 rows, 1 failed")


def test_notes_without_an_answer_are_passed_over(work, monkeypatch):
    monkeypatch.setattr(asked, "maker", lambda *_: Refusing())
    refused = ran(work, "annotate", "--prompt", "caption", code=1).stdout.splitlines()
    first = Path(refused[-1])
    words = ("encode", "--encoder", "hashing", "--input", "notes")
    assert asked.notes(work) == first, "where there is nothing else"
    assert "not one" in str(ran(work, *words, code=1).exception)
    said = annotated(work, "attributes", monkeypatch)
    facts = files.manifest(first) | {"finished_at": files.manifest(said)["finished_at"] + 1}
    files.write_text(first / files.MANIFEST, json.dumps(facts))
    assert asked.notes(work) == said
    done = ran(work, *words)
    assert done.stderr == f"notes: {said}, the newest that fit; --notes names others\n"


def test_notes_about_a_part_of_the_videos_are_said_to_be(work, monkeypatch):
    monkeypatch.setattr(asked, "maker", lambda *_: Fake())
    notes = ran(work, "annotate", "--set", "annotate.limit=3").stdout.splitlines()[-1]
    done = ran(work, "encode", "--encoder", "hashing", "--input", "notes")
    assert done.stderr == (
        f"notes: {notes}, the newest that fit, though about 3 of 10 videos only (annotate.limit?); "
        "--notes names others\n"
    )


def test_values_are_not_read_from_captions(work, monkeypatch):
    words = ("encode", "--encoder", "values")
    captions = annotated(work, "caption", monkeypatch)
    error = ran(work, *words, code=1).exception
    assert isinstance(error, BadData) and str(error).startswith(f"{captions}: the newest notes")
    assert "reelm annotate --prompt attributes" in str(error)
    values = annotated(work, "attributes", monkeypatch)
    facts = files.manifest(captions) | {"finished_at": files.manifest(values)["finished_at"] + 1}
    files.write_text(captions / files.MANIFEST, json.dumps(facts))
    done = ran(work, *words)
    assert str(values) in done.stderr and done.stdout.startswith("10 rows, 0 failed\n")
    sentences = ran(work, "encode", "--encoder", "hashing", "--input", "notes")
    assert str(captions) in sentences.stderr


def vectors(folder: Path, ids: list[str]) -> Path:
    folder.mkdir()
    np.save(folder / "part-00000.npy", np.eye(len(ids), 4, dtype=np.float32))
    pl.DataFrame({"video_id": ids}).write_parquet(folder / "ids.parquet")
    return files.finish(folder, stage="encode")


def test_train_says_how_many_videos_a_feature_covers(work, tmp_path):
    words = ("train", "--model", "content", "--set", "split.name=leave_last_two")
    some, all_, none = (
        vectors(tmp_path / name, ids)
        for name, ids in (("some", VIDEOS[7:]), ("all", VIDEOS), ("none", ["x1", "x2", "x3"]))
    )
    told = ran(work, *words, "--features", f"text={some}", "--features", f"look={all_}").stdout
    assert told.splitlines()[0] == "text: vectors of 3 of 10 videos"
    assert told.splitlines()[1] == "features.look: this model, set as it is, does not read it"
    assert len(told.splitlines()) == 3 and files.finished(Path(told.splitlines()[2]))
    error = ran(work, *words, "--features", f"text={none}", code=1).exception
    assert isinstance(error, BadData) and "features.text: none of its 3 vectors" in str(error)


def test_pocket_is_said_to_be_of_the_rendered_world(work, tmp_path, capsys):
    rendered = WorldConfig(videos=2, people=4, width=64, height=64, fps=2)
    config = IngestConfig(seconds_per_file=120)
    world = ingest(render(rendered, tmp_path / "world"), tmp_path, config)
    note_commands._fits("pocket", read_catalog(world))
    note_commands._fits("fake", read_catalog(work / "catalog" / "c"))
    assert capsys.readouterr().err == ""
    note_commands._fits("pocket", read_catalog(work / "catalog" / "c"))
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "--backend transformers or openai_http" in said
    clips = tiny_clips.catalog(tmp_path / "clips", tiny_clips.write(tmp_path / "clips", 1))
    assert not asked.rendered(clips), "what merely looks like them may be anything"


def test_annotate_warns_before_pocket_is_asked(work, monkeypatch):
    class Gone(Exception):
        pass

    def annotate_all(*_):
        raise Gone

    monkeypatch.setattr(verb, "annotate_all", annotate_all)
    done = ran(work, "annotate", code=1)
    assert isinstance(done.exception, Gone) and "rendered world" in done.stderr


@pytest.mark.parametrize(
    "words",
    [("rerank", "run"), ("annotate", "--prompt", "user_profile", "--backend", "tallies")],
)
def test_notes_that_nobody_named_are_named(work, monkeypatch, words):
    notes = annotated(work, "attributes", monkeypatch)
    monkeypatch.undo()
    run = ran(work, "train", "--model", "popularity").stdout.splitlines()[-1]
    asked_for = [run if word == "run" else word for word in words]
    line = f"notes: {notes}, the newest that fit; --notes names others"
    assert line in CliRunner().invoke(app, [*asked_for, "--work", str(work)]).stderr
    named = CliRunner().invoke(app, [*asked_for, "--work", str(work), "--notes", str(notes)])
    assert "names others" not in named.stderr
