import base64
import io
import json
import random

import numpy as np
import pytest
from PIL import Image

from reelm.backends.base import Answer, Failure, Request
from reelm.backends.blocks.chat import ChatConfig
from reelm.backends.blocks.dialects import structure
from reelm.batch_files import BatchConfig, read_results, write
from reelm.errors import BadData
from reelm.media.views import Picture
from reelm.prompts.base import closed

SCHEMA = closed({"colour": {"type": "string", "maxLength": 5}})
CHAT = ChatConfig(model="m")
RED = Answer('{"colour":"red"}', 7, 5, 0.0)


def ask(n: int, **more) -> Request:
    pixels = np.full((4, 4, 3), n, np.uint8)
    return Request(f"v{n}", ("Frame 1: ", Picture("Frame 1", pixels), "What?"), SCHEMA, **more)


def reply(name, text='{"colour": "red"}', ended="stop", status=200, **message):
    body = {
        "choices": [{"message": {"content": text, **message}, "finish_reason": ended}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5},
    }
    response = {"status_code": status, "request_id": "r", "body": body}
    return {"id": "b", "custom_id": name, "response": response, "error": None}


def results(tmp_path, *lines):
    path = tmp_path / "out.jsonl"
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return path


def test_requests_are_written_as_the_batch_endpoint_takes_them(tmp_path):
    chat = ChatConfig(model="m", image_format="png", extra={"seed": 1})
    made = write([("caption-v1", ask(1, max_tokens=9))], chat, BatchConfig(), tmp_path)
    (line,) = map(json.loads, made.paths[0].read_text().splitlines())
    assert (line["custom_id"], line["method"]) == ("caption-v1", "POST")
    assert line["url"] == "/v1/chat/completions"
    body = line["body"]
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("m", 9, 0, 1)
    assert body["response_format"] == structure("json_schema", SCHEMA)["response_format"]
    first, picture, last = body["messages"][0]["content"]
    assert (first["text"], last["text"]) == ("Frame 1: ", "What?")
    data = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
    assert np.asarray(Image.open(io.BytesIO(data))).tolist() == np.full((4, 4, 3), 1).tolist()


def test_files_keep_both_limits_and_nothing_is_lost(tmp_path):
    asked = [(f"r{n}", ask(n)) for n in range(10)]
    (whole,) = write(asked, CHAT, BatchConfig(), tmp_path / "a").paths
    size = max(map(len, whole.read_bytes().splitlines(keepends=True)))
    for limits, count in (({"most_lines": 4}, 3), ({"most_bytes": 3 * size}, 4)):
        made = write(asked, CHAT, BatchConfig(**limits), tmp_path / str(count))
        assert len(made.paths) == count and made.rows == 10 and not made.failed
        assert b"".join(path.read_bytes() for path in made.paths) == whole.read_bytes()
        for path in made.paths:
            assert path.stat().st_size <= limits.get("most_bytes", 1e9)
            assert len(path.read_text().splitlines()) <= limits.get("most_lines", 1e9)


def test_a_request_too_large_for_any_file_fails_alone(tmp_path):
    large = Request("x", ("w" * 3000,), None)
    made = write([("a", ask(1)), ("x", large)], CHAT, BatchConfig(most_bytes=2500), tmp_path)
    assert made.rows == 1 and made.failed["x"].kind == "bad_request"


def test_ids_that_come_twice_and_folders_in_use_are_refused(tmp_path):
    config = BatchConfig(most_lines=1)
    with pytest.raises(BadData, match="'a' comes twice"):
        write([("a", ask(1)), ("b", ask(1)), ("a", ask(2))], CHAT, config, tmp_path)
    assert not list(tmp_path.glob("*.jsonl"))
    write([("a", ask(1))], CHAT, config, tmp_path)
    with pytest.raises(BadData, match="holds batch files already"):
        write([("b", ask(1))], CHAT, config, tmp_path)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (reply("a", None, refusal="no"), "refused"),
        (reply("a", "", "content_filter"), "refused"),
        (reply("a", '{"colour": "re', "length"), "truncated"),
        (reply("a", "red"), "invalid_json"),
        (reply("a", '{"colour": "purple"}'), "schema"),
        (reply("a", None), "bad_response"),
        (reply("a", status=429), "rate_limited"),
        (reply("a", status=400), "http_400"),
        (reply("a", status=503), "http_503"),
        ({"custom_id": "a", "response": {"status_code": 200, "body": {}}}, "bad_response"),
        ({"custom_id": "a", "response": {"status_code": 200, "body": []}}, "bad_response"),
        ({"custom_id": "a", "response": None, "error": None}, "bad_response"),
        ({"custom_id": "a", "response": None, "error": {"code": "batch_expired"}}, "timeout"),
        ({"custom_id": "a", "response": None, "error": {"message": "bad"}}, "bad_request"),
        ({"custom_id": "a", "error": "bad"}, "bad_request"),
    ],
)
def test_every_failure_is_typed_and_counted(tmp_path, line, kind):
    made = read_results([results(tmp_path, line)], {"a": ask(1)})
    assert isinstance(made.outcomes["a"], Failure) and made.outcomes["a"].kind == kind
    assert made.counts == {kind: 1}


def test_lines_come_in_any_order_twice_strange_or_not_at_all(tmp_path):
    asked = {name: ask(n) for n, name in enumerate("abcd")}
    expired = {"custom_id": "b", "response": None, "error": {"code": "batch_expired"}}
    lines = [
        reply("a"), reply("b"), expired, reply("c", '{"colour": "blue"}'), reply("c"), reply("z"),
        '{"custom_id": "d", "respo', "[]", '{"custom_id": 3}',
    ]  # fmt: skip
    rng, seen = random.Random(0), set()
    for _ in range(10):
        rng.shuffle(lines)
        half = results(tmp_path, *lines[:4]).rename(tmp_path / "errors.jsonl")
        made = read_results([results(tmp_path, *lines[4:]), half], asked)
        seen.add(repr(sorted(made.outcomes.items())))
        assert made.counts == {
            "answered": 3, "duplicate": 2, "missing": 1, "unknown": 1, "unreadable": 3,
        }  # fmt: skip
    assert len(seen) == 1 and made.outcomes["a"] == made.outcomes["b"] == RED
    assert made.outcomes["d"].passing


def test_what_was_written_is_answered_by_its_id(tmp_path):
    asked = {f"r{n}": ask(n) for n in range(3)}
    made = write(asked.items(), CHAT, BatchConfig(), tmp_path / "in")
    names = [json.loads(line)["custom_id"] for line in made.paths[0].read_text().splitlines()]
    back = read_results([results(tmp_path, *map(reply, reversed(names)))], asked)
    assert back.outcomes == dict.fromkeys(asked, RED)


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(BadData, match=r"out\.jsonl: cannot be read"):
        read_results([tmp_path / "out.jsonl"], {})


def test_results_of_another_batch_are_refused(tmp_path):
    path = results(tmp_path, reply("z"), reply("y"), "no JSON")
    with pytest.raises(BadData, match=r"none of its 3 lines is about a request of this batch"):
        read_results([path], {"a": ask(1)})
    assert read_results([results(tmp_path)], {"a": ask(1)}).counts == {"missing": 1}
