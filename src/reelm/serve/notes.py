"""Notes folders as the service tells them: answers by video, and where they come from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from reelm import files
from reelm.data.corrections import Correction, Corrections, merged
from reelm.data.tables import applied, read_notes
from reelm.provenance import provenance_of
from reelm.serve.facets import Noted
from reelm.serve.records import Upload


@dataclass(frozen=True)
class Notes:
    """What models said of the videos."""

    answers: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Answer fields by video id; several prompts are merged."""
    provenance: Sequence[Mapping[str, Any]] = ()
    """Where the answers come from, one entry per notes folder; see `reelm.provenance`."""
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Where the answers of single videos come from, which are in no notes folder."""

    corrected: Mapping[str, Mapping[str, Sequence[Correction]]] = field(default_factory=dict)
    """Versions that people wrote, oldest first, by video id and prompt."""
    folders: Sequence[Path] = ()
    """The notes folders, in the order of `provenance`; none for notes that are in memory only."""
    homes: Mapping[str, Path] = field(default_factory=dict)
    """The notes folder of each video of `own`."""

    base: "Notes | None" = None
    """The same without what came by the service; its facets are found once."""

    @cached_property
    def facets(self) -> Noted:
        """The facets of all answers."""
        if self.base is None:
            return Noted.of(self.answers)
        told = self.base.answers
        more = {v: said for v, said in self.answers.items() if told.get(v) is not said}
        return Noted.of(more, self.base.facets)

    def again(self) -> "Notes":
        """The same folders, read again with what people corrected since."""
        return load_notes(self.folders) if self.folders else self

    def folder(self, video: str, prompt: str) -> Path | None:
        """The notes folder whose answer to a prompt about a video is told, if there is one."""
        if video in self.own:
            return self.homes.get(video) if self.own[video].get("prompt") == prompt else None
        pairs = zip(self.folders, self.provenance, strict=False)
        found = [folder for folder, source in pairs if source.get("prompt") == prompt]
        return found[-1] if found else None

    def versions(self, video: str) -> list[dict[str, Any]]:
        """What people corrected of one video, as it may be told, oldest first."""
        told = [
            {
                "prompt": prompt, "version": one.key, "author": one.author, "time": one.time,
                "fields": one.fields, "why": one.why, "replaces": one.replaces,
            }
            for prompt, some in self.corrected.get(video, {}).items() for one in some
        ]  # fmt: skip
        return sorted(told, key=lambda one: one["time"])

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
    corrected: dict[str, dict[str, Sequence[Correction]]] = {}
    provenance = [provenance_of(folder) for folder in folders]
    for folder, source in zip(folders, provenance, strict=True):
        table = read_notes(folder)
        for video, answer in zip(table["video_id"], table["answer"], strict=True):
            answers.setdefault(video, {}).update(fields_of(answer))
        for video, versions in applied(folder, table).versions.items():
            corrected.setdefault(video, {})[source["prompt"]] = versions
    return Notes(answers, provenance, corrected=corrected, folders=tuple(folders))


def with_uploads(notes: Notes, ready: Sequence[Upload]) -> Notes:
    """Notes with those about videos that came by the service, and what people corrected of them."""
    answers, corrected = dict(notes.answers), dict(notes.corrected)
    own = {u.video_id: u.provenance for u in ready if u.provenance}
    homes = {u.video_id: _home(u) for u in ready if u.provenance.get("notes")}
    for upload in ready:
        name, prompt = upload.video_id, str(upload.provenance.get("prompt"))
        versions = _versions(homes[name], upload) if name in homes else []
        if versions:
            corrected[name] = {prompt: versions}
        if upload.answer:
            version = upload.provenance.get("version")
            said = json.dumps(dict(upload.answer))
            answers[name] = fields_of(merged(said, versions, version))
    return Notes(answers, notes.provenance, own, corrected, notes.folders, homes, notes)


def _home(upload: Upload) -> Path:
    """The notes folder of an upload: its file lies in `uploads/files/`."""
    return Path(upload.row["path"]).parent.parent / "notes" / str(upload.provenance["notes"])


def _versions(home: Path, upload: Upload) -> list[Correction]:
    """What people corrected of an upload."""
    if not files.finished(home):
        return []
    return Corrections.of(home).history(upload.video_id, upload.sha256)


def fields_of(answer: str | None) -> dict[str, Any]:
    """An answer as stored: JSON text of an object; failed rows have none."""
    value = json.loads(answer) if answer else {}
    return value if isinstance(value, dict) else {}
