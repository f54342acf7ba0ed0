"""Verb: models x datasets x seeds, each trained and tested once, and what their differences say.

The test split is opened by `evaluate`, once for each run; nothing is chosen by it.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field, PositiveInt

from reelm import config, files, models
from reelm.compare import cells, page, verdicts
from reelm.compare.cells import Arm, Cell, Data
from reelm.compare.findings import Finding
from reelm.compare.latex import latex
from reelm.compare.leaks import leaks
from reelm.config import Config
from reelm.data.dataset import Dataset
from reelm.data.tables import applied, read_catalog, read_notes, read_said
from reelm.errors import ConfigError, UnknownName, nearest
from reelm.evaluate import EvaluateConfig
from reelm.evaluate.lists import MEASURES
from reelm.evaluate.ranking import Sampled
from reelm.metrics import ACCURACY
from reelm.sources import Sources
from reelm.train import TrainConfig

STAGE, VERSION = "compare", 3
BASELINES = ("popularity", "item_knn")

__all__ = ["CompareConfig", "Entry", "Finding", "compare", "completed", "leaks", "summary"]


class Entry(Config):
    """A model that takes part, under its label in [compare.models.<label>]."""

    model: str
    """Its name in the table of models."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Its own settings, as in section [model]."""
    train: dict[str, Any] = Field(default_factory=dict)
    """What differs from section [train] for this model."""


class CompareConfig(Config):
    """Section [compare]. Pools and lengths of lists are those of section [evaluate]."""

    datasets: dict[str, Sources] = Field(default_factory=dict)
    """Label -> catalogue, features, notes, dataset and split, e.g. [compare.datasets.ml1m]."""
    models: dict[str, Entry] = Field(default_factory=dict)
    """Label -> model, settings and train, e.g. [compare.models.sasrec]."""
    seeds: PositiveInt = 5
    """Trainings of each model; their seeds are train.seed and those after it."""
    reference: str | None = None
    """Label of the model that the others are set against; unset takes the first one."""
    measure: str | None = None
    """pool/metric@k that the verdicts go by first; unset takes train.measure."""
    baselines: bool = True
    """Whether popularity and item_knn take part even if they are not named."""
    leaks: bool = True
    """Whether the data are searched for leaks."""
    resamples: PositiveInt = 10_000
    """Random sign patterns of a permutation test, at least; more if there are many comparisons."""


@dataclass(frozen=True)
class Settings:
    """The sections that a comparison reads."""

    compare: CompareConfig
    train: TrainConfig
    evaluate: EvaluateConfig

    @property
    def measure(self) -> str:
        """pool/metric@k of the verdicts."""
        return self.compare.measure or self.train.measure

    @property
    def plain(self) -> dict[str, Any]:
        """For the manifest; without what does not change the outcome."""
        schedule = self.train.model_dump(mode="json", exclude={"device", "checkpoint_s"})
        told = self.compare.model_dump(mode="json", exclude={"datasets"})
        asked = self.evaluate.model_dump(mode="json")
        return {"compare": told, "train": schedule, "evaluate": asked}


def compare(
    chosen: CompareConfig,
    work: Path,
    train: TrainConfig | None = None,
    evaluate: EvaluateConfig | None = None,
) -> Path:
    """Run every cell and write `work/reports/compare-<key>/`: report.json, report.html,
    figures.csv, table.tex, rows.parquet.

    Runs and their test reports are those of `train` and `evaluate`: finished ones are reused, a
    killed comparison goes on where it was. A cell that fails is kept with its reason; a
    comparison with such cells tries them again when it is called again, one without them is
    returned at once. All datasets are held in memory.

    Raises:
        ConfigError: nothing to compare, or a setting that no cell could run with.
        UnknownName: a model or the reference is not known.
        BadData: a dataset cannot be read.
    """
    settings = Settings(chosen, train or TrainConfig(), evaluate or EvaluateConfig())
    arms = _arms(settings)
    reference = _reference(settings, arms)
    _fed(chosen, arms)
    data = [Data(label, s, s.read()) for label, s in chosen.datasets.items()]
    inputs: dict[str, Any] = {
        one.label: f"{one.split.fingerprint}-{one.split.test.digest()}" for one in data
    }
    if chosen.leaks:
        inputs["searched"] = {one.label: _texts(one.sources) for one in data}
    folder = work / "reports" / f"compare-{files.key(STAGE, VERSION, settings.plain, inputs)}"
    if files.finished(folder) and not failures(folder):
        return folder
    begun = time.monotonic()
    findings = {one.label: _searched(one) if chosen.leaks else [] for one in data}
    done = cells.cells(data, arms, chosen.seeds, work, settings.evaluate)
    for cell in done:
        findings[cell.dataset] += cell.findings
    facts = _facts(settings, data, arms, done, reference)
    facts["leaks"] = {label: [f.as_dict() for f in some] for label, some in findings.items()}
    cells.write_rows(done, folder / "rows.parquet")
    files.write_text(folder / "report.json", json.dumps(facts, indent=2) + "\n")
    files.write_text(folder / "report.html", page.html(facts))
    files.write_text(folder / "table.tex", latex(facts))
    with files.atomic(folder / "figures.csv") as tmp:
        table = pl.DataFrame(facts["figures"], infer_schema_length=None)
        table.drop("values", strict=False).write_csv(tmp)
    return files.finish(
        folder,
        stage=STAGE,
        version=VERSION,
        key=folder.name.rpartition("-")[2],
        settings=settings.plain,
        inputs=inputs,
        rows=len(done),
        failed=sum(bool(cell.error) for cell in done),
        seed=settings.train.seed,
        seconds=round(time.monotonic() - begun, 3),
    )


