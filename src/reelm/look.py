"""A contact sheet: one page that shows what a model was shown of each video, and what it said.

The page holds everything it needs, so it can be sent to someone. Titles come from strangers: all
text is escaped, and the page forbids scripts and anything from elsewhere.
"""

import base64
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jinja2 import Environment
from PIL import Image

from reelm import files, prompts
from reelm.correct import current, fields_of
from reelm.data.corrections import MODEL, Correction
from reelm.data.tables import Catalog, applied, read_notes, read_said
from reelm.engine import DecodeConfig, Decoder, Video, videos
from reelm.errors import MediaError
from reelm.media.views import Picture, View, pictures

EVERYTHING = View(moments=6, sound=True, motion=True)
"""Shown where there are no notes."""
QUARANTINE = ("table", "id", "place", "reason", "detail")
SIDE = 240  # pixels of a picture's longer side on the page
MOST_ROWS = 200  # of failures and of the quarantine


@dataclass(frozen=True)
class Card:
    """One video on the page."""

    id: str
    title: str = ""
    facts: str = ""
    pictures: list[tuple[str, str]] = field(default_factory=list)
    """Name and data URI of each."""
    said: str = ""
    values: list[tuple[str, str, str]] = field(default_factory=list)
    """Name and value of each field, and who corrected it and when, if anybody did."""
    bad: str = ""
    cost: str = ""
    history: list[tuple[str, str, str]] = field(default_factory=list)
    """Versions of a corrected note, the model's first: who and when, what was said, why."""
    version: str = MODEL
    """Key of the last version."""
    fields: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """What can be corrected: name, text of today, and the values to choose from, if they are
    given."""


@dataclass(frozen=True)
class Form:
    """What a page on which notes can be corrected needs."""

    token: str
    """Proves that what is sent comes from this page."""
    author: str = ""
    told: str = ""
    """Why a correction was refused."""
    video: str = ""
    """The one that this is about."""
    typed: Mapping[str, str] = field(default_factory=dict)
    """What its author wrote."""


class Gallery:
    """Some videos of a catalogue as a model was shown them. What was said of them is read when
    the page is written."""

    def __init__(
        self,
        catalog: Catalog,
        notes: Path | None,
        work: Path,
        limit: int = 48,
    ) -> None:
        """
        Args:
            notes: a finished notes folder; its view decides what is shown. Without one, six
                frames, the sound and the motion of each video are.
            work: where the frame store lives.
            limit: videos on the page, spread evenly over the catalogue.

        Raises:
            BadData: the notes folder is not finished.
        """
        self.catalog, self.notes = catalog, notes
        self.facts = files.manifest(notes) if notes else {}
        there = videos(catalog)
        self.total, self.shown = len(there), _spread(there, limit)
        view = _view(self.facts)
        with Decoder(work, view.moments, DecodeConfig()) as decoder:
            decoded = decoder(self.shown)
        self._seen = [
            one
            if isinstance(one, MediaError)
            else [(p.name, _uri(p)) for p in pictures(view, *one)]
            for one in decoded
        ]

    def html(self, form: Form | None = None) -> str:
        """The page, with the notes and corrections of this moment.

        Args:
            form: makes the notes of the page correctable, where it is served.
        """
        notes = self.notes
        table = read_said(notes) if notes else pl.DataFrame()
        said = {row["video_id"]: row for row in table.to_dicts()}
        versions = applied(notes, table).versions if notes else {}
        known = {row["video_id"]: row for row in self.catalog.videos.to_dicts()}
        cards = [
            self._card(video, known[video.id], seen, said.get(video.id), versions.get(video.id, ()))
            for video, seen in zip(self.shown, self._seen, strict=True)
        ]
        failures = [
            (r["video_id"], r["error_kind"], r["error"])
            for r in (read_notes(notes).to_dicts() if notes else ())
            if r["error_kind"]
        ]
        quarantine = _quarantine(self.catalog.folder)
        where = f"Catalogue {self.catalog.folder.name}" + (f", notes {notes.name}" if notes else "")
        return (
            Environment(autoescape=True)
            .from_string(_template())
            .render(
                intro=where,
                facts=_facts(self.facts, self.catalog, self.total, len(quarantine), len(versions)),
                question=self.facts.get("settings", {}).get("prompt", {}).get("question"),
                total=self.total,
                cards=cards,
                failures=failures[:MOST_ROWS],
                quarantine=quarantine[:MOST_ROWS],
                form=form,
            )
        )

    def _card(
        self,
        video: Video,
        row: dict[str, Any],
        seen: list[tuple[str, str]] | MediaError,
        said: dict[str, Any] | None,
        versions: Sequence[Correction],
    ) -> Card:
        title = " ".join(str(row[c]) for c in ("title", "hashtags") if row.get(c))
        card = Card(video.id, title, _technical(row, video))
        if said is not None:
            card = replace(card, **_answer(said, versions, self.facts))
        if not isinstance(seen, MediaError):
            return replace(card, pictures=seen)
        return replace(card, bad=f"cannot be decoded: {seen.why}")


