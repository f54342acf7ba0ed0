"""A correction over HTTP: checked, kept beside those of `reelm correct`, and told at once."""

import errno
import json
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from fastapi.testclient import TestClient

from reelm import files
from reelm.correct import correct
from reelm.data.corrections import Corrections
from reelm.data.tables import read_notes
from reelm.prompts.attributes import Attributes
from reelm.serve import correcting
from reelm.serve.engine import EngineConfig
from reelm.serve.keys import Keys
from reelm.serve.notes import load_notes
from reelm.serve.records import StoredEvent, Upload
from reelm.serve.served import Parts, Served
from reelm.serve.service import create_app
from reelm.serve.store import Store

from .conftest import VIDEOS, answer, video

REST = dict.fromkeys(Attributes.model_fields, "none")
NOTE = f"/v1/videos/{video(20)}/notes/attributes"


def noted(work, rows):
    """A finished notes folder; `rows` are video id, SHA-256 and answer."""
    folder = work / "notes" / "attributes-abc"
    folder.mkdir(parents=True)
    table = [
        {"video_id": v, "sha256": sha, "answer": said and json.dumps(said)}
        | {"error_kind": None if said else "refused", "error": None if said else "no"}
        for v, sha, said in rows
    ]
    pl.DataFrame(table, infer_schema_length=None).write_parquet(folder / "part-00000.parquet")
    prompt = {"name": "attributes", "version": Attributes.version, "question": "?"}
    files.finish(folder, stage="annotate", inputs={}, settings={"prompt": prompt})
    return folder


@pytest.fixture
def folder(tmp_path):
    rows = [(video(n), f"sha{n}", REST | answer(n)) for n in range(VIDEOS - 1)]
    return noted(tmp_path, [*rows, (video(VIDEOS - 1), "sha59", None)])


@pytest.fixture
def served(run, catalog, folder, tmp_path):
    store = Store(tmp_path / "serve" / "store.sqlite")
    config = EngineConfig(new_share=0.2)
    made = Served(Parts(run, catalog, load_notes([folder]), store, config))
    yield made
    made.engine.store.close()


@pytest.fixture
def client(served):
    with TestClient(create_app(served), base_url="http://127.0.0.1") as client:
        yield client


def put(client, fields, address=NOTE, **more):
    return client.put(address, json={"fields": fields, **more})


def test_it_wins_at_once_and_after_a_restart(client, served, folder):
    made = put(client, {"colour": "violet"}, why="I see it").json()
    assert (made["note"]["colour"], made["author"], made["replaces"]) == (
        "violet", "local", "model",
    )  # fmt: skip
    told = client.get(f"/v1/videos/{video(20)}").json()
    assert told["notes"]["colour"] == "violet"
    assert told["notes"]["subject"] == answer(20)["subject"]
    (version,) = told["corrections"]
    assert version["version"] == made["version"]
    assert (version["fields"], version["why"]) == ({"colour": "violet"}, "I see it")
    (kept,) = Corrections.of(folder).all()
    assert kept.key == made["version"] and kept.sha256 == "sha20"
    table = read_notes(folder)
    assert json.loads(table["answer"][20])["colour"] == "violet", "other readers get it too"
    assert load_notes([folder]).answers[video(20)]["colour"] == "violet"


def test_what_reelm_correct_kept_is_told_and_goes_on(client, folder):
    first = correct(folder, video(20), {"colour": "violet"}, "ann")
    made = put(client, {"scene": "forest"}, expected=first.key).json()
    assert made["replaces"] == first.key
    told = client.get(f"/v1/videos/{video(20)}").json()
    assert [one["author"] for one in told["corrections"]] == ["ann", "local"]
    assert {"colour": "violet", "scene": "forest"}.items() <= told["notes"].items()


def test_reasons_speak_of_what_was_corrected(client, served):
    for number in (20, 27):  # they share nothing but what a person says of them
        said = dict.fromkeys(answer(number), "none") | {"subject": "zeppelin"}
        address = f"/v1/videos/{video(number)}/notes/attributes"
        assert put(client, said, address).is_success
    engine = served.engine
    engine.store.add_events([StoredEvent("e", "new", video(20), "like", 1.0)])
    past = engine.past("new")
    links = engine.videos.facets.links(past.rows)
    reason = engine._reasons.of("model", engine.videos.row[video(27)], past, links)
    assert reason.facts == {"subject": "zeppelin"} and reason.because == (video(20),)


