"""Videos that come by the service: checked at once, in the feed soon, and still there later."""

import errno
import hashlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import polars as pl
import pytest
from fastapi.testclient import TestClient

from reelm.serve import screening, uploads
from reelm.serve.database import Unavailable
from reelm.serve.engine import EngineConfig
from reelm.serve.served import Parts, Served
from reelm.serve.service import HANDS, create_app
from reelm.serve.store import Store
from reelm.serve.uploads import Refused, Told, UploadConfig, Uploads
from reelm.serve.watching import Watched, Watcher
from reelm.world.mp4 import write_mp4
from reelm.world.titles import make_uploads

from .conftest import answer, video


class Seer(Watcher):
    """Watches without a model: says what it was told to say, when it may."""

    def __init__(self):
        self.may, self.seen, self.wrong = threading.Event(), [], None
        self.may.set()

    def warm(self):
        pass

    def close(self):
        pass

    def watch(self, row):
        self.may.wait(20)
        self.seen.append(row["video_id"])
        if self.wrong:
            raise self.wrong
        return Watched(answer(9), {"prompt": "attributes", "model": "seer"})


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    made = [
        write_mp4(folder / f"{n}.mp4", upload.clip, 96, 160, 8)
        for n, upload in enumerate(make_uploads(4, seed=3))
    ]
    return [path.read_bytes() for path in made]


@pytest.fixture
def seer():
    return Seer()


@pytest.fixture
def served(run, catalog, notes, tmp_path):
    config = EngineConfig(new_share=0.5)
    made = Served(Parts(run, catalog, notes, Store(tmp_path / "store.sqlite"), config))
    yield made
    made.engine.store.close()


def opened(served, tmp_path, seer, **more):
    config = UploadConfig(**{"max_bytes": 4 * 2**20, "waiting": 2, **more})
    return Uploads(served, tmp_path / "uploads", lambda: seer, config)


@pytest.fixture
def client(served, seer, tmp_path):
    app = create_app(served, uploads=opened(served, tmp_path, seer))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client
        seer.may.set()


def send(client, data, name="clip.mp4", **told):
    return client.post("/v1/videos", files={"file": (name, data, "video/mp4")}, data=told)


def until(client, video, status):
    end = time.monotonic() + 6
    while time.monotonic() < end:
        facts = client.get(f"/v1/videos/{video}").json()
        if facts.get("status") == status:
            return facts
        time.sleep(0.02)
    raise AssertionError(facts)


def test_a_new_video_is_watched_and_shown(client, clips, served):
    labels = {"language": "en", "age_rating": "16+"}
    sent = send(client, clips[0], title="<script>alert(1)</script>", creator="mia", **labels)
    assert sent.status_code == 202
    assert sent.json()["new"] and sent.json()["status"] == "queued"
    name = sent.json()["item_id"]
    facts = until(client, name, "ready")
    assert facts["notes"] == answer(9)
    assert facts["provenance"] == [{"prompt": "attributes", "model": "seer"}]
    assert facts["title"] == "<script>alert(1)</script>", "sent as text; the page shows text"
    assert "path" not in facts["facts"]
    assert client.get(facts["video_url"]).content == clips[0]
    page = client.get("/v1/feed/u3?n=60").json()["items"]
    shown = {item["item_id"]: item["source"] for item in page}
    assert shown[name] == "new"
    assert client.get(f"/v1/similar/{name}").json()
    assert labels.items() <= facts["facts"].items()
    others = client.get(f"/v1/videos/{video(20)}").json()
    assert others["provenance"] == [{"prompt": "attributes", "model": "by hand"}]


def test_a_reason_for_a_new_video_cites_its_notes(client, clips, served):
    events = [
        {"event_id": f"e{n}", "type": "like", "user_id": "fan", "item_id": video(n)}
        for n in (3, 9, 15, 21)
    ]
    client.post("/v1/events", json={"events": events})
    name = send(client, clips[1]).json()["item_id"]
    until(client, name, "ready")
    items = client.get("/v1/feed/fan?n=60").json()["items"]
    mine = next(item for item in items if item["item_id"] == name)
    for fact, value in mine["facts"].items():
        assert answer(9)[fact] == value
    assert mine["because"], mine


def test_the_same_file_is_taken_once(client, clips, seer):
    first = send(client, clips[0], video_id="mine").json()
    until(client, "mine", "ready")
    again = send(client, clips[0], video_id="other")
    assert again.status_code == 200
    assert again.json() == {"item_id": "mine", "status": "ready", "new": False}
    assert first["item_id"] == "mine" and seer.seen == ["mine"]


