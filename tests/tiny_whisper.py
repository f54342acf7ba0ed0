"""A tiny Whisper checkpoint with random weights: real classes, no download."""

from pathlib import Path

import torch
from tokenizers import AddedToken, pre_tokenizers
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

LANGUAGES = ("en", "zh", "de")
WORDS = ["transcribe", "translate", "startoflm", "startofprev", "nospeech", "notimestamps"]


def tokenizer() -> WhisperTokenizer:
    """Single bytes, Whisper's marks, and its 1501 times."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = WhisperTokenizer(vocab={sign: n for n, sign in enumerate(alphabet)}, merges=[])
    marks = [f"<|{name}|>" for name in ("startoftranscript", *LANGUAGES, *WORDS)]
    made.add_special_tokens({"additional_special_tokens": marks})
    times = [f"<|{0.02 * n:.2f}|>" for n in range(1501)]
    made.add_tokens([AddedToken(time, normalized=False, special=False) for time in times])
    return made


def save(folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint folder."""
    words = tokenizer()
    ids = {name: words.convert_tokens_to_ids(f"<|{name}|>") for name in (*LANGUAGES, *WORDS)}
    end = words.convert_tokens_to_ids("<|endoftext|>")
    start = words.convert_tokens_to_ids("<|startoftranscript|>")
    config = WhisperConfig(
        vocab_size=len(words), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_target_positions=24, init_std=0.5, pad_token_id=end,
        eos_token_id=end, bos_token_id=end, decoder_start_token_id=start,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(config).eval()
    how = model.generation_config
    how._from_model_config = False
    how.is_multilingual = True
    how.lang_to_id = {f"<|{name}|>": ids[name] for name in LANGUAGES}
    how.task_to_id = {name: ids[name] for name in ("transcribe", "translate")}
    how.no_timestamps_token_id = ids["notimestamps"]
    how.prev_sot_token_id = ids["startofprev"]
    how.max_initial_timestamp_index = 50
    how.max_length = 24
    how.return_timestamps = True
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), words).save_pretrained(folder)
    return folder
