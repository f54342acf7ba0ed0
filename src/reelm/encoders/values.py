"""Noted values hashed to a fixed width, 1 where one is noted: no weights, no vocabulary to keep.

Source: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning",
arXiv:0902.2206, without its signs, so that a column can be counted.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32
from pydantic import PositiveInt

from reelm.encoders.base import Encoder, EncoderConfig

BETWEEN = "; "
"""What stands between two values of a line, as `encode.input = "values"` writes it."""


class ValuesConfig(EncoderConfig):
    """Section [encoder] for `values`."""

    dim: PositiveInt = 1024
    """Width of the vectors. Of 66 values two or so share a column, of 300 some forty."""


class Values(Encoder):
    """A column for each `field: value` of a line, whatever the order."""

    name: ClassVar[str] = "values"
    Config: ClassVar[type[EncoderConfig]] = ValuesConfig
    reads: ClassVar[Literal["text", "video"]] = "text"
    usual: ClassVar[str] = "values"

    def __init__(self, config: ValuesConfig | None = None) -> None:
        self.config = config or ValuesConfig()
        self.dim = self.config.dim

    def encode(self, inputs: Sequence[str]) -> Float32[np.ndarray, "inputs dim"]:
        vectors = np.zeros((len(inputs), self.dim), np.float32)
        for vector, line in zip(vectors, inputs, strict=True):
            for value in filter(None, line.lower().split(BETWEEN)):
                seen = hashlib.blake2b(value.encode(), digest_size=8).digest()
                vector[int.from_bytes(seen) % self.dim] = 1
        return vectors

    def identity(self) -> dict[str, Any]:
        return {"encoder": self.name, **self.config.model_dump()}
