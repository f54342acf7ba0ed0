"""Frozen feature tables that a model reads, of which any may be missing for any video."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.errors import BadData
from reelm.models.blocks.items import scaled, standardised


class FeatureTables(nn.Module):
    """Some tables, each standardised; a video without one has zeros there: it is the mean video.

    Dropout leaves whole rows out while training, each table's on its own, so that what is made of
    the others must do without: videos without sound, title or cover are then nothing new.
    """

    def __init__(
        self, data: Dataset, names: Sequence[str], needed_by: str, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.widths = []
        for number, name in enumerate(names):
            table = standardised(data, name, needed_by)
            self.register_buffer(f"table_{number}", table)
            self.widths.append(table.shape[1])

    def __len__(self) -> int:
        return len(self.widths)

    def table(self, number: int) -> Float[Tensor, "items raw"]:
        """One table, in the order of the names."""
        whole = self.whole[number]
        if not self.training or not self.dropout:
            return whole
        return whole * (torch.rand(len(whole), 1, device=whole.device) >= self.dropout)

    def tables(self) -> list[Float[Tensor, "items raw"]]:
        """All of them."""
        return [self.table(number) for number in range(len(self))]

    @property
    def whole(self) -> list[Float[Tensor, "items raw"]]:
        """All of them as they are, whether or not training goes on."""
        return [self.get_buffer(f"table_{number}") for number in range(len(self))]

    @property
    def known(self) -> Bool[Tensor, "items"]:
        """Items that have any."""
        return torch.stack([(table != 0).any(1) for table in self.whole]).any(0)


def profile(data: Dataset, name: str, needed_by: str) -> Float[Tensor, "users raw"]:
    """A table of users' vectors, standardised over those who have one.

    Raises:
        MissingInput: the dataset has none of this name.
    """
    table = data.profile(name, needed_by)
    return scaled(table, (table != 0).any(1))


def first_read(data: Dataset, names: Sequence[str], needed_by: str) -> Int64[np.ndarray, "users"]:
    """How many of each user's first interactions any of these profiles was made from; all of them
    where nobody noted it. What a model learns from must lie behind them, or the answers may stand
    in what it is told.

    Raises:
        BadData: nothing lies behind them.
    """
    whole = np.diff(data.offsets)
    most = np.max([data.profiles_read.get(name, whole) for name in names], axis=0)
    if (most >= whole).all():
        raise BadData(
            f"{needed_by}: profiles {', '.join(names)} may have been made from all interactions of "
            "training, so that the answers stand in them and nothing is left to learn from. Make "
            "them with `reelm annotate --set annotate.cut=0.5` and encode them again."
        )
    return most
