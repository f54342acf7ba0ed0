"""Losses as pure functions of tensors. No modules, no state, one equation each."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

TILE = 256  # rows of logits at once: beyond that a CPU falls out of its cache


def sampled_softmax(
    positive: Float[Tensor, "rows"],
    negatives: Float[Tensor, "rows negatives"],
    same: Bool[Tensor, "rows negatives"],
) -> Float[Tensor, ""]:
    """Cross-entropy of the chosen item against drawn ones.

    Mean over rows, in nats; ln(1 + negatives) when all scores are equal.

    Args:
        same: a drawn item that is the chosen one of this row; it is left out there.

    Source: Jean et al. 2015, "On using very large target vocabulary", arXiv:1412.2007, section 3;
    with an even draw, whose correction is the same for all items and drops out.
    """
    logits = torch.cat([positive[:, None], negatives.masked_fill(same, -torch.inf)], dim=1)
    return (logits.logsumexp(1) - positive).mean()


def shared_softmax(
    states: Float[Tensor, "rows dim"],
    chosen: Float[Tensor, "rows dim"],
    drawn: Float[Tensor, "negatives dim"],
    items: tuple[Int[Tensor, "rows"], Int[Tensor, "negatives"]],
) -> Float[Tensor, ""]:
    """`sampled_softmax` of dot products with `states`, against drawn items that all rows share.

    The gradient is worked out tile by tile together with the loss, so that logits stay in cache.

    Args:
        items: the items whose vectors `chosen` and `drawn` are.
    """
    return _TiledSampled.apply(states, chosen, drawn, *items)


def softmax(
    states: Float[Tensor, "rows dim"],
    items: Float[Tensor, "items dim"],
    target: Int[Tensor, "rows"],
) -> Float[Tensor, ""]:
    """Cross-entropy of the target among all items, whose logits are states @ items.T.

    Mean over rows, in nats. The gradient is worked out tile by tile together with the loss, so
    the logits of all rows never lie in memory at once.
    Cost: O(rows * items * dim) time, O(TILE * items) extra memory.
    """
    return _TiledSoftmax.apply(states, items, target)


def binary(positive: Float[Tensor, "rows"], negative: Float[Tensor, "rows"]) -> Float[Tensor, ""]:
    """The chosen item is a 1, the drawn one a 0: mean over rows of both logistic losses, in nats.

    2 ln 2 when all scores are zero. Source: Kang & McAuley 2018, section III.E.
    """
    return (F.softplus(-positive) + F.softplus(negative)).mean()


class _TiledSoftmax(torch.autograd.Function):
    """Softmax cross-entropy whose backward pass was already done in the forward pass."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, target: Tensor) -> Tensor:
        total = states.new_zeros(())
        to_states, to_items = torch.empty_like(states), torch.zeros_like(items)
        for at in range(0, len(states), TILE):
            rows, goal = states[at : at + TILE], target[at : at + TILE, None]
            logits = rows @ items.T
            whole = logits.logsumexp(1, keepdim=True)
            total += (whole - logits.gather(1, goal)).sum()
            slope = logits.sub_(whole).exp_()
            slope.scatter_add_(1, goal, slope.new_full(goal.shape, -1.0))
            to_states[at : at + TILE] = slope @ items
            to_items += slope.T @ rows
        ctx.save_for_backward(to_states / len(states), to_items / len(states))
        return total / len(states)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, Tensor, None]:
        to_states, to_items = ctx.saved_tensors
        return above[0] * to_states, above[0] * to_items, None


class _TiledSampled(torch.autograd.Function):
    """Sampled softmax whose backward pass was already done in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, chosen: Tensor, drawn: Tensor, goal: Tensor, item: Tensor
    ) -> Tensor:
        total = states.new_zeros(())
        slopes = torch.empty_like(states), torch.empty_like(chosen), torch.zeros_like(drawn)
        shared = drawn.detach().requires_grad_()
        for at in range(0, len(states), TILE):
            tile = slice(at, at + TILE)
            with torch.enable_grad():
                rows, own = (t[tile].detach().requires_grad_() for t in (states, chosen))
                same = goal[tile, None] == item
                mean = sampled_softmax((rows * own).sum(1), rows @ shared.T, same)
                loss = mean * (len(rows) / len(states))
            slopes[0][tile], slopes[1][tile], part = torch.autograd.grad(loss, (rows, own, shared))
            slopes[2].add_(part)
            total += loss.detach()
        ctx.save_for_backward(*slopes)
        return total

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        return *(above[0] * slope for slope in ctx.saved_tensors), None, None
