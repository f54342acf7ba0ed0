"""What a model is given to read about a user, and what it makes of that: profiles and edges.

A dossier holds lines of notes, never frames, and remembers which videos it shows. Only the training
part of a split is read: what a user watched in it, and candidates that others watched in it.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Int

from reelm.backends.base import Chances, Failure, Request
from reelm.data.batches import padded
from reelm.data.dataset import Dataset
from reelm.data.preferences import LETTERS, SCHEMA
from reelm.data.split import Split
from reelm.data.tables import read_notes
from reelm.errors import BadData, ConfigError
from reelm.prompts.base import Prompt
from reelm.prompts.preference_edges import PreferenceEdges
from reelm.prompts.user_profile import UserProfile
from reelm.runs import Run
from reelm.tallies import CANDIDATE, WATCHED, Answers, line

MOST = 20  # watched videos whose notes are shown, the newest
TOP = 10  # candidates of an edge
TILE = 512  # users whose scores of all items are held at once
TIE = 1e-9  # probabilities that lie no further apart are equal
UNDECIDED = "undecided"
"""Kind of failure of a user whose answer turns with the order of the candidates, or is a tie."""

Choose = Callable[[Sequence[Request], Sequence[Sequence[str]]], list[Chances | Failure]]
"""`Backend.choose`, or `tallies.choose`."""


@dataclass(frozen=True)
class Dossier:
    """A request about one user."""

    user: str
    request: Request
    watched: tuple[str, ...]
    """Ids of the videos whose notes are shown as watched, oldest first."""
    candidates: tuple[str, ...] = ()
    """Ids of the videos that the letters stand for, in their order."""
    read: int = 0
    """How many of the user's first training interactions were looked at."""

    @property
    def shown(self) -> frozenset[str]:
        """Every video that the request says anything of."""
        return frozenset(self.watched) | frozenset(self.candidates)


@dataclass(frozen=True)
class Edges:
    """What came of asking for edges."""

    table: pl.DataFrame
    """Columns of `data.preferences.SCHEMA`."""
    disagreed: int
    """Users whose answer changed with the order of the candidates, or whose best or worst one was
    a tie; they have no edge."""
    failed: int
    """Users of whom the model gave no answer."""


@dataclass(frozen=True)
class Edge:
    """What both orders agree on: places of candidates in the first order."""

    best: int
    worst: int
    weight: float
    """What lies between their probabilities, mean of both orders."""


def drawn(user: str, share: float) -> bool:
    """True for this share of all users, always the same ones."""
    number = int.from_bytes(hashlib.sha256(f"asked about {user}".encode()).digest()[:4], "big")
    return number < share * 2**32


