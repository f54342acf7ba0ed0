"""Verb: try settings of one recommender, judged by validation alone, and keep what came of each.

trials.jsonl    one line per trial
best.toml       the best trial's settings, for `reelm train`
report.html     trials in order, and each setting against what came of it
study.log       the trials for Optuna's own tools
manifest.json   written last

A trial is a run as `train` makes it, so a half-trained one goes on from its checkpoint and one that
is there already is not trained again. The test split is never opened.
"""

import json
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from reelm import config, files, models, runs, train
from reelm.config import Config
from reelm.cost import steps
from reelm.data.split import Split
from reelm.engine import alone
from reelm.errors import ConfigError, MissingInput, MissingPackage
from reelm.search import checks, page, trials
from reelm.search.space import Range, Value, flat
from reelm.search.trials import Trial
from reelm.sources import Sources
from reelm.train import TrainConfig

STAGE, VERSION = "search", 1
SECTIONS = ("model", "train")  # what may be searched

__all__ = ["Range", "SearchConfig", "Trial", "search", "summary"]


class SearchConfig(Config):
    """Section [search]. What is not searched stands in sections [model] and [train]."""

    trials: PositiveInt = 20
    """Trials in all; the same search goes on if this is larger later."""
    space: dict[str, str] = Field(default_factory=dict)
    """Setting -> range: "model.dim" = "choice(32, 64)", "train.learning_rate" =
    "loguniform(1e-4, 1e-1)"; also uniform(0, 0.5), int(1, 4), logint(8, 512)."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """tpe: ten trials by chance, then near to what went well. grid: every combination of choices
    once, in an order that is drawn."""
    seed: NonNegativeInt = 0
    """Of what is proposed; trainings have train.seed."""
    time_s: PositiveFloat | None = None
    """Seconds after which no trial is begun; the same command goes on later."""
    keep: PositiveInt = 5
    """Best runs that stay in work/runs; others that this search made are removed at its end."""

    @model_validator(mode="before")
    @classmethod
    def _spelt(cls, given: Any) -> Any:
        """Take tables inside of `space`, and `--set search.space.model.dim=...`."""
        if not isinstance(given, Mapping) or not isinstance(given.get("space", {}), Mapping):
            return given
        told = dict(given)
        space = dict(flat(told.pop("space", {})))
        for name in [name for name in told if name.startswith("space.")]:
            space[name.removeprefix("space.")] = told.pop(name)
        return told | {"space": space}

    @field_validator("space")
    @classmethod
    def _ranges(cls, space: dict[str, str]) -> dict[str, str]:
        for name, text in space.items():
            try:
                Range.parse(text)
            except ValueError as error:
                raise ConfigError(f"search.space: {name} = {text!r}: {error}") from error
        return space

    @model_validator(mode="after")
    def _countable(self) -> "SearchConfig":
        wide = [name for name, one in self.ranges.items() if one.word != "choice"]
        if self.sampler == "grid" and wide:
            raise ConfigError(
                f"search.sampler = 'grid' takes choices only, and {', '.join(wide)} is none. "
                "Write choice(...), or take 'tpe' or 'random'."
            )
        return self

    @property
    def ranges(self) -> dict[str, Range]:
        """The space by name, so that its order in a file does not matter."""
        return {name: Range.parse(text) for name, text in sorted(self.space.items())}


@dataclass(frozen=True)
class Search:
    """One search: what is trained on what, and where."""

    split: Split
    model: str
    """In the table of models."""
    base: Mapping[str, Mapping[str, Any]]
    """Section -> what the user set there; what is searched is laid over it."""
    chosen: SearchConfig
    work: Path
    sources: Sources | None

    @cached_property
    def ranges(self) -> dict[str, Range]:
        """The space."""
        return self.chosen.ranges

    @cached_property
    def schedule(self) -> TrainConfig:
        """Section [train] without what is searched."""
        return config.parse(TrainConfig, dict(self.base["train"]), "train")

    @property
    def measure(self) -> str:
        """What trials are judged by."""
        return train.goes_by(models.find(self.model), self.schedule)

    @property
    def total(self) -> int:
        """Trials in all: no more than a grid has."""
        wanted = self.chosen.trials
        grid = self.chosen.sampler == "grid"
        return min(wanted, trials.combinations(self.ranges)) if grid else wanted

    @cached_property
    def plain(self) -> dict[str, Any]:
        """For the key; without what does not change what a trial comes to."""
        fields = models.find(self.model).Config.model_fields
        own = {k: field.get_default(call_default_factory=True) for k, field in fields.items()}
        schedule = self.schedule.model_dump(mode="json", exclude={"device", "checkpoint_s"})
        schedule["measure"] = self.measure
        told = {"sampler": self.chosen.sampler, "seed": self.chosen.seed}
        told["space"] = {name: str(one) for name, one in self.ranges.items()}
        return {"search": told, "model": own | dict(self.base["model"]), "train": schedule}

    @property
    def inputs(self) -> dict[str, Any]:
        """What is learned from, and by what: figures of another training loop do not compare."""
        split = self.split.fingerprint
        return {"split": split, "model": self.model, "train": train.VERSION}

    @cached_property
    def folder(self) -> Path:
        """Where it is kept."""
        key = files.key(STAGE, VERSION, self.plain, self.inputs)
        return self.work / "searches" / f"{self.model}-{key}"

    def sections(self, settings: Mapping[str, Value]) -> dict[str, dict[str, Any]]:
        """Sections [model] and [train] of a trial."""
        told = {section: dict(values) for section, values in self.base.items()}
        for name, value in settings.items():
            section, _, key = name.partition(".")
            told[section][key] = value
        return told


def search(
    split: Split,
    model: str,
    base: Mapping[str, Mapping[str, Any]],
    chosen: SearchConfig,
    work: Path,
    sources: Sources | None = None,
) -> Path:
    """Run the trials that are missing and write `work/searches/<model>-<key>/`.

    Args:
        base: plain sections [model] and [train]: what all trials share; others are not read.
        sources: where the split came from, noted in every run and in best.toml.

    A killed search goes on with the trial it was at. A trial that fails counts and is kept with
    its reason. How many trials, how long and how many runs to keep are not part of the key.

    Raises:
        MissingPackage: Optuna, or something that a trial needs, is not installed.
        MissingInput: a trial needs features that the dataset was loaded without.
        ConfigError: nothing to search, a setting that is not there, a value that its setting may
            not have, or nothing to judge by.
        StaleFolder: another process is at the same search.
    """
    trials.optuna()
    task = Search(split, model, _shared(base, chosen), chosen, work, sources)
    _check(task)
    ended = [one for one in trials.read(task.folder) if one.state != "running"]
    if files.finished(task.folder) and len(ended) >= task.total:
        return task.folder
    begun = time.monotonic()
    with alone(task.folder):
        (task.folder / files.MANIFEST).unlink(missing_ok=True)
        tried = _run(task)
        _sweep(task, tried)
        return _finish(task, tried, time.monotonic() - begun)


def needs(
    model: str, base: Mapping[str, Mapping[str, Any]], chosen: SearchConfig
) -> tuple[str, ...]:
    """What some trial needs the dataset to be loaded with, e.g. "features.text"."""
    return checks.needed(models.find(model), _shared(base, chosen), chosen.ranges)


def fruitless(folder: Path) -> bool:
    """Whether trials were made and every one of them failed."""
    facts = files.manifest(folder)
    return 0 < facts["failed"] == facts["rows"]


def summary(folder: Path) -> str:
    """The best trial, what failed, and what to call next, as plain text."""
    tried, facts = trials.read(folder), files.manifest(folder)
    failed = [one for one in tried if one.state == "failed"]
    measure = facts["settings"]["train"]["measure"]
    lines = [f"{facts['inputs']['model']}, {measure} on validation: {len(tried)} trials"]
    for best in trials.ranked(tried)[:1]:
        lines.append(f"best: {_line(best)}")
        lines.append(f"next: {facts['command']}")
    lines += [f"failed: {_line(one)}" for one in failed]
    if fruitless(folder):
        lines.append("no trial succeeded: change search.space, or sections [model] and [train]")
    return "\n".join(lines)


def _shared(
    base: Mapping[str, Mapping[str, Any]], chosen: SearchConfig
) -> dict[str, dict[str, Any]]:
    """Sections [model] and [train] without what is searched."""
    return {
        section: {
            k: v for k, v in base.get(section, {}).items() if f"{section}.{k}" not in chosen.space
        }
        for section in SECTIONS
    }


def _check(task: Search) -> None:
    """Find what would make every trial fail, or some for certain."""
    kind = models.find(task.model)
    checks.named(task.model, kind, task.base, task.ranges)
    checks.values(kind, task.base, task.ranges)
    if task.measure.endswith("loss"):
        raise ConfigError("search maximises train.measure; use places/auc in place of a loss.")
    if not len(task.split.valid):
        raise ConfigError("the split has no validation questions to judge trials by.")
    checks.loaded(task.model, checks.needed(kind, task.base, task.ranges), task.split)


def _run(task: Search) -> list[Trial]:
    """All trials; each is written down before and after it is trained."""
    tried, begun = trials.read(task.folder), time.monotonic()
    ended = sum(one.state != "running" for one in tried)
    limit = task.chosen.time_s or float("inf")
    with steps(task.total, ended) as tell:
        while ended < task.total and time.monotonic() - begun < limit:
            if len(tried) == ended:
                settings = trials.propose(task.ranges, tried, task.chosen.sampler, task.chosen.seed)
                now = time.time()
                tried.append(
                    Trial(number=ended, state="running", settings=settings, started_at=now)
                )
                trials.write(task.folder, tried)
            tried[-1] = _try(task, tried[-1], tried[:-1])
            trials.write(task.folder, tried)
            ended = len(tried)
            tell(_line(tried[-1]), 1)
    return tried[:ended]


def _try(task: Search, trial: Trial, earlier: Sequence[Trial]) -> Trial:
    """The trial with what came of it."""
    for one in earlier:
        if one.settings == trial.settings and one.state == "done":
            same = {"valid": one.valid, "run": one.run, "cpu_s": 0.0, "seconds": 0.0}
            told = {"state": "done", "reason": f"settings of trial {one.number}"}
            return trial.model_copy(update=same | told)
    begun, spent = time.monotonic(), time.process_time()
    try:
        return trial.model_copy(update={"state": "done", **_trained(task, trial.settings)})
    except (MissingInput, MissingPackage):  # to be put right, not to be counted
        raise
    except Exception as error:  # noqa: BLE001 - hours of other trials must not be lost to one
        reason = f"{type(error).__name__}: {error}"
        told = {"state": "failed", "reason": reason, "cpu_s": round(time.process_time() - spent, 3)}
        return trial.model_copy(update=told | {"seconds": round(time.monotonic() - begun, 3)})


def _trained(task: Search, settings: Mapping[str, Value]) -> dict[str, Any]:
    """Train, or find trained, and measure by validation."""
    begun, told = time.process_time(), task.sections(settings)
    own = config.parse(models.find(task.model).Config, told["model"], "model")
    schedule = config.parse(TrainConfig, told["train"], "train")
    folder = train.train_run(task.split, task.model, own, schedule, task.work, task.sources)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    kept = next((row for row in rows if row.get("kept")), {})
    valid = kept.get(task.measure)
    if valid is None:  # nothing was trained, or it ended before its first validation
        model = runs.load(folder).model.to(schedule.device)
        questions = train.drawn(train.judged(task.split, model), schedule)
        assert questions is not None
        valid = train.validated(model, questions, schedule)
    spent = sum(row["cpu_s"] for row in rows) if rows else time.process_time() - begun
    seconds = files.manifest(folder)["seconds"]
    return {"valid": valid, "run": folder.name, "cpu_s": round(spent, 3), "seconds": seconds}


def _sweep(task: Search, tried: Sequence[Trial]) -> None:
    """Remove the runs that were made for this search and are not among its best."""
    best = list(dict.fromkeys(one.run for one in trials.ranked(tried)))
    for one in trials.ranked(tried):
        folder = task.work / "runs" / (one.run or "")
        if one.run not in best[task.chosen.keep :] or not files.finished(folder):
            continue
        if files.manifest(folder)["finished_at"] >= one.started_at:
            (folder / files.MANIFEST).unlink()  # first, so that nobody takes it for whole
            shutil.rmtree(folder)


def _finish(task: Search, tried: Sequence[Trial], seconds: float) -> Path:
    """Write everything but the trials, the manifest last."""
    folder, command = task.folder, _command(task)
    for best in trials.ranked(tried)[:1]:
        files.write_text(folder / "best.toml", f"# {command}\n{_toml(task, best)}")
    about = {"model": task.model, "measure": task.measure, "command": command}
    files.write_text(folder / "report.html", page.html(about, task.ranges, tried))
    trials.export(task.ranges, tried, folder)
    told = task.chosen.model_dump(mode="json", include={"trials", "time_s", "keep"})
    return files.finish(
        folder,
        stage=STAGE,
        version=VERSION,
        key=folder.name.rpartition("-")[2],
        settings=task.plain | {"search": task.plain["search"] | told},
        inputs=task.inputs,
        command=command,
        rows=len(tried),
        failed=sum(one.state == "failed" for one in tried),
        seed=task.chosen.seed,
        seconds=round(seconds, 3),
    )


def _command(task: Search) -> str:
    """What trains the best settings again, or finds their run."""
    words = ["reelm", "train", "--model", task.model]
    if task.sources is not None:
        words += ["--catalog", str(task.sources.catalog)]
        for option in ("features", "profiles"):
            for name, folder in getattr(task.sources, option).items():
                words += [f"--{option}", f"{name}={folder}"]
        for notes in task.sources.notes:
            words += ["--notes", str(notes)]
        if task.sources.edges is not None:
            words += ["--edges", str(task.sources.edges)]
    words += ["--work", str(task.work), "--settings", str(task.folder / "best.toml")]
    return shlex.join(words)


def _toml(task: Search, best: Trial) -> str:
    """The sections that `reelm train` reads, as far as they are not defaults."""
    told = task.sections(best.settings)
    if task.sources is not None:
        for name in ("dataset", "split"):
            own = getattr(task.sources, name)
            told[name] = own.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    lines = []
    for section, values in told.items():
        lines.append(f"\n[{section}]")
        given = {key: value for key, value in values.items() if value is not None}
        lines += [f"{key} = {config.to_toml(value)}" for key, value in given.items()]
    return "\n".join(lines) + "\n"


def _line(trial: Trial) -> str:
    """A trial in words."""
    told = ", ".join(f"{name} = {page.told(value)}" for name, value in trial.settings.items())
    came = trial.reason if trial.valid is None else f"{trial.valid:.4f}"
    return f"trial {trial.number}: {came} ({told})"
