"""Real LlavaForConditionalGeneration with random weights: what it says is nonsense, how is not."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoConfig

import tiny_llava
from reelm import files, hub
from reelm.backends import transformers as runtime
from reelm.backends.base import Answer, Chances, Failure, Request
from reelm.backends.blocks import decode
from reelm.backends.blocks.prepare import Inputs
from reelm.backends.blocks.schema import read_json
from reelm.backends.transformers import Transformers, TransformersConfig
from reelm.errors import BackendError
from reelm.media.views import Picture, View
from reelm.prompts.base import closed
from tiny_llava import FACTS, ask, pixels

TEXT = closed({"caption": {"type": "string", "maxLength": 12}})


def mixed(count: int = 9) -> list[Request]:
    """Closed JSON, free JSON and free text, of different lengths and numbers of pictures."""
    kinds = (FACTS, TEXT, None)
    return [ask(n, kinds[n % 3], pictures=1 + n % 3, words=1 + n % 4) for n in range(count)]


@pytest.mark.parametrize("model", ["/models/llava", "./llava", "../llava", "a/b/llava"])
def test_a_folder_that_is_not_there_is_named(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackendError, match=f"{model}: no such folder.*a hub id") as error:
        Transformers(TransformersConfig(model=model))
    assert str(tmp_path) in str(error.value) and "Repo id" not in str(error.value)


@pytest.mark.parametrize("model", ["llava", "owner/llava"])
def test_a_hub_id_stays_possible(model, monkeypatch):
    def asked(name, **_):
        raise OSError(f"asked for {name}")

    monkeypatch.setattr(hub, "_hub_says", lambda *_: None)
    monkeypatch.setattr(AutoConfig, "from_pretrained", asked)
    with pytest.raises(BackendError, match=f"as a hub id, and .* no such folder.*for {model}"):
        Transformers(TransformersConfig(model=model))


def test_a_request_alone_is_answered_as_in_a_crowd(backend):
    together = backend.answer(mixed())
    alone = [backend.answer([request])[0] for request in mixed()]
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.tokens_in for a in together] == [a.tokens_in for a in alone]


@pytest.mark.parametrize("skip_forced", [True, False])
def test_a_model_that_knows_nothing_still_writes_json_of_the_asked_shape(folder, skip_forced):
    backend = Transformers(TransformersConfig(model=str(folder), skip_forced=skip_forced, batch=4))
    asked = [r for r in mixed(12) if r.schema]
    for request, said in zip(asked, backend.answer(asked), strict=True):
        assert isinstance(said, Answer), said
        assert not isinstance(read_json(said.text, request.schema), Failure)
        assert said.tokens_out > 0 and said.seconds > 0


def test_the_answer_is_the_argmax_of_the_model_itself(backend):
    """Against a loop without cache, batch, padding or grammar shortcuts."""
    request = ask(1, None, max_tokens=12)
    inputs = backend.inputs([request])
    ids, said = inputs["input_ids"], []
    with torch.inference_mode():
        for _ in range(12):
            out = backend.model(input_ids=ids, pixel_values=inputs["pixel_values"])
            said.append(int(out.logits[0, -1].argmax()))
            ids = torch.cat([ids, torch.tensor([[said[-1]]])], 1)
    text = backend.inputs.tokenizer.decode(said, skip_special_tokens=True).strip()
    assert backend.answer([request])[0].text == text


def test_one_bad_request_fails_alone(backend):
    good = mixed(6)
    broken = Request("broken", (Picture("Frame 1", pixels(1)), "<image> and no second one?"), FACTS)
    unknown = ask(50, {"type": "nonsense"})
    asked = [*good[:2], broken, *good[2:4], unknown, *good[4:]]
    said = backend.answer(asked)
    kinds = [s.kind if isinstance(s, Failure) else None for s in said]
    assert kinds == [None, None, "bad_request", None, None, "bad_request", None, None]
    texts = [s.text for s in said if isinstance(s, Answer)]
    assert texts == [a.text for a in backend.answer(good)]


def test_an_answer_that_does_not_end_is_truncated_and_a_long_prompt_is_told(backend):
    short, long = ask(1, FACTS, max_tokens=5), ask(2, FACTS, max_tokens=5000)
    first, second = backend.answer([short, long])
    assert (first.kind, second.kind) == ("truncated", "bad_request")
    assert first.tokens_in > 5 <= first.tokens_out and first.seconds > 0
    assert second.tokens_in == second.tokens_out == 0, "it was never read"
    assert "the model reads 1024" in second.message


def test_what_it_sees_changes_what_it_says(backend):
    answers = {backend.answer([ask(n, None, max_tokens=8)])[0].text for n in range(6)}
    assert len(answers) > 1


def full_score(backend, request: Request, choice: str) -> float:
    """Log-probability by one pass over prompt and choice together, without a cache."""
    inputs = backend.inputs([request])
    tail = torch.tensor([backend.inputs.tokens(choice)])
    ids = torch.cat([inputs["input_ids"], tail], 1)
    with torch.inference_mode():
        out = backend.model(input_ids=ids, pixel_values=inputs["pixel_values"])
    logs = out.logits[0, -tail.shape[1] - 1 : -1].log_softmax(-1)
    return float(logs.gather(1, tail[0][:, None]).sum())


def test_choices_are_scored_as_by_one_pass_over_prompt_and_choice(backend):
    requests = [ask(n, words=1 + n) for n in range(3)]
    choices = [["cat", "a hot dog here"], ["red"], ["yes", "no", "perhaps not"]]
    scores = backend.choose(requests, choices)
    for request, given, told in zip(requests, choices, scores, strict=True):
        assert told.logs == pytest.approx(
            [full_score(backend, request, c) for c in given], abs=2e-4
        )
        longer = sum(len(backend.inputs.tokens(choice)) - 1 for choice in given)
        assert told.tokens_in == backend.answer([request])[0].tokens_in + longer


def test_prompts_are_read_once_whatever_the_number_of_choices(backend, monkeypatch):
    read = []
    forward = backend.model.model.get_image_features
    monkeypatch.setattr(
        backend.model.model, "get_image_features", lambda **k: read.append(1) or forward(**k)
    )
    (scores,) = backend.choose([ask(1)], [[f"choice number {n}" for n in range(40)]])
    assert len(scores.logs) == 40 and len(read) == 1


def test_an_empty_choice_fails_alone(backend):
    said = backend.choose([ask(1), ask(2)], [["cat"], [""]])
    assert isinstance(said[0], Chances) and said[1].kind == "bad_request"


def test_models_that_count_places_themselves_go_in_step(backend):
    """Without given places rows feed one token each, and the answer is the same."""
    said = []
    for counted in (True, False):
        row = decode.Row(backend._grammars.matcher(FACTS), 60)
        inputs = backend._ready(backend.inputs([ask(3, FACTS)]), [ask(3, FACTS)])
        with torch.inference_mode():
            state = decode.State(backend.model, inputs, counted=counted)
            decode.generate(state, [row], frozenset(), pad=0, skip_forced=False)
        said.append(row.tokens)
    assert said[0] == said[1]


@pytest.mark.parametrize("seed", range(3))
def test_the_short_way_gives_exactly_the_processors_tensors(seed):
    inputs = Inputs(tiny_llava.processor())
    requests = [ask(seed, pictures=n, words=n) for n in (1, 3, 2)]
    short = inputs(requests)
    whole = inputs._processed(requests)
    assert all(inputs._known.values()), "the short way was not taken"
    for name, tensor in whole.items():
        assert torch.equal(short[name], tensor), name


def test_pictures_that_must_be_resized_go_through_the_processor():
    inputs = Inputs(tiny_llava.processor())
    tall = Picture("Frame 1", pixels(1, 64)[:, :48])
    large = Picture("Frame 1", pixels(2, 64))
    for picture in (tall, large):
        request = Request("v", (picture, "what?"))
        assert inputs._short_way(request) is None
        assert inputs([request])["pixel_values"].shape == (1, 3, 32, 32)


def test_reelm_json_tells_view_vocabulary_and_phrases(tmp_path):
    about = {
        "view": {"moments": 6, "shown": [0, 2, 4], "square": 32, "sound": True, "motion": True},
        "vocabulary": {"subject": ["cat", "fish"]},
        "phrases": {"attributes": "List them."},
    }
    backend = Transformers(TransformersConfig(model=str(tiny_llava.save(tmp_path, about))))
    assert backend.view == View(6, (0, 2, 4), 32, True, 4.0, True)
    assert backend.vocabulary == {"subject": ("cat", "fish")}
    assert backend.phrase("attributes") == "List them." and backend.phrase("caption") is None


def test_other_weights_are_another_identity(folder, tmp_path):
    other = tiny_llava.save(tmp_path / "other", seed=1)
    assert files.weights_hash(folder) != files.weights_hash(other)
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert files.weights_hash(moved) == files.weights_hash(folder)


def test_a_folder_without_a_model_is_told_apart(tmp_path):
    with pytest.raises(BackendError, match=str(tmp_path)):
        Transformers(TransformersConfig(model=str(tmp_path)))


def test_a_processor_that_needs_torchvision_is_named(folder, monkeypatch):
    def refuse(*_, **__):
        raise AttributeError("VIDEO_PROCESSOR_MAPPING has no attribute _extra_content")

    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", refuse)
    with pytest.raises(BackendError, match="torchvision"):
        runtime.load_reader(str(folder))


def test_a_taught_model_says_what_it_sees_with_and_without_skipping(tmp_path):
    """Dark pictures are taught as cats, bright ones as fish; new pictures are judged."""
    folder = taught(tmp_path)
    dark, bright = ([shade(low, seed) for seed in range(4)] for low in (10, 190))
    asked = [Request("v", (picture, "what?"), FACTS, 60) for picture in dark + bright]
    for skip_forced in (True, False):
        config = TransformersConfig(model=str(folder), skip_forced=skip_forced)
        said = [json.loads(a.text)["subject"] for a in Transformers(config).answer(asked)]
        assert said == ["cat"] * 4 + ["hot dog"] * 4
    scores = Transformers(config).choose(
        [Request("v", (p, "what?")) for p in (dark[0], bright[0])],
        [['{"subject":"cat"', '{"subject":"hot dog"']] * 2,
    )
    assert scores[0].logs[0] > scores[0].logs[1] and scores[1].logs[1] > scores[1].logs[0]


def shade(low: int, seed: int) -> Picture:
    noise = np.random.default_rng(seed).integers(0, 50, (32, 32, 3))
    return Picture("Frame 1", (noise + low).astype(np.uint8))


def taught(folder):
    """Train a tiny model for a few seconds on two kinds of pictures."""
    processor = tiny_llava.processor()
    model = tiny_llava.model(processor.tokenizer)
    inputs = Inputs(processor)
    answers = ['{"subject":"cat","colour":"red","count":"1"}',
               '{"subject":"hot dog","colour":"blue","count":"2"}']  # fmt: skip
    ends = [[*inputs.tokens(text), processor.tokenizer.eos_token_id] for text in answers]
    asked = [Request("v", (shade(low, 9), "what?")) for low in (10, 190)]
    prompts = [inputs([one]) for one in asked]
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(60):
        loss = torch.zeros(())
        for prompt, end in zip(prompts, ends, strict=True):
            ids = torch.cat([prompt["input_ids"], torch.tensor([end])], 1)
            logits = model(input_ids=ids, pixel_values=prompt["pixel_values"]).logits[0]
            said = logits[-len(end) - 1 : -1]
            loss = loss + torch.nn.functional.cross_entropy(said, torch.tensor(end))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