def test_a_file_of_the_catalogue_is_not_shown_twice(client, clips, served):
    sha256 = hashlib.sha256(clips[0]).hexdigest()
    table = served.parts.catalog.videos.with_columns(
        sha256=pl.when(video_id=video(7)).then(pl.lit(sha256))
    )
    served._parts = replace(served.parts, catalog=replace(served.parts.catalog, videos=table))
    served.refresh()
    answered = send(client, clips[0])
    assert answered.status_code == 409
    assert video(7) in answered.json()["error"]
    broken = table.with_columns(ok=pl.col("ok") & (pl.col("video_id") != video(7)))
    served._parts = replace(served.parts, catalog=replace(served.parts.catalog, videos=broken))
    served.refresh()
    assert send(client, clips[0]).status_code == 202, "a broken one is none that it could copy"


@pytest.mark.parametrize("taken", [video(20), "mine"])
def test_an_id_belongs_to_one_video(client, clips, taken):
    send(client, clips[0], video_id="mine")
    answered = send(client, clips[1], video_id=taken)
    assert answered.status_code == 409
    assert "choose another" in answered.json()["error"]


def test_an_id_that_is_the_hash_of_another_file_is_only_a_name(client, clips):
    hashes = [hashlib.sha256(data).hexdigest() for data in clips]
    assert send(client, clips[0], video_id=hashes[1]).json()["item_id"] == hashes[1]
    until(client, hashes[1], "ready")
    other = send(client, clips[1])
    assert other.json() == {"item_id": f"up-{hashes[1][:16]}", "status": "queued", "new": True}
    until(client, other.json()["item_id"], "ready")
    assert client.get(f"/v1/videos/{hashes[0]}").status_code == 404


def test_an_id_as_they_are_made_here_belongs_to_its_file(client, clips):
    made = [f"up-{hashlib.sha256(data).hexdigest()[:16]}" for data in clips]
    answered = send(client, clips[0], video_id=made[1])
    assert answered.status_code == 422 and "made from a file's hash" in answered.json()["error"]
    assert send(client, clips[1], video_id=made[1]).json()["item_id"] == made[1]


