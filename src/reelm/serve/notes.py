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
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Where the answers of single videos come from, which are in no notes folder."""

    def sources(self, video: str) -> list[dict[str, Any]]:
        """Where the answers about one video come from; none if there are none."""
        if video not in self.answers:
            return []
        own = self.own.get(video)
        return [dict(own)] if own is not None else [dict(one) for one in self.provenance]


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
            answers.setdefault(video, {}).update(fields_of(answer))
    return Notes(answers, [provenance_of(folder) for folder in folders])


def fields_of(answer: str | None) -> dict[str, Any]:
    """An answer as stored: JSON text of an object; failed rows have none."""
    value = json.loads(answer) if answer else {}
    return value if isinstance(value, dict) else {}
