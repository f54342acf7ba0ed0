import json
import socket
import sqlite3
import threading
import time

import httpx2
import polars as pl
import pytest

from reelm import files
from reelm.engine import alone
from reelm.errors import BadData, ConfigError
from reelm.serve import server
from reelm.serve.database import Unavailable
from reelm.serve.notes import load_notes
from reelm.serve.records import Feed, Impression, Known
from reelm.serve.server import listening, running, serve, store_of
from reelm.serve.store import Store

from .conftest import answer, video


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "8.8.8.8"])
def test_public_addresses_are_refused(engine, host):
    with pytest.raises(ConfigError, match=r"no API keys.*127\.0\.0\.1"):
        serve(engine, host)


def test_names_are_refused(engine):
    with pytest.raises(ConfigError, match="not an IP address"):
        serve(engine, "example.org")


def test_a_taken_port_is_said(engine):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}.*--port"):
            serve(engine, port=port)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        engine.store.version()


def test_a_second_service_on_one_file_is_refused(engine, tmp_path, monkeypatch):
    store = Store(tmp_path / "store.sqlite")
    monkeypatch.setattr(engine, "store", store)
    with alone(tmp_path), pytest.raises(ConfigError, match=r"another `reelm serve`.*PostgreSQL"):
        serve(engine, port=0)
    store.close()


def test_it_answers_over_a_real_socket(engine):
    with running(engine) as address:
        assert httpx2.get(f"{address}/health/ready").json()["status"] == "ok"
        assert len(httpx2.get(f"{address}/v1/feed/u3?n=4").json()["items"]) == 4
        assert "server" not in httpx2.get(address).headers


def test_concurrent_requests_for_one_page_agree(engine):
    with running(engine) as address:
        page = httpx2.get(f"{address}/v1/feed/u3?n=4").json()
        answers = []

        def ask():
            params = {"n": 4, "cursor": page["next_cursor"]}
            answers.append(httpx2.get(f"{address}/v1/feed/u3", params=params).json())

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 8
    assert all(one == answers[0] for one in answers)


def test_the_store_outlives_the_run(tmp_path):
    assert store_of(tmp_path / "work/runs/a-1") == store_of(tmp_path / "work/runs/b-2")


def notes_folder(folder, rows):
    folder.mkdir()
    table = pl.DataFrame(rows, schema={"video_id": pl.String, "answer": pl.String}, orient="row")
    table.write_parquet(folder / "part-00000.parquet")
    prompt = {"name": folder.name.split("-")[0], "version": 3, "question": "What?"}
    backend = {"backend": "transformers", "model": "/secret/place/pocket", "weights": "ab12"}
    inputs = {"backend": backend, "catalog": "/secret/work"}
    return files.finish(folder, stage="annotate", settings={"prompt": prompt}, inputs=inputs)


def test_notes_are_merged_and_keep_their_provenance(tmp_path):
    one = notes_folder(
        tmp_path / "attributes-ab", [(video(7), json.dumps(answer(7))), ("bad", None)]
    )
    two = notes_folder(tmp_path / "caption-cd", [(video(7), '{"caption": "A cat."}')])
    notes = load_notes([one, two])
    assert notes.answers[video(7)] == answer(7) | {"caption": "A cat."}
    assert notes.answers["bad"] == {}
    told = [(p["prompt"], p["version"], p["model"], p["weights"]) for p in notes.provenance]
    assert told == [("attributes", 3, "pocket", "ab12"), ("caption", 3, "pocket", "ab12")]
    assert "secret" not in str(notes.provenance)


def test_unfinished_notes_are_refused(tmp_path):
    with pytest.raises(BadData, match="manifest"):
        load_notes([tmp_path])


def test_small_answers_are_not_held_back():
    """asyncio switches Nagle's algorithm off for sockets that are named as TCP only."""
    with listening("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_what_was_shown_is_forgotten_while_it_serves(tmp_path, monkeypatch):
    store, feed = Store(tmp_path / "store.sqlite"), Feed("f", "u", False)
    store.add_impressions(feed, [Impression(0, "v", "model", 1.0, "")], Known())
    with server._forgetting(store, None):
        assert store.feed("f")
    monkeypatch.setattr(server, "FORGET_S", 0.01)
    failures = iter([Unavailable("store", "away")])
    once = store.forget_shown

    def at_first_not(before):
        for failure in failures:
            raise failure
        return once(before)

    monkeypatch.setattr(store, "forget_shown", at_first_not)
    with server._forgetting(store, 1e-9):
        end = time.monotonic() + 10
        while store.feed("f") and time.monotonic() < end:
            time.sleep(0.01)
    assert store.feed("f") is None
    assert not any(thread.name == "forget" for thread in threading.enumerate())
    store.close()
