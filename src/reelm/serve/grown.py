"""A run with more videos than it was trained with: content is read, nothing is trained.

A model that reads features scores a video by its vector, so one more row in its tables is enough.
That rows and scores of before come out as they were is checked on the spot; where they do not, the
run is left as it is, and new videos come by the places that are kept for what is new.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reelm.data.tables import Features
from reelm.models.base import Ranker, Retriever
from reelm.models.blocks.age import AgeWorth
from reelm.models.blocks.items import LENGTH, ContentProjector
from reelm.models.blocks.taste import Taste
from reelm.models.content import Content
from reelm.runs import Run

Vectors = Mapping[str, Sequence[float]]
CLOSE = 1e-3
"""How far a row of before may come out from where it is."""


@dataclass(frozen=True)
class Scale:
    """What was done to a feature table before a model read it: minus mean, times factor."""

    mean: Float[Tensor, "raw"]
    factor: Float[Tensor, "raw"]
    row: int
    """Some row of the run."""
    raw: Float[Tensor, "raw"]
    """The vector of that row, for the check."""

    @staticmethod
    def of(features: Features, run: Run) -> "Scale | None":
        """The scale of a feature table over the run's videos; None if it has none of them."""
        place = {video: at for at, video in enumerate(features.ids)}
        rows = [row for video, row in run.item_rows.items() if video in place]
        at = np.array([place[run.items[row]] for row in rows], np.int64)
        table = torch.from_numpy(np.asarray(features.vectors[at], np.float32))
        good = table.isfinite().all(1)
        table, rows = table[good], [r for r, fit in zip(rows, good.tolist(), strict=True) if fit]
        if not rows:
            return None
        mean, deviation = table.mean(0), table.std(0, correction=0) + 1e-6
        length = ((table - mean) / deviation).norm(dim=1).mean().clamp(min=1e-6)
        return Scale(mean, LENGTH / length / deviation, rows[0], table[0])

    def __call__(self, vectors: Float[Tensor, "*rows raw"]) -> Float[Tensor, "*rows raw"]:
        return (vectors - self.mean) * self.factor


def features_of(run: Run) -> tuple[str, ...]:
    """Features that the run's model reads of a video, in the order of its table."""
    model = run.model
    settings = run.facts.get("settings", {}).get("model", {})
    config = getattr(model, "config", None) or model.Config(**settings)
    needs = model.needs(config)
    return tuple(need.partition(".")[2] for need in needs if need.startswith("features."))


def grow(run: Run, videos: Mapping[str, Vectors], scales: Mapping[str, Scale]) -> Run:
    """The run with a row for each video that has all features its model reads, if that works.

    Args:
        videos: for each new id its vectors by feature.
        scales: of the run's features.
    """
    names = features_of(run)
    fitting = {
        video: [torch.tensor(found[name]) for name in names]
        for video, found in videos.items()
        if names and all(_fits(name, found, scales) for name in names)
    }
    if not fitting or isinstance(run.model, Ranker):
        return run
    columns = zip(*fitting.values(), strict=True)
    raw = {name: torch.stack(column) for name, column in zip(names, columns, strict=True)}
    model = _longer(run.model, raw, scales)
    if model is None or not _agrees(run.model, model, len(run.items)):
        return run
    return replace(run, model=model, items=(*run.items, *fitting))


def _fits(name: str, found: Vectors, scales: Mapping[str, Scale]) -> bool:
    return name in found and name in scales and len(found[name]) == len(scales[name].mean)


def _longer(
    model: Retriever, raw: Mapping[str, Float[Tensor, "new _"]], scales: Mapping[str, Scale]
) -> Retriever | None:
    """A copy whose tables of items have the new rows; None where content is read otherwise."""
    items, new = len(model.counts), len(next(iter(raw.values())))
    made = copy.deepcopy(model)
    for module in made.modules():
        for name, old in [
            *module.named_parameters(recurse=False),
            *module.named_buffers("", False),
        ]:
            if old.ndim and len(old) == items:
                _put(module, name, torch.cat([old, old.new_zeros(new, *old.shape[1:])]))
        if isinstance(module, AgeWorth):
            module.came[items:] = module.spells - 1  # they came last
        elif isinstance(module, Content):
            (vectors,) = raw.values()
            module.vector[items:] = F.normalize(vectors, dim=1)
        elif isinstance(module, ContentProjector | Taste) and not _told(module, items, raw, scales):
            return None
    reads = any(isinstance(module, ContentProjector | Content | Taste) for module in made.modules())
    return made.eval() if reads else None


def _told(
    module: ContentProjector | Taste,
    items: int,
    raw: Mapping[str, Float[Tensor, "new _"]],
    scales: Mapping[str, Scale],
) -> bool:
    """Write the new rows of a table of features; False where a row of before is another."""
    scaled = isinstance(module, ContentProjector)

    def rows(vectors: Mapping[str, Tensor]) -> Tensor:
        parts = [scales[n](vectors[n]) if scaled else vectors[n] for n in module.names]
        return module.columns(torch.cat(parts, dim=-1))

    before = rows({name: scales[name].raw for name in module.names})
    row = scales[module.names[0]].row
    if not torch.allclose(module.table[row].cpu(), before, atol=CLOSE * LENGTH):
        return False
    module.table[items:] = rows(raw)
    return True


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    kept = nn.Parameter(value, False) if name in module._parameters else value
    setattr(module, name, kept)


def _agrees(before: Retriever, after: Retriever, items: int) -> bool:
    """Whether the old rows score as they did, for a history and for none."""
    device = before.counts.device
    history = torch.tensor([[0, 0, 0], [0, 1, items - 1]], device=device)
    user = torch.zeros(2, dtype=torch.long, device=device)
    with torch.inference_mode():
        old, new = before.score(user, history), after.score(user, history)
    same = torch.allclose(old[:, 1:], new[:, 1:items], atol=CLOSE, rtol=CLOSE, equal_nan=True)
    return same and bool(new[:, items:].isfinite().all())