def test_a_note_that_failed_can_be_written(client):
    address = f"/v1/videos/{video(VIDEOS - 1)}/notes/attributes"
    assert put(client, {"colour": "red"}, address).status_code == 400, "the rest is missing"
    assert put(client, REST | {"colour": "red"}, address).is_success
    assert client.get(f"/v1/videos/{video(VIDEOS - 1)}").json()["notes"]["colour"] == "red"


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"color": "red"}, 400, "Did you mean 'colour'"),
        ({"colour": 5}, 400, "not string"),
        ({"colour": ["red"]}, 400, "not string"),
        ({"colour": answer(20)["colour"]}, 400, "nothing was changed"),
        ({}, 422, "fields"),
        ({"colour": "x" * 20_000}, 422, "longer than"),
    ],
)
def test_what_the_question_does_not_allow_is_refused(client, folder, fields, status, said):
    answered = put(client, fields)
    assert answered.status_code == status and said in answered.json()["error"]
    assert not Corrections.of(folder).all()


def test_halves_of_letters_are_refused(client):
    body = '{"fields": {"colour": "\\ud800"}}'
    sent = client.put(NOTE, content=body, headers={"content-type": "application/json"})
    assert sent.status_code == 422


@pytest.mark.parametrize(
    "address",
    ["/v1/videos/nothing/notes/attributes", f"/v1/videos/{video(20)}/notes/caption"],
)
def test_what_is_not_there_cannot_be_corrected(client, tmp_path, address):
    answered = put(client, {"colour": "red"}, address)
    assert answered.status_code == 404
    assert str(tmp_path) not in answered.text, "no local paths"


def test_a_run_without_folders_keeps_its_notes(engine):
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:
        assert put(client, {"colour": "red"}).status_code == 404


def test_who_looked_before_another_corrected_is_told(client):
    assert put(client, {"colour": "violet"}, expected="model").is_success
    late = put(client, {"colour": "pink"}, expected="model")
    assert late.status_code == 409 and "local corrected this note" in late.json()["error"]


def test_many_at_once_are_all_kept(client, folder):
    def one(number):
        return put(client, {"word": f"word{number}"}, why=str(number)).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(16))) == {200}
    kept = Corrections.of(folder).all()
    assert {one.why for one in kept} == {str(n) for n in range(16)}
    assert [one.replaces for one in kept[1:]] == [one.key for one in kept[:-1]]
    assert client.get(f"/v1/videos/{video(20)}").json()["notes"]["word"] == kept[-1].fields["word"]


def test_the_author_is_the_key_and_edit_is_needed(served, tmp_path):
    keys = Keys(tmp_path / "keys.json")
    ann, app = keys.add("ann", ["edit"]), keys.add("app", ["feed", "write"])
    with TestClient(create_app(served, keys=keys), base_url="http://127.0.0.1") as client:
        body = {"fields": {"colour": "violet"}}
        assert client.put(NOTE, json=body, headers={"x-api-key": app}).status_code == 403
        made = client.put(NOTE, json=body, headers={"x-api-key": ann})
        assert made.json()["author"] == "ann"


def test_an_upload_is_corrected_in_its_own_folder(served, client, tmp_path):
    uploads = tmp_path / "serve" / "uploads"
    home = noted(uploads, [("mine", "shaX", REST | {"subject": "cat"})])
    path = uploads / "files" / "shaX.mp4"
    path.parent.mkdir()
    path.write_bytes(b"x")
    row = {"video_id": "mine", "path": str(path), "sha256": "shaX", "ok": True}
    made = {"prompt": "attributes", "notes": home.name, "version": Attributes.version}
    served.engine.store.put_upload(
        Upload("mine", "shaX", "ready", row=row, answer=REST | {"subject": "cat"}, provenance=made)
    )
    served.refresh()
    assert put(client, {"subject": "dog"}, "/v1/videos/mine/notes/attributes").is_success
    told = client.get("/v1/videos/mine").json()
    assert told["notes"]["subject"] == "dog" and len(told["corrections"]) == 1
    assert put(client, {"colour": "red"}).is_success, "and the others go on as before"


def test_a_full_disk_is_said(client, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/place")

    monkeypatch.setattr(correcting, "amend", full)
    answered = put(client, {"colour": "violet"})
    assert answered.status_code == 503 and "/secret" not in answered.text
    assert "No space left" in answered.json()["error"]
