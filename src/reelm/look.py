"""A contact sheet: one page that shows what a model was shown of each video, and what it said.

The page holds everything it needs, so it can be sent to someone. Titles come from strangers: all
text is escaped, and the page forbids scripts and anything from elsewhere.
"""

import base64
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jinja2 import Environment
from PIL import Image
from pydantic import PositiveInt

from reelm import files, prompts
from reelm.data.tables import Catalog, read_notes
from reelm.engine import DecodeConfig, Decoded, Decoder, Video, videos
from reelm.errors import MediaError
from reelm.media.views import Picture, View, pictures

EVERYTHING = View(moments=6, sound=True, motion=True)
"""Shown where there are no notes."""
QUARANTINE = ("table", "id", "place", "reason", "detail")
MOST_ROWS = 200  # of failures and of the quarantine


class LookConfig(DecodeConfig):
    """Section [look]."""

    side: PositiveInt = 240
    """Pixels of a picture's longer side on the page."""


@dataclass(frozen=True)
class Card:
    """One video on the page."""

    id: str
    title: str = ""
    facts: str = ""
    pictures: list[tuple[str, str]] = field(default_factory=list)
    """Name and data URI of each."""
    said: str = ""
    values: list[tuple[str, str]] = field(default_factory=list)
    bad: str = ""
    cost: str = ""


def look(
    catalog: Catalog,
    notes: Path | None,
    out: Path,
    limit: int = 48,
    work: Path | None = None,
    config: LookConfig | None = None,
) -> Path:
    """Write the page to `out` and return it.

    Args:
        notes: a finished notes folder; its view decides what is shown. Without one, six frames,
            the sound and the motion of each video are.
        limit: videos on the page, spread evenly over the catalogue.
        work: where the frame store lives; that of the notes, or else the page's folder.

    Raises:
        BadData: the notes folder is not finished.
    """
    config = config or LookConfig()
    work = work or (notes.parent.parent if notes else out.parent)
    facts = files.manifest(notes) if notes else {}
    view = _view(facts)
    said = {row["video_id"]: row for row in read_notes(notes).to_dicts()} if notes else {}
    known = {row["video_id"]: row for row in catalog.videos.to_dicts()}
    there = videos(catalog)
    shown = _spread(there, limit)
    with Decoder(work, view.moments, config) as decoder:
        decoded = decoder(shown)
    cards = [
        _card(video, known[video.id], seen, said.get(video.id), (view, facts, config.side))
        for video, seen in zip(shown, decoded, strict=True)
    ]
    failures = [
        (r["video_id"], r["error_kind"], r["error"]) for r in said.values() if r["error_kind"]
    ]
    quarantine = _quarantine(catalog.folder)
    page = Environment(autoescape=True).from_string(_template())
    text = page.render(
        intro=f"Catalogue {catalog.folder.name}" + (f", notes {notes.name}" if notes else ""),
        facts=_facts(facts, catalog, len(there), len(quarantine)),
        question=facts.get("settings", {}).get("prompt", {}).get("question"),
        total=len(there),
        cards=cards,
        failures=failures[:MOST_ROWS],
        quarantine=quarantine[:MOST_ROWS],
    )
    return files.write_text(out, text)


def _template() -> str:
    return Path(__file__).with_suffix(".html").read_text(encoding="utf-8")


def _view(facts: dict[str, Any]) -> View:
    told = facts.get("settings", {}).get("view")
    return View.of(told) if told else EVERYTHING


def _spread(there: list[Video], limit: int) -> list[Video]:
    places = np.linspace(0, len(there) - 1, min(limit, len(there))).round().astype(int)
    return [there[place] for place in places]


def _facts(
    facts: dict[str, Any], catalog: Catalog, usable: int, quarantined: int
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
            ("seconds", round(facts["seconds"], 1)),
        ]
    return told


def _card(
    video: Video,
    row: dict[str, Any],
    seen: Decoded | MediaError,
    said: dict[str, Any] | None,
    how: tuple[View, dict[str, Any], int],
) -> Card:
    view, facts, side = how
    title = " ".join(str(row[c]) for c in ("title", "hashtags") if row.get(c))
    told: dict[str, Any] = {"id": video.id, "title": title, "facts": _technical(row, video)}
    if isinstance(seen, MediaError):
        detail = f": {seen.detail}" if seen.detail else ""
        return Card(**told, bad=f"cannot be decoded: {seen.reason}{detail}")
    shown = [(p.name, _uri(p, side)) for p in pictures(view, *seen)]
    return Card(**told, pictures=shown, **_answer(said, facts))


def _answer(said: dict[str, Any] | None, facts: dict[str, Any]) -> dict[str, Any]:
    """What was said, or why nothing was; empty if nobody asked."""
    if said is None:
        return {}
    if said["answer"] is None:
        return {"bad": f"{said['error_kind']}: {said['error']}"}
    answer = json.loads(said["answer"])
    sentence = prompts.find(facts["settings"]["prompt"]["name"]).as_text(answer)
    values = [(name, str(value)) for name, value in answer.items() if str(value) != sentence]
    cost = (
        f"{1000 * said['seconds']:.0f} ms, {said['tokens_in']} tokens in, {said['tokens_out']} out"
    )
    return {"said": sentence, "values": values, "cost": cost}


def _technical(row: dict[str, Any], video: Video) -> str:
    """Length, size, codec and copies, as far as the catalogue knows them."""
    told = [f"{row['duration_s']:.1f} s"] if row.get("duration_s") else []
    told += [f"{row['width']}×{row['height']}"] if row.get("width") else []
    told += [str(row["video_codec"])] if row.get("video_codec") else []
    told += ["no sound"] if row.get("has_audio") is False else []
    told += [f"{len(video.copies)} more of the same content"] if video.copies else []
    return " · ".join(told)


def _uri(picture: Picture, side: int) -> str:
    image = Image.fromarray(picture.pixels)
    if max(image.size) > side:
        image.thumbnail((side, side))
    out = io.BytesIO()
    image.save(out, format="WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def _quarantine(folder: Path) -> list[tuple[Any, ...]]:
    path = folder / "quarantine.parquet"
    if not path.is_file():
        return []
    table = pl.read_parquet(path)
    return table.select([c for c in QUARANTINE if c in table.columns]).rows()