def completed(
    raw: Mapping[str, Any],
    named: Sequence[str],
    catalogs: Sequence[str],
    features: Mapping[str, str | Path],
) -> dict[str, Any]:
    """Plain settings with the models, catalogues and features that a command names.

    Datasets without features, dataset or split of their own take those that are named, and
    sections [dataset] and [split]. A catalogue is a folder, or label=folder.
    """
    told = dict(raw.get("compare", {}))
    told["models"] = {name: {"model": name} for name in named} | told.get("models", {})
    datasets = dict(map(_labelled, catalogs)) | told.get("datasets", {})
    shared: dict[str, Any] = {name: raw.get(name, {}) for name in ("dataset", "split")}
    shared["features"] = dict(features)
    told["datasets"] = {label: shared | one for label, one in datasets.items()}
    return {**raw, "compare": told}


def summary(folder: Path) -> str:
    """The verdicts by the measure, leaks and failures, as plain text."""
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    measure, reference = facts["about"]["measure"], facts["about"]["reference"]
    seeds = facts["about"]["seeds"]
    lines = [f"{measure} over {seeds} seed(s), and its difference from {reference}; 95 % intervals"]
    told = {(r["dataset"], r["model"]): r for r in facts["comparisons"] if r["family"] == "measure"}
    wide = [max(map(len, facts[name]), default=0) + 2 for name in ("datasets", "models")]
    for row in facts["figures"]:
        if f"{row['pool']}/{row['metric']}" == measure:
            other = told.get((row["dataset"], row["model"]))
            said = "-"
            if other:
                ends = other["seeds"] or other["users"]
                said = f"{_within(other['difference'], ends, '+'):18}{other['verdict']}"
            names = f"{row['dataset']:{wide[0]}}{row['model']:{wide[1]}}"
            lines.append(f"{names}{_within(row['mean'], row):18}{said}")
    for label, found in facts["leaks"].items():
        for one in found:
            lines.append(f"{one['severity']}: {label}: {one['means']}")
    failed = [cell for cell in facts["cells"] if cell["error"]]
    lines += [
        f"failed: {c['dataset']}, {c['model']}, seed {c['seed']}: {c['error']}" for c in failed
    ]
    if failed:
        lines.append(f"{len(failed)} of {len(facts['cells'])} runs failed; they are tried again "
                     "when it is asked for again")  # fmt: skip
    return "\n".join(lines)


def _within(mean: float, ends: Mapping[str, Any] | None, sign: str = "") -> str:
    """A mean and half of its interval, where it has one."""
    told = f"{mean:{sign}.4f}"
    if ends is None or ends["low"] is None:
        return told
    return f"{told} ± {(ends['high'] - ends['low']) / 2:.4f}"


def failures(folder: Path) -> int:
    """Runs of a comparison that failed."""
    return files.manifest(folder)["failed"]


def _labelled(catalog: str) -> tuple[str, dict[str, Any]]:
    """A label and where the catalogue lies."""
    label, named, folder = catalog.partition("=")
    return (label, {"catalog": folder}) if named else (Path(catalog).name, {"catalog": catalog})


def _arms(settings: Settings) -> list[Arm]:
    """The models that take part, their settings checked before anything is trained."""
    chosen = settings.compare
    entries = dict(chosen.models)
    if chosen.baselines:
        present = {entry.model for entry in entries.values()}
        missing = [name for name in BASELINES if name not in present]
        entries |= {name: Entry(model=name) for name in missing if name not in entries}
    if not chosen.datasets or not entries:
        raise ConfigError("compare: nothing to compare; give compare.datasets and compare.models.")
    shared = settings.train.model_dump()
    arms = []
    for label, entry in entries.items():
        where = f"compare.models.{label}"
        own = models.settings(entry.model, entry.settings, f"{where}.settings")
        schedule = config.parse(TrainConfig, shared | entry.train, f"{where}.train")
        arms.append(Arm(label, entry.model, own, schedule))
    return arms


