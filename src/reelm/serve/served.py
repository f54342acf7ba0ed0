"""What is served at this moment, and how it is changed while requests are under way.

A request takes the engine once and keeps it; a change puts another engine in its place. So nothing
is dropped, and no request sees half of a change.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from reelm import files
from reelm.data.tables import Catalog
from reelm.errors import ConfigError, ReelmError, nearest
from reelm.models import MODELS, find
from reelm.models.base import Ranker
from reelm.runs import Run
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.grown import Scale, grow
from reelm.serve.notes import Notes, with_uploads
from reelm.serve.outcomes import Trial
from reelm.serve.ranking import Ranking
from reelm.serve.records import StoredEvent, Upload
from reelm.serve.store import Store
from reelm.serve.trials import Arm, arm_of


class UnknownRun(ReelmError):
    """A run that does not lie beside the one that is served."""


@dataclass(frozen=True)
class Parts:
    """What an engine is made of, without the videos that came by the service."""

    run: Run
    catalog: Catalog | None = None
    notes: Notes = field(default_factory=Notes)
    store: Store = field(default_factory=Store)
    config: EngineConfig | None = None
    recipes: Mapping[str, str] = field(default_factory=dict)
    """What made the vectors of each of the run's features; see `watching.Recipe`."""
    scales: Mapping[str, Scale] = field(default_factory=dict)
    """What was done to each of them before the model read it."""
    ranking: Ranking | None = None
    """A second stage, kept when the run is changed."""

    def engine(self) -> Engine:
        """An engine that also knows all uploads that are ready."""
        ready = [upload for upload in self.store.uploads() if upload.status == "ready"]
        known = set(self.run.items) | set(self.catalog.videos["video_id"] if self.catalog else ())
        ready = [upload for upload in ready if upload.video_id not in known]
        vectors = {u.video_id: self._vectors(u) for u in ready}
        run = grow(self.run, vectors, self.scales)
        return Engine(
            run, self._catalog(ready), self._notes(ready), self.store, self.config, self.ranking
        )

    def _vectors(self, upload: Upload) -> dict[str, list[float]]:
        """The upload's vectors by feature, as far as they were made as the run's were."""
        made = upload.vectors
        return {n: list(made[how]) for n, how in self.recipes.items() if how in made}

    def _catalog(self, ready: list[Upload]) -> Catalog | None:
        if not ready:
            return self.catalog
        more = pl.DataFrame([dict(upload.row) for upload in ready], infer_schema_length=None)
        if self.catalog is None:
            log = pl.DataFrame(schema=dict.fromkeys(("user_id", "video_id", "event"), pl.String))
            return Catalog(Path(), more, log)
        both = [self.catalog.videos, more]
        return replace(self.catalog, videos=pl.concat(both, how="diagonal_relaxed"))

    def _notes(self, ready: list[Upload]) -> Notes:
        return with_uploads(self.notes, ready)


