"""Scores of all items as dot products."""

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 1024  # items; a block's vectors stay in a processor's cache while all states meet them


def dot(
    states: Float[Tensor, "batch dim"], table: Float[Tensor, "items dim"]
) -> Float[Tensor, "batch items"]:
    """`states @ table.T`, where nothing is learned in blocks of items.

    One wide product of few states reads and writes main memory all the time; on a processor the
    blocks take up to half as long. Where a gradient may be wanted it is the plain product.
    """
    if torch.is_grad_enabled() or states.device.type != "cpu" or len(table) <= BLOCK:
        return states @ table.T
    found = states.new_empty(len(states), len(table))
    for at in range(0, len(table), BLOCK):
        torch.mm(states, table[at : at + BLOCK].T, out=found[:, at : at + BLOCK])
    return found
