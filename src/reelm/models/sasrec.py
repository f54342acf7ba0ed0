"""SASRec: causal self-attention over a user's history predicts the next item.

Source: Kang & McAuley 2018, "Self-Attentive Sequential Recommendation", arXiv:1808.09781.
Departures:
- an item's vector may come from frozen features of the video, through a small network, instead of
  or besides a learned vector per item (`items`); the paper has learned vectors only;
- softmax over the chosen item and 256 drawn ones that a batch shares; the paper's one drawn item
  per place is `objective = "binary"`;
- layers normalise their input and add what they got (pre-norm, GELU); the paper adds the
  normalised query and uses ReLU;
- no dropout on attention weights; embeddings are not multiplied by sqrt(dim);
- places are counted from the newest item, so that a short history reads like the end of a long
  one.
"""

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from reelm import losses
from reelm.config import Config
from reelm.data.batches import SequenceBatch, sequences
from reelm.data.dataset import Dataset
from reelm.models.base import Retriever

LENGTH = 8.0  # mean length of standardised feature vectors


class SASRecConfig(Config):
    """Section [model] of a sasrec run; the paper's dim is 50 and its length 50, 200 on ML-1M."""

    items: Literal["id", "content", "both"] = "id"
    """What an item's vector is made of: a learned vector per item, its features, or their sum."""
    features: tuple[str, ...] = ("text",)
    """Feature tables that are read when `items` is content or both; side by side if several."""
    dim: PositiveInt = 64
    """Width of item vectors and hidden states."""
    layers: PositiveInt = 2
    """Blocks of attention and feed-forward network."""
    heads: PositiveInt = 2
    """Attention heads; must divide `dim`. The paper has 1."""
    feedforward: PositiveInt = 128
    """Width inside the feed-forward networks; the paper's is `dim`."""
    max_length: PositiveInt = 50
    """Newest items of a history that are read; older ones are cut."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of activations set to zero while training; the paper has 0.5 on sparse data."""
    id_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of items whose learned vector is left out of a step, so that the features must do
    without it as they will for a new video. Only with `items = "both"`."""
    objective: Literal["sampled", "softmax", "binary"] = "sampled"
    """sampled: softmax against `negatives` drawn items; softmax: against all items that training
    has seen; binary: logistic loss against one drawn item per place, as in the paper."""
    negatives: PositiveInt = 256
    """Items drawn per batch (sampled). Where training saw no more than these, all are used."""

    @model_validator(mode="after")
    def _fits(self) -> "SASRecConfig":
        if self.dim % self.heads:
            raise ValueError(f"heads = {self.heads} does not divide dim = {self.dim}")
        if self.items != "id" and not self.features:
            raise ValueError(f"items = {self.items!r} needs at least one name in features")
        return self


class Dropout(nn.Module):
    """Dropout with one random byte per number, on a CPU four times as quick as torch's own.

    The share is rounded to a 256th.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped = round(256 * share)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.training or not self.dropped:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        drawn = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()].view(x.shape)
        kept = (drawn >= self.dropped).to(x.dtype)
        return x * kept.mul_(256 / (256 - self.dropped))


class Block(nn.Module):
    """Causal attention, then a feed-forward network; each adds to what it was given."""

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        """Item t sees items 0..t; padding must stand after the last item."""
        x = x + self.dropout(self.out(self._attend(self.norm_attention(x))))
        wide = F.gelu(self.wide(self.norm_forward(x)))
        return x + self.dropout(self.narrow(wide))

    def _attend(self, x: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        heads = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).transpose(1, 3)
        query, key, value = heads.unbind(2)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed.transpose(1, 2).flatten(2)


class ContentProjector(nn.Module):
    """Frozen features and the small network that turns them into item vectors."""

    def __init__(self, table: Float[Tensor, "items raw"], dim: int) -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.table: Tensor
        self.network = nn.Sequential(
            nn.Linear(table.shape[1], 2 * dim), nn.GELU(), Dropout(0.2), nn.Linear(2 * dim, dim)
        )

    def forward(self, rows: Int[Tensor, "rows"]) -> Float[Tensor, "rows dim"]:
        """Vectors of these items."""
        return self.network(self.table[rows])


