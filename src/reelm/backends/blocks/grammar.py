"""Decoding that can only write JSON of the asked shape. Source: the llguidance library (MIT)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from llguidance import LLMatcher, hf
from torch import Tensor

KEPT = 64  # compiled schemas


class Grammars:
    """Compiles each schema once for one tokenizer and hands out matchers."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        """`vocabulary`: width of the model's logits, which may exceed the tokenizer's."""
        self.vocabulary = vocabulary
        self._tokenizer = hf.from_tokenizer(tokenizer, n_vocab=max(vocabulary, len(tokenizer)))
        self._compiled: dict[str, LLMatcher] = {}

    def matcher(self, schema: Mapping[str, Any]) -> LLMatcher:
        """A fresh matcher at the start of an answer; JSON is written without spaces.

        Raises:
            ValueError: the schema is not one, or says something the library cannot enforce.
        """
        text = json.dumps(schema)
        if text not in self._compiled:
            rules = LLMatcher.grammar_from_json_schema(
                text, overrides={"whitespace_flexible": False}
            )
            matcher = LLMatcher(self._tokenizer, rules)
            if matcher.is_error():
                raise ValueError(f"schema cannot be enforced: {matcher.get_error()}")
            while len(self._compiled) >= KEPT:
                self._compiled.pop(next(iter(self._compiled)))
            self._compiled[text] = matcher
        return self._compiled[text].deep_copy()


def allowed(
    matchers: Sequence[LLMatcher | None], vocabulary: int
) -> Bool[Tensor, "batch vocabulary"]:
    """Which tokens may come next in each row; everything where there is no matcher."""
    words = (vocabulary + 31) // 32
    bits = torch.full((len(matchers), words), -1, dtype=torch.int32)
    for row, matcher in enumerate(matchers):
        if matcher is not None and not matcher.is_stopped():
            matcher.unsafe_compute_mask_ptr(bits[row].data_ptr(), 4 * words)
    flags = (bits[:, :, None] >> torch.arange(32, dtype=torch.int32)) & 1
    return flags.bool().flatten(1)[:, :vocabulary]
