"""Words and pairs of words hashed to a fixed width: no weights, no vocabulary, any language.

Source: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning",
arXiv:0902.2206, with one hash for the place and one bit of it for the sign.
"""

import hashlib
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32
from pydantic import PositiveInt

from reelm.encoders.base import Encoder, EncoderConfig

WORD = re.compile(r"\w+")


class HashingConfig(EncoderConfig):
    """Section [encoder] for `hashing`."""

    dim: PositiveInt = 256
    """Width of the vectors."""
    pairs: bool = False
    """Hash neighbouring words together as well."""


class Hashing(Encoder):
    """Counts of hashed words, scaled to unit length; a text without words gives zeros."""

    name: ClassVar[str] = "hashing"
    Config: ClassVar[type[EncoderConfig]] = HashingConfig
    reads: ClassVar[Literal["text", "video"]] = "text"

    def __init__(self, config: HashingConfig | None = None) -> None:
        self.config = config or HashingConfig()
        self.dim = self.config.dim

    def encode(self, inputs: Sequence[str]) -> Float32[np.ndarray, "inputs dim"]:
        vectors = np.zeros((len(inputs), self.dim), np.float32)
        for vector, text in zip(vectors, inputs, strict=True):
            for word in self._words(text):
                seen = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
                vector[(seen >> 1) % self.dim] += 1 if seen & 1 else -1
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(lengths, 1e-12)

    def identity(self) -> dict[str, Any]:
        return {"encoder": self.name, **self.config.model_dump()}

    def _words(self, text: str) -> list[str]:
        words = WORD.findall(text.lower())
        return words + [" ".join(pair) for pair in pairwise(words)] if self.config.pairs else words