def look(
    catalog: Catalog,
    notes: Path | None,
    out: Path,
    limit: int = 48,
    work: Path | None = None,
) -> Path:
    """Write the page to `out` and return it; for the arguments see `Gallery`.

    Raises:
        BadData: the notes folder is not finished.
    """
    work = work or (notes.parent.parent if notes else out.parent)
    return files.write_text(out, Gallery(catalog, notes, work, limit).html())


def _template() -> str:
    return Path(__file__).with_suffix(".html").read_text(encoding="utf-8")


def _view(facts: dict[str, Any]) -> View:
    told = facts.get("settings", {}).get("view")
    return View.of(told) if told else EVERYTHING


def _spread(there: list[Video], limit: int) -> list[Video]:
    places = np.linspace(0, len(there) - 1, min(limit, len(there))).round().astype(int)
    return [there[place] for place in places]


def _facts(
    facts: dict[str, Any], catalog: Catalog, usable: int, quarantined: int, corrected: int
) -> list[tuple[str, Any]]:
    """What stands at the head of the page."""
    told: list[tuple[str, Any]] = [
        ("videos", len(catalog.videos)),
        ("different usable files", usable),
        ("in quarantine", quarantined),
    ]
    if facts:
        model = facts["inputs"]["backend"]
        told += [
            ("model", model.get("model")),
            ("weights", model.get("weights") or "not told"),
            ("prompt", "{name} {version}".format(**facts["settings"]["prompt"])),
            ("notes", facts["rows"]),
            ("failed", facts["failed"]),
            *_validity(facts),
            ("corrected", corrected),
            ("seconds", round(facts["seconds"], 1)),
        ]
    return told


def _validity(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Shares of the model's answers that were as asked."""
    valid = facts.get("valid") or {}
    total = sum(valid.values())
    told = {"first": "valid at first", "repair": "after a repair", "never": "never valid"}
    return [(name, f"{valid[key] / total:.1%}") for key, name in told.items()] if total else []


def _answer(
    said: dict[str, Any], versions: Sequence[Correction], facts: dict[str, Any]
) -> dict[str, Any]:
    """What a card tells of a note: what is read today, or why there is none; who changed what."""
    prompt = prompts.find(facts["settings"]["prompt"]["name"])
    answer = current(said, versions, prompt)
    told: dict[str, Any] = {
        "history": _history(said, versions, facts) if versions else [],
        "version": versions[-1].key if versions else MODEL,
        "fields": [
            (name, _text(answer.get(name, "")), [str(v) for v in kind.get("enum", ())])
            for name, kind in fields_of(prompt).items()
        ],
    }
    if not answer:
        return told | {"bad": f"{said['error_kind']}: {said['error']}"}
    marks = {n: f"{one.author}, {_when(one)}" for one in versions for n in one.fields}
    sentence = prompt.as_text(answer)
    told |= {"said": sentence, "values": [
        (name, _text(value), marks.get(name, ""))
        for name, value in answer.items()
        if name in marks or _text(value) != sentence
    ]}  # fmt: skip
    cost = (
        f"{1000 * said['seconds']:.0f} ms, {said['tokens_in']} tokens in, {said['tokens_out']} out"
    )
    return told if said["answer"] is None else told | {"cost": cost}


def _history(
    said: dict[str, Any], versions: Sequence[Correction], facts: dict[str, Any]
) -> list[tuple[str, str, str]]:
    changed = dict.fromkeys(name for one in versions for name in one.fields)
    first = json.loads(said["answer"]) if said["answer"] else {}
    told = _listed({n: first[n] for n in changed if n in first}) or str(said["error_kind"])
    model = facts["inputs"]["backend"].get("model")
    return [
        (f"model {model}", told, ""),
        *((f"{one.author}, {_when(one)}", _listed(one.fields), one.why) for one in versions),
    ]


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_text(value)}" for name, value in values.items())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _when(made: Correction) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(made.time))


def _technical(row: dict[str, Any], video: Video) -> str:
    """Length, size, codec and copies, as far as the catalogue knows them."""
    told = [f"{row['duration_s']:.1f} s"] if row.get("duration_s") else []
    told += [f"{row['width']}×{row['height']}"] if row.get("width") else []
    told += [str(row["video_codec"])] if row.get("video_codec") else []
    told += ["no sound"] if row.get("has_audio") is False else []
    told += [f"{len(video.copies)} more of the same content"] if video.copies else []
    return " · ".join(told)


def _uri(picture: Picture) -> str:
    image = Image.fromarray(picture.pixels)
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, format="WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def _quarantine(folder: Path) -> list[tuple[Any, ...]]:
    path = folder / "quarantine.parquet"
    if not path.is_file():
        return []
    table = pl.read_parquet(path)
    return table.select([c for c in QUARANTINE if c in table.columns]).rows()
