"""The tiny LLaVA: an ordinary LlavaForConditionalGeneration with small sizes, and its processor."""

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveInt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

from reelm import files
from reelm.config import Config
from reelm.errors import ConfigError
from reelm.tune import wording
from reelm.world.clips import sample_clip
from reelm.world.vocabulary import ATTRIBUTES

SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<image>"]
PATCH = 16  # pixels
SIDE = wording.VIEW.square or 80  # pixels
GRID = SIDE // PATCH  # tokens along each side of a picture
TOKENS = GRID * GRID  # tokens per picture


class SizeConfig(Config):
    """Section [size]: the widths of the tiny model."""

    vision_dim: PositiveInt = 160
    """Width of the vision tower."""
    vision_layers: PositiveInt = 4
    """Blocks of the vision tower."""
    vision_heads: PositiveInt = 5
    """Attention heads of the vision tower; must divide `vision_dim`."""
    dim: PositiveInt = 128
    """Width of the language model."""
    layers: PositiveInt = 3
    """Blocks of the language model."""
    heads: PositiveInt = 4
    """Attention heads of the language model; they share one key-value head."""


def build(size: SizeConfig, seed: int) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """A new model with random weights, and the processor that belongs to it."""
    torch.manual_seed(seed)
    processor = build_processor()
    tokenizer = processor.tokenizer
    vision = SiglipVisionConfig(
        hidden_size=size.vision_dim,
        intermediate_size=3 * size.vision_dim,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=size.vision_heads,
        image_size=SIDE,
        patch_size=PATCH,
        vision_use_head=False,
    )
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=size.dim,
        intermediate_size=int(2.75 * size.dim),
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        max_position_embeddings=1024,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
        initializer_range=0.04,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),  # pyright: ignore[reportCallIssue]
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=TOKENS,
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    for name in ("pad_token_id", "eos_token_id"):
        setattr(model.generation_config, name, getattr(tokenizer, name))
    return model, processor


def build_processor() -> LlavaProcessor:
    """A byte-level BPE trained on the world's own sentences, beside a SigLIP image processor."""
    rng = random.Random(5)
    lines: list[str] = [wording.HEADER.replace("<image>", "")] * 500
    for _ in range(3000):
        clip = sample_clip(rng)
        for _ in range(3):
            pair = wording.sample_pair(clip, rng)
            lines += [pair.question, pair.answer]
        lines += ["user\n", "assistant\n"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=768,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(lines, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        padding_side="left",
        model_max_length=1024,
    )
    return LlavaProcessor(
        image_processor=SiglipImageProcessor(size={"height": SIDE, "width": SIDE}),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        chat_template=wording.CHAT_TEMPLATE,
    )


def value_tokens(tokenizer: Any) -> dict[str, torch.Tensor]:
    """For each attribute, the one token of each of its values.

    Raises:
        ConfigError: a value takes more than one token; alignment needs words that are whole.
    """
    found = {}
    for name, values in ATTRIBUTES.items():
        ids = [tokenizer(value, add_special_tokens=False)["input_ids"] for value in values]
        broken = [value for value, pieces in zip(values, ids, strict=True) if len(pieces) != 1]
        if broken:
            raise ConfigError(f"the tokenizer splits the {name} {broken}; train it on more text")
        found[name] = torch.tensor([pieces[0] for pieces in ids])
    return found


def save(folder: Path, model: nn.Module, processor: Any, trained: dict[str, Any]) -> Path:
    """Write a checkpoint folder that any LLaVA runtime loads, with `reelm.json` beside it."""
    model.save_pretrained(folder)  # pyright: ignore[reportCallIssue]
    processor.save_pretrained(folder)
    files.shared(folder)
    facts = {
        "view": asdict(wording.VIEW),
        "vocabulary": ATTRIBUTES,
        "phrases": wording.PHRASES,
        "trained": trained,
    }
    files.write_text(folder / "reelm.json", json.dumps(facts, indent=2) + "\n")
    return folder
