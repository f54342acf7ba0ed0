"""Another run takes the place of the present one, and back, without a dropped request."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from reelm import files
from reelm.cli import app
from reelm.data.dataset import Dataset
from reelm.data.split import SplitConfig
from reelm.errors import BadData, ConfigError
from reelm.models.item_knn import ItemKNN
from reelm.models.popularity import Popularity
from reelm.runs import Run, save
from reelm.serve import facets
from reelm.serve.engine import EngineConfig
from reelm.serve.gate import ServiceConfig
from reelm.serve.records import StoredEvent, Upload
from reelm.serve.served import Parts, Served, UnknownRun, sibling
from reelm.serve.server import open_engine, open_served, open_uploads, running, store_of
from reelm.serve.store import Store
from reelm.sources import Sources

from .conftest import answer, events, videos


@pytest.fixture
def work(tmp_path):
    """A work folder with a catalogue and two finished runs, `a` and the newer `b`."""
    catalog = tmp_path / "catalog" / "c"
    catalog.mkdir(parents=True)
    videos(catalog).write_parquet(catalog / "videos.parquet")
    events().write_parquet(catalog / "events.parquet")
    files.finish(catalog, stage="ingest")
    data = Dataset.build(events(), videos=videos(catalog).drop("duplicate_of"))
    found = Sources(catalog=catalog, split=SplitConfig())
    for name, kind in (("b", Popularity), ("a", ItemKNN)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        run = Run.of({"a": "item_knn", "b": "popularity"}[name], kind(kind.Config(), data), data)
        save(run, folder, {"model": kind.Config()}, [], stage="train", inputs={}, settings={})
        found.save(folder)
        time.sleep(0.02)
    (tmp_path / "runs" / "half").mkdir()
    return tmp_path


def test_the_command_opens_the_store_that_is_named(work, where, monkeypatch):
    seen = []

    def serve(served, *_):
        served.engine.store.add_events([StoredEvent("e1", "u3", "v020", "like", 1.0)])
        uploads = open_uploads(served)
        seen.append((served.engine.store.address, uploads and uploads.folder))
        served.engine.store.close()

    monkeypatch.setattr("reelm.serve.server.serve", serve)
    command = ["serve", str(work / "runs" / "b"), "--set", f"serve.store={where}"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    store, default = Store(where), store_of(work / "runs" / "b")
    assert len(store.events("u3")) == 1
    assert seen == [(store.address, (store.folder or default.parent) / "uploads")]
    store.close()
    assert not default.exists()


def test_uploads_are_found_where_the_work_folder_is_now(work, url):
    """Though the store is a database that stayed where it was."""
    how = ServiceConfig(store=SecretStr(url))
    first = open_served(work / "runs" / "b", service=how)
    uploads = open_uploads(first)
    assert uploads is not None
    path = uploads.folder / "files" / "aa.mp4"
    path.write_bytes(b"a film")
    row = {"video_id": "mine", "path": str(path)}
    first.engine.store.put_upload(Upload("mine", "aa", "ready", row=row))
    first.engine.store.close()
    for name in ("runs", "serve"):
        shutil.move(work / name, work / "moved" / name)
    second = open_served(work / "moved" / "runs" / "b", service=how)
    there = second.engine.videos.path["mine"]
    assert there.read_bytes() == b"a film" and there.is_relative_to(work / "moved")
    second.engine.store.close()


@pytest.fixture(autouse=True)
def no_models(monkeypatch):
    """Nobody sends a video here."""
    monkeypatch.setattr("reelm.serve.watching.Watcher.warm", lambda self: None)


@pytest.fixture
def served(work):
    made = open_served(work / "runs" / "b")
    yield made
    made.engine.store.close()


def test_a_new_video_does_not_mean_to_read_all_notes_again(run, catalog, notes, store, monkeypatch):
    served = Served(Parts(run, catalog, notes, store))
    read, real = [], facets.facets_of
    monkeypatch.setattr(facets, "facets_of", lambda one: read.append(one) or real(one))
    row = {"video_id": "new", "path": "new.mp4", "creator": "mia"}
    store.put_upload(Upload("new", "aa", "ready", row=row, answer=answer(3)))
    served.refresh()
    assert read == [answer(3)]
    held = served.engine.videos.facets
    names = [held.names[f] for f in held.of(served.engine.known("new"))]
    assert names == [*real(answer(3)), facets.Facet(("creator",), ("mia",))]


def test_a_run_is_changed_and_changed_back(served):
    served.engine.store.add_events([StoredEvent("e1", "u3", "v020", "like", 1.0)])
    assert served.engine.run.name == "popularity"
    assert served.use("a") == "a" and served.engine.run.name == "item_knn"
    assert served.engine.store.events("u3"), "the store stays"
    assert served.back() == "b" and served.engine.run.name == "popularity"
    assert served.back() == "a"


def test_the_newest_run_is_the_default(served):
    assert served.use() == "a"


@pytest.mark.parametrize("name", ["c", "half", "../runs/a", "/etc", ".", ""])
def test_only_finished_runs_beside_it_can_be_named(served, name):
    with pytest.raises(UnknownRun, match="Finished runs: a, b"):
        served.use(name)


def test_a_bad_run_changes_nothing(served, work):
    (work / "runs" / "a" / "ids.parquet").write_bytes(b"no table")
    with pytest.raises(Exception, match=r"ids|parquet|run"):
        served.use("a")
    assert served.engine.run.name == "popularity"
    with pytest.raises(UnknownRun, match="no earlier run"):
        served.back()


def test_an_engine_that_stays_cannot_be_changed(engine):
    with pytest.raises(ConfigError, match="keeps its run"):
        Served(engine).use("a")


def test_no_request_is_dropped_while_runs_change(served):
    """Readers walk feeds and send events while the run is changed again and again."""
    wrong, done, names = [], threading.Event(), set()

    def read(address, user):
        with httpx2.Client(base_url=address) as client:
            cursor, shown, number = None, [], 0
            while not done.is_set():
                params = {"n": 5, **({"cursor": cursor} if cursor else {})}
                answered = client.get(f"/v1/feed/{user}", params=params)
                number += 1
                event = {"event_id": f"{user}-{number}", "type": "like", "user_id": user}
                sent = client.post("/v1/events", json={"events": [event | {"item_id": "v020"}]})
                if answered.status_code != 200 or sent.status_code != 200:
                    wrong.append((answered.text, sent.text))
                    return
                page = answered.json()
                shown += [item["item_id"] for item in page["items"]]
                cursor = page["next_cursor"]
                if len(shown) != len(set(shown)):
                    wrong.append("a video came twice")
                shown = shown if cursor else []

    with running(served) as address:
        threads = [threading.Thread(target=read, args=(address, f"w{n}")) for n in range(4)]
        for thread in threads:
            thread.start()
        for n in range(12):
            back = n > 0 and n % 3 == 0
            path = "/v1/admin/rollback" if back else "/v1/admin/run"
            body = {} if back else {"run": "ab"[n % 2]}
            answered = httpx2.post(address + path, json=body)
            assert answered.status_code == 200, answered.text
            names.add(answered.json()["run"])
            time.sleep(0.1)
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:2]
    assert names == {"a", "b"}


def test_the_service_says_what_is_wrong_with_a_run(served):
    with running(served) as address:
        answered = httpx2.post(f"{address}/v1/admin/run", json={"run": "nothing"})
        assert answered.status_code == 404
        assert httpx2.post(f"{address}/v1/admin/rollback").status_code == 404
        assert httpx2.delete(f"{address}/v1/users/nobody").json()["removed"]["events"] == 0


def test_bad_data_is_told(work):
    with pytest.raises(BadData):
        open_served(work / "runs" / "half")


def test_where_an_engine_is_refused_no_store_stays_open(work):
    folder = work / "runs" / "b"
    with pytest.raises(BadData, match="manifest"):
        open_engine(folder, notes=[work])
    assert not store_of(folder).exists()
    with pytest.raises(ConfigError, match="languages"):
        open_engine(folder, config=EngineConfig(languages=("de",)))
    assert store_of(folder).exists()
    assert not store_of(folder).with_name("store.sqlite-wal").exists(), "the store was closed"


def test_the_newest_run_is_not_a_second_stages(tmp_path):
    for at, model in enumerate(("popularity", "sasrec", "din")):
        folder = files.finish(tmp_path / f"run-{model}", stage="train", inputs={"model": model})
        os.utime(folder / files.MANIFEST, (at, at))
    assert sibling(tmp_path, None).name == "run-sasrec"
    assert sibling(tmp_path, "run-din").name == "run-din"
    for model in ("popularity", "sasrec"):
        (tmp_path / f"run-{model}" / files.MANIFEST).unlink()
    assert sibling(tmp_path, None).name == "run-din", "where there is no other"


def test_hangup_serves_the_newest_run_and_term_ends_in_peace(work):
    command = [str(Path(sys.executable).parent / "reelm"), "serve", str(work / "runs" / "b")]
    process = subprocess.Popen(
        [*command, "--port", "0", "--work", str(work)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    address = process.stdout.readline().split()[1]

    def run() -> str:
        with httpx2.Client(transport=httpx2.HTTPTransport(retries=7)) as client:  # it is said
            return client.get(f"{address}/health/ready", timeout=30).json()["run"]  # a bit early

    try:
        assert run() == "popularity"
        process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while run() != "item_knn" and time.monotonic() < end:
            time.sleep(0.05)
        assert run() == "item_knn"
        process.terminate()
        assert process.wait(20) == 0
        assert not (work / "serve" / "store.sqlite-wal").exists(), "the store was closed"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