class Served:
    """The engine in use. Give it parts, so that it can be changed, or an engine that stays."""

    def __init__(
        self, of: Parts | Engine, opener: Callable[[Path], Parts] | None = None,
        trial: "tuple[Trial, Served] | None" = None,
    ) -> None:  # fmt: skip
        """
        Args:
            opener: reads a run folder; without it the run cannot be changed.
            trial: which users are in arm b, and what is served to them; it shares the store.
        """
        self.trial, self._other = trial or (None, None)
        self._parts = of if isinstance(of, Parts) else None
        self._engine = of if isinstance(of, Engine) else of.engine()
        self._before: list[Parts] = []
        self._opener, self._lock = opener, threading.Lock()

    @property
    def engine(self) -> Engine:
        """Take it once per request; of a request of one user, take `of(user)`."""
        return self._engine

    def of(self, user: str) -> Engine:
        """The engine of this user's arm."""
        if self.trial is None:
            return self._engine
        return self.arm(arm_of(self._engine.store, self.trial, user)).engine

    def arm(self, name: Arm) -> "Served":
        """What is served to one arm of a trial; without a trial all are in arm a.

        Raises:
            UnknownRun: there is no trial, so no arm b.
        """
        if name == "a":
            return self
        if self._other is None:
            raise UnknownRun("no trial goes on, so there is no arm b. Start with serve.ab set.")
        return self._other

    def unknown(self, events: Sequence[StoredEvent]) -> list[str]:
        """The video of each event that names one which no run, catalogue or upload here has."""
        arms = [self._engine, *([self._other.engine] if self._other else [])]
        named = [one.video_id for one in events if one.video_id]
        found = [v for v in named if not any(v in engine.videos.row for engine in arms)]
        if not found:
            return []
        uploaded = self._engine.store.uploaded(set(found))
        return [video for video in found if video not in uploaded]

    @property
    def failures(self) -> int:
        """How often a second stage failed, of both arms."""
        own = self._engine.ranking
        return (own.failures if own else 0) + (self._other.failures if self._other else 0)

    @property
    def parts(self) -> Parts | None:
        """What the engine was made of; None for one that stays."""
        return self._parts

    @property
    def before(self) -> Parts | None:
        """What `back` would serve again; None if nothing was changed yet."""
        return self._before[-1] if self._before else None

    @property
    def changeable(self) -> bool:
        """Whether `use` can serve another run."""
        return self._opener is not None and self._parts is not None and bool(self._parts.run.folder)

    def refresh(self, notes: bool = False) -> None:
        """Take in uploads that have become ready, and with `notes` what people corrected."""
        with self._lock:
            if self._parts is not None:
                if notes:
                    self._parts = replace(self._parts, notes=self._parts.notes.again())
                self._engine = self._parts.engine()
        if self._other is not None:
            self._other.refresh(notes)

    def use(self, name: str | None = None) -> str:
        """Serve another run, the folder `name` beside the present one, or the newest; its name.

        Raises:
            UnknownRun: there is no such folder.
            ConfigError: this service cannot change its run.
            BadData: the folder is no finished run; the present one stays.
        """
        with self._lock:
            opener, here = self._changeable()
            folder = sibling(here, name)
            parts = opener(folder)
            self._engine = parts.engine()
            assert self._parts is not None
            self._before, self._parts = [self._parts], parts
        return folder.name

    def back(self) -> str:
        """Serve the run again that was served before the last change; its name.

        Raises:
            UnknownRun: nothing was changed yet.
        """
        with self._lock:
            if not self._before or self._parts is None:
                raise UnknownRun("no earlier run to go back to: none was served since the start.")
            parts = self._before.pop()
            parts = replace(parts, notes=parts.notes.again())
            self._engine = parts.engine()
            self._before, self._parts = [self._parts], parts
        return parts.run.folder.name if parts.run.folder else parts.run.name

    def _changeable(self) -> tuple[Callable[[Path], Parts], Path]:
        folder = self._parts.run.folder if self._parts else None
        if self._opener is None or folder is None:
            raise ConfigError("this service was started without a runs folder: it keeps its run.")
        return self._opener, folder.resolve().parent


def sibling(runs: Path, name: str | None) -> Path:
    """The finished run of that name; only names that the folder lists, so never a path. Without a
    name the newest, those of rankers only if there are no others: they are second stages.

    Raises:
        UnknownRun: there is none.
    """
    found = {p.parent.name: p.parent for p in runs.glob("*/manifest.json")}
    if name is None:
        first = [folder for folder in found.values() if not _ranks(folder)] or found.values()
        return max(first, key=lambda folder: (folder / "manifest.json").stat().st_mtime)
    if name not in found:
        raise UnknownRun(
            f"unknown run {name!r}.{nearest(name, found)} Finished runs: "
            f"{', '.join(sorted(found)) or 'none'}."
        )
    return found[name]


def _ranks(folder: Path) -> bool:
    """Whether a run's model rates single places."""
    name = files.manifest(folder).get("inputs", {}).get("model")
    return name in MODELS and issubclass(find(name), Ranker)
