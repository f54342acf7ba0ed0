"""Item-kNN: videos that the people who watched the user's history also watched.

Source: Sarwar et al. 2001, "Item-based collaborative filtering recommendation algorithms",
section 3.1.1 (cosine) and 3.2.1 (weighted sum).
Departures: what a user chose counts 1, whatever its portion and however often; the weighted sum is
not divided by the sum of similarities, which would favour items with few neighbours.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import PositiveInt
from scipy import sparse
from torch import Tensor

from reelm.config import Config
from reelm.data.dataset import Dataset
from reelm.models.base import Complete
from reelm.models.blocks.repeats import without_repeats

ROWS = 1024  # rows of the similarity matrix that are worked out together
DENSE = 0.05  # share of non-zeros from which a plain matrix is quicker than a sparse one
DENSE_ITEMS = 12_000  # a plain matrix of more rows than this would not fit beside the rest


class ItemKNNConfig(Config):
    """Section [model] of an item_knn run."""

    neighbours: PositiveInt | None = None
    """Most alike items that each item keeps; unset keeps all."""


class ItemKNN(Complete):
    """The sum of cosines between an item's users and those of each item of the history."""

    Config = ItemKNNConfig

    def __init__(self, config: ItemKNNConfig, data: Dataset) -> None:
        super().__init__(config, data)
        matrix = _similarity(data, config.neighbours)
        self.register_buffer("starts", torch.from_numpy(matrix.indptr.astype(np.int64)))
        self.register_buffer("columns", torch.from_numpy(matrix.indices.astype(np.int32)))
        self.register_buffer("cosine", torch.from_numpy(matrix.data.astype(np.float32)))
        self.starts: Tensor
        self.columns: Tensor
        self.cosine: Tensor
        self._ready: tuple[Tensor, Any] | None = None

    def score(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch items"]:
        matrix, history = self._matrix(), without_repeats(history)
        if isinstance(matrix, Tensor):
            return F.embedding_bag(history, matrix, mode="sum", padding_idx=0)
        row, place = torch.nonzero(history, as_tuple=True)
        column = history[row, place].cpu().numpy()
        shape = (len(history), len(self.counts))
        shown = sparse.csr_matrix((np.ones(len(row), np.float32), (row.cpu(), column)), shape)
        return torch.from_numpy((shown @ matrix).toarray()).to(history.device)

    def _matrix(self) -> Any:
        """The similarities in the form that is quicker to add up, made when first needed."""
        if self._ready is None or self._ready[0] is not self.cosine:
            size = len(self.counts)
            parts = (self.cosine.cpu().numpy(), self.columns.cpu().numpy(), self.starts.cpu())
            matrix = sparse.csr_matrix(parts, (size, size))
            if size <= DENSE_ITEMS and matrix.nnz > DENSE * size * size:
                matrix = torch.from_numpy(matrix.toarray()).to(self.cosine.device)
            self._ready = (self.cosine, matrix)
        return self._ready[1]


def _similarity(data: Dataset, neighbours: int | None) -> Any:
    """Cosines between the columns of the binary user-item matrix, without the diagonal."""
    users, items = len(data.users), len(data.items)
    chosen: Any = sparse.csr_matrix(
        (np.ones(len(data), np.float32), data.item, data.offsets), (users, items), copy=True
    )
    chosen.sum_duplicates()
    chosen.data[:] = 1.0
    norm = np.sqrt(np.bincount(chosen.indices, minlength=items))
    chosen = (chosen @ sparse.diags_array(1 / np.maximum(norm, 1), dtype=np.float32)).tocsc()
    parts = []
    for start in range(0, items, ROWS):
        part = (chosen[:, start : start + ROWS].T @ chosen).tocsr()
        rows = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
        part.data[part.indices == rows + start] = 0
        part.eliminate_zeros()
        parts.append(part if neighbours is None else _nearest(part, neighbours))
    return sparse.vstack(parts, format="csr")


def _nearest(part: Any, neighbours: int) -> Any:
    """The largest entries of each row, the first items where they are equal."""
    row = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
    order = np.lexsort((part.indices, -part.data, row))
    place = np.arange(part.nnz) - part.indptr[row]
    part.data[order[place >= neighbours]] = 0
    part.eliminate_zeros()
    return part
