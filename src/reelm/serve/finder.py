"""The rows whose vectors fit a query best: all compared up to a size, by an index beyond it.

The index keeps 4 bits for two numbers (product quantisation, scanned by registers) in cells that
k-means made; what it finds is compared again by the vectors themselves, so scores are exact and
only a miss can go wrong. `benchmarks/bench_index.py` measures how many are missed.
Source: Jégou et al. 2011, "Product Quantization for Nearest Neighbor Search"; André et al. 2015,
"Cache locality is not enough"; both as faiss has them (arXiv:2401.08281).
"""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from reelm.errors import ConfigError

WIDTH = 600
"""Rows that the index finds and that are compared exactly, besides those that cannot be shown."""
PROBES = 64
"""Cells of the index that a search looks into."""
PER_CELL = 64
"""Vectors a cell is trained on."""
LEAST = 20_000
"""Rows below which comparing all takes no longer than the index."""
TAIL = 20_000
"""Rows added to an index that are compared one by one before a new one is made."""
SLICE = 1 << 15
"""Rows that are gone through at once."""
KEPT = 6
"""Indexes that are remembered, so that a new video does not mean a new index."""

Rows = Int[np.ndarray, "_"]
Scores = Float[np.ndarray, "_"]


@dataclass(frozen=True)
class _Index:
    """An index over the first rows of a table, told by a digest of them."""

    size: int
    digest: bytes
    faiss: Any


_kept: list[_Index] = []


class Finder:
    """Finds the rows with the largest `vectors @ query + bias`."""

    def __init__(
        self, vectors: Float[np.ndarray, "items dim"], bias: Float[np.ndarray, "items"], rows: Rows
    ) -> None:
        """
        Args:
            rows: those that may be found, ascending; their biases are finite.

        Raises:
            ConfigError: an index is needed and faiss is not installed.
        """
        self._vectors, self._bias, self._rows = vectors, bias, rows
        self._moments = _moments(vectors, bias, rows)
        self._index = None
        if len(rows) > LEAST:
            self._index = _indexed(self._table())
            self._tail = rows[self._index.size :]

    def score(self, query: Float[np.ndarray, "dim"], rows: Rows) -> Scores:
        """The exact scores of some rows."""
        return (self._vectors[rows] @ query + self._bias[rows]).astype(np.float64)

    def spread(self, query: Float[np.ndarray, "dim"]) -> float:
        """The standard deviation of all scores, from what was counted once."""
        asked = np.append(query, 1.0).astype(np.float64)
        return float(np.sqrt(max(0.0, asked @ self._moments @ asked)))

    def best(self, query: Float[np.ndarray, "dim"], count: int, gone: Rows) -> tuple[Rows, Scores]:
        """At most `count` rows, none of them in `gone`, best first, and their scores.

        `gone` is ascending. Where it is so long that the index could miss what is left, all are
        compared.
        """
        wanted = max(WIDTH, 2 * count)
        if self._index is not None and 4 * (wanted + len(gone)) < self._index.size:
            left = self._left(query, wanted, gone)
            if len(left) >= count:
                return _first(left, self.score(query, left), count)
        left = without(self._rows, gone)
        return _first(left, self._scan(query, left), count)

    def _left(self, query: Float[np.ndarray, "dim"], wanted: int, gone: Rows) -> Rows:
        """At least `wanted` rows that the index finds besides those that are `gone`.

        The index takes longer the more is asked for, and few of all that somebody has seen are
        among what fits best, so it is asked for more only where too little is left.
        """
        asked, most = 2 * wanted, wanted + len(gone)
        while asked < most:
            left = without(self._searched(query, asked), gone)
            if len(left) >= wanted:
                return left
            asked *= 4
        return without(self._searched(query, most), gone)

    def _scan(self, query: Float[np.ndarray, "dim"], rows: Rows) -> Scores:
        """As `score`; of most rows it is quicker to compare all than to fetch these."""
        if 2 * len(rows) < len(self._vectors):
            return self.score(query, rows)
        return (self._vectors @ query + self._bias)[rows].astype(np.float64)

    def _searched(self, query: Float[np.ndarray, "dim"], wanted: int) -> Rows:
        import faiss

        assert self._index is not None
        faiss.omp_set_num_threads(1)  # of this thread: requests are side by side already
        asked = np.zeros((1, self._index.faiss.d), np.float32)
        asked[0, : len(query)], asked[0, len(query)] = query, 1.0
        place = self._index.faiss.search(asked, wanted)[1][0]
        return np.concatenate([self._rows[place[place >= 0]], self._tail])

    def _table(self) -> Float[np.ndarray, "rows wide"]:
        """Vectors with their bias as one number more, and zeros up to a multiple of eight."""
        dim = self._vectors.shape[1]
        table = np.zeros((len(self._rows), -(-(dim + 1) // 8) * 8), np.float32)
        table[:, :dim], table[:, dim] = self._vectors[self._rows], self._bias[self._rows]
        return table


def without(rows: Rows, gone: Rows) -> Rows:
    """Those of `rows` that are not in `gone`, which is ascending."""
    if not len(gone):
        return rows
    place = np.minimum(np.searchsorted(gone, rows), len(gone) - 1)
    return rows[gone[place] != rows]


def _moments(
    vectors: Float[np.ndarray, "items dim"], bias: Float[np.ndarray, "items"], rows: Rows
) -> Float[np.ndarray, "wide wide"]:
    """Covariance of vectors and biases; a slice at a time, so that no copy is made of all."""
    wide = vectors.shape[1] + 1
    total, square = np.zeros(wide), np.zeros((wide, wide))
    for at in range(0, len(rows), SLICE):
        some = rows[at : at + SLICE]
        table = np.column_stack([vectors[some], bias[some]]).astype(np.float64)
        total += table.sum(0)
        square += table.T @ table
    mean = total / max(1, len(rows))
    return square / max(1, len(rows)) - np.outer(mean, mean)


def _first(rows: Rows, scores: Scores, count: int) -> tuple[Rows, Scores]:
    """The best `count` of these; ties by row."""
    if len(rows) > count:
        kept = np.argpartition(-scores, count - 1)[:count] if count else np.zeros(0, np.int64)
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((rows, -scores))
    return rows[order], scores[order]


def _indexed(table: Float[np.ndarray, "rows wide"]) -> _Index:
    """An index of this table, or of all but its last few rows where there is one already."""
    for made in _kept:
        if (
            made.size <= len(table) <= made.size + TAIL
            and _digest(table[: made.size]) == made.digest
        ):
            return made
    _kept.append(_Index(len(table), _digest(table), _built(table)))
    del _kept[:-KEPT]
    return _kept[-1]


def _digest(table: Float[np.ndarray, "rows wide"]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(table).data, digest_size=16).digest()


def _built(table: Float[np.ndarray, "rows wide"]) -> Any:
    if find_spec("faiss") is None:
        raise ConfigError(
            f"{len(table)} videos need an index to be answered in milliseconds: "
            "pip install 'reelm[ann]', or set engine.ann_from higher."
        )
    import faiss

    rows, wide = table.shape
    cells = int(max(64, min(4096, rows**0.5)))
    index: Any = faiss.index_factory(
        wide, f"IVF{cells},PQ{wide // 2}x4fs", faiss.METRIC_INNER_PRODUCT
    )
    index.train(table[:: max(1, rows // (PER_CELL * cells))])
    index.add(table)
    index.nprobe = min(PROBES, cells)
    return index
