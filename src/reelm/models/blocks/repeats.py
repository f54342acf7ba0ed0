"""Histories in which each item counts once."""

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor


def without_repeats(history: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
    """The same with padding where an item stands further to the left too: who chose twice chose."""
    order = history.sort(dim=1, stable=True)
    again = F.pad(order.values[:, 1:] == order.values[:, :-1], (1, 0))
    repeated = torch.zeros_like(history, dtype=torch.bool).scatter_(1, order.indices, again)
    return history.masked_fill(repeated, 0)
