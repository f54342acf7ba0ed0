"""Watching one video as it comes in, with the prompt, model and encoders of the run.

The verbs do the work, on a catalogue of one video: so a new video meets what all others met.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from reelm import backends, encoders, files, prompts
from reelm.annotate import AnnotateConfig, annotate
from reelm.backends.base import Backend
from reelm.data.tables import Catalog, read_features, read_notes
from reelm.encode import EncodeConfig, encode
from reelm.encoders.base import Encoder
from reelm.errors import MediaError, ReelmError
from reelm.provenance import provenance_of
from reelm.serve.notes import fields_of

LOADING = threading.Lock()
"""Loaders of checkpoints change what is global in torch while they work: one at a time."""
log = logging.getLogger(__name__)

AT_ONCE = AnnotateConfig(patience_s=0.0)
"""A video does without notes where the model's server is gone: others wait behind it."""
PROMPT, BACKEND = "attributes", "pocket"
"""What watches where the run does not say, or what it says cannot be had here."""


@dataclass(frozen=True)
class Recipe:
    """How the vectors of one feature were made."""

    encoder: Mapping[str, Any]
    """The encoder's identity."""
    input: str | None
    """What an encoder of text read."""
    fields: tuple[str, ...] = ()
    """Of notes only these; empty, all."""

    @staticmethod
    def of(folder: Path) -> "Recipe":
        """From the manifest of a features folder."""
        facts = files.manifest(folder)
        said = facts.get("inputs", {}).get("encoder", {})
        settings = facts.get("settings", {})
        return Recipe(said, settings.get("input"), tuple(settings.get("fields", ())))

    @property
    def name(self) -> str:
        """The same for the same encoder on the same input, and for no other."""
        read = (self.input, *self.fields)
        return files.digest(repr((sorted(self.encoder.items()), read)).encode())


@dataclass(frozen=True)
class Watched:
    """What came of watching."""

    answer: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    vectors: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By `Recipe.name`."""
    missing: tuple[str, ...] = ()
    """What could not be made, and why."""


class Watcher:
    """Keeps the model and the encoders in memory between videos; used by one thread."""

    def __init__(
        self, work: Path, recipes: Sequence[Recipe] = (), notes: Sequence[Path] = ()
    ) -> None:
        """
        Args:
            work: folder for what the verbs leave.
            recipes: how the run's features were made.
            notes: the run's notes folders; the last one says who watches.
        """
        self._work, self._recipes = work, recipes
        self._asked = files.manifest(notes[-1]) if notes else {}
        self._encoders: dict[str, Encoder] = {}
        self._backend: Backend | None = None

    def warm(self) -> None:
        """Load the model and the encoders, so that the first video need not wait for them."""
        try:
            with LOADING:
                self._backend = self._backend or self._speaker()
                for recipe in self._recipes:
                    self._encoders.setdefault(recipe.name, _encoder(recipe))
        except Exception as error:  # noqa: BLE001 - it is tried again, and told, with each video
            log.warning("new videos may be watched in part only: %s", error)

    def watch(self, row: Mapping[str, Any]) -> Watched:
        """Notes and vectors of one video.

        Args:
            row: its columns as in a catalogue, `path` and `sha256` among them.
        """
        one = pl.DataFrame([dict(row)])
        log = pl.DataFrame(schema=dict.fromkeys(("user_id", "video_id", "event"), pl.String))
        catalog = Catalog(self._work, one, log)
        missing: list[str] = []
        folder, answer = self._notes(catalog, missing)
        vectors = {}
        for recipe in self._recipes:
            vector = self._vector(recipe, catalog, folder, missing)
            if vector is not None:
                vectors[recipe.name] = vector
        told = provenance_of(folder) if folder and answer else {}
        return Watched(answer, told, vectors, tuple(missing))

    def close(self) -> None:
        """Let the model go."""
        if self._backend is not None:
            self._backend.close()

    def _notes(self, catalog: Catalog, missing: list[str]) -> tuple[Path | None, dict[str, Any]]:
        prompt = self._asked.get("settings", {}).get("prompt", {}).get("name", PROMPT)
        try:
            with LOADING:
                self._backend = self._backend or self._speaker()
            asked = prompts.find(prompt)
            folder = annotate(catalog, self._backend, asked, AT_ONCE, self._work)
        except ReelmError as error:
            missing.append(f"notes: {error}")
            return None, {}
        said = read_notes(folder).row(0, named=True)
        if said["answer"] is None:
            missing.append(f"notes: {said['error_kind']}: {said['error']}")
        return folder, fields_of(said["answer"])

    def _speaker(self) -> Backend:
        """The backend that the run's notes come from, if it can be had again, else ours."""
        said = self._asked.get("inputs", {}).get("backend", {})
        name = said.get("backend", BACKEND)
        if name != BACKEND:
            try:
                kind: Any = backends.find(name)
                found = kind(_settings(kind.Config, said | {"base_url": said.get("server")}))
            except (ReelmError, ValueError):
                return backends.find(BACKEND)()
            if found.identity() == said:
                return found
            found.close()
        return backends.find(BACKEND)()

    def _vector(
        self, recipe: Recipe, catalog: Catalog, notes: Path | None, missing: list[str]
    ) -> list[float] | None:
        name = str(recipe.encoder.get("encoder"))
        try:
            with LOADING:
                if recipe.name not in self._encoders:
                    self._encoders[recipe.name] = _encoder(recipe)
            config = EncodeConfig()
            if recipe.input:
                config = EncodeConfig(input=recipe.input, fields=recipe.fields)
            encoder = self._encoders[recipe.name]
            found = read_features(encode(catalog, encoder, config, self._work, notes))
        except ReelmError as error:
            missing.append(f"{name}: {error}")
            return None
        return [float(x) for x in found.vectors[0]]


def _encoder(recipe: Recipe) -> Encoder:
    """The encoder of that identity.

    Raises:
        ReelmError: it cannot be had here, or it is not the same any more.
    """
    name = str(recipe.encoder.get("encoder"))
    kind: Any = encoders.find(name)
    try:
        made = kind(_settings(kind.Config, recipe.encoder))
    except ValueError as error:
        raise MediaError(name, "cannot be set up again", str(error).partition("\n")[0]) from error
    if made.identity() != recipe.encoder:
        raise MediaError(name, "is not what made the run's vectors", "its weights differ")
    return made


def _settings(kind: Any, said: Mapping[str, Any]) -> Any:
    """Settings as far as an identity tells them; a model that is no folder here is left out."""
    known = {k: v for k, v in said.items() if k in kind.model_fields and v is not None}
    if "model" in known and "base_url" not in known and not Path(known["model"]).is_dir():
        known.pop("model")
    return kind(**known)