def broken(clips):
    whole = clips[2]
    return {
        "empty": b"",
        "words": b"no video at all " * 100,
        "head": whole[: len(whole) // 10],
        "zeros": bytes(4096),
        "page": b"<html><script>alert(1)</script></html>",
        "noise": whole[:40] + bytes(n * 7 % 256 for n in range(5000)),
        "archive": b"PK\x03\x04" + bytes(500),
        "list": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    }


def test_broken_files_are_refused_with_their_reason(client, clips, tmp_path):
    for name, data in broken(clips).items():
        answered = send(client, data)
        assert answered.status_code == 422, (name, answered.text)
        assert "decoded: " in answered.json()["error"], name
        assert str(tmp_path) not in answered.json()["error"], "no path of ours is told"
    assert not list((tmp_path / "uploads" / "files").iterdir())


FETCHING = """
import sys
from pathlib import Path
from reelm.serve.served import Served
from reelm.serve.uploads import Told, UploadConfig, Uploads

uploads = Uploads(Served.__new__(Served), Path(sys.argv[1]), lambda: None,
                  UploadConfig(private=True, seconds=60.0))
uploads.take_uri(sys.argv[2], Told())
"""


@contextmanager
def endless():
    """The address of a site whose answer begins and never ends."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def work():
            with suppress(OSError):
                while not ended.is_set():
                    held.append(listener.accept()[0])
                    held[-1].sendall(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(65536))

        held = []
        threading.Thread(target=work, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v"
        ended.set()
        for one in held:
            one.close()


def test_what_a_killed_service_left_half_fetched_is_taken_away(served, seer, tmp_path):
    folder = tmp_path / "uploads"

    def half():
        """Files with something in them."""
        return {p for p in folder.rglob("*") if p.is_file() and p.stat().st_size}

    def fetching(before):
        process = subprocess.Popen([sys.executable, "-c", FETCHING, str(folder), site])
        ending.callback(process.wait)
        ending.callback(process.kill)
        end = time.monotonic() + 60
        while not half() - before:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        return process

    with endless() as site, ExitStack() as ending:
        fetching(set())
        theirs = half()
        dead = fetching(theirs)
        dead.kill()
        dead.wait()
        assert len(half()) == 2
        made = opened(served, tmp_path, seer)
        ending.callback(made.stop)
        made.start()
        assert half() == theirs, "only what belongs to a process that lives"
    opened(served, tmp_path, seer).scratch.sweep()
    for name, age in (("fetched-1a-2b.part", 7200), ("fetched-1b-2b.part", 60)):  # older versions'
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - age,) * 2)
    opened(served, tmp_path, seer).scratch.sweep()
    (folder / "fetched-1b-2b.part").unlink()
    assert {path.name for path in folder.rglob("*")} == {"files", "unfinished"}


def test_a_full_disk_is_said_and_clients_may_come_again(
    client, clips, tmp_path, monkeypatch, caplog
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as on_a_full_disk:
        on_a_full_disk.setattr(screening.shutil, "copyfileobj", full)
        answered = send(client, clips[0])
    assert answered.status_code == 503 and answered.headers["retry-after"] == "60"
    assert answered.json()["error"].endswith("No space left on device")
    assert [one.exc_info for one in caplog.records if one.levelname == "ERROR"] == [None]

    def filled(_, into):
        into.write_bytes(clips[0][:100])
        full()

    with monkeypatch.context() as on_a_full_disk:
        on_a_full_disk.setattr(uploads.shutil, "copyfile", filled)
        assert send(client, clips[0]).status_code == 503
    assert not list((tmp_path / "uploads" / "files").iterdir()), "no half of a file stays"
    assert send(client, clips[0]).status_code == 202


def test_pictures_too_large_and_videos_too_long_are_refused(served, seer, clips, tmp_path):
    for limit in ({"widest": 100}, {"longest_s": 0.5}):
        app = create_app(served, uploads=opened(served, tmp_path, seer, **limit))
        with TestClient(app, base_url="http://127.0.0.1") as client:
            assert send(client, clips[0]).status_code == 422


def test_a_long_file_is_refused_before_it_is_read(served, seer, clips, tmp_path):
    app = create_app(served, uploads=opened(served, tmp_path, seer, max_bytes=2**16))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert send(client, bytes(2**18)).status_code == 413


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"content": b"x"}, 415),
        ({"json": {}}, 422),
        ({"json": {"uri": "file:///etc/passwd"}}, 422),
        ({"json": {"uri": "http://127.0.0.1:1/v.mp4"}}, 422),
        ({"json": {"uri": "http://8.8.8.8/v", "video_id": "a\x00b"}}, 422),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 422),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a"}}, 400),
        ({"data": {"title": "x"}, "files": {"other": ("x", b"x")}}, 422),
        ({"files": {"file": ("x", b"x")}, "data": {"nonsense": "1"}}, 422),
        ({"files": {"file": ("x", b"x")}, "data": {"title": "x" * 3000}}, 422),
    ],
)
def test_wrong_ways_to_send_are_said(client, how, status):
    answered = client.post("/v1/videos", **how)
    assert answered.status_code == status, answered.text
    assert set(answered.json()) == {"error"}


def test_names_lead_nowhere(client, clips, tmp_path):
    sent = send(client, clips[3], name="../../../evil.mp4", video_id="../../evil")
    assert sent.status_code == 202
    until(client, "..%2F..%2Fevil", "ready")
    assert [path.suffix for path in (tmp_path / "uploads" / "files").iterdir()] == [".mp4"]
    assert not list(tmp_path.rglob("evil*"))


def test_more_than_may_wait_are_told_to_come_back(client, clips, seer):
    seer.may.clear()
    said = [send(client, data).status_code for data in clips]
    assert said[:2] == [202, 202] and 429 in said
    seer.may.set()


def test_what_cannot_be_watched_says_so_and_can_be_sent_again(client, clips, seer, caplog):
    seer.wrong = ValueError("a secret of ours")
    name = send(client, clips[0]).json()["item_id"]
    facts = until(client, name, "failed")
    assert "secret" not in facts["problem"] and "secret" in caplog.text
    seer.wrong = None
    assert send(client, clips[0], video_id="other").json()["item_id"] == name
    until(client, name, "ready")


def test_a_full_disk_fails_no_upload(client, clips, seer, monkeypatch, caplog):
    monkeypatch.setattr(uploads, "AGAIN_S", 0.05)
    seer.wrong = OSError(errno.ENOSPC, "No space left on device", "frames")
    name = send(client, clips[0]).json()["item_id"]
    end = time.monotonic() + 20
    while "tried again" not in caplog.text and time.monotonic() < end:
        time.sleep(0.02)
    assert client.get(f"/v1/videos/{name}").json()["status"] != "failed"
    seer.wrong = None
    until(client, name, "ready")


def test_a_store_that_fails_for_a_while_loses_no_upload(
    client, served, clips, seer, monkeypatch, caplog
):
    monkeypatch.setattr(uploads, "AGAIN_S", 0.05)
    store, failures = served.engine.store, iter([Unavailable("store", "no answer")] * 3)
    real = store.put_upload

    def fails(upload):
        if upload.status == "ready" and (error := next(failures, None)):
            raise error
        real(upload)

    monkeypatch.setattr(store, "put_upload", fails)
    names = [send(client, data).json()["item_id"] for data in clips[:2]]
    for name in names:
        until(client, name, "ready")
    assert caplog.text.count("uploads wait, and are tried again") == 3
    assert len(seer.seen) == 5, "three of them twice or thrice"


def test_while_others_wait_the_feed_is_not_made_anew_for_each(client, served, clips, seer):
    told, real = [], served.refresh

    def slow(notes=False):
        told.append(len(seer.seen))
        time.sleep(0.3)
        real(notes)

    served.refresh = slow
    seer.may.clear()
    names = []
    for data in clips[:3]:  # one is watched, two wait
        while (sent := send(client, data)).status_code == 429:
            time.sleep(0.02)
        names.append(sent.json()["item_id"])
    seer.may.set()
    for name in names:
        until(client, name, "ready")
    end = time.monotonic() + 6
    while not served.engine.videos.row.keys() >= set(names) and time.monotonic() < end:
        time.sleep(0.02)
    assert served.engine.videos.row.keys() >= set(names)
    assert told == [1, 3]


def test_what_waited_is_watched_after_a_restart_and_what_was_ready_is_there(
    served, seer, clips, tmp_path
):
    first = opened(served, tmp_path, seer)  # never started: as if killed
    path = tmp_path / "clip"
    path.write_bytes(clips[0])
    first.take(path, Told("mine"))
    store = served.engine.store
    store.close()
    parts = served.parts
    assert parts is not None
    again = Served(Parts(parts.run, parts.catalog, parts.notes, Store(tmp_path / "store.sqlite")))
    app = create_app(again, uploads=opened(again, tmp_path, seer))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        until(client, "mine", "ready")
    again.engine.store.close()
    third = Served(Parts(parts.run, parts.catalog, parts.notes, Store(tmp_path / "store.sqlite")))
    assert third.engine.videos.usable[third.engine.known("mine")]
    third.engine.store.close()


def test_a_moved_folder_keeps_its_uploads(served, seer, clips, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    parts = served.parts
    assert parts is not None
    first = Served(replace(parts, store=Store(old / "store.sqlite")))
    app = create_app(first, uploads=opened(first, old, seer))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        send(client, clips[0], video_id="mine")
        until(client, "mine", "ready")
    first.engine.store.close()
    old.rename(new)
    moved = Served(replace(parts, store=Store(new / "store.sqlite")))
    assert moved.engine.videos.path["mine"].read_bytes() == clips[0]
    moved.engine.store.close()


def test_a_service_without_a_folder_takes_nothing(engine, clips):
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:
        assert send(client, io.BytesIO(b"x").read()).status_code == 403


def test_files_that_take_long_do_not_hold_up_the_feed(served, seer, tmp_path, clips, monkeypatch):
    """As many uploads as there are threads for requests, all in the middle of being decoded."""
    may, inside = threading.Event(), threading.Semaphore(0)

    def slowly(self, path):
        inside.release()
        assert may.wait(30)
        raise Refused("enough")

    monkeypatch.setattr(Uploads, "_examined", slowly)
    app = create_app(served, uploads=opened(served, tmp_path, seer, at_once=2 * HANDS))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        senders = [
            threading.Thread(target=send, args=(client, clips[0] + bytes([n])))
            for n in range(HANDS + 1)
        ]
        for sender in senders:
            sender.start()
        assert inside.acquire(timeout=20), "one is being decoded"
        asked = []
        asking = threading.Thread(target=lambda: asked.append(client.get("/v1/feed/u3?n=2")))
        asking.start()
        asking.join(20)
        answered = bool(asked) and asked[0].status_code == 200
        may.set()
        for thread in (*senders, asking):
            thread.join()
    assert answered
