"""States of tokens, and how an item's vector is made of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.errors import ConfigError
from reelm.models.blocks.dropout import Dropout
from reelm.models.blocks.features import FeatureTables
from reelm.models.blocks.items import LENGTH

SAMPLE = 256  # items by which columns are standardised


class Additive(nn.Module):
    """One vector of several: their mean by weights that each gives itself; zero of none."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.key, self.query = nn.Linear(dim, dim), nn.Linear(dim, 1, bias=False)

    def forward(
        self, x: Float[Tensor, "rows tokens dim"], real: Bool[Tensor, "rows tokens"]
    ) -> Float[Tensor, "rows dim"]:
        """The mean over what is real."""
        score = self.query(torch.tanh(self.key(x)))[..., 0]
        weight = score.masked_fill(~real, -1e9).softmax(1) * real
        return (weight[:, None] @ x)[:, 0]


class Reader(nn.Module):
    """Reads what is kept of items: states, and features, which count as a state each."""

    def __init__(
        self,
        data: Dataset,
        states: tuple[str, int],
        features: Sequence[str],
        dim: int,
        dropout: float,
        top: nn.Module | None = None,
    ) -> None:
        """
        Args:
            states: name of the table, empty if none is read, and how many states a row has.
            top: what states go through first; takes `inputs_embeds` and is causal.

        Raises:
            MissingInput: the dataset was loaded without a table.
            ConfigError: a row is not so many states.
        """
        super().__init__()
        name, self.tokens = states
        self.top = top
        table = data.feature(name, "once") if name else None
        self.register_buffer("table", table, persistent=False)  # wide, and remade by its encoder
        self.table: Tensor | None
        if table is not None:
            width, rest = divmod(table.shape[1], self.tokens)
            if rest:
                raise ConfigError(
                    f"model.tokens: {name} is {table.shape[1]} wide, which is not {self.tokens} "
                    "states of one width. Set what its encoder was told (encoder.tokens)."
                )
            mean, deviation = self._usual(table)
            self.register_buffer("mean", mean)
            self.mean: Tensor
            self.register_buffer("deviation", deviation)
            self.deviation: Tensor
            self.project = nn.Linear(width, dim)
        self.tables = FeatureTables(data, features, "once")
        self.beside = nn.ModuleList(nn.Linear(raw, dim) for raw in self.tables.widths)
        most = self.tokens * bool(name) + len(features)
        self.dropout, self.attention = Dropout(dropout), Additive(dim) if most > 1 else None

    def forward(self, rows: Int[Tensor, "rows"]) -> Float[Tensor, "rows dim"]:
        """Vectors of these items; zero of those of which nothing is kept."""
        states, real = [], []
        if self.table is not None:
            found, there = self._read(self.table[rows])
            states, real = [found], [there]
        for project, table in zip(self.beside, self.tables.whole, strict=True):
            states.append(project(table[rows])[:, None])
            real.append((table[rows] != 0).any(1, keepdim=True))
        return self._gathered(torch.cat(states, 1), torch.cat(real, 1))

    def described(self, states: Float[Tensor, "rows raw"]) -> Float[Tensor, "rows dim"]:
        """Vectors of what is known by its states alone."""
        states, real = self._read(states)
        return self._gathered(states, real)

    def _gathered(
        self, x: Float[Tensor, "rows tokens dim"], real: Bool[Tensor, "rows tokens"]
    ) -> Float[Tensor, "rows dim"]:
        x = self.dropout(x)
        if self.attention is None:
            return (x * real[..., None])[:, 0]
        return self.attention(x, real)

    def _read(
        self, states: Float[Tensor, "rows raw"]
    ) -> tuple[Float[Tensor, "rows tokens dim"], Bool[Tensor, "rows tokens"]]:
        x = states.float().unflatten(1, (self.tokens, -1))
        real = (x != 0).any(2)
        longest = max(1, int(real.sum(1).max())) if len(real) else 1
        x, real = x[:, :longest], real[:, :longest]
        return self.projected(self._through(x)), real

    def projected(self, x: Float[Tensor, "rows tokens width"]) -> Float[Tensor, "rows tokens dim"]:
        """What is made of states that have gone through the whole language model."""
        return self.project((x - self.mean) / self.deviation)

    def _through(self, x: Float[Tensor, "rows tokens width"]) -> Float[Tensor, "rows tokens width"]:
        if self.top is None:
            return x
        # causal, and padding is on the right: no mask is needed
        return self.top(inputs_embeds=x, use_cache=False).last_hidden_state

    @torch.no_grad()
    def _usual(
        self, table: Float[Tensor, "items raw"]
    ) -> tuple[Float[Tensor, "width"], Float[Tensor, "width"]]:
        """What to take from each column and what to divide it by, so that over the states of some
        items it has mean 0 and one deviation, and the mean of an item's states the length that
        other features have. States have much in common, and a few columns a hundred times as large
        as the others; it is measured before anything is learned.
        """
        known = table[(table != 0).any(1)]
        some = known[torch.linspace(0, len(known) - 1, min(len(known), SAMPLE)).long()]
        x = some.float().unflatten(1, (self.tokens, -1))
        real = (x != 0).any(2)
        if not real.any():
            return x.new_zeros(x.shape[2]), x.new_ones(x.shape[2])
        x = self._through(x)
        mean, deviation = x[real].mean(0), x[real].std(0, correction=0) + 1e-6
        whole = (((x - mean) / deviation) * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        return mean, deviation * whole.norm(dim=1).mean().clamp(min=1e-6) / LENGTH


def nearest(
    states: Float[Tensor, "users raw"],
    table: Float[Tensor, "items raw"],
    seen: Bool[Tensor, "items"],
    tokens: int,
) -> Int[Tensor, "users"]:
    """The item of training whose mean state is most like each user's; 0 where he has none."""
    items, users = (_mean(some, tokens) for some in (table, states))
    like = users @ items.T
    like[:, ~seen | (items == 0).all(1)] = -torch.inf
    return like.argmax(1) * (users != 0).any(1)


def _mean(states: Float[Tensor, "rows raw"], tokens: int) -> Float[Tensor, "rows width"]:
    """Mean states less what all have in common, of length 1; zeros where there is none."""
    x = states.float().unflatten(1, (tokens, -1))
    real = (x != 0).any(2)
    mean = x.sum(1) / real.sum(1, keepdim=True).clamp(min=1)
    there = real.any(1, keepdim=True)
    common = mean.sum(0) / there.sum().clamp(min=1)
    return F.normalize((mean - common) * there, dim=1)


def must_fit(made: Mapping[str, Any], wanted: Mapping[str, Any], name: str) -> None:
    """See that a table was made as the settings of a model want it.

    Args:
        made: identity of the encoder.

    Raises:
        ConfigError: it was not.
    """
    other = [key for key, value in wanted.items() if made.get(key) != value]
    if other:
        was, now = ({key: of.get(key) for key in other} for of in (made, wanted))
        raise ConfigError(
            f"once: {name} was made with {was}, and the settings of the model want {now}. Encode "
            "again with --encoder states, or set top, tokens and language_model as they were."
        )
