"""DCN-v2: products of fields of a bounded order, learned explicitly beside a deep network.

Source: Wang et al. 2021, "DCN V2", arXiv:2008.13535, equation 1, the parallel structure.
Departures: full matrices, no mixture of low-rank ones; the history is one more field, the mean of
the fields of what was liked; PReLU; AdamW.
"""

import torch
from jaxtyping import Float, Int
from pydantic import PositiveInt
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.models.blocks.fields import ItemFields, UserFields, mlp
from reelm.models.pointwise import Pointwise, PointwiseConfig


class DCNConfig(PointwiseConfig):
    """Section [model] of a dcn run."""

    layers: PositiveInt = 3
    """Cross layers; n of them make products of up to n + 1 fields."""


class DCN(Pointwise):
    """Cross layers and a deep network side by side over the same fields."""

    Config = DCNConfig

    def __init__(self, config: DCNConfig, data: Dataset, more: int = 0) -> None:
        """`more` is the width of further fields that `rate` will be given."""
        super().__init__(config, data)
        self.items = ItemFields(data, config.features, config.dim, "dcn")
        self.users = UserFields(data, config.profiles, config.dim, "dcn")
        width = 2 * self.items.width + self.users.width + more
        self.cross = nn.ModuleList(nn.Linear(width, width) for _ in range(config.layers))
        self.network = mlp((width, *config.hidden), config.dropout)
        self.out = nn.Linear(width + [width, *config.hidden][-1], 1)

    def rate(
        self,
        user: Int[Tensor, "batch"],
        history: Int[Tensor, "batch length"],
        candidates: Int[Tensor, "batch candidates"],
        more: Float[Tensor, "batch candidates width"] | None = None,
    ) -> Float[Tensor, "batch candidates"]:
        """Logits; `more` are further fields of each place, if it was built for some."""
        real = (history != 0)[..., None].float()
        liked = (self.items(history) * real).sum(1) / real.sum(1).clamp(min=1)
        about = torch.cat([liked, self.users(user)], dim=1)
        about = about[:, None].expand(-1, candidates.shape[1], -1)
        fields = [self.items(candidates), about, *([] if more is None else [more])]
        first = torch.cat(fields, dim=2)
        x = first
        for layer in self.cross:
            x = first * layer(x) + x
        return self.out(torch.cat([x, self.network(first)], dim=2))[..., 0]
