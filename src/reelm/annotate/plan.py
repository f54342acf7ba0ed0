"""What is asked in which folder, by which settings, and how the folder is filled."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from reelm import files
from reelm.annotate.asking import Asker, Loaded, Made, Outcome, Question, Todo
from reelm.annotate.sheets import VIDEOS, Form, Key, Sheet, open_sheet
from reelm.annotate.texts import Kind, blocks, told
from reelm.backends.base import Backend
from reelm.cost import Ledger
from reelm.data.preferences import LETTERS
from reelm.data.tables import Catalog
from reelm.dossiers import MOST, TOP
from reelm.engine import DecodeConfig, Video, to_open
from reelm.prompts.base import Prompt

VERSION = 2  # pictures come from JPEG since, and answers hang on them


class AnnotateConfig(DecodeConfig):
    """Section [annotate]."""

    part: PositiveInt = 64
    """Videos, or users, per file of answers; at most this many answers are lost when the run is
    killed."""
    limit: PositiveInt | None = None
    """Only the first so many videos or users."""
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
    watched: PositiveInt = MOST
    """About users: watched videos whose notes are shown, the newest."""
    cut: float = Field(default=1.0, gt=0, le=1)
    """About users: share of each one's training interactions that is looked at, the first ones.
    Below 1 a model of sequences can learn from what comes after them without having been told of
    it; .5 for slim."""
    share: float = Field(default=1.0, gt=0, le=1)
    """About users: share of them that is asked about, drawn by their ids; for a dear model that a
    cheap one learns from."""
    candidates: int = Field(default=TOP, ge=2, le=len(LETTERS))
    """About users, for preference_edges: the base's best videos that are compared."""


SAME = {"seconds", "memory_mb", "longest"}  # settings that can change what is answered
TEXTS = {"texts", "text_longest"}
APART = TEXTS | {"part"}  # what these come to for one video stands in its row


class Plan:
    """A question, the folder of its answers, and all that its key hashes."""

    def __init__(
        self,
        question: Question,
        settings: dict[str, Any],
        inputs: dict[str, Any],
        listed: dict[str, str],
        notes: Path,
        form: Form = VIDEOS,
    ) -> None:
        """
        Args:
            settings: what an answer depends on, and those that APART names.
            inputs: what an answer depends on but for what it is about.
            listed: digest of all that is asked about, by a name for it.
            notes: the folder of notes folders.
        """
        self.question, self.form = question, form
        prompt = question.prompt
        about = {"name": prompt.name, "version": prompt.version, "question": question.text}
        self._settings = {
            "prompt": about,
            "schema": files.digest(json.dumps(question.schema).encode()),
            "max_tokens": prompt.max_tokens,
            **settings,
        }
        alone = {k: v for k, v in self._settings.items() if k not in APART}
        self.asked = files.key("ask", VERSION, alone, inputs)
        self._inputs = inputs | listed
        self._key = files.key("annotate", VERSION, self._settings, self._inputs)
        self.folder = notes / f"{prompt.name}-{self._key}"
        self._sheet: Sheet | None = None

    @classmethod
    def of_videos(
        cls,
        prompt: type[Prompt],
        backend: Backend,
        wanted: Sequence[tuple[Video, str]],
        config: AnnotateConfig,
        work: Path,
    ) -> "Plan":
        """A question about videos."""
        include = SAME | {"part"} | (TEXTS if config.texts else set())
        kept = {"view": asdict(backend.view), **config.model_dump(include=include)}
        listed = json.dumps([(v.sha256, *v.ids, *([[text]] if text else [])) for v, text in wanted])
        return cls(
            Question.of(prompt, backend), kept, {"backend": backend.identity()},
            {"videos": files.digest(listed.encode())}, work / "notes",
        )  # fmt: skip

    def unfinished(self, retry_failed: bool) -> bool:
        """True if something is left to ask."""
        if not files.finished(self.folder):
            return True
        return retry_failed and files.manifest(self.folder)["failed"] > 0

    def open(self, contents: set[Key], again: bool, fill: bool = True) -> Sheet:
        """The folder, ready to be filled; or only what is known, if nothing will be yet."""
        self._sheet = open_sheet(self.folder, self.asked, self.question, contents, again, self.form)
        if again and fill:
            self._sheet.drop_failed()
        return self._sheet

    @property
    def sheet(self) -> Sheet:
        """The folder, once it was opened."""
        assert self._sheet is not None, "it was not opened"
        return self._sheet

    def finish(self, **sources: Any) -> None:
        """Write the manifest of a folder that was filled.

        Args:
            sources: further inputs, which are no part of the key.
        """
        self.sheet.drop_held()
        cost = Ledger(self.folder).total()
        files.finish(
            self.folder, stage="annotate", version=VERSION, key=self._key,
            settings=self._settings, inputs=self._inputs | sources,
            schema=self.question.schema,
            seconds=cost["seconds"], cost=cost, **self.sheet.outcome(),
        )  # fmt: skip


def to_watch(catalog: Catalog, config: AnnotateConfig, work: Path) -> list[tuple[Video, str]]:
    """Videos, each with the texts that are shown beside it.

    Raises:
        BadData: there is no file that can be read, or texts are to be shown that are not there.
    """
    texts = blocks(catalog, config.texts, config.text_longest, work) if config.texts else {}
    return told(to_open(catalog, config.limit), texts)


def opened(
    plans: Sequence[Plan], wanted: Sequence[tuple[Any, str]], again: bool, fill: bool = True
) -> tuple[list[Sheet], list[Todo]]:
    """The folders of plans, and of all that is asked about, which questions are open.

    Args:
        wanted: videos or users, each with the texts that are shown beside it.
        again: what failed is open too, whatever the reason.
        fill: take away the parts that hold failures, if they are asked again.
    """
    contents = {(one.sha256, text) for one, text in wanted}
    sheets = [plan.open(contents, again, fill) for plan in plans]
    return sheets, [open_todo(one, text, sheets) for one, text in wanted]


def open_todo(one: Any, text: str, sheets: Sequence[Sheet]) -> Todo:
    """What is asked about a video or a user: all that the sheets do not know."""
    left = (n for n, sheet in enumerate(sheets) if (one.sha256, text) not in sheet.known)
    return Todo(one, tuple(left), text)


class Notes:
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
