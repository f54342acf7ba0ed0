"""A tiny language model that reads texts alone, with random weights: real classes, no download."""

from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

import tiny_llava

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save(folder: Path, template: str = TEMPLATE, seed: int = 0) -> Path:
    """Write a checkpoint folder."""
    words = tiny_llava.tokenizer()
    words.chat_template = template
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(words) + 5,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
        bos_token_id=1,
        initializer_range=0.4,  # so that a frozen head can be sure of a word
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
