"""Metrics as pure functions of ranks. Ranks start at 1; ties count against the model.

A question may have several targets. `ranks` places each of them; `per_question` turns the places
into one number per question, which are averaged elsewhere. With hits = targets in the first k:

- recall@k = hits / min(k, targets), so that a perfect list has 1 also when there are more targets
  than places. With one target it is the hit rate.
- ndcg@k = sum of 1 / log2(rank + 1) over the hits, divided by the same sum of a perfect list.
- hit@k = 1 if there is a hit, else 0.
- mrr = 1 / rank of the best target, over the whole ranking.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from reelm.errors import NonFinite

Pairs = tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"]]


def ranks(
    scores: Float[np.ndarray, "questions items"],
    question: Int[np.ndarray, "targets"],
    target: Int[np.ndarray, "targets"],
    barred: Pairs | None = None,
) -> Int64[np.ndarray, "targets"]:
    """Where each target stands among the items of its question, 1 being the best.

    Any other item tied with a target stands before it, so a constant model ranks last, not
    first; among themselves the targets of one question take places in the order of their scores.

    Args:
        question: the row each target belongs to; no target comes twice in a row.
        barred: rows and columns of items that take no place, such as those of the history. A
            target takes its place even if it is among them.

    Raises:
        NonFinite: a score is NaN or infinite.

    Cost: O(targets * items) time, a copy of `scores`.
    """
    if scores.size and not np.isfinite([scores.min(), scores.max()]).all():
        raise NonFinite("the model gave a score that is NaN or infinite; train it again.")
    own = scores[question, target]
    others = scores.copy()
    others[question, target] = -np.inf
    if barred is not None:
        others[barred] = -np.inf
    ahead = [np.count_nonzero(others[q] >= s) for q, s in zip(question, own, strict=True)]
    return np.array(ahead, np.int64) + _places(own, question)


def per_question(
    rank: Int64[np.ndarray, "targets"],
    offsets: Int64[np.ndarray, "ends"],
    ks: Sequence[int],
) -> dict[str, Float64[np.ndarray, "questions"]]:
    """recall@k, ndcg@k and hit@k for each k, and mrr, one number per question.

    Args:
        rank: of each target, from `ranks`.
        offsets: targets of question q are offsets[q]:offsets[q + 1]; none has no target.
    """
    size = np.diff(offsets)
    question = np.repeat(np.arange(len(size)), size)
    found = {}
    gain = 1 / np.log2(rank + 1.0)
    for k in ks:
        inside = rank <= k
        hits = np.bincount(question[inside], minlength=len(size))
        dcg = np.bincount(question[inside], gain[inside], minlength=len(size))
        found[f"recall@{k}"] = hits / np.minimum(k, size)
        found[f"ndcg@{k}"] = dcg / ideal_dcg(k)[np.minimum(k, size)]
        found[f"hit@{k}"] = (hits > 0).astype(np.float64)
    found["mrr"] = 1.0 / np.minimum.reduceat(rank, offsets[:-1]) if len(size) else np.zeros(0)
    return found


def ideal_dcg(k: int) -> Float64[np.ndarray, "sizes"]:
    """The sum of 1 / log2(rank + 1) over the first n ranks, for n = 0 .. k."""
    return np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])


def chance_recall(
    candidates: Int64[np.ndarray, "questions"], targets: Int64[np.ndarray, "questions"], k: int
) -> float:
    """Mean recall@k that a random order of the candidates would have.

    Of n candidates the first min(k, n) hold on average min(k, n) / n of the targets.
    """
    if not len(candidates):
        return float("nan")
    hits = targets * np.minimum(k, candidates) / candidates
    return float(np.mean(hits / np.minimum(k, targets)))


def _places(
    own: Float[np.ndarray, "targets"], question: Int[np.ndarray, "targets"]
) -> Int64[np.ndarray, "targets"]:
    """1 for the best target of each question, 2 for the next, and so on."""
    order = np.lexsort((-own, question))
    ordered = question[order]
    places = np.empty(len(own), np.int64)
    places[order] = np.arange(len(own)) - np.searchsorted(ordered, ordered) + 1
    return places
