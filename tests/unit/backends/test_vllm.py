"""The vLLM backend against a stand-in of its library; with a GPU, against the library itself."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest

import tiny_llava
from reelm.backends.base import Answer, Chances, Failure, Request
from reelm.backends.vllm import VLLM, VLLMConfig, engine_settings, messages, said
from reelm.errors import BackendError
from tiny_llava import FACTS, ask


class EngineDeadError(RuntimeError):
    """Named as vLLM names it."""


class Engine:
    """Stands for vllm.LLM: answers by the length of the question."""

    made = 0

    def __init__(self, **settings):
        Engine.made += 1
        self.settings = settings
        self.calls = []

    def get_tokenizer(self):
        return SimpleNamespace(encode=lambda text, add_special_tokens: text.split())

    def chat(self, talks, params, use_tqdm, **how):
        self.calls.append((talks, params, how))
        words = [talk[0]["content"][-1]["text"] for talk in talks]
        if any("kill" in word for word in words):
            raise EngineDeadError("EngineCore encountered an issue")
        if any("bad" in word for word in words):
            raise ValueError("prompt is too long")
        text = '{"subject":"cat","colour":"red","count":"1"}'
        said = SimpleNamespace(text=text, token_ids=[1, 2], finish_reason="stop")
        logs = [None, *({n: SimpleNamespace(logprob=-float(n))} for n in (1, 2, 3))]
        return [
            SimpleNamespace(outputs=[said], prompt_token_ids=[0, 1, 2, 3], prompt_logprobs=logs)
            for _ in talks
        ]


@pytest.fixture
def library(monkeypatch):
    """A module named vllm."""
    fake, sampling = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    fake.__dict__.update(
        LLM=Engine, SamplingParams=lambda **s: SimpleNamespace(**s), __version__="0"
    )
    sampling.__dict__["StructuredOutputsParams"] = lambda **s: s
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", sampling)
    Engine.made = 0


def test_without_the_package_the_error_names_the_extra_and_the_device(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(BackendError, match=r"reelm\[vllm\].*CUDA device"):
        VLLM(VLLMConfig(model="x"))


def test_parts_keep_their_order_and_a_choice_begins_the_models_turn():
    talk = messages(ask(1, pictures=1), "red")
    assert [part["type"] for part in talk[0]["content"]] == ["text", "image_pil", "text", "text"]
    assert talk[0]["content"][1]["image_pil"].size == (32, 32)
    assert talk[1] == {"role": "assistant", "content": "red"}
    assert len(messages(ask(1))) == 1


def test_beginnings_are_kept_and_settings_arrive():
    made = engine_settings(VLLMConfig(model="m", pictures=3, max_length=512))
    assert made["enable_prefix_caching"] and made["limit_mm_per_prompt"] == {"image": 3}
    assert made["max_model_len"] == 512


def test_the_schema_is_enforced_and_decoding_is_greedy(library):
    backend = VLLM(VLLMConfig(model="m"))
    first, second = backend.answer([ask(1, FACTS, max_tokens=9), ask(2)])
    assert isinstance(first, Answer) and isinstance(second, Answer)
    with_schema, free = backend._engine.calls[0][1]
    assert with_schema.temperature == 0 and with_schema.max_tokens == 9
    assert with_schema.structured_outputs == {"json": FACTS, "disable_any_whitespace": True}
    assert not hasattr(free, "structured_outputs")


def test_a_request_that_is_turned_down_fails_alone(library):
    asked = [ask(1), Request("b", ("bad",)), ask(3)]
    said = VLLM(VLLMConfig(model="m")).answer(asked)
    assert [type(one) for one in said] == [Answer, Failure, Answer]
    assert said[1].kind == "bad_request"


def test_a_request_that_ends_the_engine_fails_alone_and_the_engine_is_started_again(library):
    asked = [ask(1), ask(2), Request("k", ("kill",)), ask(3)]
    said = VLLM(VLLMConfig(model="m")).answer(asked)
    assert [type(one) for one in said] == [Answer, Answer, Failure, Answer]
    assert said[2].kind == "crashed" and Engine.made == 4


def test_choices_are_the_sums_over_their_own_tokens(library):
    backend = VLLM(VLLMConfig(model="m"))
    (said,) = backend.choose([ask(1)], [["red", "hot dog"]])
    assert said.logs == [-3.0, -5.0] and (said.tokens_in, said.tokens_out) == (8, 4)
    assert backend.choose([ask(1)], [["red", ""]])[0].kind == "bad_request"
    assert backend._engine.calls[0][2]["continue_final_message"]


@pytest.mark.gpu
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed")
def test_the_library_itself_answers_on_a_tiny_llava(tmp_path):
    folder = tiny_llava.save(tmp_path / "llava")
    backend = VLLM(VLLMConfig(model=str(folder), dtype="float32", memory=0.3))
    said = backend.answer([ask(n, FACTS) for n in range(4)])
    assert all(isinstance(one, Answer) for one in said)
    scores = backend.choose([ask(1)], [["red", "blue"]])[0]
    assert isinstance(scores, Chances) and all(score < 0 for score in scores.logs)


@pytest.mark.parametrize(
    ("text", "ended", "kind"), [("{", "length", "truncated"), ('{"a": 1}', "stop", "schema")]
)
def test_an_answer_that_is_of_no_use_was_written_all_the_same(text, ended, kind):
    told = SimpleNamespace(text=text, token_ids=[1, 2], finish_reason=ended)
    reply = SimpleNamespace(outputs=[told], prompt_token_ids=[0, 1, 2])
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    failed = said(Request("v", ("What?",), schema), reply, 0.5)
    assert isinstance(failed, Failure) and failed.kind == kind
    assert (failed.tokens_in, failed.tokens_out, failed.seconds) == (3, 2, 0.5)
