"""The scan as a plain loop over places.

It defines what the other engines must give, which tests hold them to, and is the quickest way
to move a state on by a single place.
"""

import torch
from torch import Tensor

from reelm.models.blocks.scan.inputs import ScanInputs


def scan(given: ScanInputs) -> tuple[Tensor, Tensor]:
    """Outputs [batch, length, channels] and the last state [batch, channels, size].

    Cost: with gradients, three tensors of batch * channels * size per place.
    """
    u, dt, a, b, c, d, state, reset = given.precise().tensors()
    out = []
    for t in range(u.shape[1]):
        decay = torch.exp(dt[:, t, :, None] * a).masked_fill(reset[:, t, None, None], 0)
        state = decay * state + (dt[:, t] * u[:, t])[:, :, None] * b[:, t, None]
        out.append((state @ c[:, t, :, None])[..., 0] + d * u[:, t])
    return torch.stack(out, 1) if out else u * d, state
