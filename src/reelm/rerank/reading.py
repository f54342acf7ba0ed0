"""What a reader says of lists: asked once, kept, and turned back into scores."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from reelm.backends.base import Backend, Failure, Request
from reelm.cost import progress
from reelm.rerank.lists import Lists, RerankConfig, choices, request

AT_ONCE = 64  # requests between two writes to disk

Scores = Float[np.ndarray, "lists candidates"]


class Kept:
    """Asks, and keeps what was said, so that nothing is asked twice."""

    def __init__(self, reader: Backend, path: Path) -> None:
        self.failed: dict[str, int] = {}
        self._reader, self._path = reader, path
        *whole, cut = path.read_bytes().split(b"\n") if path.exists() else [b""]
        self._known = dict(map(json.loads, whole))
        if cut:  # by a kill; what is added must not be glued to it
            os.truncate(path, path.stat().st_size - len(cut))

    def __call__(self, requests: Sequence[Request], choices: Sequence[str]) -> list[Any]:
        """A log-probability per choice for each request, or None where the reader failed."""
        open_ = [one for one in requests if one.key not in self._known]
        with progress("rerank", len(requests), len(requests) - len(open_)) as advance:
            for at in range(0, len(open_), AT_ONCE):
                some = open_[at : at + AT_ONCE]
                said = self._reader.choose(some, [choices] * len(some))
                with self._path.open("a") as file:
                    for one, logs in zip(some, said, strict=True):
                        if isinstance(logs, Failure):
                            self.failed[logs.kind] = self.failed.get(logs.kind, 0) + 1
                            continue
                        self._known[one.key] = logs
                        file.write(json.dumps([one.key, logs]) + "\n")
                advance(len(some))
        return [self._known.get(one.key) for one in requests]


def read(
    lists: Lists, items: Sequence[str], told: Mapping[str, str], ask: Kept, config: RerankConfig
) -> tuple[Scores, float | None]:
    """Scores of the lists, and how far turning a list moves them in the mean, None where nothing is
    turned.

    Letters score by the mean of their log-probabilities over the turns, candidates that are shown
    alone by that of Yes against No. A list that the reader failed on has the same score everywhere:
    its target comes last.
    """
    count = config.candidates
    turns = sorted({n * count // config.turns for n in range(config.turns)})
    whole = config.ask == "letters"
    shown = (
        [np.roll(np.arange(count), -turn) for turn in turns] if whole else np.arange(count)[:, None]
    )
    requests = [
        request(lists, row, order, items, told, config)
        for row in range(len(lists))
        for order in shown
    ]
    said = iter(ask(requests, choices(config)))
    scores, moved = np.zeros((len(lists), count)), []
    for row in range(len(lists)):
        views = [(order, next(said)) for order in shown]
        if any(logs is None for _, logs in views):
            continue
        turned = np.empty((len(turns) if whole else 1, count))
        for n, (order, logs) in enumerate(views):
            sure = np.array(logs) - np.logaddexp.reduce(logs)
            turned[n if whole else 0, order] = sure if whole else sure[0]
        scores[row] = turned.mean(0)
        moved.append(np.abs(turned - scores[row]).mean())
    return scores, float(np.mean(moved)) if moved and whole else None
