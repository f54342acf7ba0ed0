"""SASRec: causal self-attention over a user's history predicts the next item.

Source: Kang & McAuley 2018, "Self-Attentive Sequential Recommendation", arXiv:1808.09781; gBCE from
Petrov & Macdonald 2023 (gSASRec), arXiv:2308.07192; gated blocks from Borisyuk et al. 2025 (LiGR),
arXiv:2502.03417, as in eSASRec (Tikhonovich et al. 2025), arXiv:2508.06450.
Departures:
- an item's vector may come from frozen features of the video, through a small network, instead of
  or besides a learned vector per item (`items`); the paper has learned vectors only;
- softmax over the chosen item and 256 drawn ones that a batch shares; the paper's one drawn item
  per place is `objective = "binary"`;
- layers normalise their input and add what they got (pre-norm, GELU); the paper's wiring, which
  adds the normalised query, uses ReLU and multiplies embeddings by sqrt(dim), is
  `block = "paper"`, but for a linear layer after the heads, which the paper's equations lack;
- item vectors are normalised before the first block (`norm_input`), as in S3-Rec, BERT4Rec and
  Mamba4Rec;
- dropout on attention weights only where it is asked for (`attention_dropout`);
- places are counted from the newest item, so that a short history reads like the end of a long
  one;
- items drawn for gBCE are shared by a batch; its authors draw 256 for each place;
- AdamW with a decay of .01, beta2 .999, a rate of .002 and gradients of length 1 at most, unless
  `[train]` says otherwise; the authors have Adam without decay, beta2 .98 and .001. Published
  figures were made without decay (benchmarks/paper_sasrec.py).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from reelm.data.dataset import Dataset
from reelm.models.blocks.attention import causal_attention
from reelm.models.blocks.dropout import Dropout
from reelm.models.sequential import Sequential, SequentialConfig, gelu

Part = Int[Tensor, "batch length"] | None


class SASRecConfig(SequentialConfig):
    """Section [model] of a sasrec run; the paper's dim is 50, its max_length 50 and 200 on ML-1M,
    its dropout 0.5 and 0.2 on ML-1M."""

    layers: PositiveInt = 2
    """Blocks of attention and feed-forward network."""
    heads: PositiveInt = 2
    """Attention heads; must divide `dim`. The paper has 1."""
    feedforward: PositiveInt = 128
    """Width inside the feed-forward networks; the paper's is `dim`."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the attention weights that training drops; it takes longer. The paper: `dropout`."""
    block: Literal["pre_norm", "paper", "gated"] = "pre_norm"
    """pre_norm: layers normalise their input and add to it; paper: the wiring of 2018; gated:
    LiGR, in which a gate weighs what is added and the feed-forward network is a SwiGLU."""
    norm_input: bool = True
    """Whether item vectors are normalised before the first block (not in `paper`, which multiplies
    them by sqrt(dim)). Without it they begin so short that what attention adds drowns them, and
    training by softmax may need more steps."""

    @model_validator(mode="after")
    def _fits(self) -> "SASRecConfig":
        if self.dim % self.heads:
            raise ValueError(f"heads = {self.heads} does not divide dim = {self.dim}")
        return self


class Attention(nn.Module):
    """Causal attention with several heads; queries may be made of something else than keys."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        dim, self.heads, self.dropped = config.dim, config.heads, config.attention_dropout
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        part: Part = None,
        query: Float[Tensor, "batch length dim"] | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """`query` is what queries are made of, if not `x`."""
        if query is None:
            made = self.query_key_value(x)
        else:
            weight, bias = self.query_key_value.weight, self.query_key_value.bias
            dim = x.shape[-1]
            asked = F.linear(query, weight[:dim], bias[:dim])
            made = torch.cat([asked, F.linear(x, weight[dim:], bias[dim:])], dim=-1)
        heads = made.unflatten(-1, (3, self.heads, -1)).transpose(1, 3)
        asked, keys, values = heads.unbind(2)
        dropped = self.dropped if self.training else 0.0
        mixed = causal_attention(asked, keys, values, part, dropped)
        return self.out(mixed.transpose(1, 2).flatten(2))


class PreNorm(nn.Module):
    """Causal attention, then a feed-forward network; each adds to what it was given."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        dim, feedforward = config.dim, config.feedforward
        self.norm_attention, self.norm_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(config)
        self.wide, self.narrow = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "batch length dim"], part: Part = None
    ) -> Float[Tensor, "batch length dim"]:
        """Item t sees items 0..t; padding must stand after the last item."""
        x = x + self.dropout(self.attention(self.norm_attention(x), part))
        wide = gelu(self.wide(self.norm_forward(x)))
        return x + self.dropout(self.narrow(wide))


class Paper(nn.Module):
    """The block of 2018: queries are normalised, keys and values are not, and what is added to is
    the normalised query, then the normalised input of the feed-forward network."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        dim, feedforward = config.dim, config.feedforward
        self.norm_attention, self.norm_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(config)
        self.wide, self.narrow = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "batch length dim"], part: Part = None
    ) -> Float[Tensor, "batch length dim"]:
        """As `PreNorm.forward`."""
        query = self.norm_attention(x)
        x = self.norm_forward(query + self.attention(x, part, query))
        return x + self.dropout(self.narrow(self.dropout(F.relu(self.wide(x)))))


class Gated(nn.Module):
    """LiGR: attention and a SwiGLU network, each weighed by a gate that its input opens."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        dim, feedforward = config.dim, config.feedforward
        self.norm_attention, self.norm_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(config)
        self.wide = nn.Linear(dim, 2 * feedforward, bias=False)
        self.narrow = nn.Linear(feedforward, dim, bias=False)
        self.gate_attention, self.gate_forward = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "batch length dim"], part: Part = None
    ) -> Float[Tensor, "batch length dim"]:
        """As `PreNorm.forward`."""
        mixed = self.dropout(self.attention(self.norm_attention(x), part))
        x = x + torch.sigmoid(self.gate_attention(x)) * mixed
        opened, passed = self.wide(self.norm_forward(x)).chunk(2, dim=-1)
        narrow = self.dropout(self.narrow(F.silu(opened) * passed))
        return x + torch.sigmoid(self.gate_forward(x)) * narrow


BLOCKS = {"pre_norm": PreNorm, "paper": Paper, "gated": Gated}


class SASRec(Sequential):
    """Item vectors and places, causal blocks, dot product with the item vectors."""

    Config = SASRecConfig

    def __init__(self, config: SASRecConfig, data: Dataset) -> None:
        super().__init__(config, data)
        self.place = nn.Embedding(config.max_length, config.dim)
        nn.init.normal_(self.place.weight, std=0.02)
        self.blocks = nn.ModuleList(BLOCKS[config.block](config) for _ in range(config.layers))
        normed = config.norm_input and config.block != "paper"
        self.norm_input = nn.LayerNorm(config.dim) if normed else nn.Identity()
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)
        self.scale = config.dim**0.5 if config.block == "paper" else 1.0

    def states(
        self,
        x: Float[Tensor, "batch length dim"],
        real: Bool[Tensor, "batch length"],
        part: Part = None,
    ) -> Float[Tensor, "batch length dim"]:
        place = torch.arange(x.shape[1], device=x.device) - real.sum(1, keepdim=True)
        last = self.place.num_embeddings - 1
        place = (place + last + 1).clamp(max=last)
        x = self.dropout(self.norm_input(x) * self.scale + self.place(place))
        for block in self.blocks:
            x = block(x, part)
        return self.norm(x)
