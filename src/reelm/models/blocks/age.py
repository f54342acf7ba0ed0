"""What an item's age is worth: how often items are chosen so long after they came."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.errors import BadData

NOT_YET = -12.0  # worth of an item that had not come: exp(-12) of a chance, yet a finite number


class AgeWorth(nn.Module):
    """A number per age, counted in spells of the log and added to the score of every user.

    The log is cut into spells with as many interactions each; an item came when it was uploaded
    or, where nobody says, when it was first chosen. What its age is worth starts as the logarithm
    of how much more often items of that age were chosen than chance has it, and is learned.

    To a model that compares by dot product it is a few columns more: the state at a place of the
    log has a 1 in the column of its spell, and an item has in each column the worth of the age
    that it was then.

    Raises:
        BadData: an interaction without a time.
    """

    def __init__(self, data: Dataset, spells: int) -> None:
        super().__init__()
        if np.isnan(data.time).any():
            raise BadData(
                "model.ages needs the time of every interaction, and this log lacks some. "
                "Set model.ages = 0, or give the log a timestamp in every row."
            )
        self.spells = spells
        share = np.arange(1, spells) / spells
        ends = np.quantile(data.time, share) if len(data) else np.zeros(spells - 1)
        came = np.searchsorted(ends, _came(data), side="right")
        self.register_buffer("ends", torch.from_numpy(ends))
        self.register_buffer("came", torch.from_numpy(came))
        self.ends: Tensor
        self.came: Tensor
        self.worth = nn.Parameter(torch.from_numpy(_counted(data, ends, came)).float())

    def places(self, when: Float64[Tensor, "rows"]) -> Float[Tensor, "rows spells"]:
        """The columns of states at these moments, seconds since 1970."""
        spell = torch.bucketize(when, self.ends, right=True)
        return nn.functional.one_hot(spell, self.spells).to(self.worth.dtype)

    def items(self, rows: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows spells"]:
        """The columns of these items."""
        spell = torch.arange(self.spells, device=self.came.device)
        age = spell - self.came[rows][..., None]
        return torch.where(age >= 0, self.worth[age.clamp(min=0)], NOT_YET)

    def today(self, seen: Bool[Tensor, "items"]) -> Float[Tensor, "items"]:
        """What every item's age is worth at the end of the log.

        An item that was never seen will be shown for a while, and grow older meanwhile; it counts
        at the best age that it has before it.
        """
        age = self.spells - 1 - self.came
        best = self.worth.flip(0).cummax(0).values.flip(0)
        return torch.where(seen, self.worth[age], best[age])


def _came(data: Dataset) -> Float64[np.ndarray, "items"]:
    """When each item was uploaded or first chosen, whichever was first; infinity if unknown."""
    first = np.full(len(data.items), np.inf)
    np.minimum.at(first, data.item, data.time)
    return first if data.uploaded is None else np.fmin(first, data.uploaded)


def _counted(
    data: Dataset, ends: Float64[np.ndarray, "ends"], came: Int64[np.ndarray, "items"]
) -> Float64[np.ndarray, "ages"]:
    """Per age the logarithm of (chosen + 1) / (expected + 1), where of the items there in a spell,
    each is expected to be chosen as often as any other."""
    spells = len(ends) + 1
    now = np.searchsorted(ends, data.time, side="right")
    age = np.maximum(now - came[data.item], 0)
    chosen = np.bincount(age, minlength=spells)
    born = np.bincount(came[data.counts > 0], minlength=spells)
    per_item = np.bincount(now, minlength=spells) / np.maximum(born.cumsum(), 1)
    expected = [per_item[old:] @ born[: spells - old] for old in range(spells)]
    return np.log(chosen + 1) - np.log(np.array(expected) + 1)
