"""Verb: write notes out as material to tune a model on, as `reelm tune --on` reads it.

What a large model said of a few, a small one learns to say of all; what people corrected, any model
learns.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelm import files
from reelm.backends.base import show
from reelm.data.corrections import id_column
from reelm.data.tables import read_notes
from reelm.errors import BadData, MediaError
from reelm.media.views import Picture
from reelm.provenance import save, seen_one


@dataclass(frozen=True)
class Written:
    """What writing lessons came to."""

    path: Path
    rows: int
    left_out: dict[str, str] = field(default_factory=dict)
    """Id of the video or the user to why its line is missing."""


def lessons(notes: Path, out: Path) -> Written:
    """Write every answer of a notes folder as a line, pictures beside them in `<stem>_frames/`.

    A line has `messages` (what was read, with a place for each picture, then the answer, corrected
    where people did), `images` (paths of the pictures, as seen from the file's folder), `prompt`
    and `video_id` or `user_id`.

    Raises:
        BadData: the notes are not finished, or hold no answer.
    """
    table = read_notes(notes)
    prompt = files.manifest(notes)["settings"]["prompt"]["name"]
    about = id_column(table)
    lines, left_out = [], {}
    for row in table.to_dicts():
        if not row["answer"]:
            left_out[row[about]] = row.get("error_kind") or "no answer"
            continue
        try:
            shown = seen_one(notes, row[about]) if row.get("sha256") else []
        except (BadData, MediaError) as error:
            left_out[row[about]] = str(error)
            continue
        said = lesson(notes, row, json.loads(row["answer"]), shown, out)
        lines.append(said | {"prompt": prompt, about: row[about]})
    if not lines:
        raise BadData(f"{notes}: no answer in these notes that could be learned.")
    write(out, lines)
    return Written(out, len(lines), left_out)


def lesson(
    notes: Path,
    row: Mapping[str, Any],
    answer: Mapping[str, Any],
    shown: list[Picture],
    out: Path,
    stem: str = "",
) -> dict[str, Any]:
    """`messages` and `images` of a line.

    Args:
        row: of the notes, about a video or a user.
        answer: what is to be learned.
        shown: what the model saw; written beside `out`.
        stem: begins the names of the pictures' files; the content's digest if empty.
    """
    stem = stem or (row.get("sha256") or "")[:16]
    paths = save(shown, out.parent / f"{out.stem}_frames", f"{stem}-")
    # of users the whole text that was read, whose end is the question
    question = row.get("text") or files.manifest(notes)["settings"]["prompt"]["question"]
    content = [
        {"type": "image"} if isinstance(part, Picture) else {"type": "text", "text": part}
        for part in show(shown, question)
    ]
    said = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    return {
        "messages": [
            {"role": "user", "content": content},
            {"role": "assistant", "content": [{"type": "text", "text": said}]},
        ],
        "images": [str(path.relative_to(out.parent)) for path in paths],
    }


def write(out: Path, lines: list[dict[str, Any]]) -> None:
    """Write lines as JSON lines."""
    files.write_text(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
