"""Verb: put right what a model said of a video, and keep it.

A correction is checked as the model's answer would be. Corrected notes can be written out as
material to tune a model on.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reelm import files, prompts
from reelm.backends.blocks.schema import faults
from reelm.data.corrections import FOLDER, Correction, Corrections, merged
from reelm.errors import BadData, ConfigError, MediaError, nearest
from reelm.lessons import Written, lesson, write
from reelm.media.views import Picture
from reelm.prompts.base import Prompt
from reelm.provenance import row_of, seen_one


def correct(
    notes: Path,
    video: str,
    values: Mapping[str, str],
    author: str,
    why: str = "",
    expected: str | None = None,
) -> Correction:
    """Keep a new version of a note; see `data.corrections` for when it applies.

    Args:
        notes: a finished notes folder `work/notes/<prompt>-<key>` that has a row for the video.
        values: new values by field, as a person writes them: words for words, JSON for all else.
        author: whose correction it is.
        expected: key of the version that its author saw; None if that does not matter.

    Raises:
        BadData: the folder has no note about the video.
        ConfigError: a field or value that the question does not allow, or no change at all.
        StaleFolder: somebody else corrected the note since its author looked.
    """
    prompt = _prompt_of(notes)
    given = {name: value_of(prompt, name, text) for name, text in values.items()}
    return amend(notes, video, given, author, why, expected)


def amend(
    notes: Path,
    video: str,
    given: Mapping[str, Any],
    author: str,
    why: str = "",
    expected: str | None = None,
) -> Correction:
    """As `correct`, with values as the question's schema wants them."""
    if not author.strip():
        raise ConfigError("a correction needs an author: --author NAME")
    row, store, prompt = row_of(notes, video), Corrections.of(notes), _prompt_of(notes)
    for name in given:
        _known(prompt, name)
    history = store.history(video, row.get("sha256"))
    before = current(row, history, prompt)
    changed = {n: v for n, v in given.items() if n not in before or before[n] != v}
    if not changed:
        raise ConfigError(f"{video}: nothing was changed; the note says that already.")
    answer = {n: (before | changed)[n] for n in fields_of(prompt) if n in before | changed}
    _check(prompt, answer, video)
    about = {"prompt_version": prompt.version, "author": author.strip(), "time": 0.0}
    made = Correction(
        video, row.get("sha256"), changed, answer, **about, why=why.strip(), notes=notes.name
    )
    return store.add(made, expected)


def current(
    row: Mapping[str, Any], history: Sequence[Correction], prompt: type[Prompt]
) -> dict[str, Any]:
    """The fields of a note as they are read now; none if it failed and nobody corrected it."""
    text = merged(row["answer"], history, prompt.version) if history else row["answer"]
    return json.loads(text) if text else {}


def fields_of(prompt: type[Prompt]) -> dict[str, dict[str, Any]]:
    """Schema of each field of a prompt's answer. People are not bound to a model's words."""
    return prompt.schema(None)["properties"]


def value_of(prompt: type[Prompt], name: str, text: str) -> Any:
    """The value that a person wrote for a field.

    Raises:
        ConfigError: there is no such field, or the text is not JSON where it has to be.
    """
    _known(prompt, name)
    fields = fields_of(prompt)
    if fields[name].get("type", "string") == "string":
        return text.strip()
    try:
        return json.loads(text)
    except ValueError as error:
        kind = fields[name]["type"]
        raise ConfigError(f"{name}: write it as JSON of type {kind}; {text!r} is not.") from error


def _known(prompt: type[Prompt], name: str) -> None:
    fields = fields_of(prompt)
    if name not in fields:
        raise ConfigError(
            f"{prompt.name} has no field {name!r}.{nearest(name, fields)} "
            f"Fields: {', '.join(fields)}."
        )


def _prompt_of(notes: Path) -> type[Prompt]:
    """The question that a notes folder answers."""
    return prompts.find(files.manifest(files.of(notes, "notes"))["settings"]["prompt"]["name"])


def corrections(work: Path, prompt: str | None = None) -> list[tuple[str, Correction]]:
    """All corrections with the names of their prompts, in the order they were made.

    Args:
        prompt: only those of this one.
    """
    found = sorted((work / FOLDER).glob(f"{prompt or '*'}.jsonl"))
    made = [(path.stem, one) for path in found for one in Corrections(work, path.stem).all()]
    return sorted(made, key=lambda pair: pair[1].time)


def export(work: Path, out: Path, prompt: str | None = None) -> Written:
    """Write corrected notes as lines to tune a model on, pictures beside them in `<stem>_frames/`.

    A line has `messages` (the question with a place for each picture, then the corrected answer),
    `images` (paths of the pictures, as seen from the file's folder), `prompt`, `video_id`,
    `sha256`, `author` and `time`. Only the last version of each note is written.

    Args:
        prompt: only corrections of this one.

    Raises:
        BadData: there are no corrections.
    """
    last = {(name, made.subject): made for name, made in corrections(work, prompt)}
    if not last:
        raise BadData(f"{work / FOLDER}: no corrections yet. Make some with `reelm look --edit`.")
    lines, left_out = [], {}
    for (name, _), made in last.items():
        try:
            lines.append(_row(work, out, name, made))
        except (BadData, MediaError) as error:
            left_out[made.video_id] = str(error)
    write(out, lines)
    return Written(out, len(lines), left_out)


def _row(work: Path, out: Path, name: str, made: Correction) -> dict[str, Any]:
    """A line of an export, its pictures written.

    Raises:
        BadData: the notes or the file are gone.
        MediaError: the file can no longer be decoded.
    """
    notes = _notes_of(work, name, made)
    row, prompt = row_of(notes, made.video_id), prompts.find(name)
    history = Corrections.of(notes).history(made.video_id, made.sha256)
    answer = current(row, history, prompt)
    stem = (made.sha256 or made.key)[:16]
    return {
        **lesson(notes, row, answer, _pictures(notes, made), out, stem),
        "prompt": name,
        "video_id": made.video_id,
        "sha256": made.sha256,
        "author": made.author,
        "time": made.time,
    }


def _pictures(notes: Path, made: Correction) -> list[Picture]:
    if not made.sha256:
        return []
    return seen_one(notes, made.video_id)


def _notes_of(work: Path, prompt: str, made: Correction) -> Path:
    """The notes that were corrected, or else the newest to the same prompt."""
    folder = work / "notes" / made.notes
    whole = bool(made.notes) and files.finished(folder)
    return folder if whole else files.latest(work / "notes", f"{prompt}-*")


def _check(prompt: type[Prompt], answer: Mapping[str, Any], video: str) -> None:
    wrong = faults(dict(answer), prompt.schema(None), prompt.name)
    if not wrong:
        try:
            prompt.model_validate(answer)
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    if wrong:
        raise ConfigError(f"{video} cannot be corrected like this: {'; '.join(wrong)}.")
