"""A language model of some two hundred thousand weights that learns to reason as its teacher does.

The teacher counts (`--backend tallies`): a teacher that is a language model too would have to be
trained here first, for which there was no time. The student is made in two steps. It first learns
the language from a population of its own: dossiers, each followed by a rationale whose values and
lines are drawn from its notes at random, so that it can read notes and write rationales and knows
nothing of what the teacher goes by. Then `reelm.tune.lora`
lays adapters over it that learn the teacher's rationales of a share of the users of one more
population, in the form that `reelm lessons` writes. Populations that are measured are never among
these.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from llmrec_worlds import Population, population
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from reelm import dossiers, files
from reelm.backends.base import Answer
from reelm.backends.transformers import Transformers, TransformersConfig
from reelm.data.split import Split
from reelm.dossiers import Dossier
from reelm.prompts.rationale import IDEAL, Rationale
from reelm.tallies import FORMS, STEP_VALUES, Tallies, read
from reelm.tallies import WATCHED as SEEN
from reelm.tune import lora
from reelm.tune.adapters import LoraConfig
from reelm.world.vocabulary import ATTRIBUTES

WATCHED = 8  # videos that a dossier shows
CUT = 0.5
LANGUAGE, LESSONS = 60, 62  # populations
SHARE = 0.5  # of the users of LESSONS
EPOCHS = 4  # of the first step
BATCH, RATE = 8, 3e-3
TUNED = LoraConfig(
    rank=16, alpha=32, epochs=10, batch_size=8, learning_rate=4e-3, patience=2, device="cpu",
    held_out=0.15,
)  # fmt: skip
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def told(people: Population, split: Split, cut: float = CUT) -> list[Dossier]:
    """The dossiers of a population, from what `pocket` saw."""
    return dossiers.profile_dossiers(split, people.pocket, WATCHED, Rationale, cut)


def counted(asked: Sequence[Dossier]) -> dict[str, str]:
    """The teacher's rationales, as JSON by user."""
    said = Tallies().answer([one.request for one in asked])
    return {
        one.user: answer.text
        for one, answer in zip(asked, said, strict=True)
        if isinstance(answer, Answer)
    }


def student(work: Path) -> tuple[Path, Path]:
    """Folders of the checkpoint and of its tuning, made if they are not there."""
    folder = work / "student"
    if not (folder / "base" / "config.json").is_file():
        _base(work, folder / "base")
    people = population(work, LESSONS)
    asked = told(people, people.split())
    said = counted(asked)
    lines = [_lesson(one, said[one.user]) for one in asked if dossiers.drawn(one.user, SHARE)]
    path = folder / "lessons.jsonl"
    files.write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    return folder / "base", lora.tune(path, str(folder / "base"), TUNED, folder)


def speaker(base: Path, tuned: Path | None) -> Transformers:
    """The student at work; without `tuned` as it was before."""
    adapter = str(tuned / "adapter") if tuned else None
    return Transformers(TransformersConfig(model=str(base), adapter=adapter, device="cpu"))


def answers(model: Transformers, asked: Sequence[Dossier]) -> dict[str, str]:
    """The student's rationales, as JSON by user; who got none is missing."""
    said = model.answer([one.request for one in asked])
    return {
        one.user: answer.text
        for one, answer in zip(asked, said, strict=True)
        if isinstance(answer, Answer)
    }


def _lesson(one: Dossier, said: str) -> dict:
    (text,) = one.request.parts
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": said}]
    return {"messages": turns, "user_id": one.user}


def _base(work: Path, folder: Path) -> None:
    """Learn the language and write a checkpoint."""
    people, rng = population(work, LANGUAGE), np.random.default_rng(0)
    texts = [_chat(one, drawn(one, rng)) for one in told(people, people.split()) for _ in (1, 2)]
    words = _words(texts)
    words.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=1024,
        tie_word_embeddings=True, pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    rows = [words(text, add_special_tokens=False)["input_ids"] for text in texts]
    tokens = np.mean([len(row) for row in rows])
    print(f"student: {model.num_parameters()} weights, {tokens:.0f} tokens a text", flush=True)
    _learn(model, rows, words.pad_token_id)
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def drawn(one: Dossier, rng: np.random.Generator) -> str:
    """A rationale of values and lines of a dossier that nobody chose, as JSON."""
    lines = [read(line.removeprefix(SEEN)) for line in one.request.parts[0].splitlines()
             if line.startswith(SEEN)]  # fmt: skip
    values = list(dict.fromkeys(value for line in lines for value in line))
    values = [values[n] for n in rng.permutation(len(values))]
    taste = [f"{field} {value}" for field, value in values if field not in FORMS]
    forms = [f"{field} {value}" for field, value in values if field in FORMS]
    chosen = [lines[n] for n in rng.integers(len(lines), size=IDEAL)]
    ideal = [", ".join(value for _, value in line) for line in chosen]
    steps = {"taste": ", ".join(taste[:STEP_VALUES]), "forms": ", ".join(forms[:STEP_VALUES])}
    return json.dumps(steps | {"next": ideal}, separators=(",", ":"))


def _chat(one: Dossier, said: str) -> str:
    (text,) = one.request.parts
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n{said}<|im_end|>\n"


def _words(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE beside which the question and each value of a note are one token."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(texts, trainer)
    pairs = [(f, v.lower()) for f, some in ATTRIBUTES.items() for v in some if v != "none"]
    forms = ("- {0}: {1}", "; {0}: {1}", '"{0} {1}', ", {0} {1}", '"{1}', ", {1}")
    known = dict.fromkeys(form.format(*pair) for form in forms for pair in pairs)
    whole = [Rationale.ask(), '{"taste":', '","forms":', '","next":[', '",', '"]}', *known]
    raw.add_tokens([AddedToken(text, normalized=False) for text in whole])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<|pad|>", eos_token="<|im_end|>", padding_side="left"
    )


def _learn(model: Qwen2ForCausalLM, rows: Sequence[Sequence[int]], pad: int) -> None:
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    steps = EPOCHS * (len(rows) // BATCH)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for epoch in range(EPOCHS):
        lost, order = [], rng.permutation(len(rows))
        for at in range(0, len(rows) - BATCH + 1, BATCH):
            some = [rows[n] for n in order[at : at + BATCH]]
            longest = max(map(len, some))
            ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in some])
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
            loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=pad)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            falling.step()
            optimizer.zero_grad()
            lost.append(float(loss.detach()))
        print(f"language, epoch {epoch + 1}: {np.mean(lost):.3f} nats a token", flush=True)
