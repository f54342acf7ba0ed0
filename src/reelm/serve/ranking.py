"""The second stage: a model that rates single places puts the first one's best in order.

It is asked about a bounded number of videos, and what it does not know, or an error of its own,
leaves the order of the first stage.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from reelm.errors import ConfigError
from reelm.models.base import Ranker
from reelm.runs import Run

log = logging.getLogger(__name__)


class Ranking:
    """A run of a ranker, asked by ids; it outlives changes of the first stage."""

    def __init__(self, run: Run) -> None:
        """
        Raises:
            ConfigError: the run's model is no ranker.
        """
        if not isinstance(run.model, Ranker):
            raise ConfigError(
                f"serve.ranker: {run.name} scores the whole catalogue and rates no single places. "
                "Name a run of din, dcn or another ranker."
            )
        self.name = run.folder.name if run.folder else run.name
        self._run, self._model = run, run.model
        config = getattr(run.model, "config", None) or run.model.Config()
        needs = run.model.needs(config)
        self._may = (run.counts > 0) | any(need.startswith("features") for need in needs)
        self._by_row = run.model.uses_user and run.model.stranger >= 0
        self.failures = 0
        """How often it raised or gave what is no number."""

    def __call__(
        self, user: str, history: Sequence[str], candidates: Sequence[str]
    ) -> Float[np.ndarray, "candidates"]:
        """How likely this user likes each candidate, 0..1; NaN where the ranker cannot say.

        Args:
            history: videos, oldest first.

        Whatever goes wrong is counted and logged, and gives NaN.
        """
        out = np.full(len(candidates), np.nan)
        item, row = self._run.item_rows, self._run.user_rows.get(user, self._model.stranger)
        rows = np.array([item.get(video, 0) for video in candidates], np.int64)
        asked = np.flatnonzero((rows > 0) & self._may[rows])
        shown = [item[video] for video in history if video in item]
        if not len(asked) or not shown or (self._by_row and user not in self._run.user_rows):
            return out
        try:
            out[asked] = self._probability(row, shown, rows[asked])
        except Exception:
            self.failures += 1
            log.exception("ranker %s failed; the first stage's order is shown", self.name)
        return out

    def _probability(
        self, user: int, shown: list[int], rows: np.ndarray
    ) -> Float[np.ndarray, "asked"]:
        device = self._model.counts.device
        with torch.inference_mode():
            scores = self._model.score(
                torch.tensor([user], device=device), torch.tensor([shown], device=device),
                torch.from_numpy(rows)[None].to(device),
            )  # fmt: skip
            found = self._model.probability(scores)[0].double().cpu().numpy()
        if not np.isfinite(found).all():
            raise ArithmeticError("a probability is no number")
        return found
