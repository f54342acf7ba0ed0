"""What every backend must do. One that is listed in BACKENDS is tested here with no more work,
except that a runtime needs something to run: see `made`."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import tiny_llava
from reelm import backends
from reelm.backends import BACKENDS
from reelm.backends.base import Answer, Failure
from reelm.backends.blocks.schema import faults
from reelm.backends.fake import Fake
from reelm.backends.pocket import Pocket
from tiny_llava import FACTS, ask


@pytest.fixture(scope="module", params=sorted(BACKENDS))
def backend(request, tmp_path_factory):
    made, close = globals()[f"_{request.param}"](tmp_path_factory)
    assert made.name == request.param and isinstance(made, backends.find(request.param))
    yield made
    made.close()
    close()


def nothing() -> None:
    """To close where nothing is open."""


def _fake(_):
    return backends.find("fake")(), nothing


def _transformers(folders):
    kind = backends.find("transformers")
    folder = tiny_llava.save(folders.mktemp("llava"))
    return kind(kind.Config(model=str(folder), batch=4)), nothing


def _pocket(folders):
    return Pocket(folder=tiny_llava.save(folders.mktemp("pocket"))), nothing


def _vllm(folders):
    pytest.importorskip("vllm", reason="vLLM is not installed: it needs a CUDA device")
    kind = backends.find("vllm")
    return kind(kind.Config(model=str(tiny_llava.save(folders.mktemp("vllm"))))), nothing


def _openai_http(_):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Speaking)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    kind = backends.find("openai_http")
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"

    def close():
        server.shutdown()
        server.server_close()
        thread.join()

    return kind(kind.Config(model="m", base_url=url, image_format="png")), close


class Speaking(BaseHTTPRequestHandler):
    """A server that answers as the fake backend does, to what it was sent."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        asked = tiny_llava.Request("v", (json.dumps(body["messages"]),), schema)
        text = Fake().answer([asked])[0].text
        logs = [{"token": t, "logprob": -len(t)} for t in ("cat", "fish", "red")]
        choice = {
            "message": {"content": text},
            "finish_reason": "stop",
            "logprobs": {"content": [{"top_logprobs": logs}]},
        }
        usage = {"prompt_tokens": 9, "completion_tokens": 5}
        data = json.dumps({"choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def test_answers_in_order_one_for_each_request(backend):
    asked = [ask(n, FACTS, words=1 + n) for n in range(7)]
    together = backend.answer(asked)
    assert all(isinstance(a, Answer) for a in together), together
    alone = [backend.answer([request])[0] for request in asked]
    assert [a.text for a in together] == [a.text for a in alone]
    assert backend.answer([]) == []


def test_answers_obey_their_schema(backend):
    for said in backend.answer([ask(n, FACTS) for n in range(5)]):
        assert faults(json.loads(said.text), FACTS) == []
        assert said.tokens_in > 0 and said.tokens_out > 0 and said.seconds >= 0


def test_without_a_schema_it_speaks_freely(backend):
    (said,) = backend.answer([ask(1, None, max_tokens=8)])
    assert isinstance(said, Answer) and isinstance(said.text, str)


def test_scores_each_choice_of_each_request(backend):
    scores = backend.choose([ask(1), ask(2), ask(3)], [["cat", "fish"], ["red"], ["cat", "red"]])
    assert [len(s.logs) for s in scores if not isinstance(s, Failure)] == [2, 1, 2]
    assert all(value < 0 for row in scores for value in row.logs)
    assert all(row.tokens_in > 0 and row.seconds >= 0 for row in scores)


def test_its_identity_can_be_written_down(backend):
    identity = backend.identity()
    assert {"backend", "model", "weights"} <= set(identity)
    assert json.loads(json.dumps(identity)) == identity == backend.identity()


def test_its_settings_explain_themselves(backend):
    for name, field in type(backend).Config.model_fields.items():
        assert field.description, name