def _reference(settings: Settings, arms: Sequence[Arm]) -> str:
    labels = [arm.label for arm in arms]
    wanted = settings.compare.reference or labels[0]
    if wanted not in labels:
        raise UnknownName("compare.reference", wanted, labels)
    _measured(settings)
    return wanted


def _measured(settings: Settings) -> None:
    """
    Raises:
        ConfigError: the reports would not hold the measure.
    """
    asked = settings.evaluate
    pool, _, metric = settings.measure.partition("/")
    name, _, k = metric.partition("@")
    kinds = ACCURACY + (MEASURES if asked.lists else ())
    prefix = Sampled(asked.sampled).prefix if asked.sampled else None
    plain = name.removeprefix(prefix) if prefix else name
    lengths = [""] if plain == "mrr" else [str(length) for length in asked.ks]
    if plain not in kinds:
        raise ConfigError(
            f"compare.measure = {settings.measure!r}: there is no such metric."
            f"{nearest(plain, kinds)} Known: {', '.join(kinds)}; written as mixed/ndcg@10."
        )
    if pool not in asked.pools or k not in lengths:
        raise ConfigError(
            f"compare.measure = {settings.measure!r} is not evaluated. Add its pool to "
            "evaluate.pools and its length to evaluate.ks, or choose another measure."
        )


def _fed(chosen: CompareConfig, arms: Sequence[Arm]) -> None:
    """
    Raises:
        ConfigError: a model reads features or profiles that a dataset is not given.
    """
    for label, sources in chosen.datasets.items():
        given = {f"features.{name}" for name in sources.features}
        given |= {f"profiles.{name}" for name in sources.profiles}
        for arm in arms:
            lost = [n for n in models.find(arm.name).needs(arm.settings) if n not in given]
            if lost:
                have = ", ".join(sorted(given)) or "nothing"
                raise ConfigError(
                    f"compare: model {arm.label} reads {', '.join(lost)}, and dataset {label} is "
                    f"given {have}. Name the folder with --features, or in "
                    f"compare.datasets.{label}."
                )


def _texts(sources: Sources) -> list[str | None]:
    """What tells the catalogue and the notes that are searched apart, corrections included."""
    told: list[str | None] = [files.manifest(sources.catalog).get("key")]
    for folder in sources.notes:
        told += [files.manifest(folder).get("key"), applied(folder, read_said(folder)).digest]
    return told


def _searched(data: Data) -> list[Finding]:
    """What the detector finds in a dataset, its catalogue and its notes."""
    catalog = read_catalog(data.sources.catalog)
    whole = Dataset.load(catalog, (), data.sources.dataset)
    notes = [read_notes(folder) for folder in data.sources.notes]
    return leaks(data.split, whole, catalog, notes)


def _facts(
    settings: Settings,
    data: Sequence[Data],
    arms: Sequence[Arm],
    done: Sequence[Cell],
    reference: str,
) -> dict[str, Any]:
    """Everything of report.json but the leaks."""
    seeds = settings.compare.seeds
    grid = verdicts.Grid.of(done, [one.label for one in data], [arm.label for arm in arms], seeds)
    told = verdicts.comparisons(grid, reference, settings.measure, settings.compare.resamples)
    about = {"measure": settings.measure, "reference": reference, "seeds": seeds}
    return {
        "about": about,
        "datasets": {one.label: _sizes(one) for one in data},
        "models": {
            arm.label: {
                "model": arm.name,
                "settings": arm.settings.model_dump(mode="json"),
                "train": arm.train.model_dump(mode="json"),
            }
            for arm in arms
        },
        "figures": verdicts.figures(grid),
        "comparisons": told,
        "cells": [_plain(cell) for cell in done],
    }


def _sizes(data: Data) -> dict[str, Any]:
    split = data.split
    return {
        "split": split.name,
        "users": len(split.train.users),
        "videos": len(split.train.items) - 1,
        "training interactions": len(split.train),
        "validation questions": len(split.valid),
        "test questions": len(split.test),
    }


def _plain(cell: Cell) -> dict[str, Any]:
    """A cell as JSON takes it."""
    names = ("dataset", "model", "place", "seed", "alike", "error")
    told: dict[str, Any] = {name: getattr(cell, name) for name in names}
    told |= {"run": cell.run and cell.run.name, "report": cell.report and cell.report.name}
    return told | {"cost": dict(cell.cost), "curve": list(cell.curve)}
