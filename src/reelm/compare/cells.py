"""One cell of a comparison: one model on one dataset with one seed, trained and tested once."""

import json
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from reelm import evaluate, files, runs, train
from reelm.compare.findings import Finding
from reelm.compare.leaks import counted
from reelm.config import Config
from reelm.cost import steps
from reelm.data.split import Split
from reelm.errors import ConfigError, ReelmError
from reelm.evaluate import EvaluateConfig
from reelm.models import find
from reelm.models.base import Ranker
from reelm.sources import Sources
from reelm.train import TrainConfig

Row = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """A model as it takes part."""

    label: str
    name: str
    """In the table of models."""
    settings: Config
    train: TrainConfig
    """Its seed is that of the first cell."""

    def seeds(self, count: int) -> list[int]:
        """The seeds of its trainings."""
        return [self.train.seed + n for n in range(count)]


@dataclass(frozen=True)
class Data:
    """A dataset as it takes part."""

    label: str
    sources: Sources
    split: Split


@dataclass(frozen=True)
class Cell:
    """What came of it; without a report there is an error."""

    dataset: str
    model: str
    place: int
    """0 for the first seed, 1 for the next and so on: cells of one place are paired."""
    seed: int
    run: Path | None = None
    report: Path | None = None
    pools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """pool -> questions, metrics, margins, chance, as in report.json."""
    curve: Sequence[Row] = ()
    """Rows of metrics.jsonl."""
    alike: bool = False
    """Nothing was trained, so every other seed would give the same."""
    cost: Mapping[str, float | None] = field(default_factory=dict)
    """train_s, cpu_s, parameters, epochs."""
    findings: Sequence[Finding] = ()
    error: str = ""

    def per_user(self, pool: str) -> pl.DataFrame:
        """One row per question of a pool, with its metrics."""
        assert self.report is not None
        return pl.read_parquet(self.report / "per_user.parquet").filter(pl.col("pool") == pool)


def cells(
    data: Sequence[Data], arms: Sequence[Arm], seeds: int, work: Path, asked: EvaluateConfig
) -> list[Cell]:
    """Train and test every arm on every dataset with every seed; what is finished is reused.

    A model that has nothing to train gets one cell for all seeds. A cell that fails is kept with
    its reason, and the rest goes on.
    """
    done: list[Cell] = []
    with steps(len(data) * len(arms) * seeds) as tell:
        for one in data:
            for arm in arms:
                for place, seed in enumerate(arm.seeds(seeds)):
                    tell(f"{one.label}, {arm.label}, seed {seed}", 0)
                    cell = _cell(one, arm, (place, seed), work, asked)
                    done.append(cell)
                    tell("", seeds if cell.alike else 1)
                    if cell.alike:
                        break
    return done


def _cell(data: Data, arm: Arm, at: tuple[int, int], work: Path, asked: EvaluateConfig) -> Cell:
    place, seed = at
    known: dict[str, Any] = dict(dataset=data.label, model=arm.label, place=place, seed=seed)
    chosen = arm.train.model_copy(update={"seed": seed})
    try:
        if issubclass(find(arm.name), Ranker):
            raise ConfigError(
                f"{arm.name} rates single places, which compare cannot set beside rankings yet. "
                "Use train and evaluate (docs/ctr.md)."
            )
        folder = train.train_run(data.split, arm.name, arm.settings, chosen, work, data.sources)
        known["run"] = folder
        run = runs.load(folder)
        report = evaluate.test(run, data.split, work, asked)
        curve = _lines(folder / "metrics.jsonl")
        return Cell(
            **known,
            report=report,
            pools=json.loads((report / "report.json").read_text(encoding="utf-8"))["pools"],
            curve=curve,
            alike=not curve,
            cost=_cost(run, curve),
            findings=counted(run.counts, data.split.train, f"run {folder.name}"),
        )
    except ReelmError as error:
        return Cell(**known, error=str(error))
    except Exception as error:  # noqa: BLE001 - hours of other cells must not be lost to one
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        return Cell(**known, error=f"{type(error).__name__}: {error} ({where})")


def _lines(path: Path) -> list[Row]:
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines()]


def _cost(run: runs.Run, curve: Sequence[Row]) -> dict[str, float | None]:
    """Rows of epochs outlive a kill, the manifest's seconds are those since the last start."""
    seconds = sum(row["seconds"] for row in curve) if curve else run.facts.get("seconds")
    known = bool(curve) and all("cpu_s" in row for row in curve)
    return {
        "train_s": seconds,
        "cpu_s": sum(row["cpu_s"] for row in curve) if known else run.facts.get("cpu_s"),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "epochs": len(curve),
    }


def write_rows(done: Sequence[Cell], path: Path) -> int:
    """rows.parquet: one row per question, pool and cell, with all that the reports measured.

    Returns how many rows there are. A model that has nothing to train has rows of one seed.
    """
    tables = [
        pl.scan_parquet(cell.report / "per_user.parquet").select(
            pl.lit(cell.dataset).alias("dataset"),
            pl.lit(cell.model).alias("model"),
            pl.lit(cell.seed).alias("seed"),
            pl.all(),
        )
        for cell in done
        if cell.report is not None
    ]
    with files.atomic(path) as tmp:
        if tables:
            pl.concat(tables, how="diagonal_relaxed").sink_parquet(tmp)
        else:
            pl.DataFrame(schema={"dataset": pl.String}).write_parquet(tmp)
    return pl.scan_parquet(path).select(pl.len()).collect().item()
