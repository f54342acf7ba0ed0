"""Greedy decoding in batches, with the key-value cache and an optional grammar per row.

Where a grammar leaves only one way to go on (braces, keys, quotation marks), those tokens are not
asked of the model: they enter the cache together with the next token that is. Values are always
the model's own choice. Rows need not go in step: a row that feeds fewer tokens than another is
padded on its left, and the attention mask hides the holes from then on.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from reelm.backends.blocks.grammar import allowed


@dataclass
class Row:
    """One request while it is being answered."""

    matcher: Any
    """llguidance matcher, or None for free text."""
    limit: int
    """Most tokens of the answer."""
    tokens: list[int] = field(default_factory=list)
    done: bool = False
    """The answer reached its end, and not only its limit."""

    @property
    def open(self) -> bool:
        """True while more tokens are wanted."""
        return not self.done and len(self.tokens) < self.limit


class State:
    """A batch of prompts that the model has read, and what is needed to go on from there."""

    def __init__(self, model: Any, inputs: Mapping[str, Tensor], *, counted: bool = True) -> None:
        """Read the left-padded prompts.

        Args:
            inputs: what the processor returned, on the model's device.
            counted: give the model the place of each token. Models that count along several axes
                (time, height, width) do it themselves; their rows must then go in step.
        """
        from transformers import DynamicCache

        self.counted = counted
        self._model = model
        self._mask = inputs["attention_mask"]
        self._cache = DynamicCache(config=model.config.get_text_config())
        position = (self._mask.cumsum(-1) - 1).clamp(min=0)
        self.logits = self._read(dict(inputs), position)

    @property
    def lengths(self) -> list[int]:
        """Tokens read so far of each row, padding left out."""
        return self._mask.sum(-1).tolist()

    def feed(self, chunks: Sequence[Sequence[int]], pad: int) -> None:
        """Go on by at least one token in each row; `logits` then follow the last."""
        width = max(map(len, chunks))
        device = self._mask.device
        ids = torch.tensor([[pad] * (width - len(c)) + list(c) for c in chunks], device=device)
        real = torch.tensor([[0] * (width - len(c)) + [1] * len(c) for c in chunks], device=device)
        position = (self._mask.sum(-1, keepdim=True) + real.cumsum(-1) - 1).clamp(min=0)
        self._mask = torch.cat([self._mask, real.to(self._mask.dtype)], 1)
        self.logits = self._read({"input_ids": ids, "attention_mask": self._mask}, position)

    def keep(self, rows: Sequence[int]) -> "State":
        """Keep these rows only; a row may be named more than once."""
        index = torch.tensor(list(rows), device=self._mask.device)
        self._cache.batch_select_indices(index)
        self._mask, self.logits = self._mask[index], self.logits[index]
        return self

    def fork(self) -> "State":
        """A copy that can go another way."""
        twin = copy.copy(self)
        twin._cache = copy.deepcopy(self._cache)
        return twin

    def _read(self, inputs: dict[str, Tensor], position: Tensor) -> Float[Tensor, "batch tokens"]:
        if self.counted:
            inputs["position_ids"] = position
        out = self._model(**inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1].float()


def generate(
    state: State, rows: Sequence[Row], ends: frozenset[int], *, pad: int, skip_forced: bool
) -> None:
    """Fill `tokens` and `done` of every row, always taking the most probable allowed token.

    Args:
        state: the prompts, one for each row; used up.
        ends: tokens that end free text.
        pad: any token, for holes.
        skip_forced: let the grammar write what it leaves no choice about.
    """
    skip_forced = skip_forced and state.counted
    live = list(rows)
    while any(row.open for row in live):
        best = _best(state, live)
        chunks = [
            _step(row, token, ends, skip_forced) if row.open else [pad]
            for row, token in zip(live, best, strict=True)
        ]
        going = [n for n, row in enumerate(live) if row.open]
        if not going:
            return
        if state.counted and 2 * len(going) <= len(live):
            state.keep(going)
            live, chunks = [live[n] for n in going], [chunks[n] for n in going]
        state.feed(chunks, pad)


def choices(
    state: State, tokens: Sequence[Sequence[Sequence[int]]], *, pad: int, batch: int
) -> list[list[float]]:
    """Log-probability of each choice of each row: the sum over its tokens, in nats.

    Args:
        state: the prompts, one for each row; left as it was.
        tokens: for each row its choices, each of one token or more.
        batch: most choices that are read at once.
    """
    start = state.logits.log_softmax(-1)
    scores = [[float(start[row, c[0]]) for c in given] for row, given in enumerate(tokens)]
    longer = [
        (row, n) for row, given in enumerate(tokens) for n, c in enumerate(given) if len(c) > 1
    ]
    for first in range(0, len(longer), batch):
        some = longer[first : first + batch]
        rest = _rest(state, [(row, tokens[row][n]) for row, n in some], pad)
        for (row, n), value in zip(some, rest, strict=True):
            scores[row][n] += value
    return scores


def _rest(state: State, some: Sequence[tuple[int, Sequence[int]]], pad: int) -> list[float]:
    """What tokens after the first add. One token of every choice is read at a time."""
    going = state.fork().keep([row for row, _ in some])
    total = [0.0] * len(some)
    for place in range(1, max(len(c) for _, c in some)):
        going.feed([[c[place - 1]] if place <= len(c) else [pad] for _, c in some], pad)
        logs = going.logits.log_softmax(-1)
        for n, (_, c) in enumerate(some):
            if place < len(c):
                total[n] += float(logs[n, c[place]])
    return total


def _best(state: State, rows: Sequence[Row]) -> list[int]:
    logits = state.logits
    if any(row.matcher is not None for row in rows):
        may = allowed([row.matcher for row in rows], logits.shape[-1])
        logits = logits.masked_fill(~may.to(logits.device), float("-inf"))
    return logits.argmax(-1).tolist()


def _step(row: Row, best: int, ends: frozenset[int], skip_forced: bool) -> list[int]:
    """Take the model's token and what the grammar forces after it (or, at the start, before)."""
    chunk = _forced(row) if skip_forced else []
    if not chunk:
        chunk = [best]
        _take(row, best, ends)
        if skip_forced and row.open:
            chunk += _forced(row)
    return chunk


def _take(row: Row, token: int, ends: frozenset[int]) -> None:
    if row.matcher is None:
        row.done = token in ends
    else:
        row.matcher.consume_token(token)
        row.done = row.matcher.is_stopped()
    row.tokens += [] if token in ends else [token]


def _forced(row: Row) -> list[int]:
    if row.matcher is None:
        return []
    tokens = row.matcher.compute_ff_tokens()
    if tokens:
        row.matcher.consume_tokens(tokens)
        row.tokens += tokens
        row.done = row.matcher.is_stopped()
    return tokens
