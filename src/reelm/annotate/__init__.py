"""Verb: ask a multimodal model about every video, and keep what it said or why it did not.

One row per video, in parts that appear whole; a run that is killed goes on where it stopped. A
video's file is decoded while the model answers about the files before it. Several questions are
asked on one watching. What the model was asked before, about the same content in the same way, it
is not asked again.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from reelm import files
from reelm.annotate.asking import Asker, Elsewhere, Loaded, Made, Outcome, Question, Todo
from reelm.annotate.sheets import Sheet, open_sheet
from reelm.annotate.texts import Kind, blocks, told
from reelm.backends.base import Backend, Maker
from reelm.backends.blocks.about import Absent, about
from reelm.backends.blocks.replicas import Replicas
from reelm.cluster import Cluster
from reelm.cost import Ledger
from reelm.data.tables import Catalog
from reelm.engine import DecodeConfig, Decoder, Video, run, videos
from reelm.errors import ConfigError
from reelm.prompts.base import Prompt

VERSION = 1


class AnnotateConfig(DecodeConfig):
    """Section [annotate]."""

    part: PositiveInt = 64
    """Videos per file of answers; at most this many answers are lost when the run is killed."""
    limit: PositiveInt | None = None
    """Only the first so many videos."""
    replicas: NonNegativeInt = 1
    """Processes that each hold the model, so that a request it cannot survive ends one of them
    and not the run; 0 loads it into this process. A model behind a server needs none. On a
    cluster, actors."""
    answer_s: PositiveFloat = 120.0
    """Seconds that a replica may take for one answer, after which it is replaced."""
    patience_s: NonNegativeFloat = 600.0
    """Seconds to wait for a server that nothing comes through to, before the run stops."""
    engine: str = "here"
    """Where the model works: here, or a Ray cluster as `ray://host:port`, `auto` or `local`."""
    needs: dict[str, float] = Field(default_factory=dict)
    """What Ray must find for each replica, such as {num_gpus = 1}."""
    texts: tuple[Kind, ...] = ()
    """What is shown beside the pictures: title (with hashtags), comments, speech (what `reelm
    transcribe` heard), in this order."""
    text_longest: PositiveInt = 600
    """Characters of each kind of text that are shown of a video."""
    retry_failed: bool = False
    """Ask again about what failed, also where a run was finished."""


SAME = {"seconds", "memory_mb", "longest"}  # settings that can change what is answered


def annotate(
    catalog: Catalog,
    backend: Backend | Maker,
    prompt: type[Prompt],
    config: AnnotateConfig,
    work: Path,
) -> Path:
    """Fill `work/notes/<prompt>-<key>` and return it; see `annotate_all`."""
    return annotate_all(catalog, backend, [prompt], config, work)[0]


def annotate_all(
    catalog: Catalog,
    backend: Backend | Maker,
    prompts: Sequence[type[Prompt]],
    config: AnnotateConfig,
    work: Path,
) -> list[Path]:
    """Fill a notes folder for each prompt, watching every video once. Run it again after a kill.

    Every usable video gets a row: the answer as JSON, or the kind and text of what went wrong.
    Files that are copies of another, byte by byte, get its answer without being asked about.

    Args:
        backend: a model that is loaded, or how to make one in processes of its own.

    Raises:
        BackendError: nothing comes through (server down?); run it again later.
        StaleFolder: another process is filling the same folder.
        BadData: texts are to be shown that are not there.
    """
    wanted = _wanted(catalog, config, work)
    with _open(backend, prompts, config, work) as (speaker, hands):
        plans = [_Plan(prompt, speaker, wanted, config, work) for prompt in prompts]
        left = [plan for plan in plans if plan.unfinished(config.retry_failed)]
        if left:
            _fill(left, speaker, wanted, config, work, hands)
        for plan in left:
            plan.finish(catalog.folder)
    return [plan.folder for plan in plans]


def summary(folder: Path) -> str:
    """What came of it, in a line: rows, failures by their kind, and how many of the model's answers
    obeyed the schema, at once or after a repair."""
    facts = files.manifest(folder)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(facts["failures"].items()))
    told = f"{facts['settings']['prompt']['name']}: {facts['rows']} rows, {facts['failed']} failed"
    told += f" ({kinds})" if kinds else ""
    valid = facts.get("valid") or {}
    if not (total := sum(valid.values())):
        return told
    first, repair, never = (f"{valid[k] / total:.1%}" for k in ("first", "repair", "never"))
    return f"{told}; answers valid at first {first}, after a repair {repair}, never {never}"


def _wanted(catalog: Catalog, config: AnnotateConfig, work: Path) -> "list[tuple[Video, str]]":
    """What to watch, with the texts that are shown beside it."""
    texts = blocks(catalog, config.texts, config.text_longest, work) if config.texts else {}
    return told(videos(catalog, config.limit), texts)


def _fill(
    plans: "Sequence[_Plan]",
    speaker: Backend,
    wanted: Sequence[tuple[Video, str]],
    config: AnnotateConfig,
    work: Path,
    hands: Any,
) -> None:
    contents = {(video.sha256, text) for video, text in wanted}
    sheets = [plan.open(contents, config.retry_failed) for plan in plans]
    todos = [
        Todo(v, tuple(n for n, one in enumerate(sheets) if (v.sha256, text) not in one.known), text)
        for v, text in wanted
    ]
    questions = [plan.question for plan in plans]
    label = f"annotate {', '.join(question.prompt.name for question in questions)}"
    with Decoder(work, speaker.view.moments, config) as decoder:
        asker = Asker(speaker, questions, decoder, config.patience_s)
        run(_Notes(sheets, asker, speaker.device), todos, config.part, label, hands)


class _Plan:
    """What is asked in which folder."""

    def __init__(
        self,
        prompt: type[Prompt],
        backend: Backend,
        wanted: Sequence[tuple[Video, str]],
        config: AnnotateConfig,
        work: Path,
    ) -> None:
        self.question = question = Question.of(prompt, backend)
        about = {"name": prompt.name, "version": prompt.version, "question": question.text}
        self._settings = {
            "prompt": about,
            "schema": files.digest(json.dumps(question.schema).encode()),
            "max_tokens": prompt.max_tokens,
            "view": asdict(backend.view),
            **config.model_dump(include=SAME | {"part"}),
        }
        self._inputs: dict[str, Any] = {"backend": backend.identity()}
        alone = {k: v for k, v in self._settings.items() if k != "part"}
        self._asked = files.key("ask", VERSION, alone, self._inputs)
        if config.texts:  # what they are of one video stands in its row
            self._settings |= config.model_dump(include={"texts", "text_longest"})
        listed = json.dumps([(v.sha256, *v.ids, *([[text]] if text else [])) for v, text in wanted])
        self._inputs |= {"videos": files.digest(listed.encode())}
        self._key = files.key("annotate", VERSION, self._settings, self._inputs)
        self.folder = work / "notes" / f"{prompt.name}-{self._key}"
        self._sheet: Sheet | None = None

    def unfinished(self, retry_failed: bool) -> bool:
        """True if something is left to ask."""
        if not files.finished(self.folder):
            return True
        return retry_failed and files.manifest(self.folder)["failed"] > 0

    def open(self, contents: set[tuple[str, str]], again: bool) -> Sheet:
        """The folder, ready to be filled."""
        self._sheet = open_sheet(self.folder, self._asked, self.question, contents, again)
        if again:
            self._sheet.drop_failed()
        return self._sheet

    def finish(self, catalog: Path) -> None:
        """Write the manifest of a folder that was filled."""
        assert self._sheet is not None, "it was not opened"
        cost = Ledger(self.folder).total()
        files.finish(
            self.folder, stage="annotate", version=VERSION, key=self._key,
            settings=self._settings, inputs=self._inputs | {"catalog": str(catalog)},
            schema=self.question.schema,
            seconds=cost["seconds"], cost=cost, **self._sheet.outcome(),
        )  # fmt: skip


class _Notes:
    """The stage as the engine sees it."""

    def __init__(self, sheets: Sequence[Sheet], asker: Asker, device: str) -> None:
        self.folders, self.device = [sheet.folder for sheet in sheets], device
        self._sheets, self._asker = {sheet.folder: sheet for sheet in sheets}, asker

    def path(self, folder: Path, number: int) -> Path:
        return self._sheets[folder].path(number)

    def load(self, tasks: Sequence[Todo]) -> Loaded:
        return self._asker.load(tasks)

    def make(self, loaded: Loaded) -> Made:
        return self._asker.make(loaded)

    def keep(self, number: int, made: Made) -> list[dict[str, Any]]:
        """A part of each sheet; the time is shared out by the seconds of the answers."""
        columns: list[list[tuple[Todo, Outcome | None]]] = [[] for _ in self._sheets]
        for todo, outcomes in made:
            said = dict(zip(todo.asked, outcomes, strict=True))
            for n, column in enumerate(columns):
                column.append((todo, said.get(n)))
        taken = [sum(getattr(o, "seconds", 0.0) for _, o in column) for column in columns]
        shares = [t / sum(taken) if sum(taken) else 1 / len(taken) for t in taken]
        return [
            sheet.write(number, column) | {"share": share}
            for sheet, column, share in zip(self._sheets.values(), columns, shares, strict=True)
        ]


@contextmanager
def _open(
    backend: Backend | Maker, prompts: Sequence[type[Prompt]], config: AnnotateConfig, work: Path
) -> Iterator[tuple[Backend, Any]]:
    """The model, as given, made here, or in processes of its own; and the hands, if not ours."""
    if config.engine != "here":
        with _there(backend, prompts, config, work) as both:
            yield both
    elif isinstance(backend, Backend):
        yield backend, None
    else:
        apart = config.replicas and not backend.kind.remote
        made = Replicas(backend, config.replicas, config.answer_s) if apart else backend()
        try:
            yield made, None
        finally:
            made.close()


@contextmanager
def _there(
    backend: Backend | Maker, prompts: Sequence[type[Prompt]], config: AnnotateConfig, work: Path
) -> Iterator[tuple[Backend, Any]]:
    """What is known here of a model on a cluster, and the cluster's hands.

    Raises:
        ConfigError: the model is loaded already, and here.
    """
    if isinstance(backend, Backend):
        raise ConfigError(
            "annotate.engine: a backend that is loaded here cannot work on a cluster; "
            "give a backends.base.Maker instead."
        )
    names = [prompt.name for prompt in prompts]
    limits = config.answer_s, config.patience_s
    make = Elsewhere(backend, tuple(prompts), config, work.resolve(), *limits)
    with Cluster(config.engine, config.needs) as cluster:
        speaker = Absent(cluster.call(about, backend, names))
        yield speaker, cluster.hands(make, max(1, config.replicas))
