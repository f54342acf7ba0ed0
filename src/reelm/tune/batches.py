"""Rows of tokens as tensors, with the tokens that are learned as targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

IGNORED = -100
"""Target of a token that is read and not learned."""


@dataclass(frozen=True)
class Batch:
    """Token ids, the learned tokens as targets (others IGNORED), and which ids are not padding."""

    ids: Int[Tensor, "batch length"]
    target: Int[Tensor, "batch length"]
    real: Int[Tensor, "batch length"]


def padded(rows: Sequence[tuple[list[int], list[int]]], padding: int) -> Batch:
    """Stack (ids, targets) of rows, padded on the right."""
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), length), padding)
    target = torch.full((len(rows), length), IGNORED)
    real = torch.zeros(len(rows), length, dtype=torch.long)
    for row, (tokens, learned) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        target[row, : len(tokens)] = torch.tensor(learned)
        real[row, : len(tokens)] = 1
    return Batch(ids, target, real)
