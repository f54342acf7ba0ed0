"""The optimiser of all tuning stages: Muon for hidden matrices, AdamW for the rest."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

Report = Callable[[int, float], None]
"""Told of each update: its number and its loss."""

WARM_UP = 0.04  # share of the steps


def schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate in a step, from 0 on, of `steps`: warm up, then cosine. The
    first is warmed up by its own share, as a rate of 0 would be a step for nothing."""
    done = (step + 1) / steps
    falling = 0.5 * (1 + math.cos(math.pi * done))
    return min(1.0, done / WARM_UP) * (0.97 * falling + 0.03)


class Optimiser:
    """Muon with twice the learning rate on matrices inside the blocks, AdamW on everything else.

    Source: Jordan 2024, "Muon: an optimizer for hidden layers in neural networks", with AdamW's
    update size (torch.optim.Muon, adjust_lr_fn="match_rms_adamw").
    """

    def __init__(self, modules: Iterable[nn.Module], learning_rate: float) -> None:
        hidden: list[nn.Parameter] = []
        other: list[nn.Parameter] = []
        for module in modules:
            for name, weight in module.named_parameters():
                if weight.requires_grad:
                    (hidden if _is_hidden(name, weight) else other).append(weight)
        self.weights = hidden + other
        self.parts: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.AdamW(other, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0), 1.0)
        ]
        if hidden:
            muon = torch.optim.Muon(
                hidden, lr=learning_rate, weight_decay=0.03, momentum=0.95,
                adjust_lr_fn="match_rms_adamw", ns_steps=4,
            )  # fmt: skip
            self.parts.append((muon, 2.0))
        self.learning_rate = learning_rate

    def step(self, loss: torch.Tensor, step: int, steps: int) -> None:
        """Back-propagate and update; this is step `step`, from 0 on, of a stage of `steps`."""
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        for part, scale in self.parts:
            for group in part.param_groups:
                group["lr"] = self.learning_rate * scale * schedule(step, steps)
            part.step()
            part.zero_grad(set_to_none=True)


def _is_hidden(name: str, weight: nn.Parameter) -> bool:
    inside = "embed" not in name and "lm_head" not in name
    return weight.ndim == 2 and inside and min(weight.shape) > 16
