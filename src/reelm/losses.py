"""Losses as pure functions of tensors. No modules, no state, one equation each.

Every loss takes an optional `weight` per row and is then the weighted mean. Those that set many
items against each row work tile by tile and find the gradient together with the loss, so that the
logits of all rows never lie in memory at once. Within torch.autocast their matrix products are
computed in its lower precision, all else in that of the states.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

TILE = 256  # rows of logits at once: beyond that a CPU falls out of its cache

NEVER = -1e9  # the logit of an item that is left out: finite, so that a row may have no other
RARE = 1e-30  # probabilities below are not read off a softmax, which may have rounded them to 0

Slopes = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of one tile: loss per row, its slope by the row's own logit, its slopes by the logits of the
others up to a factor per row, and that factor."""


def shared_softmax(
    states: Float[Tensor, "rows dim"],
    chosen: Float[Tensor, "rows dim"],
    drawn: Float[Tensor, "negatives dim"],
    items: tuple[Int[Tensor, "rows"], Int[Tensor, "negatives"]],
    log_chance: tuple[Float[Tensor, "rows"], Float[Tensor, "negatives"]] | None = None,
    weight: Float[Tensor, "rows"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of the chosen item against drawn ones that all rows share, by dot products with
    `states`; a drawn item that is a row's chosen one is left out there.

    Mean over rows, in nats; ln(1 + negatives) when all scores are equal.

    Args:
        items: the items whose vectors `chosen` and `drawn` are.
        log_chance: how likely each of these is drawn, as a logarithm, where the draw is uneven;
            it is taken off the logits, so that the loss estimates the whole softmax.

    Source: Jean et al. 2015, "On using very large target vocabulary", arXiv:1412.2007, section 3;
    of the correction: Bengio & Senecal 2008, "Adaptive importance sampling".
    """
    weight = _share(weight, states)
    return _Shared.apply(_softmax_slopes, states, chosen, drawn, items, log_chance, weight)


def shared_binary(
    states: Float[Tensor, "rows dim"],
    chosen: Float[Tensor, "rows dim"],
    drawn: Float[Tensor, "negatives dim"],
    items: tuple[Int[Tensor, "rows"], Int[Tensor, "negatives"]],
    power: float = 1.0,
    weight: Float[Tensor, "rows"] | None = None,
) -> Float[Tensor, ""]:
    """Logistic loss of the chosen item and of drawn ones that all rows share, over their number.

    Args:
        items: the items whose vectors `chosen` and `drawn` are.
        power: beta of gBCE, to which the likelihood of the chosen item is raised; see
            `calibrated_power`. 1 is the plain loss.

    Source: Petrov & Macdonald 2023, "gSASRec", arXiv:2308.07192, equation 9; there every place
    draws its own items.
    """

    def slopes(own: Tensor, others: Tensor) -> Slopes:
        size = others.shape[1] + 1
        loss = power * F.softplus(-own) + F.softplus(others).sum(1, dtype=own.dtype)
        by_own = power / size * (torch.sigmoid(own) - 1)
        return loss / size, by_own, others.sigmoid_(), torch.full_like(own, 1 / size)

    return _Shared.apply(slopes, states, chosen, drawn, items, None, _share(weight, states))


def calibrated_power(negatives: int, items: int, calibration: float) -> float:
    """beta of gBCE: alpha * (t * (1 - 1 / alpha) + 1 / alpha), alpha the share of items drawn.

    Args:
        calibration: t; at 0 the plain logistic loss, at 1 probabilities are not inflated by the
            items that were not drawn.
    """
    alpha = min(1.0, negatives / max(items - 1, 1))
    return alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)


def softmax(
    states: Float[Tensor, "rows dim"],
    items: Float[Tensor, "items dim"],
    target: Int[Tensor, "rows"],
    weight: Float[Tensor, "rows"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of the target among all items, whose logits are states @ items.T.

    Mean over rows, in nats.
    Cost: O(rows * items * dim) time, O(TILE * items) extra memory.
    """
    return _Whole.apply(states, items, target, _share(weight, states))


def binary(
    positive: Float[Tensor, "rows"],
    negative: Float[Tensor, "rows *negatives"],
    weight: Float[Tensor, "rows"] | None = None,
) -> Float[Tensor, ""]:
    """The chosen item is a 1, the drawn ones are 0: logistic losses added up, mean over rows, nats.

    2 ln 2 when all scores are zero and one item is drawn. Source: Kang & McAuley 2018, III.E.
    """
    loss = F.softplus(-positive) + F.softplus(negative).reshape(len(negative), -1).sum(1)
    return loss.mean() if weight is None else (loss * _share(weight, positive)).sum()


def bpr(
    positive: Float[Tensor, "rows"], negative: Float[Tensor, "rows negatives"]
) -> Float[Tensor, ""]:
    """-log sigmoid of what the chosen item's score exceeds each drawn one's by; mean, in nats.

    ln 2 when all scores are equal. Source: Rendle et al. 2009, arXiv:1205.2618, section 4.1.
    """
    return F.softplus(negative - positive[:, None]).mean()


def unpruned(
    loss: Float[Tensor, "rows"], share: float, leave_out: Literal["highest", "lowest"]
) -> Bool[Tensor, "rows"]:
    """The rows that stay when a share of them is left out: those of the highest losses, which
    noise is taken to have, or those of the lowest, which leaves the hard ones to be learned.

    The number left out is rounded to the nearest one.
    """
    out = min(round(share * len(loss)), len(loss))
    rows = loss.detach().topk(out, largest=leave_out == "highest", sorted=False).indices
    return torch.ones_like(loss, dtype=torch.bool).index_fill_(0, rows, value=False)


def restoration(
    told: Float[Tensor, "rows raw"], true: Float[Tensor, "rows raw"], gamma: float = 2.0
) -> Float[Tensor, ""]:
    """(1 - cosine) to the power of gamma, mean over rows; 0 without rows.

    Source: Hou et al. 2022, "GraphMAE", arXiv:2205.10803, equation 2.
    """
    if not len(told):
        return told.sum()
    apart = (1 - F.cosine_similarity(told, true, dim=1)).clamp(min=0)
    return apart.pow(gamma).mean()


def in_batch_softmax(
    one: Float[Tensor, "rows dim"],
    other: Float[Tensor, "rows dim"],
    names: Int[Tensor, "rows"],
    temperature: float,
) -> Float[Tensor, ""]:
    """`contrast` where rows of one name, the same thing twice, are not set against each other."""
    return contrast(one, other, names[:, None] == names, temperature)


def contrast(
    one: Float[Tensor, "rows dim"],
    other: Float[Tensor, "rows dim"],
    barred: Bool[Tensor, "rows rows"],
    temperature: float,
    log_chance: Float[Tensor, "rows"] | None = None,
) -> Float[Tensor, ""]:
    """Row i of `one` should be nearest to row i of `other`, not to other rows of it.

    Both are scaled to unit length here. Mean over rows of one direction, in nats; ln(rows) when all
    look alike.

    Args:
        barred: rows of `other` that a row of `one` is not set against; its own is never barred.
        log_chance: how likely each row of `other` is in a batch, as a logarithm; it is taken off
            the logits, so that what is common is not pushed away for being met often.

    Source: van den Oord et al. 2018, arXiv:1807.03748, equation 4.
    """
    one, other = F.normalize(one, dim=1), F.normalize(other, dim=1)
    logits = one @ other.T / temperature
    if log_chance is not None:
        logits = logits - log_chance
    barred = barred.clone().fill_diagonal_(False)
    same = torch.arange(len(one), device=one.device)
    return F.cross_entropy(logits.masked_fill(barred, NEVER), same)


def list_distillation(
    teacher: Float[Tensor, "rows candidates"],
    student: Float[Tensor, "rows candidates"],
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """T² KL(softmax(teacher / T) || softmax(student / T)); mean over rows, in nats.

    0 when both rank by the same differences of scores, and then its gradient is 0 too.
    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.
    """
    told, said = _log_chances(teacher, temperature), _log_chances(student, temperature)
    return temperature**2 * _kl(told, said).mean()


def decoupled_distillation(
    teacher: Float[Tensor, "rows candidates"],
    student: Float[Tensor, "rows candidates"],
    temperature: float = 1.0,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> Float[Tensor, ""]:
    """`list_distillation` in two parts, the chosen item being in column 0; mean over rows, nats.

    T² (alpha KL(chosen or not) + beta KL(among those not chosen)). A row whose beta is the
    teacher's chance of those not chosen, with alpha 1, gives `list_distillation`.
    Source: Zhao et al. 2022, "Decoupled Knowledge Distillation", arXiv:2203.08679, equation 7.
    """
    told, said = _log_chances(teacher, temperature), _log_chances(student, temperature)
    target = _kl(_own_or_not(told), _own_or_not(said))
    rest = _kl(told[:, 1:].log_softmax(1), said[:, 1:].log_softmax(1))
    return temperature**2 * (alpha * target + beta * rest).mean()


def alignment(
    one: Float[Tensor, "rows dim"], other: Float[Tensor, "rows dim"]
) -> Float[Tensor, ""]:
    """Squared distance of the cosine of each pair of rows from 1; mean over rows, 0 to 4."""
    return (1 - F.cosine_similarity(one, other, dim=1)).square().mean()


def _log_chances(scores: Tensor, temperature: float) -> Tensor:
    return (scores / temperature).log_softmax(1)


def _own_or_not(log_chances: Float[Tensor, "rows candidates"]) -> Float[Tensor, "rows 2"]:
    """Log chances of column 0 and of all others together."""
    return torch.stack([log_chances[:, 0], log_chances[:, 1:].logsumexp(1)], dim=1)


def _kl(told: Tensor, said: Tensor) -> Float[Tensor, "rows"]:
    """KL of two rows of log chances."""
    return F.kl_div(said, told, reduction="none", log_target=True).sum(1)


def _share(weight: Tensor | None, states: Tensor) -> Tensor:
    """What each row counts, adding up to 1."""
    if weight is None:
        return states.new_full((len(states),), 1 / max(len(states), 1))
    return weight / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)  # all may be 0


def _softmax_slopes(own: Tensor, others: Tensor) -> Slopes:
    share = others.softmax(1)
    total = others.amax(1).to(own.dtype) - share.amax(1).to(own.dtype).log()  # = logsumexp
    whole = torch.logaddexp(total, own)
    return whole - own, (own - whole).exp_() - 1, share, (total - whole).exp_()


def _low(*tensors: Tensor) -> list[Tensor]:
    """The same in the precision of products: autocast's where it is on."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return list(tensors)
    return [t.to(torch.get_autocast_dtype(kind)) for t in tensors]


class _Shared(torch.autograd.Function):
    """A loss over own and shared logits whose backward pass was done in the forward pass."""

    @staticmethod
    def forward(  # noqa: PLR0913 - autograd wants every tensor as an argument of its own
        ctx: Any,
        slopes: Callable[[Tensor, Tensor], Slopes],
        states: Tensor,
        chosen: Tensor,
        drawn: Tensor,
        items: tuple[Tensor, Tensor],
        log_chance: tuple[Tensor, Tensor] | None,
        weight: Tensor,
    ) -> Tensor:
        total = states.new_zeros(())
        to_states, to_chosen = torch.empty_like(states), torch.empty_like(chosen)
        to_drawn = torch.zeros_like(drawn)
        low_states, low_drawn = _low(states, drawn)
        for at in range(0, len(states), TILE):
            tile = slice(at, at + TILE)
            rows, own, share = states[tile], chosen[tile], weight[tile]
            logit = (rows * own).sum(1)
            others = low_states[tile] @ low_drawn.T
            if log_chance is not None:
                logit = logit - log_chance[0][tile]
                others = others.to(states.dtype) - log_chance[1]
            others.masked_fill_(items[0][tile, None] == items[1], NEVER)
            loss, by_own, by_others, factor = slopes(logit, others)
            total += (loss * share).sum()
            by_own, factor = (by_own * share)[:, None], (factor * share)[:, None]
            (by_others,) = _low(by_others)
            by_rows = (by_others @ low_drawn).to(own.dtype)
            to_states[tile] = by_rows.mul_(factor).addcmul_(by_own, own)
            to_chosen[tile] = by_own * rows
            to_drawn += by_others.T @ (low_states[tile] * factor).to(by_others.dtype)
        ctx.save_for_backward(to_states, to_chosen, to_drawn)
        return total

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(above[0] * slope for slope in ctx.saved_tensors), None, None, None


class _Whole(torch.autograd.Function):
    """Softmax cross-entropy whose backward pass was already done in the forward pass."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        total = states.new_zeros(())
        to_states, to_items = torch.empty_like(states), torch.zeros_like(items)
        low_states, low_items = _low(states, items)
        for at in range(0, len(states), TILE):
            tile = slice(at, at + TILE)
            rows, goal, share = low_states[tile], target[tile, None], weight[tile, None]
            logits = rows @ low_items.T
            slope = logits.softmax(1)
            chance = slope.gather(1, goal).to(states.dtype)
            loss = -chance.log()
            if bool((chance < RARE).any()):
                loss = logits.to(states.dtype).logsumexp(1, keepdim=True) - logits.gather(1, goal)
            total += (loss * share).sum()
            slope.scatter_add_(1, goal, slope.new_full(goal.shape, -1.0))
            to_states[tile] = (slope @ low_items) * share
            to_items += slope.T @ (rows * share).to(rows.dtype)
        ctx.save_for_backward(to_states, to_items)
        return total

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        return *(above[0] * slope for slope in ctx.saved_tensors), None, None
