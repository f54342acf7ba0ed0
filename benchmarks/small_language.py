"""Small language models that learn from nothing to write what stands beside a text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

BATCH = 8
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
IGNORED = -100
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
Pair = tuple[str, str]
"""What is read, and what is to be written."""


@dataclass(frozen=True)
class Size:
    """Of a model, and how it learns to write from nothing."""

    width: int
    layers: int
    epochs: int
    rate: float
    start: float = 0.02
    """Standard deviation of its first weights; small models learn to copy sooner with more."""
    alike: int = 1
    """Among so many batches, texts are put together that are about as long as each other."""
    read: float = 0.0
    """Weight of the loss of what is read, beside that of what is written."""


def chat(text: str, said: str) -> Pair:
    """The same between the marks of turns."""
    asked = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    return asked, f"{said}<|im_end|>\n"


def vocabulary(
    pairs: Sequence[Pair], whole: Sequence[str], size: int = 320
) -> PreTrainedTokenizerFast:
    """Byte-level BPE of these texts, of `size` tokens, beside which each of `whole` is one."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(("".join(chat(*pair)) for pair in pairs), trainer)
    raw.add_tokens([AddedToken(text, normalized=False) for text in whole])
    words = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<|pad|>", eos_token="<|im_end|>", padding_side="left"
    )
    words.chat_template = TEMPLATE
    return words


def taught(folder: Path, size: Size, words: PreTrainedTokenizerFast, pairs: Sequence[Pair]) -> None:
    """A model that learned from nothing to write what stands beside each text."""
    torch.manual_seed(0)
    pad, _, end = (words.get_vocab()[token] for token in SPECIAL)
    config = Qwen2Config(
        vocab_size=len(words), hidden_size=size.width, intermediate_size=2 * size.width,
        num_hidden_layers=size.layers, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=1024, tie_word_embeddings=True, pad_token_id=pad,
        eos_token_id=end, bos_token_id=None, initializer_range=size.start,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    rows = [
        [words(text, add_special_tokens=False)["input_ids"] for text in chat(*pair)]
        for pair in pairs
    ]
    tokens = np.mean([len(asked) + len(said) for asked, said in rows])
    told = f"{folder}: {model.num_parameters()} weights, {len(rows)} texts of {tokens:.0f} tokens"
    print(told, flush=True)
    _learn(model, rows, pad, size)
    words.save_pretrained(folder)
    model.save_pretrained(folder)


def _learn(
    model: Qwen2ForCausalLM, rows: Sequence[Sequence[Sequence[int]]], pad: int, size: Size
) -> None:
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=size.rate, weight_decay=0.01)
    steps = size.epochs * (len(rows) // BATCH)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimizer, size.rate, steps)
    for epoch in range(size.epochs):
        lost: list[float] = []
        for batch in _batches(rng, [len(asked) + len(said) for asked, said in rows], size.alike):
            some = [rows[n] for n in batch]
            longest = max(len(asked) + len(said) for asked, said in some)
            ids = torch.full((BATCH, longest), pad)
            wanted = torch.full((BATCH, longest), IGNORED)
            for row, (asked, said) in enumerate(some):
                ids[row, : len(asked) + len(said)] = torch.tensor([*asked, *said])
                wanted[row, len(asked) : len(asked) + len(said)] = torch.tensor(said)
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
            loss = _loss(logits, wanted[:, 1:])
            lost.append(float(loss.detach()))
            if size.read:
                read = torch.where((wanted == IGNORED) & (ids != pad), ids, IGNORED)
                loss = loss + size.read * _loss(logits, read[:, 1:])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            falling.step()
            optimizer.zero_grad()
        print(f"epoch {epoch + 1}: {np.mean(lost):.3f} nats a token written", flush=True)


def _loss(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)


def _batches(rng: np.random.Generator, lengths: Sequence[int], alike: int) -> np.ndarray:
    """Numbers of the texts of each batch (batches, BATCH)."""
    order = rng.permutation(len(lengths))[: len(lengths) // BATCH * BATCH]
    if alike == 1:
        return order.reshape(-1, BATCH)
    chunks = [order[at : at + alike * BATCH] for at in range(0, len(order), alike * BATCH)]
    near = [some[np.argsort(np.take(lengths, some), kind="stable")] for some in chunks]
    return rng.permutation(np.concatenate(near).reshape(-1, BATCH))
