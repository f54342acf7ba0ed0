"""Rate single places with a ranker: how well it parts what was liked from what was not, and whether
its probabilities mean what they say."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float32

from reelm import files, probabilities
from reelm.data.batches import exposed
from reelm.data.exposures import Exposures
from reelm.evaluate.page import rendered, scaled
from reelm.evaluate.ranking import asking
from reelm.models.base import Ranker

MOST = 2048  # places asked at once
POOL = "places"


@dataclass(frozen=True)
class Places:
    """What came out for some exposures."""

    shown: Exposures
    score: Float32[np.ndarray, "places"]
    probability: Float32[np.ndarray, "places"]
    """Calibrated as the model is."""

    @property
    def metrics(self) -> dict[str, float]:
        """See `reelm.probabilities`; `logloss_raw` and `ece_raw` are those without calibration."""
        label, raw = self.shown.label, probabilities.sigmoid(self.score)
        found = probabilities.rate(label, self.score, self.probability, self.shown.user)
        if found:
            found["logloss_raw"] = probabilities.log_loss(label, raw)
            found["ece_raw"] = probabilities.ece(probabilities.reliability(label, raw))
        return found

    @property
    def reliability(self) -> list[dict[str, Any]]:
        """What each tenth of probabilities was given and what happened in it."""
        return probabilities.reliability(self.shown.label, self.probability)

    def table(self, users: Sequence[str], items: Sequence[str]) -> pl.DataFrame:
        """One row per place: user_id, video_id, timestamp, history, label, score, probability."""
        shown = self.shown
        return pl.DataFrame(
            {
                "user_id": pl.Series(users, dtype=pl.String).gather(shown.user),
                "video_id": pl.Series(items, dtype=pl.String).gather(shown.item),
                "timestamp": pl.Series(shown.time, nan_to_null=True),
                "history": shown.stop - shown.start,
                "label": shown.label,
                "score": self.score,
                "probability": self.probability,
            }
        )


def places(model: Ranker, shown: Exposures) -> Places:
    """Score every place with the history it had.

    Raises:
        NonFinite: when metrics are asked for, if the model gave NaN or infinity.
    """
    device, parts = model.counts.device, [torch.zeros(0)]
    with asking(model):
        for batch in exposed(shown, MOST, None):
            there = batch.to(device)
            scores = model.score(there.user, there.history, there.item[:, None])[:, 0]
            parts.append(scores.float().cpu())
        score = torch.cat(parts)
        probability = model.probability(score.to(device)).cpu()
    return Places(shown, score.numpy(), probability.numpy())


def calibrate(model: Ranker, shown: Exposures) -> None:
    """Fit slope and shift of the model's scores on validation places, as the model wants it; the
    model keeps them."""
    if model.calibrate == "no" or not len(shown):
        return
    score = places(model, shown).score
    found = probabilities.fitted(shown.label, score, shift=model.calibrate == "platt")
    model.calibration.copy_(torch.tensor(found))


def facts(found: Places) -> dict[str, Any]:
    """The figures as JSON takes them, in the shape of the reports of retrievers: one pool."""
    pool = {
        "questions": len(found.shown),
        "users": len(np.unique(found.shown.user)),
        "metrics": {k: v for k, v in found.metrics.items() if np.isfinite(v)},
        "reliability": found.reliability if len(found.shown) else [],
    }
    return {"asked": len(found.shown), "pools": {POOL: pool}}


def write(found: Places, folder: Path, about: dict[str, Any], table: pl.DataFrame) -> None:
    """Write report.json, report.html and places.parquet; the manifest is left to the caller."""
    told = {"about": about, **facts(found)}
    with files.atomic(folder / "places.parquet") as tmp:
        table.write_parquet(tmp)
    files.write_text(folder / "report.json", json.dumps(told, indent=2) + "\n")
    filters = {"at": lambda share: scaled(share, (0, 1), (0, 300))}
    page = rendered("reelm.evaluate", "places.html", told | {"pool": POOL}, filters)
    files.write_text(folder / "report.html", page)
