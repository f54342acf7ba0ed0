"""Checkpoints that cannot be had: said at once, and once."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import errors

import tiny_llava
from reelm import halves, hub
from reelm.backends.transformers import load_model
from reelm.encoders.text import Text, TextConfig
from reelm.encoders.vision import Vision, VisionConfig
from reelm.errors import BackendError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def away(monkeypatch):
    """The hub as a function says it is; how often it was asked."""
    asked = []

    def set_(answer):
        def metadata(url, **_):
            asked.append(url)
            if answer is not None:
                raise answer

        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
        return asked

    return set_


class Response:
    """What errors of the hub are made of."""

    headers, request, status_code, text = {}, None, 404, ""


def refusal(kind):
    return kind("no", response=Response())


@pytest.mark.parametrize(
    "load",
    [
        load_model,
        halves.load_tokenizer,
        lambda name: halves.load_half(name, 0, "lower"),
        lambda name: Text(TextConfig(model=name)),
        lambda name: Vision(VisionConfig(model=name)),
    ],
)
def test_a_hub_that_is_not_there_is_asked_once(away, load):
    asked = away(ConnectionError("Name or service not known"))
    with pytest.raises(BackendError, match=r"cannot be reached .Name or service") as error:
        load("nosuch/model")
    assert len(asked) == 1 and str(error.value).count("Name or service") == 1


def test_what_the_hub_does_not_know_is_told(away):
    away(refusal(errors.RepositoryNotFoundError))
    with pytest.raises(BackendError, match="has no such folder, and as a hub id the hub knows no"):
        hub.reach("nosuch/model")
    with pytest.raises(BackendError, match="knows no such model at v2"):
        hub.reach("nosuch/model", "v2")


@pytest.mark.parametrize("answer", [None, refusal(errors.GatedRepoError)])
def test_what_is_there_is_left_to_the_library(away, answer, tmp_path):
    asked = away(answer)
    hub.reach("owner/model")
    assert len(asked) == 1 and "owner/model/resolve/main/config.json" in asked[0]
    hub.reach(str(tmp_path))
    assert len(asked) == 1, "a folder is no matter of the hub's"


LOADING = """
import sys
from reelm.backends.base import Request
from reelm.backends.transformers import Transformers, TransformersConfig
from reelm.encoders.vision import Vision, VisionConfig
from reelm.errors import BackendError

try:
    backend = Transformers(TransformersConfig(model="owner/tiny", device="cpu"))
    (said,) = backend.answer([Request("v", ("who?",), None, 4)])
    Vision(VisionConfig(model="owner/tiny", device="cpu"))
    print(backend.identity()["weights"], said.tokens_out > 0)
except BackendError as error:
    print(error)
"""


@pytest.fixture
def cache(tmp_path):
    """A cache as the hub's library lays it out, with a whole checkpoint."""
    home = tmp_path / "hub" / "models--owner--tiny"
    tiny_llava.save(home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    return home / "snapshots" / COMMIT


@pytest.fixture
def ask(cache):
    """Load by the hub id in a process of its own, where nothing else has read the settings; what is
    said, and what the hub was asked, which turns all down."""
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.close_connection = True  # and not a word

        do_HEAD = do_POST = do_GET

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def ask_():
        place = f"http://127.0.0.1:{server.server_address[1]}"
        told = {"HF_HUB_CACHE": str(cache.parents[2]), "HF_ENDPOINT": place, "NO_PROXY": "*"}
        env = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_HOME")} | told
        command = [sys.executable, "-W", "ignore", "-c", LOADING]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr[-2000:]
        return done.stdout.strip(), asked

    yield ask_
    server.shutdown()
    server.server_close()


def test_what_was_fetched_before_needs_no_hub(ask):
    assert ask() == (f"{COMMIT} True", [])


def test_what_was_fetched_in_part_asks_the_hub_once(ask, cache):
    (cache / "model.safetensors").unlink()
    said, asked = ask()
    assert "what was fetched does not do" in said and "cannot be reached" in said
    assert [one for one in asked if "owner" in one] == ["/owner/tiny/resolve/main/config.json"]


def test_a_way_that_breaks_while_a_checkpoint_is_fetched_is_told(away):
    away(None)

    def breaks(model, **_):
        raise httpx2.RemoteProtocolError("Server disconnected")

    with pytest.raises(BackendError, match=r"owner/model: the way .* broke .*Server disconnected"):
        hub.loaded(breaks, "owner/model")


def test_what_is_no_hub_id_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackendError, match="it is not written as one"):
        hub.reach("not--a..name")
