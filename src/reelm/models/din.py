"""DIN: what a user liked counts as far as it has to do with the video that is rated.

Source: Zhou et al. 2018, "Deep Interest Network for Click-Through Rate Prediction",
arXiv:1706.06978, section 4.3.
Departures:
- the activation unit reads both items and their product element by element; the paper's has their
  outer product, its code also their difference, which a linear layer makes of the two;
- PReLU in place of Dice, whose batch statistics would make a user's score depend on the batch;
- no learned vector of the user, and no mini-batch aware decay; AdamW's own is used.
"""

import torch
from jaxtyping import Float, Int
from pydantic import PositiveInt
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.models.blocks.fields import ItemFields, UserFields, mlp
from reelm.models.pointwise import Pointwise, PointwiseConfig


class DINConfig(PointwiseConfig):
    """Section [model] of a din run."""

    unit: PositiveInt = 36
    """Width of the activation unit's hidden layer; the paper has 36."""


class ActivationUnit(nn.Module):
    """How much each item of a history counts for each candidate; not normalised, as in the paper,
    so that a user who liked much of a kind is told from one who liked little."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.of_history = nn.Linear(width, hidden)
        self.of_candidate = nn.Linear(width, hidden, bias=False)
        self.of_both = nn.Linear(width, hidden, bias=False)
        self.act = nn.PReLU()
        self.weight = nn.Linear(hidden, 1)

    def forward(
        self,
        shown: Float[Tensor, "batch length width"],
        rated: Float[Tensor, "batch candidates width"],
    ) -> Float[Tensor, "batch candidates length"]:
        """Weights, those of padding included."""
        both = self.of_both(shown[:, None] * rated[:, :, None])
        x = both + self.of_history(shown)[:, None] + self.of_candidate(rated)[:, :, None]
        return self.weight(self.act(x))[..., 0]


class DIN(Pointwise):
    """Target attention over the history, then a network over all fields."""

    Config = DINConfig

    def __init__(self, config: DINConfig, data: Dataset, more: int = 0) -> None:
        """`more` is the width of further fields that `rate` will be given."""
        super().__init__(config, data)
        self.items = ItemFields(data, config.features, config.dim, "din")
        self.users = UserFields(data, config.profiles, config.dim, "din")
        self.unit = ActivationUnit(self.items.width, config.unit)
        width = 3 * self.items.width + self.users.width + more
        self.network = mlp((width, *config.hidden), config.dropout)
        self.out = nn.Linear(([width, *config.hidden])[-1], 1)

    def rate(
        self,
        user: Int[Tensor, "batch"],
        history: Int[Tensor, "batch length"],
        candidates: Int[Tensor, "batch candidates"],
        more: Float[Tensor, "batch candidates width"] | None = None,
    ) -> Float[Tensor, "batch candidates"]:
        """Logits; `more` are further fields of each place, if it was built for some."""
        shown, rated = self.items(history), self.items(candidates)
        weight = self.unit(shown, rated) * (history != 0)[:, None]
        liked = weight @ shown
        about = self.users(user)[:, None].expand(-1, candidates.shape[1], -1)
        fields = [rated, liked, rated * liked, about, *([] if more is None else [more])]
        return self.out(self.network(torch.cat(fields, dim=2)))[..., 0]
