"""What a reader says of lists: asked once, kept, and turned back into scores."""

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from reelm.annotate.way import Way
from reelm.backends.base import Backend, Failure, Request
from reelm.cost import Cost, Ledger, Meter, progress
from reelm.errors import BackendError
from reelm.rerank.lists import Lists, RerankConfig, choices, request

AT_ONCE = 64  # requests that go out together
TOKENS = ("tokens_in", "tokens_out")

log = logging.getLogger(__name__)

Scores = Float[np.ndarray, "lists candidates"]


class Kept:
    """Asks, and keeps what was said, so that nothing is asked twice; waits while the way to the
    reader is closed. What each asking took is in the ledger beside what was said."""

    def __init__(self, reader: Backend, path: Path, patience_s: float | int = 0) -> None:
        self.asked = 0
        self.failed: dict[str, int] = {}
        self._reader, self._path = reader, path
        self._way, self._ledger = Way(reader.address, patience_s), Ledger(path.parent)
        self._parts = len(self._ledger.lines())
        *whole, cut = path.read_bytes().split(b"\n") if path.exists() else [b""]
        told = [_told(line) for line in whole]
        self._known = dict(filter(None, told))
        if lost := told.count(None):
            log.warning("%s: %d lines cannot be read; what they held is asked again", path, lost)
        if cut:  # by a kill; what is added must not be glued to it
            os.truncate(path, path.stat().st_size - len(cut))

    def __call__(self, requests: Sequence[Request], choices: Sequence[str]) -> list[Any]:
        """A log-probability per choice for each request, or None where the reader failed.

        Raises:
            BackendError: the way to the reader stayed closed, or it failed on all these requests.
        """
        open_ = [one for one in requests if one.key not in self._known]
        why: list[Failure] = []
        with progress("rerank", len(requests), len(requests) - len(open_)) as advance:
            for at in range(0, len(open_), AT_ONCE):
                some = open_[at : at + AT_ONCE]
                said = self._way.through(some, partial(self._ask, choices))
                why += [one for one in said if isinstance(one, Failure)]
                advance(len(some))
        self.asked += len(requests)
        kinds = Counter(one.kind for one in why)
        self.failed = dict(kinds + Counter(self.failed))
        if why and len(why) == len(requests):
            raise BackendError(
                why[0].kind,
                f"rerank: all {len(requests)} requests failed ({counted(kinds)}), the first "
                f"with: {why[0].message}. No report is written; see to the reader, then run the "
                "same command again.",
            )
        return [self._known.get(one.key) for one in requests]

    def _ask(self, choices: Sequence[str], some: Sequence[Request]) -> list[Any]:
        """What is said is kept at once: the way may close behind it."""
        meter, before = Meter(), len(self._known)
        said = self._reader.choose(some, [choices] * len(some))
        with self._path.open("a") as file:
            for one, given in zip(some, said, strict=True):
                if not isinstance(given, Failure) and one.key not in self._known:
                    self._known[one.key] = given.logs
                    file.write(json.dumps([one.key, given.logs]) + "\n")
        took, tokens = meter.read(), {n: sum(getattr(one, n) for one in said) for n in TOKENS}
        cost = {"device": self._reader.device, "device_s": took["seconds"], **took, **tokens}
        self._ledger.add(Cost(self._parts, len(self._known) - before, **cost))
        self._parts += 1
        return said


def counted(failed: Mapping[str, int]) -> str:
    """Failures by their kind, in words."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(failed.items()))


def _told(line: bytes) -> tuple[str, list[float]] | None:
    """The key of a request and what was said; None if a line cannot be read."""
    try:
        key, logs = json.loads(line)
        return str(key), [float(one) for one in logs]
    except (ValueError, TypeError):
        return None


def read(
    lists: Lists, items: Sequence[str], told: Mapping[str, str], ask: Kept, config: RerankConfig
) -> tuple[Scores, float | None]:
    """Scores of the lists, and how far turning a list moves them in the mean, None where nothing is
    turned.

    Letters score by the mean of their log-probabilities over the turns, candidates that are shown
    alone by that of Yes against No. A list that the reader failed on has the same score everywhere:
    its target comes last.

    Raises:
        BackendError: the way to the reader stayed closed, or it failed on all that was asked.
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
