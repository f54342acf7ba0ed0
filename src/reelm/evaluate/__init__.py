"""Verb: ask a model the held-out questions and report how high it ranked their targets.

This is the only place that opens a split's test questions.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool
from pydantic import PositiveInt

from reelm import files, metrics
from reelm.config import Config
from reelm.data.batches import padded
from reelm.data.split import Questions, Split
from reelm.errors import BadData, ConfigError
from reelm.evaluate.report import Report, summary, write
from reelm.models.base import Retriever
from reelm.runs import Run

POOLS = ("mixed", "warm", "cold")
VERSION = 1
TILE = 1 << 23  # scores held at once; bounds the memory of an evaluation

__all__ = ["POOLS", "EvaluateConfig", "Report", "evaluate", "summary", "test"]


class EvaluateConfig(Config):
    """Section [evaluate]."""

    ks: tuple[PositiveInt, ...] = (5, 10, 20)
    """Lengths of the lists that recall, ndcg and hit look at."""
    pools: tuple[str, ...] = POOLS
    """mixed: all videos; warm: those that training saw; cold: those it never saw."""


def test(run: Run, split: Split, work: Path, config: EvaluateConfig | None = None) -> Path:
    """Ask a run the test questions and write `work/reports/<run>-<split>-test-<key>/`.

    A second call with the same run, split and settings returns the folder at once.

    Raises:
        BadData: the run learned from other videos than the split asks about.
    """
    config = config or EvaluateConfig()
    if run.items != split.train.items:
        raise BadData(f"{run.folder}: this run knows other videos than the questions ask about.")
    inputs = {"run": run.key, "split": split.fingerprint, "questions": _digest(split.test)}
    key = files.key("evaluate", VERSION, config.model_dump(), inputs)
    folder = work / "reports" / f"{run.name}-{split.name}-test-{key}"
    if files.finished(folder):
        return folder
    begun = time.monotonic()
    report = evaluate(run.model, split.test, config.pools, config.ks)
    facts = {"model": run.name, "run": run.key, "split": split.name, "asked": "test"}
    write(report, folder, facts, _named(report.per_user, run.users))
    return files.finish(
        folder,
        stage="evaluate",
        version=VERSION,
        key=key,
        settings=config.model_dump(),
        inputs=inputs,
        rows=len(split.test),
        failed=0,
        seconds=round(time.monotonic() - begun, 3),
    )


def evaluate(
    model: Retriever | Run,
    questions: Questions,
    pools: Sequence[str] = POOLS,
    ks: Sequence[int] = (5, 10, 20),
) -> Report:
    """Rank every candidate of each pool for every question; videos already seen are left out.

    The pools: `mixed` holds all videos, `warm` those in the training interactions, `cold` those
    that are not there but are a target of some question. A question counts in a pool if one of
    its targets is in it, and only these targets count.

    Args:
        ks: lengths of the lists that recall, ndcg and hit look at.

    Raises:
        ConfigError: a pool that is none of these.
        NonFinite: the model gave NaN or infinity.

    Cost: one scoring of the catalogue per question; memory for TILE scores.
    """
    model = model.model if isinstance(model, Run) else model
    candidates = {name: _pool(name, model, questions) for name in pools}
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        parts = [part for part in _answers(model, questions, candidates, ks)]
    model.train(was_training)
    table = pl.concat(parts) if parts else pl.DataFrame(schema={"pool": pl.String})
    sizes = {name: int(pool.sum()) for name, pool in candidates.items()}
    return Report.of(table, sizes, tuple(ks), len(questions))


def _answers(
    model: Retriever, questions: Questions, candidates: dict[str, np.ndarray], ks: Sequence[int]
) -> Iterator[pl.DataFrame]:
    """One row per question and pool, some questions at a time."""
    device = model.counts.device
    size = max(1, min(1024, TILE // len(model.counts)))
    for rows in np.array_split(np.arange(len(questions)), -(-len(questions) // size) or 1):
        part = questions.take(rows)
        history = padded(part.item, part.start, part.stop)
        user = torch.from_numpy(part.users)
        scores = model.score(user.to(device), history.to(device)).float().cpu().numpy()
        shown = _pairs(history.numpy(), len(model.counts))
        for name, pool in candidates.items():
            yield _ranked(name, pool, part, scores, shown, ks)


def _pairs(history: np.ndarray, items: int) -> metrics.Pairs:
    """Row and item of everything in the histories, each pair once."""
    row, place = np.nonzero(history)
    return np.divmod(np.unique(row * items + history[row, place]), items)


def _ranked(
    name: str,
    pool: np.ndarray,
    part: Questions,
    scores: np.ndarray,
    shown: metrics.Pairs,
    ks: Sequence[int],
) -> pl.DataFrame:
    """How one batch of questions went within one pool."""
    question = np.repeat(np.arange(len(part)), np.diff(part.target_offsets))
    inside = pool[part.target]
    question, target = question[inside], part.target[inside]
    asked, sizes = np.unique(question, return_counts=True)
    column, row = np.cumsum(pool) - 1, np.full(len(part), -1)  # of items, of questions
    row[asked] = np.arange(len(asked))
    barred = pool[shown[1]] & (row[shown[0]] >= 0)
    barred_row, barred_column = row[shown[0][barred]], column[shown[1][barred]]
    some = scores if len(asked) == len(part) else scores[asked]
    some = some[:, 1:] if pool[1:].all() else some[:, pool]
    rank = metrics.ranks(some, row[question], column[target], (barred_row, barred_column))
    facts = {
        "pool": np.full(len(asked), name),
        "user": part.users[asked],
        "history": (part.stop - part.start)[asked],
        "targets": sizes,
        "candidates": int(pool.sum()) - np.bincount(barred_row, minlength=len(asked)),
    }
    return pl.DataFrame(
        facts | metrics.per_question(rank, np.concatenate([[0], np.cumsum(sizes)]), ks)
    )


def _pool(name: str, model: Retriever, questions: Questions) -> Bool[np.ndarray, "items"]:
    """Which items are candidates."""
    seen = model.seen.cpu().numpy()
    pool = np.ones(len(seen), bool)
    if name == "warm":
        pool = seen.copy()
    elif name == "cold":
        pool = np.zeros(len(seen), bool)
        pool[questions.target] = True
        pool &= ~seen
    elif name != "mixed":
        raise ConfigError(f"evaluate.pools: {name!r} is no pool. Known: {', '.join(POOLS)}.")
    pool[0] = False
    return pool


def _named(per_user: pl.DataFrame, users: tuple[str, ...]) -> pl.DataFrame:
    """The same with user ids for user rows."""
    ids = pl.Series("user_id", users, dtype=pl.String)
    return per_user.with_columns(ids.gather(per_user["user"]).alias("user_id")).drop("user")


def _digest(questions: Questions) -> str:
    arrays = (questions.users, questions.start, questions.stop, questions.target)
    return files.digest(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
