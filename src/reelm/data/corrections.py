"""What people corrected in notes: lines that are only ever added, one file per prompt.

A correction belongs to a content (the SHA-256 of a video's file) and a prompt, not to a notes
folder: it wins over whatever a model says of that content, now or when it is asked again, and
copies of the file get it too. Where there is no file, it belongs to the id.
"""

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from reelm import files
from reelm.errors import StaleFolder

FOLDER = "corrections"
MODEL = "model"  # what a first correction replaces

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Correction:
    """A version of a note that a person wrote."""

    video_id: str
    sha256: str | None
    """Of the video's file; None if there is none."""
    fields: dict[str, Any]
    """What was changed; these win over what a model says."""
    answer: dict[str, Any]
    """The whole note as it then stood, for when a model says nothing."""
    prompt_version: int
    author: str
    time: float
    """Seconds UTC."""
    why: str = ""
    notes: str = ""
    """Name of the notes folder that was corrected."""
    replaces: str = MODEL
    """Key of the correction before it of the same content, or MODEL."""

    @property
    def key(self) -> str:
        """Twelve hex digits that name this version."""
        return files.digest(_line(self))

    @property
    def subject(self) -> tuple[str, str]:
        """What it is about."""
        return subject(self.video_id, self.sha256)


def subject(video_id: str, sha256: str | None) -> tuple[str, str]:
    """What a note is about: its content, or where there is none its id."""
    return ("content", sha256) if sha256 else ("id", video_id)


def id_column(table: pl.DataFrame) -> str:
    """The column that says whom or what the rows of a notes table are about."""
    return "user_id" if "user_id" in table.columns else "video_id"


class Corrections:
    """All corrections of one prompt, in the order they were made."""

    def __init__(self, work: Path, prompt: str) -> None:
        self.path = work / FOLDER / f"{prompt}.jsonl"

    @classmethod
    def of(cls, notes: Path) -> "Corrections":
        """Those that apply to a notes folder `work/notes/<prompt>-<key>`."""
        prompt = files.manifest(notes).get("settings", {}).get("prompt", {}).get("name")
        return cls(notes.resolve().parent.parent, prompt or notes.name.rpartition("-")[0])

    def all(self) -> list[Correction]:
        """Every correction. Lines that cannot be read, such as one cut by a kill, are left out
        and told of in the log."""
        if not self.path.is_file():
            return []
        *lines, rest = self.path.read_bytes().split(b"\n")
        if rest:
            log.warning("%s: its last line was cut short and is left out", self.path)
        read = [self._read(number, line) for number, line in enumerate(lines, 1)]
        return [one for one in read if one is not None]

    def history(self, video_id: str, sha256: str | None) -> list[Correction]:
        """Versions of one note, oldest first."""
        about = subject(video_id, sha256)
        return [one for one in self.all() if one.subject == about]

    def add(self, made: Correction, expected: str | None = None) -> Correction:
        """Append a version and see it to the disk; safe beside other writers.

        Args:
            made: `replaces` and `time` are set here.
            expected: key of the version that its author saw (or MODEL); None if that does not
                matter.

        Raises:
            StaleFolder: somebody else corrected the same note since its author looked.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file, files.locked(file.fileno()):
            self._drop_cut(file.fileno())
            before = self.history(made.video_id, made.sha256)
            replaces = before[-1].key if before else MODEL
            if expected not in (None, replaces):
                raise StaleFolder(
                    f"{made.video_id}: {before[-1].author if before else 'somebody'} corrected "
                    "this note since you looked at it. Look again, then correct."
                )
            values = asdict(made) | {"replaces": replaces, "time": round(time.time(), 3)}
            made = Correction(**values)
            file.write(_line(made) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return made

    def _drop_cut(self, handle: int) -> None:
        """Take away what a killed writer left of its line; called with the file locked."""
        whole = self.path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            log.warning("%s: its last line was cut short and is taken away", self.path)
            os.ftruncate(handle, end)

    def _read(self, number: int, line: bytes) -> Correction | None:
        try:
            return Correction(**json.loads(line))
        except (ValueError, TypeError) as error:
            log.warning("%s line %d is left out, it is no correction: %s", self.path, number, error)
            return None


@dataclass(frozen=True)
class Applied:
    """The corrections that apply to a notes folder, by the ids of its rows."""

    versions: Mapping[str, Sequence[Correction]]

    @classmethod
    def to(cls, table: pl.DataFrame, corrections: Sequence[Correction]) -> "Applied":
        """Those of `corrections` that are about rows of a table with `video_id` or `user_id`, and
        where it has it `sha256`."""
        found: dict[tuple[str, str], list[Correction]] = {}
        for one in corrections:
            found.setdefault(one.subject, []).append(one)
        if not found:
            return cls({})
        shas = table["sha256"].to_list() if "sha256" in table.columns else [None] * len(table)
        pairs = zip(table[id_column(table)].to_list(), shas, strict=True)
        rows = {name: found.get(subject(name, sha), []) for name, sha in pairs}
        return cls({name: some for name, some in rows.items() if some})

    @property
    def digest(self) -> str | None:
        """Changes when another version applies; None if none does."""
        keys = sorted((name, some[-1].key) for name, some in self.versions.items())
        return files.digest(json.dumps(keys).encode()) if keys else None

    def corrected(self, table: pl.DataFrame, version: int | None) -> pl.DataFrame:
        """The table with corrected answers, and in `correction` the key of the version that won.

        Args:
            version: of the prompt that the table's answers are to.
        """
        names = table[id_column(table)].to_list()
        answers = [
            merged(answer, self.versions[name], version) if name in self.versions else answer
            for name, answer in zip(names, table["answer"].to_list(), strict=True)
        ]
        keys = [self.versions[n][-1].key if n in self.versions else None for n in names]
        told = pl.Series("correction", keys, dtype=pl.String)
        table = table.with_columns(pl.Series("answer", answers, dtype=pl.String), told)
        wrong = [c for c in ("error_kind", "error") if c in table.columns]
        healed = told.is_not_null() & pl.Series(answers, dtype=pl.String).is_not_null()
        return table.with_columns(pl.when(~healed).then(pl.col(c)).alias(c) for c in wrong)


def merged(answer: str | None, versions: Sequence[Correction], version: int | None) -> str | None:
    """A model's answer as JSON with the corrections laid over it.

    A field that the answer does not have was another question's: it is left out. Where the model
    said nothing, the last whole correction of the same question stands for it.
    """
    said = json.loads(answer) if answer else None
    if not isinstance(said, dict):
        same = [one for one in versions if version in (None, one.prompt_version)]
        if not same:
            return answer
        said = dict(same[-1].answer)
    else:
        for one in versions:
            said |= {name: value for name, value in one.fields.items() if name in said}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"))


def _line(made: Correction) -> bytes:
    return json.dumps(asdict(made), ensure_ascii=False, sort_keys=True).encode()
