"""Tiny LLaVA checkpoints with random weights, and requests for them: real classes, no download."""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

from reelm.backends.base import Request, show
from reelm.media.views import Picture
from reelm.prompts.base import closed

SIDE, PATCH = 32, 16
VOCABULARY = {
    "subject": ("cat", "fish", "hot dog"),
    "colour": ("red", "blue"),
    "count": ("1", "2", "3"),
}
FACTS = closed({k: {"type": "string", "enum": list(v)} for k, v in VOCABULARY.items()})
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of about 400 tokens."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    lines = [
        json.dumps({"subject": s, "colour": c, "count": n}, separators=(",", ":"))
        for s in VOCABULARY["subject"]
        for c in VOCABULARY["colour"]
        for n in VOCABULARY["count"]
    ]
    lines += [
        '{"caption":"a red cat dances on the beach at night"}',
        "user\nFrame 1: \nassistant\n",
    ]
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<image>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        lines * 20,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        padding_side="left",
        model_max_length=1024,
    )


def processor() -> LlavaProcessor:
    """Squashes pictures to 32 by 32 pixels, four tokens each."""
    return LlavaProcessor(
        image_processor=SiglipImageProcessor(size={"height": SIDE, "width": SIDE}),
        tokenizer=tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
    )


def model(words: PreTrainedTokenizerFast, seed: int = 0) -> LlavaForConditionalGeneration:
    """Random weights, wide enough apart that pictures and texts change what it says."""
    torch.manual_seed(seed)
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
        vision_use_head=False,
    )
    text = Qwen2Config(
        vocab_size=len(words) + 5,  # wider than the tokenizer, as real checkpoints often are
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
        bos_token_id=1,
        initializer_range=0.2,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    made = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for weight in made.model.multi_modal_projector.parameters():
            weight.normal_(0, 0.3)
    made.generation_config.pad_token_id = words.pad_token_id
    made.generation_config.eos_token_id = words.eos_token_id
    return made.eval()


def save(folder: Path, about: dict | None = None, seed: int = 0) -> Path:
    """Write a checkpoint folder; `about` becomes its reelm.json."""
    made = processor()
    model(made.tokenizer, seed).save_pretrained(folder)
    made.save_pretrained(folder)
    if about is not None:
        (folder / "reelm.json").write_text(json.dumps(about))
    return folder


def pixels(seed: int, side: int = SIDE) -> np.ndarray:
    """Random levels, [side side 3]."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def ask(
    seed: int,
    schema: dict | None = None,
    pictures: int = 2,
    words: int = 1,
    max_tokens: int = 60,
) -> Request:
    """A request about random pictures; `words` makes its question longer."""
    shown = [Picture(f"Frame {n + 1}", pixels(100 * seed + n)) for n in range(pictures)]
    return Request(f"v{seed}", show(shown, "What" + " is" * words + "?"), schema, max_tokens)
