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
from jaxtyping import Bool, Float, Float64, Int, Int64

from reelm.errors import ConfigError, NonFinite

Pairs = tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"]]
ACCURACY = ("recall", "ndcg", "hit", "mrr")
"""What `per_question` measures; all but the last at some k."""
NOTHING: Pairs = np.zeros(0, np.int64), np.zeros(0, np.int64)


def ranks(
    scores: Float[np.ndarray, "questions items"],
    question: Int[np.ndarray, "targets"],
    target: Int[np.ndarray, "targets"],
    barred: Pairs | None = None,
    pool: Bool[np.ndarray, "items"] | None = None,
) -> Int64[np.ndarray, "targets"]:
    """Where each target stands among the items of its question, 1 being the best.

    Any other item tied with a target stands before it, so a constant model ranks last, not
    first; among themselves the targets of one question take places in the order of their scores.

    Args:
        question: the row each target belongs to; no target comes twice in a row.
        barred: rows and columns of items that take no place, such as those of the history. A
            target takes its place even if it is among them.
        pool: the items that take places; all if not given.

    Raises:
        NonFinite: a score is NaN or infinite.

    Cost: O(targets * items) time, memory for one row.
    """
    own = scores[question, target]
    gone, ends = _without_place(scores, (question, target), barred, pool)
    targets, starts = by_row((question, np.arange(len(own))), len(scores))
    ahead, squares = np.empty(len(own), np.int64), np.empty(len(scores))
    level = np.empty(scores.shape[1], bool)
    with np.errstate(over="ignore", invalid="ignore"):  # squares are looked at below
        for q, row in enumerate(scores):
            squares[q] = np.dot(row, row)
            without = gone[ends[q] : ends[q + 1]]
            for n in targets[starts[q] : starts[q + 1]]:
                np.greater_equal(row, own[n], out=level)
                if pool is not None:
                    np.logical_and(level, pool, out=level)
                # counted out again, rather than struck from a copy of the row: that takes longer
                ahead[n] = np.count_nonzero(level) - np.count_nonzero(without >= own[n])
    _refuse_non_finite(scores, squares)
    return ahead + _places(own, question)


def ranks_among(
    scores: Float[np.ndarray, "questions items"],
    question: Int[np.ndarray, "targets"],
    target: Int[np.ndarray, "targets"],
    others: Pairs,
) -> Int64[np.ndarray, "targets"]:
    """The same among some items of each row only, `others`, none of them a target.

    Raises:
        NonFinite: a score is NaN or infinite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        _refuse_non_finite(scores, np.array([np.dot(row, row) for row in scores]))
    own = scores[question, target]
    column, ends = by_row(others, len(scores))
    among = scores[np.repeat(np.arange(len(scores)), np.diff(ends)), column]
    pairs = zip(question, own, strict=True)
    ahead = [np.count_nonzero(among[ends[q] : ends[q + 1]] >= s) for q, s in pairs]
    return np.array(ahead, np.int64) + _places(own, question)


def top(
    scores: Float[np.ndarray, "questions items"],
    k: int,
    barred: Pairs | None = None,
    pool: Bool[np.ndarray, "items"] | None = None,
) -> Int64[np.ndarray, "questions k"]:
    """The columns of the best `k` items of each row, best first; of equals the first column.

    Where fewer than `k` items are left, the rest of the row is -1.

    Args:
        barred: rows and columns of items that are not listed.
        pool: the items that may be listed; all if not given.

    Cost: O(questions * items) time, memory for one row.
    """
    found = np.full((len(scores), k), -1, np.int64)
    column, ends = by_row(barred or NOTHING, len(scores))
    closed = None if pool is None else ~pool
    left = np.empty(scores.shape[1], scores.dtype)
    for q, given in enumerate(scores):
        left[:] = given
        if closed is not None:
            np.copyto(left, -np.inf, where=closed)
        left[column[ends[q] : ends[q + 1]]] = -np.inf
        best = _best(left, k)
        found[q, : len(best)] = best
    return found


def by_row(pairs: Pairs, rows: int) -> tuple[Int[np.ndarray, "pairs"], Int64[np.ndarray, "ends"]]:
    """The columns in the order of their rows; those of row r are columns[ends[r] : ends[r + 1]]."""
    row, column = pairs
    order = np.argsort(row, kind="stable")
    return column[order], np.searchsorted(row[order], np.arange(rows + 1))


def distinct(values: Int[np.ndarray, "values"]) -> Int[np.ndarray, "distinct"]:
    """The same, sorted, each once. Several times as fast as numpy's own, which fills a table."""
    ordered = np.sort(values)
    return ordered[np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))]


def per_question(
    rank: Int64[np.ndarray, "targets"],
    offsets: Int64[np.ndarray, "ends"],
    ks: Sequence[int],
) -> dict[str, Float64[np.ndarray, "questions"]]:
    """recall@k, ndcg@k and hit@k for each k, and mrr, one number per question.

    Args:
        rank: of each target, from `ranks`.
        offsets: targets of question q are offsets[q]:offsets[q + 1]; none has no target.

    Raises:
        ConfigError: a k is below 1.
    """
    if min(ks, default=1) < 1:
        raise ConfigError(f"metrics at k = {min(ks)}: a list has 1 place at least.")
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


def _refuse_non_finite(
    scores: Float[np.ndarray, "questions items"], squares: Float[np.ndarray, "questions"]
) -> None:
    """Stop at a score that is NaN or infinite.

    The squared length of a row is not finite if one of its numbers is not; it takes one pass, where
    least and greatest take two. It may also overflow, so such rows are looked at once more.
    """
    suspect = ~np.isfinite(squares)
    if suspect.any() and not np.isfinite(scores[suspect]).all():
        raise NonFinite("the model gave a score that is NaN or infinite; train it again.")


def _without_place(
    scores: Float[np.ndarray, "questions items"],
    targets: tuple[np.ndarray, np.ndarray],
    barred: Pairs | None,
    pool: Bool[np.ndarray, "items"] | None,
) -> tuple[Float[np.ndarray, "gone"], Int64[np.ndarray, "ends"]]:
    """Scores of the targets and barred items of each row, each item once, and the rows' ends."""
    width = scores.shape[1]
    pairs = [targets] if barred is None else [targets, barred]
    cells = distinct(np.concatenate([row.astype(np.int64) * width + col for row, col in pairs]))
    if pool is not None:
        cells = cells[pool[cells % width]]
    row, column = np.divmod(cells, width)
    return scores[row, column], np.searchsorted(row, np.arange(len(scores) + 1))


def _best(row: Float[np.ndarray, "items"], k: int) -> Int64[np.ndarray, "listed"]:
    """Columns of the best `k` finite numbers of a row, best first.

    The row is folded into `width` groups. The k-th best of the groups' best is no better than the
    k-th best of all, so what is below it need not be sorted.
    """
    width = min(len(row), max(512, 16 * k))
    folds = len(row) // width if width else 0
    least = np.finfo(row.dtype).min
    if k <= width:
        group = row[: folds * width].reshape(folds, width).max(0)
        least = max(least, np.partition(group, width - k)[width - k])
    column = np.flatnonzero(row >= least)
    return column[np.argsort(-row[column], kind="stable")[:k]]
