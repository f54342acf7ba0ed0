"""The nearest items of each item by its features, found once per table and process."""

import hashlib
from collections import OrderedDict
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

TILE = 1024  # items that are compared with all others at a time
EXACT = 50_000  # items up to which all are compared with all: some 40 s of one core at 384 numbers
PROBES = 32  # cells of the index that a search looks into
KEPT = 8  # tables whose neighbours are remembered

Near = tuple[Int[Tensor, "items k"], Float[Tensor, "items k"]]

_found: OrderedDict[str, Near] = OrderedDict()


def nearest(table: Float[Tensor, "items raw"], k: int) -> Near:
    """For each item the `k` others with the largest cosine, best first, and these cosines.

    Items without features (zeros) are nobody's neighbours; where an item has fewer than `k`, the
    rest is item 0 with a cosine of -2. The same table and `k` again are looked up, not searched.

    Beyond EXACT items an index is searched where faiss is installed (`pip install reelm[ann]`): it
    finds nearly all of the same neighbours. Without it all are compared with all.

    Cost: O(items² * raw) time, or O(items ** 1.5 * raw) with the index; TILE * items extra memory.
    """
    key = _key(table, k)
    if key not in _found:
        unit = F.normalize(table.detach().float().cpu(), dim=1)
        has = unit.abs().sum(1) > 0
        indexed = len(table) > EXACT and find_spec("faiss") is not None
        _found[key] = _searched(unit, has, k) if indexed else _compared(unit, has, k)
        while len(_found) > KEPT:
            _found.popitem(last=False)
    _found.move_to_end(key)
    near, cosine = _found[key]
    return near.to(table.device), cosine.to(table.device)


def _key(table: Tensor, k: int) -> str:
    """A hash of everything the neighbours depend on."""
    seen = hashlib.blake2b(f"{tuple(table.shape)} {k}".encode(), digest_size=16)
    seen.update(np.ascontiguousarray(table.detach().cpu().numpy()).data)
    return seen.hexdigest()


def _compared(unit: Tensor, has: Bool[Tensor, "items"], k: int) -> Near:
    near = torch.zeros(len(unit), k, dtype=torch.int32)
    cosine = torch.full((len(unit), k), -2.0)
    most = min(k, len(unit))
    for at in range(0, len(unit), TILE):
        found = unit[at : at + TILE] @ unit.T
        found[:, ~has] = -2.0
        own = torch.arange(len(found))
        found[own, own + at] = -2.0
        best = found.topk(most, dim=1)
        near[at : at + TILE, :most] = best.indices.int()
        cosine[at : at + TILE, :most] = best.values
    return _cleared(near, cosine, has)


def _searched(unit: Tensor, has: Bool[Tensor, "items"], k: int) -> Near:
    import faiss

    vectors = unit[has].numpy()
    cells = max(1, int(4 * len(vectors) ** 0.5))
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    index: Any = faiss.IndexIVFFlat(quantizer, vectors.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:: max(1, len(vectors) // (64 * cells))])
    index.add(vectors)
    index.nprobe = min(PROBES, cells)
    values, rows = index.search(vectors, k + 1)  # an item finds itself too
    own = rows == np.arange(len(vectors))[:, None]
    values[own | (rows < 0)] = -2.0
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    names = has.nonzero()[:, 0].numpy()
    near = torch.zeros(len(unit), k, dtype=torch.int32)
    cosine = torch.full((len(unit), k), -2.0)
    taken = np.take_along_axis(rows, order, axis=1)
    near[has] = torch.from_numpy(names[np.maximum(taken, 0)].astype(np.int32))
    cosine[has] = torch.from_numpy(np.take_along_axis(values, order, axis=1))
    return _cleared(near, cosine, has)


def _cleared(near: Tensor, cosine: Tensor, has: Bool[Tensor, "items"]) -> Near:
    """Places that hold no neighbour are item 0."""
    cosine[~has] = -2.0
    return near.masked_fill(cosine <= -2.0, 0), cosine
