"""Verb: listen to every video once, and keep what was said in a notes folder.

The folder is one of the prompt `speech`, so notes of speech are looked at, corrected and encoded
like any others, and can be shown to a model that is asked about the same videos.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from reelm import files
from reelm.annotate.asking import MEDIA, Made, Outcome, Question, Todo
from reelm.annotate.hearing import RATE, Wave, Whisper, identity, spoken
from reelm.annotate.sheets import Sheet, open_sheet
from reelm.annotate.way import halving
from reelm.backends.base import Answer, Failure
from reelm.cost import Ledger
from reelm.data.tables import Catalog
from reelm.engine import DecodeConfig, Video, run, to_open
from reelm.errors import MediaError
from reelm.media.guard import Guard
from reelm.media.sound import sound
from reelm.prompts.speech import NONE, Speech

VERSION = 1
SILENCE = 1e-3  # loudest sample below which nobody is listened for; full scale is 1


class TranscribeConfig(DecodeConfig):
    """Section [transcribe]."""

    model: str = Field(examples=["models/whisper-small"])
    """Folder of a Whisper checkpoint with its processor."""
    language: str | None = None
    """Code such as en, if all videos speak the same; else the model tells it of each."""
    no_speech: float = Field(default=0.6, ge=0, le=1)
    """Probability of a pause above which words that are improbable too are left out."""
    longest_s: PositiveFloat = 300.0
    """Seconds from the start that are listened to."""
    device: str = "cpu"
    """Where the model works: cpu, cuda …"""
    batch: PositiveInt = 8
    """Videos that are listened to together."""
    part: PositiveInt = 64
    """Videos per file of answers; at most this many are lost when the run is killed."""
    limit: PositiveInt | None = None
    """Only the first so many videos."""
    retry_failed: bool = False
    """Listen again to what failed, also where a run was finished."""


HEARD = {"language", "no_speech", "longest_s", "seconds", "memory_mb"}  # what can change notes


def transcribe(catalog: Catalog, config: TranscribeConfig, work: Path) -> Path:
    """Fill `work/notes/speech-<key>` and return it. Run it again to go on after a kill.

    Raises:
        BackendError: the folder holds no Whisper model.
        StaleFolder: another process is filling the same folder.
    """
    wanted = to_open(catalog, config.limit)
    question = Question(Speech, Speech.ask(), Speech.schema())
    about = {"name": Speech.name, "version": Speech.version, "question": question.text}
    settings = {"prompt": about, **config.model_dump(include=HEARD)}
    inputs: dict[str, Any] = {"backend": identity(Path(config.model))}
    asked = files.key("listen", VERSION, settings, inputs)
    settings["part"] = config.part
    inputs["videos"] = files.digest(json.dumps([(v.sha256, *v.ids) for v in wanted]).encode())
    key = files.key("transcribe", VERSION, settings, inputs)
    folder = work / "notes" / f"{Speech.name}-{key}"
    again = config.retry_failed
    if files.finished(folder) and not (again and files.manifest(folder)["failed"]):
        return folder
    sheet = open_sheet(folder, asked, question, {(v.sha256, "") for v in wanted}, again)
    if again:
        sheet.drop_failed()
    _listen(sheet, wanted, config)
    sheet.drop_held()
    cost = Ledger(folder).total()
    return files.finish(
        folder, stage="transcribe", version=VERSION, key=key, settings=settings,
        inputs=inputs | {"catalog": str(catalog.folder)}, schema=question.schema,
        seconds=cost["seconds"], cost=cost, **sheet.outcome(),
    )  # fmt: skip


def _listen(sheet: Sheet, wanted: Sequence[Video], config: TranscribeConfig) -> None:
    todos = [Todo(v, () if (v.sha256, "") in sheet.known else (0,)) for v in wanted]
    with Guard(config.workers, config.seconds, config.memory_mb * 2**20) as guard:
        run(_Listening(sheet, guard, config), todos, config.part, "transcribe")


Sounds = list[tuple[Todo, Wave | Failure | None]]


class _Listening:
    """The stage as the engine sees it."""

    def __init__(self, sheet: Sheet, guard: Guard, config: TranscribeConfig) -> None:
        self.folders, self.device = [sheet.folder], config.device
        self._sheet, self._guard, self._config = sheet, guard, config
        self._listening = Lock()
        how = config.language, config.no_speech, config.device
        self._ears = Whisper(Path(config.model), *how)

    def path(self, folder: Path, number: int) -> Path:
        return self._sheet.path(number)

    def load(self, tasks: Sequence[Todo]) -> Sounds:
        """Each video with its sound, or with why it has none; None where nothing is asked."""
        given = [(todo.video.path, self._config.longest_s) for todo in tasks if todo.asked]
        with self._listening:  # the engine loads parts side by side
            read = iter([w for _, w in self._guard.map(track, given, label=lambda one: one[0])])
        return [(todo, _usable(next(read)) if todo.asked else None) for todo in tasks]

    def make(self, loaded: Sounds) -> Made:
        """Each video with what was heard."""
        waves = [one for _, one in loaded if isinstance(one, np.ndarray) and _loud(one)]
        said: list[Outcome] = []
        for at in range(0, len(waves), self._config.batch):
            said += halving(self._hear, waves[at : at + self._config.batch])
        heard = iter(said)
        return [(todo, [_outcome(one, heard)] if todo.asked else []) for todo, one in loaded]

    def keep(self, number: int, made: Made) -> list[dict[str, Any]]:
        return [self._sheet.write(number, [(t, one[0] if one else None) for t, one in made])]

    def _hear(self, waves: list[Wave]) -> list[Outcome]:
        return list(self._ears.hear(waves))


def track(task: tuple[Path, float]) -> Wave:
    """The first seconds of a file's sound; runs in a child process."""
    path, longest_s = task
    return sound(path, RATE, longest_s)


def _usable(wave: Wave | MediaError) -> Wave | Failure:
    if isinstance(wave, MediaError):
        return Failure(MEDIA, wave.why)
    return wave


def _loud(wave: Wave) -> bool:
    return bool(len(wave)) and float(np.abs(wave).max()) > SILENCE


def _outcome(given: Wave | Failure | None, heard: Any) -> Outcome:
    if isinstance(given, Failure):
        return given
    if given is None or not _loud(given):
        return Answer(spoken(NONE, "", ()), 0, 0, 0.0)
    return next(heard)
