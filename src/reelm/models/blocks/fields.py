"""Fields: what a model that rates single places reads of an item and of a user, side by side."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.models.blocks.dropout import Dropout
from reelm.models.blocks.features import FeatureTables, profile
from reelm.models.blocks.items import START


class ItemFields(nn.Module):
    """A learned vector per item, and one made of each frozen table; all are `dim` wide.

    The learned vector of an item that training never met counts as zero: it learned nothing.
    """

    def __init__(self, data: Dataset, features: Sequence[str], dim: int, needed_by: str) -> None:
        super().__init__()
        met = data.counts.copy()
        if data.exposures is not None:
            met += np.bincount(data.exposures.item, minlength=len(met))
        self.register_buffer("met", torch.from_numpy(met > 0))
        self.met: Tensor
        self.id = nn.Embedding(len(data.items), dim)
        nn.init.normal_(self.id.weight, std=START)
        self.tables = FeatureTables(data, features, needed_by)
        self.project = nn.ModuleList(nn.Linear(raw, dim) for raw in self.tables.widths)
        self.width = dim * (1 + len(features))

    def forward(self, rows: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows width"]:
        """Fields of these items; each distinct one is projected once."""
        some, place = rows.unique(return_inverse=True)
        fields = [self.id(some) * self.met[some, None]]
        for project, table in zip(self.project, self.tables.whole, strict=True):
            fields.append(project(table[some]))
        return torch.cat(fields, dim=1)[place]


class UserFields(nn.Module):
    """A vector made of each frozen table of users; nothing is learned by user row, so that a user
    is known by what he did and by what was said of him."""

    def __init__(self, data: Dataset, profiles: Sequence[str], dim: int, needed_by: str) -> None:
        super().__init__()
        self.project = nn.ModuleList()
        for number, name in enumerate(profiles):
            table = profile(data, name, needed_by)
            self.register_buffer(f"table_{number}", table)
            self.project.append(nn.Linear(table.shape[1], dim))
        self.width = dim * len(profiles)

    def forward(self, rows: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows width"]:
        """Fields of these users; of width 0 where no table is read. Row -1 is a stranger, of whom
        nothing was said."""
        known = (rows >= 0)[..., None]
        fields = [
            project(self.get_buffer(f"table_{number}")[rows.clamp(min=0)] * known)
            for number, project in enumerate(self.project)
        ]
        if not fields:
            return torch.zeros(*rows.shape, 0, device=rows.device)
        return torch.cat(fields, dim=-1)


def mlp(widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear layers of these widths, PReLU and dropout after each."""
    layers = [
        nn.Sequential(nn.Linear(a, b), nn.PReLU(), Dropout(dropout)) for a, b in pairwise(widths)
    ]
    return nn.Sequential(*layers)
