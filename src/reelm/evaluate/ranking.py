"""Ask a model, some questions at a time, and note where their targets stand in each pool."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Int, Int32, Int64

from reelm import metrics
from reelm.data.batches import padded
from reelm.data.split import Questions
from reelm.models.base import Recommender, Retriever

TILE = 3 << 21  # scores held at once; bounds the memory of an evaluation
MOST = 1024  # questions asked at once, however few items there are


@dataclass(frozen=True)
class Sampled:
    """The shortened protocol of some papers: each target among a few drawn items only.

    Its figures are far above those of a full ranking and may order models differently.
    Source: Krichene & Rendle 2020, "On Sampled Metrics for Item Recommendation".
    """

    count: int = 100
    """Items drawn for each question, all different, evenly from the pool without the question's
    history and targets; fewer where the pool has no more."""
    seed: int = 0
    """A question's items depend on this and on its user alone."""

    @property
    def prefix(self) -> str:
        """What the names of all metrics under this protocol begin with."""
        return f"sampled{self.count}_"


@dataclass(frozen=True)
class Placed:
    """Where the targets of the questions of one pool stand in it."""

    question: Int64[np.ndarray, "questions"]
    """Rows of the questions that have a target in the pool."""
    size: Int64[np.ndarray, "questions"]
    """How many each has."""
    candidates: Int64[np.ndarray, "questions"]
    """Videos of the pool without those of the history."""
    target: Int32[np.ndarray, "targets"]
    rank: Int64[np.ndarray, "targets"]
    listed: Int32[np.ndarray, "questions k"]
    """The best items, best first; 0 where none is left."""
    drawn: Int64[np.ndarray, "questions"]
    """How many items each question's targets met under the shortened protocol."""
    sampled_rank: Int64[np.ndarray, "targets"]
    """Where the targets stand among those; 0 where this was not wanted."""


@dataclass(frozen=True)
class Wanted:
    """What is to be found out beside the ranks."""

    listed: int = 0
    """Length of the lists that are kept; 0 for none."""
    sampled: Sampled | None = None


def place(
    model: Retriever,
    questions: Questions,
    pools: Mapping[str, Bool[np.ndarray, "items"]],
    wanted: Wanted,
) -> dict[str, Placed]:
    """Score the catalogue once for every question and look up its targets in each pool.

    Raises:
        NonFinite: the model gave NaN or infinity.
    """
    found = {name: [_nothing(wanted.listed)] for name in pools}
    size = max(1, min(MOST, TILE // len(model.counts)))
    with asking(model):
        for at in range(0, len(questions), size):
            tile = _Tile.of(model, questions, np.arange(at, min(at + size, len(questions))))
            for name, pool in pools.items():
                found[name].append(tile.within(pool, wanted))
            del tile  # before the next is made: its memory is still in the cache
    return {name: _joined(parts) for name, parts in found.items()}


@dataclass(frozen=True)
class _Tile:
    """Some questions and all their scores. Columns are items without padding: item - 1."""

    rows: Int64[np.ndarray, "questions"]
    part: Questions
    scores: np.ndarray
    shown: metrics.Pairs
    """Row and column of everything in the histories, each pair once."""

    @staticmethod
    def of(model: Retriever, questions: Questions, rows: np.ndarray) -> "_Tile":
        part = questions.take(rows)
        device = model.counts.device
        history = padded(part.item, part.start, part.stop)
        user = torch.from_numpy(part.users)
        scores = model.score(user.to(device), history.to(device)).float().cpu().numpy()[:, 1:]
        return _Tile(rows, part, scores, _pairs(history.numpy(), len(model.counts)))

    def within(self, pool: Bool[np.ndarray, "items"], wanted: Wanted) -> Placed:
        """How these questions went within one pool."""
        part, mask = self.part, pool[1:]
        question = np.repeat(np.arange(len(part)), np.diff(part.target_offsets))
        inside = pool[part.target]
        question, target = question[inside], part.target[inside]
        asked, size = np.unique(question, return_counts=True)
        row = np.full(len(part), -1)
        row[asked] = np.arange(len(asked))
        kept = mask[self.shown[1]] & (row[self.shown[0]] >= 0)
        barred = row[self.shown[0][kept]], self.shown[1][kept]
        scores = self.scores if len(asked) == len(part) else self.scores[asked]
        some = None if mask.all() else mask
        targets = row[question], target - 1
        rank = metrics.ranks(scores, *targets, barred, some)
        best = metrics.top(scores, wanted.listed, barred, some) if wanted.listed else rank[:0]
        others = metrics.NOTHING
        if wanted.sampled:
            others = _drawn(wanted.sampled, part.users[asked], mask, (targets, barred))
        return Placed(
            self.rows[asked],
            size,
            int(mask.sum()) - _barred(barred, targets, mask.size, len(asked)),
            target,
            rank,
            (best + 1).reshape(len(asked), wanted.listed).astype(np.int32),
            np.bincount(others[0], minlength=len(asked)),
            metrics.ranks_among(scores, *targets, others) if wanted.sampled else 0 * rank,
        )


def _barred(
    barred: metrics.Pairs, targets: tuple[np.ndarray, np.ndarray], width: int, questions: int
) -> Int64[np.ndarray, "questions"]:
    """How many items take no place. A target does, though it was watched before."""
    shown, wanted = (rows * width + columns for rows, columns in (barred, targets))
    both = targets[0][np.isin(wanted, shown)]
    return np.bincount(barred[0], minlength=questions) - np.bincount(both, minlength=questions)


@contextmanager
def asking(model: Recommender) -> Iterator[None]:
    """Nothing is learned or dropped meanwhile."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def _pairs(history: Int[np.ndarray, "questions length"], items: int) -> metrics.Pairs:
    row, place = np.nonzero(history)
    row, item = np.divmod(metrics.distinct(row * items + history[row, place]), items)
    return row, item - 1


def _drawn(
    sampled: Sampled,
    users: Int64[np.ndarray, "questions"],
    pool: Bool[np.ndarray, "items"],
    barred: tuple[tuple[np.ndarray, np.ndarray], ...],
) -> metrics.Pairs:
    """Row and column of the items drawn for each question, none of them barred."""
    packed = [metrics.by_row(pairs, len(users)) for pairs in barred]
    columns = []
    for q, user in enumerate(users):
        free = pool.copy()
        for column, ends in packed:
            free[column[ends[q] : ends[q + 1]]] = False
        left = np.flatnonzero(free)
        rng = np.random.default_rng((sampled.seed, int(user)))
        columns.append(rng.choice(left, min(sampled.count, len(left)), replace=False))
    rows = np.repeat(np.arange(len(users)), [len(column) for column in columns])
    return rows, np.concatenate([metrics.NOTHING[1], *columns])


def _nothing(listed: int) -> Placed:
    """No question at all."""
    none, items = np.zeros(0, np.int64), np.zeros(0, np.int32)
    return Placed(none, none, none, items, none, items.reshape(0, listed), none, none)


def _joined(parts: list[Placed]) -> Placed:
    """All tiles as one."""
    columns = (np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Placed))
    return Placed(*columns)
