"""Fine-tuning by adapters: what is learned, what is refused, and what comes of a kill."""

import json
import os
import random
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import tiny_llava
import tiny_reader
from reelm import files
from reelm.backends.base import Answer, Failure, Request
from reelm.backends.transformers import Transformers, TransformersConfig, load_reader
from reelm.errors import BackendError, BadData, ConfigError, NonFinite
from reelm.media.views import Picture
from reelm.tune import adapters, conversations, lora
from reelm.tune.adapters import LoraConfig
from reelm.tune.batches import IGNORED
from reelm.tune.conversations import Tokens

QUICK = {
    "epochs": 12, "batch_size": 8, "learning_rate": 1e-2, "rank": 16, "alpha": 32, "patience": 12,
    "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return tiny_reader.save(tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def seer(tmp_path_factory):
    return tiny_llava.save(tmp_path_factory.mktemp("seer"), {"phrases": {"caption": "Say."}})


def turn(role, *parts):
    content = [{"type": "image"} if p is None else {"type": "text", "text": p} for p in parts]
    return {"role": role, "content": content}


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def table(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def facts(count=60):
    """A question about a colour, an answer that follows from it."""
    rng, lines = random.Random(0), []
    for n in range(count):
        colour = rng.choice(("red", "blue"))
        said = json.dumps({"subject": "cat" if colour == "red" else "fish"})
        messages = [turn("user", f"What is {colour}? "), turn("assistant", said)]
        lines.append({"messages": messages, "video_id": f"v{n}"})
    return lines


def tokens_of(folder, longest=500):
    found = load_reader(str(folder))
    return (
        Tokens(found, frozenset({found.eos_token_id}), longest)
        if not hasattr(found, "tokenizer")
        else Tokens(found, frozenset({found.tokenizer.eos_token_id}), longest)
    )


def sample(folder, path, **options):
    good, bad = conversations.read(path)
    assert not bad, bad
    tokens = tokens_of(folder, **options)
    return tokens, tokens.sample(good[0])


def learned(tokens, made):
    return [tokens.tokenizer.decode([t]) for t in made.target if t != IGNORED]


def test_what_the_assistant_says_is_learned_and_nothing_else(reader, tmp_path):
    messages = [
        {"role": "system", "content": "Be brief."},
        *(turn("user", "one?"), turn("assistant", "red")),
        *(turn("user", "two?"), turn("assistant", "blue cat")),
    ]
    tokens, made = sample(reader, write(tmp_path / "a.jsonl", [{"messages": messages}]))
    assert "".join(learned(tokens, made)) == "red<|im_end|>blue cat<|im_end|>"
    whole = tokens.tokenizer.decode(made.ids)
    assert whole.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\none?")
    assert whole.endswith("assistant\nblue cat<|im_end|>")


def test_a_prompt_has_the_tokens_that_it_has_at_work(seer, tmp_path):
    pixels = tiny_llava.pixels(3)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    line = {
        "messages": [turn("user", None, "What?"), turn("assistant", "cat")],
        "images": ["p.png"],
    }
    tokens, made = sample(seer, write(tmp_path / "a.jsonl", [line]))
    asked = Transformers(TransformersConfig(model=str(seer))).inputs(
        [Request("v", (Picture("p", pixels), "What?"))]
    )
    count = asked["input_ids"].shape[1]
    assert made.ids[:count] == asked["input_ids"][0].tolist()
    assert all(t == IGNORED for t in made.target[:count])
    assert torch.equal(made.pictures["pixel_values"], asked["pixel_values"])
    assert "".join(learned(tokens, made)) == "cat<|im_end|>"


def test_each_turn_has_its_own_pictures(seer, tmp_path):
    for n in range(3):
        Image.fromarray(tiny_llava.pixels(n)).save(tmp_path / f"{n}.png")
    messages = [turn("user", None, "a"), turn("assistant", "cat"),
                turn("user", None, None, "b"), turn("assistant", "fish")]  # fmt: skip
    line = {"messages": messages, "images": ["0.png", "1.png", "2.png"]}
    tokens, made = sample(seer, write(tmp_path / "a.jsonl", [line]))
    assert made.pictures["pixel_values"].shape[0] == 3
    image = tokens.tokenizer.convert_tokens_to_ids("<image>")
    assert made.ids.count(image) == 3 * 4 and image not in made.target


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{not json", "JSON"),
        ({"messages": [turn("user", "a")]}, "no message of an assistant"),
        ({"messages": [turn("tool", "a"), turn("assistant", "b")]}, "messages.0.role"),
        ({"messages": [turn("user", None, "a"), turn("assistant", "b")]}, "1 places for pictures"),
        ({"messages": [turn("user", None), turn("assistant", "b")], "images": ["x.png"]}, "x.png"),
        (json.dumps({"messages": [turn("user", "\xe9")]}, ensure_ascii=False), "not in UTF-8"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_conversation_is_refused_and_the_others_go_on(tmp_path, line, why):
    path = tmp_path / "a.jsonl"
    text = line if isinstance(line, str) else json.dumps(line)
    path.write_text(json.dumps(facts(1)[0]) + "\n\n" + text + "\n", encoding="latin-1")
    good, bad = conversations.read(path)
    assert [one.number for one in good] == [1]
    assert bad[0].number == 3 and why in bad[0].reason


def test_what_cannot_be_learned_from_is_counted_with_its_reason(reader, tmp_path):
    Image.fromarray(tiny_llava.pixels(1)).save(tmp_path / "p.png")
    lines = facts(20)
    lines[3] = {"messages": [turn("user", "x" * 300), turn("assistant", "cat")]}
    lines[5] = {"messages": [turn("user", "a"), turn("assistant", "")]}
    lines[7] = {"messages": [turn("user", None), turn("assistant", "b")], "images": ["p.png"]}
    path = write(tmp_path / "a.jsonl", lines)
    config = LoraConfig(**QUICK | {"epochs": 1, "max_length": 100})
    folder = lora.tune(path, str(reader), config, tmp_path)
    told = table(folder / "refused.jsonl")
    assert [one["line"] for one in told] == [4, 6, 8]
    reasons = ("lora.max_length", "none of its tokens", "sees none")
    assert all(why in one["reason"] for why, one in zip(reasons, told, strict=True))
    made = files.manifest(folder)
    assert (made["rows"], made["failed"]) == (17, 3)


def test_a_template_that_does_not_continue_its_prompt_is_an_error(tmp_path):
    """The classic mismatch: all labels would be masked, the loss 0, and nothing would tell."""
    template = tiny_reader.TEMPLATE.replace("<|im_start|>assistant", "<|im_start|>bot")
    folder = tiny_reader.save(tmp_path / "m", template)
    path = write(tmp_path / "a.jsonl", facts(4))
    with pytest.raises(BadData, match=r"line 1: the model's chat template writes"):
        lora.tune(path, str(folder), LoraConfig(**QUICK), tmp_path)


def test_adapters_that_get_no_gradient_are_an_error(seer, tmp_path, monkeypatch):
    """Conversations without pictures cannot teach a vision tower."""
    towers = lambda model: [n for n, m in model.named_modules()  # noqa: E731
                            if isinstance(m, torch.nn.Linear) and "vision" in n]  # fmt: skip
    monkeypatch.setattr(adapters, "linear_layers", towers)
    path = write(tmp_path / "a.jsonl", facts(8))
    with pytest.raises(ConfigError, match="no adapter a gradient"):
        lora.tune(path, str(seer), LoraConfig(**QUICK), tmp_path)


def test_only_the_language_model_is_adapted(seer):
    names = adapters.linear_layers(adapters.load_model(str(seer)))
    assert names and all("language_model" in name for name in names)
    assert {name.rsplit(".", 1)[1] for name in names} >= {"q_proj", "up_proj", "down_proj"}


def test_it_learns_and_the_backend_says_it(reader, tmp_path):
    path = write(tmp_path / "a.jsonl", facts())
    folder = lora.tune(path, str(reader), LoraConfig(**QUICK, merge=True), tmp_path)
    rows = table(folder / "metrics.jsonl")
    assert min(row["held_out"] for row in rows) < 0.2 * rows[0]["held_out"]
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {(folder / "metrics.jsonl").stat().st_mode & 0o777}
    asked = [Request("v", (f"What is {colour}? ",), None, 20) for colour in ("red", "blue")]
    laid = {"model": str(reader), "adapter": str(folder / "adapter")}
    over, merged = (
        Transformers(TransformersConfig(**given))
        for given in (laid, {"model": str(folder / "model")})
    )
    said = [over.answer(asked), merged.answer(asked)]
    for answers in said:
        assert [isinstance(one, Answer) and one.text for one in answers] == [
            '{"subject": "cat"}', '{"subject": "fish"}']  # fmt: skip
    plain = Transformers(TransformersConfig(model=str(reader)))
    assert over.identity()["adapter"] != plain.identity().get("adapter")
    assert lora.tune(path, str(reader), LoraConfig(**QUICK, merge=True), tmp_path) == folder


def test_pictures_are_learned_from(seer, tmp_path):
    lines = []
    for n in range(24):
        low = 10 if n % 2 else 190
        noise = tiny_llava.pixels(n) // 5 + low
        Image.fromarray(noise).save(tmp_path / f"{n}.png")
        said = "cat" if n % 2 else "fish"
        messages = [turn("user", None, "what?"), turn("assistant", said)]
        lines.append({"messages": messages, "images": [f"{n}.png"]})
    path = write(tmp_path / "a.jsonl", lines)
    folder = lora.tune(path, str(seer), LoraConfig(**QUICK, checkpointing=True), tmp_path)
    assert (folder / "adapter" / "reelm.json").is_file()
    rows = table(folder / "metrics.jsonl")
    assert min(row["held_out"] for row in rows) < 0.5 * rows[0]["held_out"]


def test_a_killed_training_ends_with_the_same_bits(reader, tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl", facts(40))
    config = LoraConfig(**QUICK | {"epochs": 3, "checkpoint_s": 0, "dropout": 0.1})
    whole = lora.tune(path, str(reader), config, tmp_path / "whole")
    steps = 0
    loss = adapters.Learner._step

    def dies(self, *given):
        nonlocal steps
        steps += 1
        if steps in (3, 8, 13):
            raise KeyboardInterrupt
        return loss(self, *given)

    monkeypatch.setattr(adapters.Learner, "_step", dies)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            lora.tune(path, str(reader), config, tmp_path / "killed")
    folder = lora.tune(path, str(reader), config, tmp_path / "killed")
    ours, theirs = (
        load_file(one / "adapter" / "adapter_model.safetensors") for one in (folder, whole)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not (folder / adapters.CHECKPOINT).exists()
    measured = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in table(one / "metrics.jsonl")]
        for one in (folder, whole)
    ]
    assert measured[0] == measured[1], "a row tells of a whole epoch, whenever it was killed"


def test_a_loss_that_blows_up_is_an_error(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(
        adapters.F, "cross_entropy", lambda logits, *_, **__: logits.sum() * float("nan")
    )
    path = write(tmp_path / "a.jsonl", facts(8))
    with pytest.raises(NonFinite, match="learning_rate"):
        lora.tune(path, str(reader), LoraConfig(**QUICK, held_out=0), tmp_path)


def test_pieces_of_a_step_give_the_gradient_of_the_whole(reader, tmp_path):
    path = write(tmp_path / "a.jsonl", facts(16))
    made = []
    for most in (10_000, 60):
        config = LoraConfig(**QUICK | {"epochs": 1, "piece_tokens": most, "held_out": 0})
        folder = lora.tune(path, str(reader), config, tmp_path / str(most))
        made.append(load_file(folder / "adapter" / "adapter_model.safetensors"))
    for name in made[0]:
        torch.testing.assert_close(made[0][name], made[1][name], atol=2e-3, rtol=1e-2)


def test_a_model_of_texts_answers_and_refuses_pictures(reader):
    backend = Transformers(TransformersConfig(model=str(reader)))
    first, second = backend.answer([
        Request("v", ("What?",), tiny_llava.FACTS, 60),
        Request("w", (Picture("p", tiny_llava.pixels(0)), "What?"), None, 5),
    ])  # fmt: skip
    assert isinstance(first, Answer) and set(json.loads(first.text)) == {
        "subject",
        "colour",
        "count",
    }
    assert isinstance(second, Failure) and second.kind == "bad_request"


def test_adapters_of_nothing_are_told(reader, tmp_path):
    with pytest.raises(BackendError, match="cannot be laid over"):
        Transformers(TransformersConfig(model=str(reader), adapter=str(tmp_path)))


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(reader, tmp_path):
    path = write(tmp_path / "a.jsonl", facts(40))
    sets = [
        f"--set=lora.{name}={value}"
        for name, value in (QUICK | {"epochs": 2, "batch_size": 11}).items()
    ]
    found = []
    for count in (1, 2):
        work = tmp_path / str(count)
        launch = ["-m", "torch.distributed.run", f"--nproc_per_node={count}", "--master_port=29517"]
        command = ["-m", "reelm", "tune", f"--on={path}", f"--model={reader}", f"--work={work}"]
        run = subprocess.run(
            [sys.executable, *launch, *command, *sets],
            env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr[-3000:]
        found.append(table(files.latest(work / "tuned") / "metrics.jsonl"))
    for one, two in zip(*found, strict=True):
        assert one.get("tokens") == two.get("tokens")
        for name in one.keys() & {"loss", "held_out"}:
            assert two[name] == pytest.approx(one[name], rel=1e-3)
