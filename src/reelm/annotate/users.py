"""Asking about users: what they watched in training is told in lines of notes, nothing else.

One row per user of whom there is anything to tell, resumed, kept and reused as notes of videos are.
Each row says which videos were shown and the text that was read. Edges are asked for as a choice
among letters in two orders; what both agree on is the answer, its weight beside it.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import polars as pl

from reelm import dossiers, files, runs
from reelm.annotate import working
from reelm.annotate.asking import Asker, Loaded, Made, Outcome, Question
from reelm.annotate.plan import AnnotateConfig, Notes, Plan, opened
from reelm.annotate.sheets import Form
from reelm.backends.base import Answer, Backend, Chances, Failure, Maker
from reelm.data.split import Split
from reelm.dossiers import Dossier
from reelm.engine import run
from reelm.errors import BadData, ConfigError, MissingInput
from reelm.prompts.base import Prompt
from reelm.prompts.preference_edges import LETTERS, PreferenceEdges
from reelm.sources import Sources, interactions
from reelm.tallies import Answers

LISTS = {"shown": pl.List(pl.String), "candidates": pl.List(pl.String)}
USERS = Form("user_id", "dossier", {"text": pl.String, **LISTS, "read": pl.Int64}, beside=False)


@dataclass(frozen=True)
class Told:
    """A user, and the requests about them: one, or two with the candidates in opposite orders."""

    dossiers: tuple[Dossier, ...]
    copies: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Of the user."""
        return self.dossiers[0].user

    @cached_property
    def sha256(self) -> str:
        """Of all that is read."""
        return hashlib.sha256("\0".join(map(_text, self.dossiers)).encode()).hexdigest()

    @property
    def text(self) -> str:
        """What is read; of two orders the first."""
        return _text(self.dossiers[0])

    @property
    def shown(self) -> list[str]:
        """Ids of the videos that are told of: watched ones, then candidates."""
        return [*self.dossiers[0].watched, *self.dossiers[0].candidates]

    @property
    def candidates(self) -> list[str]:
        """Ids that the letters of the answer stand for."""
        return list(self.dossiers[0].candidates)

    @property
    def read(self) -> int:
        """How many of the user's first training interactions were looked at."""
        return self.dossiers[0].read


def annotate_users(
    sources: Sources,
    backend: Backend | Maker,
    prompt: type[Prompt],
    config: AnnotateConfig,
    work: Path,
    base: Path | None = None,
) -> Path:
    """Fill `work/notes/<prompt>-<key>` with a row per user and return it. Run it again to resume.

    Args:
        sources: catalogue and split, of which the training part alone is read, and notes about
            videos.
        base: run folder of a model trained on the same split, whose best videos are the
            candidates of edges.

    Raises:
        ConfigError: the prompt is about videos, or a cluster is asked for.
        MissingInput: there are no notes, or edges have no base.
        BadData: the base was trained on other data.
        BackendError: nothing comes through (server down?); run it again later.
    """
    if prompt.about != "user":
        raise ConfigError(f"{prompt.name}: asked about videos; see annotate.annotate.")
    if config.engine != "here":
        raise ConfigError("annotate.engine: users are asked about from here; leave it at 'here'.")
    if not sources.notes:
        raise MissingInput(prompt.name, "notes about videos", (), "reelm annotate, then --notes")
    bare = sources.model_copy(update={"features": {}, "edges": None, "profiles": {}})
    split = bare.read()
    found = _told(prompt, split, dossiers.said(sources.notes), config, base)
    if not found:
        raise BadData(
            f"{prompt.name}: of no user do these notes say anything about what was watched in "
            f"training: {', '.join(map(str, sources.notes))}. Are they about this catalogue?"
        )
    wanted = [one for one in found if dossiers.drawn(one.id, config.share)][: config.limit]
    with working(backend, [prompt], config, work) as (speaker, _):
        plan = _plan(prompt, speaker, wanted, config, work)
        if plan.unfinished(config.retry_failed):
            sheets, todos = opened([plan], [(one, "") for one in wanted], config.retry_failed)
            kind = _Choosing if prompt is PreferenceEdges else _Reading
            asker = kind(speaker, [plan.question], None, config.patience_s)
            label = f"annotate {prompt.name}"
            run(Notes(sheets, asker, speaker.device), todos, config.part, label)
            bare.save(plan.folder)
            plan.finish(
                catalog=str(sources.catalog), notes=list(map(str, sources.notes)),
                base=str(base) if base else None, split=split.name,
                train=interactions(split.train),
            )  # fmt: skip
    return plan.folder


def _told(
    prompt: type[Prompt], split: Split, answers: Answers, config: AnnotateConfig, base: Path | None
) -> list[Told]:
    most = config.watched
    if prompt is PreferenceEdges:
        if base is None:
            raise MissingInput(prompt.name, "a base", (), "reelm train, then --base <run folder>")
        told = split, runs.load(base), answers, most, config.candidates, config.cut
        return [Told(both) for both in dossiers.edge_dossiers(*told)]
    told = split, answers, most, prompt, config.cut
    return [Told((one,)) for one in dossiers.profile_dossiers(*told)]


def _plan(
    prompt: type[Prompt],
    speaker: Backend,
    wanted: Sequence[Told],
    config: AnnotateConfig,
    work: Path,
) -> Plan:
    question = Question(prompt, prompt.ask(), prompt.schema())
    listed = json.dumps([(one.id, one.sha256, one.shown, one.read) for one in wanted])
    settings = {"about": "user", "part": config.part}
    inputs = {"backend": speaker.identity()}
    users = {"users": files.digest(listed.encode())}
    return Plan(question, settings, inputs, users, work / "notes", USERS)


class _Reading(Asker):
    """Asks for an answer about each user."""

    def load(self, tasks: Sequence) -> Loaded:
        return [
            (todo, [one.request for one in todo.video.dossiers] if todo.asked else [])
            for todo in tasks
        ]


class _Choosing(_Reading):
    """Asks for the probability of each letter, in both orders."""

    def make(self, loaded: Loaded) -> Made:
        pairs = [(todo, requests) for todo, requests in loaded if not isinstance(requests, Failure)]
        asked = [
            (request, LETTERS[: len(todo.video.candidates)])
            for todo, requests in pairs
            for request in requests
        ]
        begun = time.perf_counter()
        said = iter(self._way.through(asked, partial(_choose, self._backend)))
        taken_s = (time.perf_counter() - begun) / max(1, len(asked) // 2)
        return [
            (todo, [_decided(next(said), next(said), taken_s)] if todo.asked else [])
            for todo, _ in pairs
        ]


def _choose(backend: Backend, asked: Sequence) -> list:
    return backend.choose([request for request, _ in asked], [some for _, some in asked])


def _decided(first: Chances | Failure, second: Chances | Failure, taken_s: float) -> Outcome:
    """The letters of the edge, by the order that was shown first, as an answer, at the price of
    both orders, whatever comes of them."""
    edge = dossiers.decided(first, second)
    tokens = first.tokens_in + second.tokens_in, first.tokens_out + second.tokens_out
    if isinstance(edge, Failure):
        return Failure(edge.kind, edge.message, *tokens, taken_s)
    named = {"liked": LETTERS[edge.best], "disliked": LETTERS[edge.worst], "weight": edge.weight}
    return Answer(json.dumps(named, separators=(",", ":")), *tokens, taken_s)


def _text(one: Dossier) -> str:
    return "\n".join(part for part in one.request.parts if isinstance(part, str))