def said(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """What notes folders say of videos, by their ids; later folders win, and corrections do.

    Raises:
        BadData: a folder is not finished, or is about users.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        table = read_notes(folder)
        if "video_id" not in table.columns:
            raise BadData(f"{folder}: these notes are about users. Name notes about videos.")
        for video, answer in table.select("video_id", "answer").drop_nulls().iter_rows():
            found.setdefault(video, {}).update(json.loads(answer))
    return found


def profile_dossiers(
    split: Split,
    answers: Answers,
    most: int = MOST,
    prompt: type[Prompt] = UserProfile,
    cut: float = 1.0,
) -> list[Dossier]:
    """One for each user with notes about what he watched in training.

    Args:
        answers: what a model said of videos, by their ids.
        most: watched videos that are shown; the newest.
        cut: share of each user's training interactions that is looked at, the first ones. A model
            may learn from what comes after them, and what it is told did not see it.
    """
    found = []
    for user, watched, read in _watched(split.train, answers, most, cut):
        text = "\n".join([*_history(watched, answers), "", prompt.ask()])
        schema, tokens = prompt.schema(), prompt.max_tokens
        found.append(Dossier(user, Request(user, (text,), schema, tokens), watched, read=read))
    return found


def edge_dossiers(
    split: Split,
    base: Run,
    answers: Answers,
    most: int = MOST,
    top: int = TOP,
    cut: float = 1.0,
) -> list[tuple[Dossier, Dossier]]:
    """Two for each user, for prompt preference_edges, with the candidates in opposite orders.

    Args:
        base: a run of the same training data, whose best videos for a user are the candidates.

    Users without notes, or with fewer than two candidates that have any, are left out.

    Raises:
        BadData: the run was trained on other data.
        ConfigError: there are not as many letters as candidates.
    """
    if not 2 <= top <= len(LETTERS):
        raise ConfigError(f"candidates: {top}; there must be 2 to {len(LETTERS)}.")
    best = candidates(base, split.train, top)
    found = []
    for user, watched, read in _watched(split.train, answers, most, cut):
        named = (split.train.items[item] for item in best[split.train.row(user)] if item)
        shown = tuple(video for video in named if line(answers.get(video, {}), None))
        if len(shown) > 1:
            orders = (shown, shown[::-1])
            two = (_edge_dossier(user, watched, order, answers) for order in orders)
            found.append(tuple(replace(one, read=read) for one in two))
    return found


def candidates(base: Run, train: Dataset, top: int = TOP) -> Int[np.ndarray, "users top"]:
    """The items of training that each user would be shown first, without those he watched in it;
    0 where there are no more.

    Raises:
        BadData: the run was trained on other data.
    """
    if not base.learned_from(train):
        raise BadData(
            "candidates: the base run was not trained on this training data, so it may know what "
            "was held out. Train it on the same split."
        )
    found = []
    with torch.inference_mode():
        for at in range(0, len(train.users), TILE):
            rows = np.arange(at, min(at + TILE, len(train.users)))
            shown = padded(train.item, train.offsets[rows], train.offsets[rows + 1])
            scores = base.retriever.score(torch.from_numpy(rows), shown).clone()
            scores.scatter_(1, shown, -torch.inf)
            scores[:, torch.from_numpy(train.counts == 0)] = -torch.inf
            most = scores.topk(min(top, scores.shape[1]), dim=1)
            found.append(most.indices.masked_fill(most.values == -torch.inf, 0).numpy())
    return np.concatenate(found)


def edges(dossiers: Sequence[tuple[Dossier, Dossier]], choose: Choose) -> Edges:
    """Ask which candidate each user likes best, in both orders, and keep what both agree on.

    The most and the least probable one make an edge; it weighs what lies between their
    probabilities, mean of both orders.
    """
    flat = [one for both in dossiers for one in both]
    said = choose([d.request for d in flat], [LETTERS[: len(d.candidates)] for d in flat])
    rows, disagreed, failed = [], 0, 0
    for place, (one, _) in enumerate(dossiers):
        first, second = said[2 * place : 2 * place + 2]
        edge = decided(first, second)
        if isinstance(edge, Failure):
            disagreed += edge.kind == UNDECIDED
            failed += edge.kind != UNDECIDED
            continue
        liked, disliked = one.candidates[edge.best], one.candidates[edge.worst]
        rows.append((one.user, liked, disliked, edge.weight))
    return Edges(pl.DataFrame(rows, schema=SCHEMA, orient="row"), disagreed, failed)


def decided(first: Chances | Failure, second: Chances | Failure) -> Edge | Failure:
    """The edge of the answers to two orders, each a log-probability per candidate as shown there.

    A tie is no preference: whoever counts gives two equal candidates the same score in any order,
    so the orders alone would not find it.
    """
    if isinstance(first, Failure):
        return first
    if isinstance(second, Failure):
        return second
    chance = np.exp([_normal(first.logs), _normal(second.logs[::-1])])  # in the order of the first
    best, worst = chance.argmax(1), chance.argmin(1)
    weight = float(chance[:, best[0]].mean() - chance[:, worst[0]].mean())
    if best[0] != best[1] or worst[0] != worst[1] or weight <= 0:
        return Failure(UNDECIDED, "the answer turns with the order of the candidates")
    ranked = np.sort(chance, axis=1)
    if (np.abs(ranked[:, [-1, 0]] - ranked[:, [-2, 1]]) <= TIE).any():
        return Failure(UNDECIDED, "candidates tie for the best or the worst place")
    return Edge(int(best[0]), int(worst[0]), weight)


def _edge_dossier(
    user: str, watched: tuple[str, ...], shown: tuple[str, ...], answers: Answers
) -> Dossier:
    named = zip(LETTERS, shown, strict=False)
    lines = [f"{letter}{CANDIDATE}{line(answers[video], None)}" for letter, video in named]
    text = "\n".join([*_history(watched, answers), "", *lines, "", PreferenceEdges.ask()])
    tokens = PreferenceEdges.max_tokens
    return Dossier(user, Request(user, (text,), None, tokens), watched, shown)


def _watched(
    train: Dataset, answers: Answers, most: int, cut: float
) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Of each user the newest videos, among the first interactions up to the cut, of which anything
    was said, oldest first, and how many interactions lie before the cut; users with none are passed
    over."""
    for row, user in enumerate(train.users):
        history = train.history(row)
        read = int(cut * len(history))
        newest = dict.fromkeys(train.items[item] for item in history[:read][::-1])
        told = [video for video in newest if line(answers.get(video, {}), None)][:most]
        if told:
            yield user, tuple(told[::-1]), read


def _history(watched: Sequence[str], answers: Answers) -> list[str]:
    return [f"{WATCHED}{line(answers[video], None)}" for video in watched]


def _normal(log_chance: Sequence[float]) -> np.ndarray:
    """The same as log-probabilities among the choices alone."""
    values = np.array(log_chance)
    return values - np.logaddexp.reduce(values)
