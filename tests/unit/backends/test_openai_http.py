"""A server made here that fails in every way a real one does."""

import base64
import io
import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from reelm.backends.base import Answer, Failure
from reelm.backends.blocks import http
from reelm.backends.openai_http import OpenAIHTTP, OpenAIHTTPConfig
from reelm.config import parse
from reelm.errors import BackendError, ConfigError
from tiny_llava import FACTS, ask

GOOD = '{"subject":"cat","colour":"red","count":"2"}'


class Server(ThreadingHTTPServer):
    """Calls `script(body, number of this key's try)` for each request; see `Handler`."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies, self.heads, self.times = [], [], []
        self.tries = Counter()
        self.lock = threading.Lock()
        self.script = lambda body, tried: (200, said(GOOD))


def said(text, ended="stop", **message):
    """A chat completion."""
    return {
        "choices": [{"message": {"content": text, **message}, "finish_reason": ended}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5},
    }


class Handler(BaseHTTPRequestHandler):
    """The script's answer is (status, JSON, text or bytes to cut[, headers])."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            name = json.dumps(body["messages"][0]["content"][-1])
            self.server.bodies.append(body)
            self.server.heads.append(dict(self.headers))
            self.server.times.append(time.monotonic())
            self.server.tries[name] += 1
            tried = self.server.tries[name]
        status, reply, *headers = self.server.script(body, tried)
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        for name, value in (headers[0] if headers else {}).items():
            self.send_header(name, value)
        cut = isinstance(reply, bytes)
        self.send_header("Content-Length", str(2 * len(data) if cut else len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = cut


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def speak(server, monkeypatch):
    """A function that makes a backend which speaks to the server."""
    monkeypatch.setattr(http, "BACKOFF_S", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = []

    def make(**settings):
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        made.append(OpenAIHTTP(OpenAIHTTPConfig(**{"model": "m", "base_url": url} | settings)))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


def question(body) -> str:
    """All text of a request."""
    return "".join(p.get("text", "") for p in body["messages"][0]["content"])


def words(body) -> int:
    """How long the question is: tells requests apart, also when they are repaired."""
    return re.findall(r"What((?: is)*)\?", question(body))[0].count(" is")


def kinds(answers):
    return [a.kind if isinstance(a, Failure) else None for a in answers]


def test_pictures_travel_as_data_uris_in_their_places(server, speak, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    backend = speak(image_format="png", api_key_env="MY_KEY", extra={"top_k": 1})
    request = ask(1, FACTS, pictures=2)
    (answer,) = backend.answer([request])
    assert answer == Answer(GOOD, 7, 5, answer.seconds) and answer.seconds > 0
    (body,) = server.bodies
    content = body["messages"][0]["content"]
    assert [p["type"] for p in content] == ["text", "image_url", "text"] * 2 + ["text"]
    data = content[1]["image_url"]["url"].removeprefix("data:image/png;base64,")
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert np.array_equal(seen, request.pictures[0].pixels)
    assert body["response_format"]["json_schema"]["schema"] == FACTS
    assert (body["top_k"], body["temperature"], body["max_tokens"]) == (1, 0, 60)
    assert server.heads[0]["Authorization"] == "Bearer secret"


def test_answers_keep_the_order_of_requests_whatever_arrives_first(server, speak):
    def script(body, tried):
        time.sleep(0.01 * (12 - words(body)))
        return 200, said(f"{words(body)}")

    server.script = script
    answers = speak(concurrency=12).answer([ask(n, words=n) for n in range(12)])
    assert [a.text for a in answers] == [str(n) for n in range(12)]


def test_every_failure_has_its_kind_and_no_request_is_lost(server, speak):
    slow = threading.Event()
    bad = {
        1: (500, {"error": "oops"}),
        3: (200, b'{"choices": [{"mess'),
        4: (200, said("I think it is a cat.")),
        5: (200, said('{"subject":"dragon","colour":"red","count":"2"}')),
        6: (200, said('{"subject":"ca', ended="length")),
        7: (200, said(None, refusal="I will not look at this.")),
        8: (413, {"error": "too large"}),
        9: (200, said(None)),
        10: (429, {"error": "slow down"}, {"Retry-After": "0.01"}),
    }

    def script(body, tried):
        if words(body) == 2:
            slow.wait(5)
        return bad.get(words(body), (200, said(GOOD)))

    server.script = script
    backend = speak(timeout_s=0.5, retries=1, concurrency=6, structured="json_schema")
    answers = backend.answer([ask(n, FACTS, words=n) for n in range(12)])
    slow.set()
    assert kinds(answers) == [
        None, "http_500", "timeout", "connection", "invalid_json", "schema", "truncated", "refused",
        "http_413", "bad_response", "rate_limited", None,
    ]  # fmt: skip
    assert [a.passing for a in answers if isinstance(a, Failure)] == [
        True, True, True, False, False, False, False, False, True, True,
    ]  # fmt: skip
    once, twice, never = (7, 5), (14, 10), (0, 0)
    assert [(a.tokens_in, a.tokens_out) for a in answers] == [
        once, never, never, never, twice, twice, once, once, never, once, never, once,
    ]  # fmt: skip
    assert all((a.seconds > 0) == (a.tokens_out > 0) for a in answers)


def test_a_server_that_recovers_is_asked_again(server, speak):
    server.script = lambda body, tried: (503, {}) if tried < 4 else (200, said(GOOD))
    assert kinds(speak(retries=4).answer([ask(n, words=n) for n in range(3)])) == [None] * 3
    assert set(server.tries.values()) == {4}


def test_retry_after_is_kept_by_all_requests(server, speak):
    def script(body, tried):
        with server.lock:
            first = len(server.bodies) == 1
        return (429, {}, {"Retry-After": "0.6"}) if first else (200, said("fine"))

    server.script = script
    start = time.monotonic()
    answers = speak(concurrency=1).answer([ask(n, words=n) for n in range(3)])
    assert kinds(answers) == [None] * 3
    assert server.times[1] - server.times[0] >= 0.6 and time.monotonic() - start < 10


def test_a_wait_longer_than_the_limit_is_not_waited_for(server, speak):
    server.script = lambda body, tried: (429, {}, {"Retry-After": "3600"})
    start = time.monotonic()
    assert kinds(speak(longest_wait_s=5).answer([ask(1)])) == ["rate_limited"]
    assert time.monotonic() - start < 5 and len(server.bodies) == 1


def test_retries_of_a_run_end_with_its_budget(server, speak):
    server.script = lambda body, tried: (500, {})
    backend = speak(retries=10, retry_budget=5, concurrency=2)
    assert kinds(backend.answer([ask(n, words=n) for n in range(8)])) == ["http_500"] * 8
    assert len(server.bodies) == 8 + 5


def test_a_reply_that_trickles_times_out_as_a_whole(server, speak, monkeypatch):
    def trickle(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(30):
            self.wfile.write(b" ")
            self.wfile.flush()
            time.sleep(0.1)

    monkeypatch.setattr(Handler, "do_POST", trickle)
    start = time.monotonic()
    assert kinds(speak(timeout_s=0.6, retries=0).answer([ask(1)])) == ["timeout"]
    assert time.monotonic() - start < 2.5


def test_nobody_there_is_a_connection_failure(speak, server):
    backend = speak(base_url="http://127.0.0.1:9/v1", retries=0)
    assert kinds(backend.answer([ask(1)])) == ["connection"]


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("localhost:8000/v1", "http://localhost:8000/v1"),
        ("127.0.0.1/v1/", "http://127.0.0.1/v1"),
        ("htp://host/v1", "http://host/v1"),
        ("http://host:80a0/v1", "http://host:80a0/v1"),
        ("http://", "http://127.0.0.1:8000/v1"),
    ],
)
def test_an_address_that_is_none_is_told_before_anything_is_asked(url, right):
    with pytest.raises(ConfigError) as error:
        parse(OpenAIHTTPConfig, {"model": "m", "base_url": url}, "backend")
    said = f"backend.base_url: {url!r} is no address"
    assert str(error.value).startswith(said) and f"like {right}" in str(error.value)


def test_a_key_that_cannot_be_sent_is_told_and_a_line_end_is_taken_off(server, speak, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret\n")
    assert kinds(speak(api_key_env="MY_KEY", retries=0).answer([ask(1)])) == [None]
    assert server.heads[0]["Authorization"] == "Bearer secret"
    for key in ("secr\u00e9t", "secr\net"):
        monkeypatch.setenv("MY_KEY", key)
        with pytest.raises(ConfigError, match=r"^MY_KEY: the key in") as error:
            speak(api_key_env="MY_KEY")
        assert "secr" not in str(error.value)


@pytest.mark.parametrize("url", ["https://host/v1", "http://[::1]:8000/v1"])
def test_an_address_stays_as_it_is_written(url):
    assert OpenAIHTTPConfig(model="m", base_url=url).base_url == url


def test_a_wrong_answer_is_repaired_once(server, speak):
    def script(body, tried):
        again = "not valid" in question(body)
        return 200, said(f"```json\n{GOOD}\n```" if again else '{"subject":"cat"}')

    server.script = script
    (answer,) = speak().answer([ask(1, FACTS)])
    assert answer.text == GOOD and (answer.tokens_in, answer.tokens_out) == (14, 10)
    assert "colour is missing" in question(server.bodies[1])


def test_a_repair_that_never_comes_is_told_at_the_price_of_the_first(server, speak):
    def script(body, tried):
        again = "not valid" in question(body)
        return (400, {"error": "too long"}) if again else (200, said('{"subject":"cat"}'))

    server.script = script
    (answer,) = speak(structured="json_schema", retries=0).answer([ask(1, FACTS)])
    assert (answer.kind, answer.tokens_in, answer.tokens_out) == ("http_400", 7, 5)


@pytest.mark.parametrize(
    ("takes", "status"), [("json_schema", 400), ("json_object", 500), ("none", 422)]
)
def test_the_dialect_of_the_server_is_found_and_kept(server, speak, takes, status):
    def script(body, tried):
        spoken = body.get("response_format", {}).get("type", "none")
        if spoken != takes:
            return status, {"error": "unknown response_format"}
        return 200, said(GOOD)

    server.script = script
    backend = speak(concurrency=1, retries=3)
    assert kinds(backend.answer([ask(n, FACTS, words=n) for n in range(4)])) == [None] * 4
    spoken = [b.get("response_format", {}).get("type", "none") for b in server.bodies]
    assert spoken[-4:] == [takes] * 4
    has_schema = '"additionalProperties"' in question(server.bodies[-1])
    assert has_schema == (takes != "json_schema")


def test_one_request_that_is_turned_down_does_not_change_the_dialect(server, speak):
    bad = " is is is is is"

    def script(body, tried):
        return (400, {"error": "too long"}) if bad in question(body) else (200, said(GOOD))

    server.script = script
    backend = speak(concurrency=1)
    answers = backend.answer([ask(5, FACTS, words=5), ask(1, FACTS), ask(2, FACTS, words=2)])
    assert kinds(answers) == ["http_400", None, None]
    assert server.bodies[-1]["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "Is the key right? The environment variable MY_KEY, its place, is not set."),
        (403, "is not set"),
        (404, "Is backend.model = 'm' what the server calls its model"),
        (405, "reelm's own service? `reelm serve` takes port 8000 too"),
    ],
)
def test_a_way_that_is_wrong_stops_at_once(server, speak, status, says):
    """And what comes later on the same backend is asked as ever."""

    def script(body, tried):
        time.sleep(0.3)
        return status, {"error": "no way"}

    server.script = script
    backend = speak(concurrency=4, api_key_env="MY_KEY", structured="json_schema")
    with pytest.raises(BackendError) as stop:
        backend.answer([ask(n, FACTS, words=n % 9) for n in range(80)])
    assert len(server.bodies) <= 16, "those that wait are not asked"
    told = str(stop.value)
    assert f"/v1/chat/completions turns all requests down (status {status}: " in told
    assert says in told and told.endswith("set it right, then run the command again.")
    with pytest.raises(BackendError):
        backend.choose([ask(1)], [["Yes"]])
    server.script = lambda body, tried: (200, said(GOOD))
    assert kinds(backend.answer([ask(1, FACTS)])) == [None]


def test_a_reply_under_way_does_not_hide_that_the_way_is_wrong(server, speak):
    ended = threading.Event()

    def script(body, tried):
        return (401, {}) if words(body) == 3 else (ended.wait(20) and 200, said(GOOD))

    server.script = script
    backend, start = speak(concurrency=4), time.monotonic()
    with pytest.raises(BackendError, match="status 401"):
        backend.answer([ask(n, words=n) for n in range(4)])
    assert time.monotonic() - start < 15
    ended.set()


def test_what_one_request_shows_may_be_forbidden(server, speak):
    server.script = lambda body, tried: (403 if words(body) == 1 else 200, said(GOOD))
    backend = speak(concurrency=1)
    answers = backend.answer([ask(n, words=n) for n in range(3)])
    assert kinds(answers) == [None, "http_403", None] and not answers[1].passing


def test_choices_by_the_probability_of_their_first_token(server, speak):
    top = [{"token": t, "logprob": p} for t, p in (("Yes", -0.2), (" No", -1.8), ("May", -4.0))]
    reply = said("Yes") | {}
    reply["choices"][0]["logprobs"] = {"content": [{"top_logprobs": top}]}
    server.script = lambda body, tried: (200, reply)
    scores = speak().choose([ask(1), ask(2)], [["Yes", "No", "Perhaps"], ["Yes", "Yes, please"]])
    assert scores[0].logs == [-0.2, -1.8, -4.0]
    assert (scores[0].tokens_in, scores[0].tokens_out) == (7, 5)
    assert scores[1].kind == "unsupported" and scores[1].tokens_in == 7, "it was read all the same"
    server.script = lambda body, tried: (200, said("Yes"))
    assert kinds(speak().choose([ask(1)], [["Yes"]])) == ["unsupported"]
