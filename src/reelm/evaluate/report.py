"""A report: what came out of an evaluation, and its folder for people and for programs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from reelm import files, metrics
from reelm.evaluate.lists import MEASURES
from reelm.evaluate.page import html
from reelm.evaluate.slices import margin, sliced

FACTS = ("pool", "user", "user_id", "history", "targets", "candidates", "drawn")
KINDS = ("accuracy", "lists", "sampled")
NOBODY = (
    "nothing was measured: no test question has a target in these pools. "
    "Look at sections [split], [dataset] and [evaluate]."
)
SHOWN = 10  # the k of a list that is shown where all would be too many


@dataclass(frozen=True)
class Report:
    """Metrics per pool, averaged over questions, with what chance would give."""

    pools: Mapping[str, Mapping[str, float]]
    """pool -> metric -> mean over the pool's questions; empty if it has none. Beside them, where
    they were wanted, what the lists are like and metrics among drawn videos only, whose names
    begin with `sampled`."""
    margins: Mapping[str, Mapping[str, float]]
    """pool -> metric -> half the width of a 95 % interval, from the spread over questions; none
    for coverage and ratios, which only all questions together have."""
    chance: Mapping[str, Mapping[str, float]]
    """pool -> recall@k -> what a random order of the candidates would have."""
    questions: Mapping[str, int]
    """pool -> how many questions had a target in it."""
    candidates: Mapping[str, int]
    """pool -> how many videos are in it."""
    asked: int
    """How many questions there were."""
    per_user: pl.DataFrame
    """One row per question and pool: user row, sizes, and every metric."""
    ks: Sequence[int] = ()
    """Lengths of the lists that were looked at."""
    targets: pl.DataFrame = field(default_factory=pl.DataFrame)
    """One row per target and pool: question, user row, item, its training interactions, rank."""

    def __getitem__(self, name: str) -> float:
        """`report["cold/recall@10"]`; without a pool, the mixed one."""
        pool, _, metric = name.rpartition("/")
        return self.pools[pool or "mixed"].get(metric, math.nan)

    @staticmethod
    def of(
        per_user: pl.DataFrame,
        candidates: Mapping[str, int],
        ks: Sequence[int],
        asked: int,
        whole: Mapping[str, Mapping[str, float]] | None = None,
        targets: pl.DataFrame | None = None,
    ) -> "Report":
        """Average a table of one row per question and pool.

        Args:
            whole: pool -> metrics that belong to no single question.
            targets: one row per target and pool; without it there are no slices.
        """
        pools, margins, chance, questions = {}, {}, {}, {}
        for name in candidates:
            rows = per_user.filter(pl.col("pool") == name)
            values = {c: rows[c].drop_nulls().to_numpy() for c in rows.columns if c not in FACTS}
            values = {c: v for c, v in values.items() if len(v)}
            pools[name] = {c: float(v.mean()) for c, v in values.items()}
            margins[name] = {c: margin(v) for c, v in values.items()}
            chance[name] = _chance(rows) if len(rows) else {}
            questions[name] = len(rows)
            pools[name] |= whole[name] if whole and len(rows) else {}
        told = (pools, margins, chance, questions, dict(candidates), asked, per_user, tuple(ks))
        return Report(*told) if targets is None else Report(*told, targets)

    @cached_property
    def slices(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """pool -> way of slicing -> its parts; see `slices.sliced`."""
        if not len(self.targets):
            return {}
        parts = self.targets.partition_by("pool", as_dict=True, include_key=False)
        return {str(name): sliced(rows, self.ks) for (name,), rows in parts.items()}

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Everything but the rows of the single questions, as JSON takes it."""
        return {
            "asked": self.asked,
            "pools": {
                name: {
                    "questions": self.questions[name],
                    "candidates": self.candidates[name],
                    "metrics": dict(self.pools[name]),
                    "margins": dict(self.margins[name]),
                    "chance": dict(self.chance[name]),
                    "slices": self.slices.get(name, {}),
                }
                for name in self.pools
            },
        }


def summary(folder: Path) -> str:
    """A report folder's metrics as plain tables: a line per pool, and one below it with what a
    random order would have, for those metrics of which that is known.

    First accuracy; then, where they were measured, the lists themselves and the shortened
    protocol, both for lists of one length only. All the rest is in the report.
    """
    pools = json.loads((folder / "report.json").read_text(encoding="utf-8"))["pools"]
    if not any(facts["questions"] for facts in pools.values()):
        return NOBODY
    names = list(dict.fromkeys(name for facts in pools.values() for name in facts["metrics"]))
    tables = [_table(pools, [n for n in names if kind(n) == "accuracy"], with_questions=True)]
    for other in KINDS[1:]:
        some = _of_one_length([n for n in names if kind(n) == other])
        if some:
            tables.append(_table(pools, some))
    return "\n\n".join(tables)


def kind(metric: str) -> str:
    """Which of KINDS a metric is, by its name."""
    if metric.startswith("sampled"):
        return "sampled"
    return "lists" if metric.partition("@")[0] in MEASURES else "accuracy"


def write(
    report: Report,
    folder: Path,
    about: Mapping[str, Any],
    per_user: pl.DataFrame,
    targets: pl.DataFrame,
) -> None:
    """Write report.json, report.html, per_user.parquet and targets.parquet; the manifest is left
    to the caller."""
    facts = {"about": dict(about), **report.facts}
    for name, table in (("per_user", per_user), ("targets", targets)):
        with files.atomic(folder / f"{name}.parquet") as tmp:
            table.write_parquet(tmp)
    files.write_text(folder / "report.json", json.dumps(facts, indent=2) + "\n")
    files.write_text(folder / "report.html", html(facts, kind))


def _chance(rows: pl.DataFrame) -> dict[str, float]:
    """What a random order would have: of the candidates, or of the few that were drawn."""
    targets = rows["targets"].to_numpy()
    found = {}
    for name in rows.columns:
        before, recall, k = name.partition("recall@")
        if recall:
            among = rows["drawn"].to_numpy() + targets if before else rows["candidates"].to_numpy()
            found[name] = metrics.chance_recall(among, targets, int(k))
    return found


def _of_one_length(names: Sequence[str]) -> list[str]:
    """Those for k = SHOWN, or for the first k if it was not looked at, and those without a k."""
    ks = [name.partition("@")[2] for name in names if "@" in name]
    k = str(SHOWN) if str(SHOWN) in ks or not ks else ks[0]
    return [name for name in names if name.partition("@")[2] in ("", k)]


def _table(pools: Mapping[str, Any], names: Sequence[str], with_questions: bool = False) -> str:
    widths = [max(12, len(name) + 2) for name in names]
    heads = [f"{name:>{width}}" for name, width in zip(names, widths, strict=True)]
    lines = [f"{'pool':8}" + f"{'questions':>10}" * with_questions + "".join(heads)]
    for pool, facts in pools.items():
        count = f"{facts['questions']:>10}" * with_questions
        lines.append(f"{pool:8}{count}{_cells(facts['metrics'], names, widths, '-')}")
        chance = _cells(facts.get("chance", {}), names, widths, "")
        if chance.strip():
            lines.append(f"{'  chance':8}{'':{len(count)}}{chance}".rstrip())
    return "\n".join(lines)


def _cells(
    values: Mapping[str, float], names: Sequence[str], widths: Sequence[int], lacking: str
) -> str:
    found = [values.get(name) for name in names]
    said = [lacking if value is None else f"{value:.4f}" for value in found]
    return "".join(f"{text:>{width}}" for text, width in zip(said, widths, strict=True))
