"""Notes folders as the service tells them: answers by video, and where they come from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from reelm import files
from reelm.data.tables import read_notes

KEPT_BACK = {"inputs", "machine", "rows", "failed", "seconds", "stage", "key"}
"""Manifest entries that say how a stage ran here, not what the notes are."""


@dataclass(frozen=True)
class Notes:
    """What models said of the videos."""

    answers: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Answer fields by video id; several prompts are merged."""
    provenance: Sequence[Mapping[str, Any]] = ()
    """Where the answers come from: what each notes folder's manifest says, without local paths."""


def load_notes(folders: Sequence[Path]) -> Notes:
    """The answers of several notes folders, merged by video; later folders win.

    Raises:
        BadData: a folder is not finished.
    """
    answers: dict[str, dict[str, Any]] = {}
    for folder in folders:
        table = read_notes(folder)
        for video, answer in zip(table["video_id"], table["answer"], strict=True):
            answers.setdefault(video, {}).update(_fields(answer))
    return Notes(answers, [_provenance(folder) for folder in folders])


def _fields(answer: str | None) -> dict[str, Any]:
    """An answer as stored: JSON text of an object; failed rows have none."""
    value = json.loads(answer) if answer else {}
    return value if isinstance(value, dict) else {}


def _provenance(folder: Path) -> dict[str, Any]:
    facts = {k: v for k, v in files.manifest(folder).items() if k not in KEPT_BACK}
    return {"prompt": folder.name.rpartition("-")[0] or folder.name} | _without_paths(facts)


def _without_paths(value: Any) -> Any:
    """The same with every absolute path cut to its last part."""
    if isinstance(value, Mapping):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    is_path = isinstance(value, str) and PurePath(value).is_absolute()
    return PurePath(value).name if is_path else value
