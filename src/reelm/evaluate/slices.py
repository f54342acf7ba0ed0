"""The same figures for parts of the targets: rare and popular videos, short and long histories,
videos with sound, title or cover and without.

Every target keeps the place it has in the whole pool. A question counts in a part if one of its
targets is in it, and only these targets count, as with pools.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from reelm import metrics

WAYS: dict[str, tuple[str, tuple[int, ...], tuple[str, ...]]] = {
    "seen": ("frequency", (0,), ("cold", "warm")),
    "frequency": ("frequency", (0, 5, 20, 100), ("0", "1-5", "6-20", "21-100", "> 100")),
    "history": (
        "history",
        (0, 2, 5, 10, 20, 50),
        ("0", "1-2", "3-5", "6-10", "11-20", "21-50", "> 50"),
    ),
}
"""Way of slicing -> column of the targets, largest value of each part but the last, their names.
Frequency is the number of training interactions of the target."""


def sliced(targets: pl.DataFrame, ks: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """The parts of each way that hold any target: name, questions, targets, metrics, margins.

    Args:
        targets: one row per target of a pool, those of a question together: question, rank,
            history, frequency; and, where videos have features, tables: the names of those that
        the target is in.
    """
    rank, question = targets["rank"].to_numpy(), targets["question"].to_numpy()
    found: dict[str, list[dict[str, Any]]] = {}
    for way, (column, edges, names) in WAYS.items():
        place = np.digitize(targets[column].to_numpy(), edges, right=True)
        found[way] = [
            {"part": name} | _part(rank[place == n], question[place == n], ks)
            for n, name in enumerate(names)
            if (place == n).any()
        ]
    if "tables" in targets.columns:
        tables = targets["tables"].to_numpy()
        found["tables"] = [
            {"part": str(name)} | _part(rank[tables == name], question[tables == name], ks)
            for name in np.unique(tables)
        ]
    return found


def margin(values: Float[np.ndarray, "questions"]) -> float:
    """Half the width of a 95 % interval of a mean: 1.96 standard errors."""
    return float(1.96 * values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _part(
    rank: Int[np.ndarray, "targets"], question: Int[np.ndarray, "targets"], ks: Sequence[int]
) -> dict[str, Any]:
    starts = np.flatnonzero(np.diff(question, prepend=-1))
    told = metrics.per_question(rank, np.append(starts, len(rank)), ks)
    return {
        "questions": len(starts),
        "targets": len(rank),
        "metrics": {name: float(values.mean()) for name, values in told.items()},
        "margins": {name: margin(values) for name, values in told.items()},
    }
