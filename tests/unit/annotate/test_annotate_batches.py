"""Requests written out, and their results in an ordinary notes folder."""

import json

import polars as pl
import pytest

from grey import Decoded
from reelm import annotate as verb
from reelm import files
from reelm.annotate import AnnotateConfig, annotate, batches
from reelm.backends.base import Answer, Failure, Request
from reelm.backends.fake import Fake
from reelm.backends.openai_http import OpenAIHTTP, OpenAIHTTPConfig
from reelm.batch_files import BatchConfig
from reelm.data.tables import read_catalog, read_notes
from reelm.errors import BadData, ConfigError
from reelm.prompts.attributes import Attributes
from reelm.prompts.caption import Caption

PART = AnnotateConfig(part=4)


class Broken(Decoded):
    broken = frozenset({"v03"})


@pytest.fixture(autouse=True)
def decoded(monkeypatch):
    monkeypatch.setattr(verb, "Decoder", Broken)
    monkeypatch.setattr(batches, "Decoder", Broken)


@pytest.fixture
def catalog(tmp_path):
    """Ten videos; v09 is a copy of v00."""
    folder = tmp_path / "catalog" / "c"
    folder.mkdir(parents=True)
    names = [f"v{n:02d}" for n in range(10)]
    columns = {
        "video_id": names,
        "path": [f"/nowhere/{name}.mp4" for name in names],
        "sha256": [f"{n % 9:03d}" + f"{n % 9:061x}" for n in range(10)],
    }
    pl.DataFrame(columns).write_parquet(folder / "videos.parquet")
    pl.DataFrame({"user_id": ["u"], "video_id": ["v00"], "event": ["like"]}).write_parquet(
        folder / "events.parquet"
    )
    files.finish(folder, stage="ingest")
    return read_catalog(folder)


@pytest.fixture
def backend():
    made = OpenAIHTTP(OpenAIHTTPConfig(model="m", moments=2))
    yield made
    made.close()


def out(catalog, backend, tmp_path, *prompts, config=PART, limits=None):
    chosen = prompts or (Attributes,)
    return batches.write(catalog, backend, chosen, config, limits or BatchConfig(), tmp_path)


def lines(folder):
    return [json.loads(line) for path in sorted(folder.glob("batch-*.jsonl"))
            for line in path.read_text().splitlines()]  # fmt: skip


