"""The scan in plain torch, some places at a time.

Exponentials and products are taken for a whole chunk at once and only the sum runs place by
place. Each place's decay is used as it is, never a quotient of products, so that steps of any
length are exact. The backward pass starts from the state kept before each chunk and finds the
others again.
"""

import torch
from torch import Tensor

from reelm.models.blocks.scan.inputs import Scanned, Slopes


def forward(tensors: tuple[Tensor, ...], chunk: int) -> Scanned:
    """Outputs, last state, and the states [chunks, batch, channels, size] before each chunk.

    Cost: two tensors of chunk * batch * channels * size besides what is returned.
    """
    u, c, d, state = tensors[0], tensors[4], tensors[5], tensors[6]
    y, kept = u * d, []
    for at in range(0, u.shape[1], chunk):
        part = slice(at, at + chunk)
        kept.append(state)
        states = _states(tensors, state, part)[1]
        y[:, part] += (states @ c[:, part].transpose(0, 1)[..., None])[..., 0].transpose(0, 1)
        state = states[-1].clone()
    return Scanned(y, state, torch.stack(kept) if kept else state.new_empty((0, *state.shape)))


def backward(
    tensors: tuple[Tensor, ...], kept: Tensor, above: tuple[Tensor, Tensor], chunk: int
) -> Slopes:
    """Slopes by everything given; `above` are those by the outputs and by the last state."""
    u, dt, a, b, c, d, _, _ = tensors
    to_y, carry = above
    to_u, to_dt, to_a = to_y * d, torch.empty_like(dt), torch.zeros_like(a)
    to_b, to_c = torch.empty_like(b), torch.empty_like(c)
    for index in range(len(kept) - 1, -1, -1):
        part = slice(index * chunk, (index + 1) * chunk)
        x, step, by_y, enter, read = (t[:, part].transpose(0, 1) for t in (u, dt, to_y, b, c))
        decay, states = _states(tensors, kept[index], part)
        slope = by_y[..., None] * read[:, :, None]
        for q in range(len(slope) - 1, -1, -1):
            carry = slope[q].add_(carry) * decay[q]
        to_c[:, part] = (by_y[:, :, None] @ states)[:, :, 0].transpose(0, 1)
        to_b[:, part] = ((step * x)[:, :, None] @ slope)[:, :, 0].transpose(0, 1)
        by_drive = (slope @ enter[..., None])[..., 0]
        by_power = slope.mul_(decay)
        by_power[1:] *= states[:-1]
        by_power[0] *= kept[index]
        to_a += torch.einsum("qbcn,qbc->cn", by_power, step)
        to_dt[:, part] = (by_drive * x + (by_power * a).sum(-1)).transpose(0, 1)
        to_u[:, part] += (by_drive * step).transpose(0, 1)
    return to_u, to_dt, to_a, to_b, to_c, (to_y * u).sum((0, 1)), carry


def _states(tensors: tuple[Tensor, ...], state: Tensor, part: slice) -> tuple[Tensor, Tensor]:
    """Decays and states of the places of one chunk, both [places, batch, channels, size]."""
    u, dt, a, b, _, _, _, reset = tensors
    step = dt[:, part].transpose(0, 1)
    decay = (step[..., None] * a).exp_()
    decay.masked_fill_(reset[:, part].T[..., None, None], 0)
    states = (step * u[:, part].transpose(0, 1))[..., None] * b[:, part].transpose(0, 1)[:, :, None]
    for q in range(len(states)):
        state = states[q].addcmul_(decay[q], state)
    return decay, states