class SASRec(Retriever):
    """Item vectors and places, causal blocks, dot product with the item vectors."""

    Config = SASRecConfig

    def __init__(self, config: SASRecConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.config = config
        self.id = None if config.items == "content" else nn.Embedding(len(data.items), config.dim)
        if self.id is not None:
            nn.init.normal_(self.id.weight, std=0.02)
        self.content = None if config.items == "id" else _projector(config, data)
        self.place = nn.Embedding(config.max_length, config.dim)
        nn.init.normal_(self.place.weight, std=0.02)
        shape = (config.dim, config.heads, config.feedforward, config.dropout)
        self.blocks = nn.ModuleList(Block(*shape) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)
        self._vectors: Tensor | None = None  # of all items, while the weights stay as they are
        self.register_load_state_dict_post_hook(lambda model, keys: model._forget())

    @classmethod
    def needs(cls, config: SASRecConfig) -> tuple[str, ...]:
        return () if config.items == "id" else tuple(f"features.{n}" for n in config.features)

    def batches(self, data: Dataset, size: int, rng: torch.Generator) -> Iterator[SequenceBatch]:
        return sequences(data, size, self.config.max_length, rng)

    def loss(self, batch: SequenceBatch) -> dict[str, Float[Tensor, ""]]:
        history, real = _left(batch.history)
        target = batch.next_item[batch.history != 0]
        seen = self.seen.nonzero()[:, 0]
        drawn = self._drawn(seen, len(target))
        vectors = self._look_up(torch.cat([history.flatten(), target, drawn]))
        shown, wanted, others = vectors.split([history.numel(), len(target), len(drawn)])
        states = self._states(shown.view(*history.shape, -1), real)[real]
        if self.config.objective == "softmax":
            return {"softmax": losses.softmax(states, others, torch.searchsorted(seen, target))}
        if self.config.objective == "binary":
            positive, negative = (states * wanted).sum(1), (states * others).sum(1)
            return {"binary": losses.binary(positive, negative)}
        items = (target, drawn)
        return {"sampled": losses.shared_softmax(states, wanted, others, items)}

    def score(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch items"]:
        vectors = self.item_vectors()
        history, real = _left(history[:, -self.config.max_length :])
        states = self._states(vectors[history], real)
        newest = (real.sum(1) - 1).clamp(min=0)
        return states[torch.arange(len(states), device=states.device), newest] @ vectors.T

    def item_vectors(self) -> Float[Tensor, "items dim"]:
        if self.training or torch.is_grad_enabled():
            return self._look_up(None)
        if self._vectors is None:
            self._vectors = self._look_up(None)
        return self._vectors

    def train(self, mode: bool = True) -> "SASRec":
        """Also forgets the item vectors that were kept while the weights stood still."""
        self._forget()
        return super().train(mode)

    def _drawn(self, seen: Int[Tensor, "seen"], places: int) -> Int[Tensor, "drawn"]:
        """Items to set against the chosen ones, each known to training."""
        count = places if self.config.objective == "binary" else self.config.negatives
        every = self.config.objective == "sampled" and count >= len(seen)
        if every or self.config.objective == "softmax":
            return seen
        return seen[torch.randint(len(seen), (count,), device=seen.device)]

    def _look_up(self, rows: Int[Tensor, "rows"] | None) -> Float[Tensor, "rows dim"]:
        """Vectors of these items, or of all; features are projected once per distinct item."""
        if self.content is None:
            assert self.id is not None
            return self.id.weight if rows is None else self.id(rows)
        if rows is None:
            return self._mixed(torch.arange(len(self.counts), device=self.counts.device))
        distinct, place = rows.unique(return_inverse=True)
        return self._mixed(distinct)[place]

    def _mixed(self, rows: Int[Tensor, "rows"]) -> Float[Tensor, "rows dim"]:
        """Features plus, where there is one to be trusted, the learned vector.

        While training, some items must do without theirs; afterwards those that training never
        saw, whose learned vector is still its random start.
        """
        assert self.content is not None
        vectors = self.content(rows)
        if self.id is None:
            return vectors
        if self.training:
            trusted = torch.rand(len(rows), device=rows.device) >= self.config.id_dropout
        else:
            trusted = self.seen[rows]
        return vectors + self.id(rows) * trusted[:, None]

    def _states(
        self, x: Float[Tensor, "batch length dim"], real: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length dim"]:
        """One hidden state per item; items first, padding after them, so that a causal mask is
        all it takes."""
        place = torch.arange(x.shape[1], device=x.device) - real.sum(1, keepdim=True)
        x = self.dropout(x + self.place((place + self.config.max_length).clamp(max=self._last)))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    @property
    def _last(self) -> int:
        return self.config.max_length - 1

    def _forget(self) -> None:
        self._vectors = None


def _left(
    history: Int[Tensor, "batch length"],
) -> tuple[Int[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
    """Histories pushed to the left, padding after them; and where an item is."""
    length = history.shape[1]
    place = torch.arange(length, device=history.device)
    size = (history != 0).sum(1, keepdim=True)
    pushed = history.gather(1, (place + length - size).clamp(max=length - 1))
    real = place < size
    return pushed * real, real


def _projector(config: SASRecConfig, data: Dataset) -> ContentProjector:
    tables, has = [], []
    for name in config.features:
        tables.append(data.feature(name, "sasrec"))
        has.append(torch.from_numpy(data.has_feature[name]))
    table = torch.cat([_standardised(t, h) for t, h in zip(tables, has, strict=True)], dim=1)
    return ContentProjector(table, config.dim)


def _standardised(
    table: Float[Tensor, "items raw"], has: Bool[Tensor, "items"]
) -> Float[Tensor, "items raw"]:
    """Each column with mean 0 and deviation 1 over the videos that have the feature, then all
    scaled to a mean length of 8; other videos stay zero."""
    if not has.any():
        return torch.zeros_like(table)
    known = table[has]
    known = (known - known.mean(0)) / (known.std(0, correction=0) + 1e-6)
    known = known * (LENGTH / known.norm(dim=1).mean().clamp(min=1e-6))
    return torch.zeros_like(table).index_put((has.nonzero()[:, 0],), known)