def result(line, status=200):
    """What a service says of a line: an answer that obeys the schema it was sent."""
    schema = line["body"]["response_format"]["json_schema"]["schema"]
    (said,) = Fake().answer([Request("", (line["custom_id"],), schema)])
    body = {
        "choices": [{"message": {"content": said.text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5},
    }
    response = {"status_code": status, "body": body}
    return {"custom_id": line["custom_id"], "response": response, "error": None}


def back(tmp_path, found, name="results.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(one) + "\n" for one in found))
    return [path]


def test_a_batch_becomes_an_ordinary_notes_folder(catalog, backend, tmp_path):
    folder = out(catalog, backend, tmp_path)
    asked = lines(folder)
    assert len(asked) == 8, "ten videos, one of them broken and one a copy"
    assert all(len(line["custom_id"]) <= 64 for line in asked)
    shown = [part["type"] for part in asked[0]["body"]["messages"][0]["content"]]
    assert shown.count("image_url") == 2
    assert files.manifest(folder)["failed"] == 1
    taken = batches.read(folder, back(tmp_path, map(result, reversed(asked))))
    (notes,) = taken.folders
    assert taken.open == 0 and taken.counts == {"answered": 8}
    table = read_notes(notes)
    assert table["video_id"].to_list() == ["v00", "v09", *(f"v{n:02d}" for n in range(1, 9))]
    assert table["sha256"][0] == table["sha256"][1] and table["answer"][0] == table["answer"][1]
    wrong = table.filter(pl.col("answer").is_null())
    assert wrong.select("video_id", "error_kind").rows() == [("v03", "media")]
    facts = files.manifest(notes)
    assert (facts["rows"], facts["failed"]) == (10, 1)
    assert facts["cost"]["tokens_out"] == 8 * 5 and facts["cost"]["tokens_in"] == 8 * 7
    assert facts["inputs"]["backend"]["model"] == "m"
    assert sorted(path.name for path in notes.glob("*.parquet")) == [
        "part-00000.parquet", "part-00001.parquet", "part-00002.parquet",
    ]  # fmt: skip


class Speaking(OpenAIHTTP):
    """The same model behind a server."""

    def __init__(self, config):
        super().__init__(config)
        self.asked = []

    def answer(self, requests):
        self.asked += [request.key for request in requests]
        return Fake().answer(requests)


def test_what_a_batch_answered_is_not_asked_of_a_server(catalog, backend, tmp_path):
    folder = out(catalog, backend, tmp_path)
    taken = batches.read(folder, back(tmp_path, map(result, lines(folder)[2:6])))
    (notes,) = taken.folders
    assert taken.open == 4 and not files.finished(notes)
    server = Speaking(backend.config)
    try:
        assert annotate(catalog, server, Attributes, PART, tmp_path) == notes
    finally:
        server.close()
    assert server.asked == ["v00", "v01", "v07", "v08"]
    table = read_notes(notes)
    assert table["error_kind"].drop_nulls().to_list() == ["media"]
    assert not list(notes.glob("answered-*"))
    paid = sum(table.unique("sha256", keep="first")["tokens_out"].fill_null(0))
    assert files.manifest(notes)["cost"]["tokens_out"] == paid


def test_what_is_left_can_be_written_out_again(catalog, backend, tmp_path):
    first = out(catalog, backend, tmp_path)
    every = lines(first)
    failed = [result(every[0], status=429), {"custom_id": every[1]["custom_id"], "response": None,
              "error": {"code": "batch_expired"}}]  # fmt: skip
    wrong = result(every[2])
    wrong["response"]["body"]["choices"][0]["message"]["content"] = '{"subject": 3}'
    taken = batches.read(first, back(tmp_path, [*failed, wrong, *map(result, every[3:7])]))
    assert taken.open == 3
    assert taken.counts == {"answered": 4, "missing": 1, "rate_limited": 1, "schema": 1,
                            "timeout": 1}  # fmt: skip
    second = out(catalog, backend, tmp_path)
    assert second != first
    ids = [line["custom_id"] for line in lines(second)]
    assert ids == [every[n]["custom_id"] for n in (0, 1, 7)]
    taken = batches.read(second, back(tmp_path, map(result, lines(second))))
    assert taken.open == 0
    kinds = read_notes(taken.folders[0])["error_kind"].drop_nulls().to_list()
    assert sorted(kinds) == ["media", "schema"], "an answer that came and was wrong is a failure"
    assert files.manifest(taken.folders[0])["cost"]["tokens_out"] == 8 * 5
    assert out(catalog, backend, tmp_path) is None
    again = out(catalog, backend, tmp_path, config=PART.model_copy(update={"retry_failed": True}))
    assert len(lines(again)) == 1 and files.finished(taken.folders[0])
    batches.read(again, back(tmp_path, map(result, lines(again))))
    table = read_notes(taken.folders[0])
    assert table["error_kind"].drop_nulls().to_list() == ["media"]
    assert files.manifest(taken.folders[0])["cost"]["tokens_out"] == 9 * 5, "one was asked twice"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_wrong_answer_that_waits_for_its_part_is_paid_for_beside_the_one_after_it(
    catalog, backend, tmp_path, elsewhere
):
    first = out(catalog, backend, tmp_path)
    every = lines(first)
    wrong = result(every[2])
    wrong["response"]["body"]["choices"][0]["message"]["content"] = '{"subject": 3}'
    (notes,) = batches.read(first, back(tmp_path, [wrong, *map(result, every[3:])])).folders
    assert not files.finished(notes) and list(notes.glob("answered-*"))
    retry = PART.model_copy(update={"retry_failed": True})
    if elsewhere:
        server = Speaking(backend.config)
        annotate(catalog, server, Attributes, retry, tmp_path)
        server.close()
        fresh = read_notes(notes).filter(pl.col("video_id").is_in(server.asked))
        own = fresh["tokens_out"].sum()
        assert server.asked == ["v00", "v01", "v02"]
    else:
        second = out(catalog, backend, tmp_path, config=retry)
        batches.read(second, back(tmp_path, map(result, lines(second))))
        own = 3 * 5
    assert read_notes(notes)["error_kind"].drop_nulls().to_list() == ["media"]
    assert files.manifest(notes)["cost"]["tokens_out"] == (1 + 5) * 5 + own


def test_reading_again_changes_nothing(catalog, backend, tmp_path):
    folder = out(catalog, backend, tmp_path)
    half = back(tmp_path, map(result, lines(folder)[:5]))
    (notes,) = batches.read(folder, half).folders
    before = {path.name: path.read_bytes() for path in notes.iterdir()}
    assert "answered-00000.parquet" in before and "part-00000.parquet" in before
    batches.read(folder, half)
    assert {path.name: path.read_bytes() for path in notes.iterdir()} == before


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_killed_write_begins_again_and_a_second_one_returns(
    catalog, backend, tmp_path, monkeypatch
):
    calm = out(catalog, backend, tmp_path / "calm")
    one = BatchConfig(most_lines=3)
    real, count = batches.batch_files.files.atomic, []

    def dying(path):
        count.append(path)
        if len(count) == 3:
            (path.parent / "batch-00001.jsonl").write_text("left by a kill\n")
            raise Killed
        return real(path)

    monkeypatch.setattr(batches.batch_files.files, "atomic", dying)
    with pytest.raises(Killed):
        out(catalog, backend, tmp_path, limits=one)
    (folder,) = (tmp_path / "batches").iterdir()
    with pytest.raises(BadData, match="did not finish"):
        batches.read(folder, [])
    monkeypatch.setattr(batches.batch_files.files, "atomic", real)
    assert out(catalog, backend, tmp_path, limits=one) == folder
    assert lines(folder) == lines(calm) and len(list(folder.glob("batch-*"))) == 3
    before = [path.stat().st_mtime_ns for path in folder.iterdir()]
    assert out(catalog, backend, tmp_path, limits=one) == folder
    assert [path.stat().st_mtime_ns for path in folder.iterdir()] == before


def test_a_read_that_is_killed_goes_on(catalog, backend, tmp_path, monkeypatch):
    folder = out(catalog, backend, tmp_path)
    found = back(tmp_path, map(result, lines(folder)))

    def dying(*_):
        raise Killed

    monkeypatch.setattr(batches, "run", dying)
    with pytest.raises(Killed):
        batches.read(folder, found)
    monkeypatch.undo()
    monkeypatch.setattr(batches, "Decoder", Broken)
    taken = batches.read(folder, found)
    assert taken.open == 0
    assert files.manifest(taken.folders[0])["cost"]["tokens_out"] == 8 * 5


def test_results_of_another_question_are_refused(catalog, backend, tmp_path):
    first, other = out(catalog, backend, tmp_path), out(catalog, backend, tmp_path, Caption)
    with pytest.raises(BadData, match="none of its 8 lines"):
        batches.read(first, back(tmp_path, map(result, lines(other))))
    assert not list((tmp_path / "notes").glob("*/*.parquet"))


def test_a_read_of_nothing_is_an_error(catalog, backend, tmp_path, monkeypatch):
    folder = out(catalog, backend, tmp_path)
    with pytest.raises(BadData, match="no file of results is named, and 8 requests wait"):
        batches.read(folder, [])
    with pytest.raises(BadData, match=r"no line about a request in .*results\.jsonl, and 8"):
        batches.read(folder, back(tmp_path, []))
    assert not list((tmp_path / "notes").glob("*/*.parquet"))
    monkeypatch.setattr(Broken, "broken", frozenset(f"v{n:02d}" for n in range(10)))
    unseen = out(catalog, backend, tmp_path, Caption)
    assert files.manifest(unseen)["files"] == []
    (notes,) = batches.read(unseen, []).folders
    assert files.manifest(notes)["failed"] == 10, "where nothing was sent nothing can come back"


def test_a_question_that_changed_since_is_refused(catalog, backend, tmp_path, monkeypatch):
    folder = out(catalog, backend, tmp_path)
    found = back(tmp_path, map(result, lines(folder)))
    monkeypatch.setattr(Attributes, "version", 99)
    with pytest.raises(BadData, match="not the one that was written out"):
        batches.read(folder, found)


def test_several_questions_share_a_batch(catalog, backend, tmp_path):
    folder = out(catalog, backend, tmp_path, Attributes, Caption)
    assert folder.name.startswith("attributes+caption-") and len(lines(folder)) == 16
    taken = batches.read(folder, back(tmp_path, map(result, lines(folder))))
    assert [path.name.partition("-")[0] for path in taken.folders] == ["attributes", "caption"]
    for notes in taken.folders:
        assert (files.manifest(notes)["rows"], files.manifest(notes)["failed"]) == (10, 1)


def test_a_failure_that_may_pass_is_no_row():
    assert batches._passing(Failure("http_503", "")) and not batches._passing(Failure("schema", ""))
    assert not batches._passing(Answer("{}", 1, 1, 0.0))


def test_a_retry_that_is_killed_loses_no_answer(catalog, tmp_path):
    class Flaky(Fake):
        def answer(self, requests):
            said = super().answer(requests)
            return [Failure("refused", "no") if r.key == "v05" else a
                    for r, a in zip(requests, said, strict=True)]  # fmt: skip

    annotate(catalog, Flaky(), Attributes, PART, tmp_path)
    again = PART.model_copy(update={"retry_failed": True})

    class Dying(Fake):
        def answer(self, requests):
            raise Killed

    with pytest.raises(Killed):
        annotate(catalog, Dying(), Attributes, again, tmp_path)
    asked = []

    class Asked(Fake):
        def answer(self, requests):
            asked.extend(request.key for request in requests)
            return super().answer(requests)

    folder = annotate(catalog, Asked(), Attributes, again, tmp_path)
    assert asked == ["v05"] and not list(folder.glob("kept-*"))


def test_texts_are_refused_and_nothing_is_written(catalog, backend, tmp_path):
    with pytest.raises(ConfigError, match=r"annotate\.texts"):
        out(catalog, backend, tmp_path, config=AnnotateConfig(texts=("title",)))
    assert not (tmp_path / "batches").exists() and not (tmp_path / "notes").exists()
