"""Verb: where a note comes from: everything that was shown to the model, how it was asked, what it
said, and who corrected it since."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from reelm import files, prompts
from reelm.data.corrections import Corrections, id_column, merged
from reelm.data.tables import Catalog, read_catalog, read_said
from reelm.engine import DecodeConfig, Decoder, Video, videos
from reelm.errors import BadData, MediaError, UnknownName, nearest
from reelm.media.views import Picture, View, pictures

SHOWN = "shown"
"""Column of notes about users: the ids of the videos that the model was told of."""


def provenance_of(folder: Path) -> dict[str, Any]:
    """What may be told of how a notes folder came about: no addresses, no local paths.

    prompt, version, question; backend, model, weights, decoding; view, notes (the folder's name),
    valid (how many of the model's answers obeyed the schema at first, after a repair and never),
    finished_at (seconds UTC), package. None where the manifest does not say.
    """
    facts = files.manifest(folder)
    settings, inputs = facts.get("settings", {}), facts.get("inputs", {})
    prompt, backend = settings.get("prompt", {}), inputs.get("backend", {})
    model = backend.get("model")
    return {
        "prompt": prompt.get("name") or folder.name.rpartition("-")[0] or folder.name,
        "version": prompt.get("version"),
        "question": prompt.get("question"),
        "backend": backend.get("backend"),
        "model": PurePath(model).name if model and PurePath(model).is_absolute() else model,
        "weights": backend.get("weights"),
        "decoding": backend.get("decoding"),
        "view": settings.get("view"),
        "notes": folder.name,
        "valid": facts.get("valid"),
        "finished_at": facts.get("finished_at"),
        "package": facts.get("package"),
    }


def provenance(notes: Path, name: str) -> dict[str, Any]:
    """All that is known of one note, as JSON takes it: `provenance_of` its folder, and of the row

    id, sha256 of the file, schema and max_tokens of the answer, pictures (each with its moments as
    shares of the duration), texts (titles, comments and speech as they were shown), said (the
    model's answer), failure, seconds, tokens_in, tokens_out, repaired (it was asked twice),
    corrections (oldest first) and note, which is what is read now; for notes about users also shown
    (ids of videos), candidates (those that letters stand for) and text (all that was read).

    Args:
        name: id of the video or the user that the note is about.

    Raises:
        BadData: the folder is not finished or has no such note.
    """
    row, facts = row_of(notes, name), files.manifest(notes)
    settings = facts.get("settings", {})
    versions = Corrections.of(notes).history(name, row.get("sha256"))
    version = settings.get("prompt", {}).get("version")
    now = merged(row["answer"], versions, version) if versions else row["answer"]
    failed = {"kind": row["error_kind"], "text": row["error"]} if row.get("error_kind") else None
    view = settings.get("view")
    return {
        "id": name,
        "sha256": row.get("sha256"),
        **provenance_of(notes),
        "schema": _schema(facts),
        "max_tokens": settings.get("max_tokens"),
        "pictures": shown_pictures(View.of(view)) if view and row.get("sha256") else [],
        "texts": row.get("told"),
        "shown": row.get(SHOWN),
        "candidates": row.get("candidates"),
        "text": row.get("text"),
        "said": json.loads(row["answer"]) if row["answer"] else None,
        "failure": failed,
        **{n: row.get(n) for n in ("seconds", "tokens_in", "tokens_out", "repaired")},
        "corrections": [asdict(one) | {"key": one.key} for one in versions],
        "note": json.loads(now) if now else None,
    }


def as_text(told: Mapping[str, Any]) -> str:
    """What `provenance` gives, one fact per line."""
    lines = []
    for name, value in told.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{name}:", *(f"  {_plain(one)}" for one in value)]
        elif value not in (None, []):
            lines.append(f"{name}: {_plain(value)}")
    return "\n".join(lines)


def row_of(notes: Path, name: str) -> dict[str, Any]:
    """The row of a note as the model left it.

    Raises:
        BadData: there is none.
    """
    table = read_said(notes)
    ids = id_column(table)
    rows = table.filter(pl.col(ids) == name).to_dicts()
    if not rows:
        hint = nearest(name, table[ids].to_list())
        raise BadData(f"{notes}: no note about {name!r}.{hint} `reelm look` shows what there is.")
    return rows[0]


def shown_pictures(view: View) -> list[dict[str, Any]]:
    """Each picture that a view shows, in order: its name, and of which moments it is made, as
    shares of the duration; of sound, how many seconds from the start."""
    blank = np.zeros((view.moments, 8, 8, 3), np.uint8)
    at = [round((n + 0.5) / view.moments, 4) for n in range(view.moments)]
    single = iter(view.shown or range(view.moments))
    told = []
    for picture in pictures(view, blank, None):
        kind = picture.name.split()[0]
        if kind == "Sound":
            told.append({"name": picture.name, "seconds": view.sound_s})
        else:
            told.append({"name": picture.name, "at": [at[next(single)]] if kind == "Frame" else at})
    return told


def seen_one(notes: Path, name: str, catalog: Catalog | None = None) -> list[Picture]:
    """The very pictures that the model was shown for a note of `work/notes/…`: from the frame
    store in `work/frames`, or decoded again as they were then.

    Args:
        catalog: where the files are; the one that the notes were made from if None.

    Raises:
        BadData: no pictures were shown, or the catalogue does not know the content.
        MediaError: the file cannot be decoded.
    """
    facts = files.manifest(notes)
    settings = facts.get("settings", {})
    row = row_of(notes, name)
    if not (settings.get("view") and row.get("sha256")):  # it was heard, or read about
        raise BadData(f"{notes}: these notes were made without pictures, so none can be shown.")
    view = View.of(settings["view"])
    work = notes.resolve().parent.parent
    video = _file(row, catalog or read_catalog(Path(facts["inputs"]["catalog"]), work))
    how = {k: settings[k] for k in ("seconds", "memory_mb", "longest") if k in settings}
    with Decoder(work, view.moments, DecodeConfig(**how)) as decoder:
        (decoded,) = decoder([video])
    if isinstance(decoded, MediaError):
        raise decoded
    return pictures(view, *decoded)


def save(shown: Sequence[Picture], folder: Path, stem: str = "") -> list[Path]:
    """Write pictures as PNG files, `01-frame-1.png` and so on, and return their paths."""
    paths = []
    for number, picture in enumerate(shown, 1):
        name = picture.name.lower().replace(" ", "-")
        with files.atomic(folder / f"{stem}{number:02d}-{name}.png") as tmp:
            Image.fromarray(picture.pixels).save(tmp, format="PNG")
        paths.append(folder / f"{stem}{number:02d}-{name}.png")
    return paths


def _file(row: Mapping[str, Any], catalog: Catalog) -> Video:
    """The file with the content of a row."""
    sha = row["sha256"]
    found = [video for video in videos(catalog) if video.sha256 == sha]
    if not found:
        raise BadData(
            f"{catalog.folder}: no usable file with the content that was shown of "
            f"{row['video_id']} (SHA-256 {sha}). Name the catalogue that has it with --catalog."
        )
    return found[0]


def _schema(facts: Mapping[str, Any]) -> dict[str, Any] | str | None:
    """The schema of the answer; its digest if the model had words of its own that are not known
    here."""
    if "schema" in facts:
        return facts["schema"]
    settings = facts.get("settings", {})
    digest, name = settings.get("schema"), settings.get("prompt", {}).get("name")
    try:
        prompt = prompts.find(name or "")
    except UnknownName:
        return digest
    for vocabulary in (None, _packaged()):
        schema = prompt.schema(vocabulary)
        if files.digest(json.dumps(schema).encode()) == digest:
            return schema
    return digest


def _packaged() -> dict[str, tuple[str, ...]] | None:
    """The words of the model that comes with the package."""
    from reelm.backends.pocket import FOLDER

    path = FOLDER / "reelm.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {k: tuple(v) for k, v in known.get("vocabulary", {}).items()} or None


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
