import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny_clips
from reelm import files
from reelm.annotate import AnnotateConfig, annotate
from reelm.backends.fake import Fake
from reelm.cli import app
from reelm.data.tables import read_notes
from reelm.prompts.attributes import Attributes


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder with a catalogue and notes."""
    work = tmp_path_factory.mktemp("work")
    folder = work / "catalog" / "c"
    made = tiny_clips.catalog(folder, tiny_clips.write(folder, 2))
    made.videos.write_parquet(folder / "videos.parquet")
    made.videos.head(0).with_columns(user_id="video_id", event="video_id").write_parquet(
        folder / "events.parquet"
    )
    files.finish(folder, stage="ingest", seconds=1.0, rows={"videos": 2}, failed=0)
    annotate(made, Fake(), Attributes, AnnotateConfig(seconds=120), work)
    return work


def said(*words, work=None, code=0) -> str:
    ran = CliRunner().invoke(app, [str(word) for word in words])
    assert ran.exit_code == code, ran.output
    return ran.stdout


def test_correct_list_and_export(work, tmp_path):
    words = ("--set", "colour=red", "--author", "ann", "--why", "seen", "--work", work)
    assert "replaces model" in said("correct", "v000", *words)
    assert said("corrections", "--work", work) == 'attributes  v000  ann  {"colour": "red"}  seen\n'
    out = tmp_path / "tuning.jsonl"
    assert said("corrections", "--export", out, "--work", work).splitlines() == [
        "1 rows, 0 left out", str(out),
    ]  # fmt: skip
    assert json.loads(out.read_text())["images"][0].startswith("tuning_frames/")
    page = said("look", "--work", work, "--out", tmp_path / "look.html").strip()
    assert (
        page == str(tmp_path / "look.html") and "red <i>ann" in (tmp_path / "look.html").read_text()
    )


def test_frames_stay_in_the_work_folder_wherever_the_page_is(work, tmp_path):
    bare = shutil.copytree(work, tmp_path / "bare", ignore=shutil.ignore_patterns("notes"))
    said("look", "--work", bare, "--out", tmp_path / "away" / "look.html")
    assert [path.name for path in (tmp_path / "away").iterdir()] == ["look.html"]


def test_provenance_prints_and_writes_pictures(work, tmp_path):
    folder = files.latest(work / "notes")
    text = said("provenance", folder, "v001", "--frames", tmp_path / "out")
    assert "prompt: attributes" in text and "02-frame-2.png" in text
    told = json.loads(said("provenance", folder, "v001", "--json"))
    assert told["id"] == "v001" and told["corrections"] == []


def test_cost_as_table_and_json_with_rates(work):
    rates = ("--set", "rates.device_hour=3600", "--set", "rates.currency=CHF")
    text = said("cost", work, *rates)
    assert "notes/attributes-" in text and "CHF" in text and "\nsum " in text
    told = json.loads(said("cost", work, "--by", "note", "--json", *rates))
    assert [entry["rows"] for entry in told["entries"]] == [2] and told["rates"][
        "currency"
    ] == "CHF"


def test_a_batch_is_written_and_read(work, tmp_path):
    model = ("--set", "backend.model=m", "--set", "annotate.seconds=120", "--work", work)
    first, folder = said("batch", "write", "--prompt", "caption", *model).splitlines()
    assert first == "2 requests in 1 files, 0 videos that cannot be asked about"
    text = (Path(folder) / "batch-00000.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    path = tmp_path / "results.jsonl"

    def answer(line, text='{"caption": "A cat."}'):
        message = {"content": text}
        body = {"choices": [{"message": message, "finish_reason": "stop"}]}
        return {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}}

    path.write_text(json.dumps(answer(lines[0])) + "\n")
    path.write_text("".join(json.dumps(answer(line, "A cat.")) + "\n" for line in lines))
    shutil.copytree(work, other := tmp_path / "other")
    wrong = other / Path(folder).relative_to(work)
    assert "2 invalid_json" in said("batch", "read", wrong, path, code=1), "every row failed"
    path.write_text(json.dumps(answer(lines[0])) + "\n")
    told = said("batch", "read", folder, path).splitlines()
    assert told[0] == "1 answered, 1 missing" and told[1].startswith("1 left open")
    path.write_text("".join(json.dumps(answer(line)) + "\n" for line in lines))
    told = said("batch", "read", folder, path).splitlines()
    assert told[0] == "2 answered" and told[1].startswith("caption: 2 rows, 0 failed")
    assert read_notes(Path(told[-1]))["answer"].null_count() == 0
    assert "prompt: caption" in said("provenance", told[-1], "v000")
    assert said("batch", "write", "--prompt", "caption", *model) == "nothing left to ask\n"
