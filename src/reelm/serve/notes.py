"""Notes folders as the service tells them: answers by video, and where they come from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelm.data.tables import read_notes
from reelm.provenance import provenance_of


@dataclass(frozen=True)
class Notes:
    """What models said of the videos."""

    answers: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Answer fields by video id; several prompts are merged."""
    provenance: Sequence[Mapping[str, Any]] = ()
    """Where the answers come from, one entry per notes folder; see `reelm.provenance`."""


def load_notes(folders: Sequence[Path]) -> Notes:
    """The answers of several notes folders, merged by video: later folders win. What people
    corrected before now is taken in.

    Raises:
        BadData: a folder is not finished.
    """
    answers: dict[str, dict[str, Any]] = {}
    for folder in folders:
        table = read_notes(folder)
        for video, answer in zip(table["video_id"], table["answer"], strict=True):
            answers.setdefault(video, {}).update(_fields(answer))
    return Notes(answers, [provenance_of(folder) for folder in folders])


def _fields(answer: str | None) -> dict[str, Any]:
    """An answer as stored: JSON text of an object; failed rows have none."""
    value = json.loads(answer) if answer else {}
    return value if isinstance(value, dict) else {}
