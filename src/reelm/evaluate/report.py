"""A report: what came out of an evaluation, and its folder for people and for programs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from reelm import files, metrics

EDGES = (0, 2, 5, 10, 20, 50)  # of the lengths of histories a report tells apart
LENGTHS = ("0", "1-2", "3-5", "6-10", "11-20", "21-50", "> 50")
FACTS = ("pool", "user", "user_id", "history", "targets", "candidates")


@dataclass(frozen=True)
class Report:
    """Metrics per pool, averaged over questions, with what chance would give."""

    pools: Mapping[str, Mapping[str, float]]
    """pool -> metric -> mean over the pool's questions; empty if it has none."""
    margins: Mapping[str, Mapping[str, float]]
    """pool -> metric -> half the width of a 95 % interval, from the spread over questions."""
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

    def __getitem__(self, name: str) -> float:
        """`report["cold/recall@10"]`; without a pool, the mixed one."""
        pool, _, metric = name.rpartition("/")
        return self.pools[pool or "mixed"].get(metric, math.nan)

    @staticmethod
    def of(
        per_user: pl.DataFrame, candidates: Mapping[str, int], ks: Sequence[int], asked: int
    ) -> "Report":
        """Average a table of one row per question and pool."""
        pools, margins, chance, questions = {}, {}, {}, {}
        for name in candidates:
            rows = per_user.filter(pl.col("pool") == name)
            columns = [c for c in rows.columns if c not in FACTS and len(rows)]
            values = {c: rows[c].to_numpy() for c in columns}
            pools[name] = {c: float(v.mean()) for c, v in values.items()}
            margins[name] = {c: _margin(v) for c, v in values.items()}
            chance[name] = _chance(rows, ks) if len(rows) else {}
            questions[name] = len(rows)
        return Report(pools, margins, chance, questions, dict(candidates), asked, per_user)

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
                }
                for name in self.pools
            },
        }


def summary(folder: Path) -> str:
    """A report folder's metrics as a plain table, one line per pool."""
    pools = json.loads((folder / "report.json").read_text(encoding="utf-8"))["pools"]
    names = list(dict.fromkeys(name for facts in pools.values() for name in facts["metrics"]))
    lines = [f"{'pool':8}{'questions':>10}" + "".join(f"{name:>12}" for name in names)]
    for pool, facts in pools.items():
        values = [facts["metrics"].get(name) for name in names]
        cells = "".join(f"{'-' if v is None else f'{v:.4f}':>12}" for v in values)
        lines.append(f"{pool:8}{facts['questions']:>10}{cells}")
    return "\n".join(lines)


def write(report: Report, folder: Path, about: Mapping[str, Any], per_user: pl.DataFrame) -> None:
    """Write report.json, report.html and per_user.parquet; the manifest is left to the caller."""
    facts = {"about": dict(about), **report.facts}
    with files.atomic(folder / "per_user.parquet") as tmp:
        per_user.write_parquet(tmp)
    files.write_text(folder / "report.json", json.dumps(facts, indent=2) + "\n")
    files.write_text(folder / "report.html", html(facts, per_user))


def html(facts: Mapping[str, Any], per_user: pl.DataFrame) -> str:
    """One page that needs nothing else: tables, bars, and who was answered how well."""
    import jinja2

    text = resources.files("reelm.evaluate").joinpath("report.html").read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page.filters["number"] = _number
    return page.from_string(text).render(
        facts=facts, bars=_bars(facts), lengths=_by_history(per_user), label=_label(facts)
    )


def _chance(rows: pl.DataFrame, ks: Sequence[int]) -> dict[str, float]:
    candidates, targets = rows["candidates"].to_numpy(), rows["targets"].to_numpy()
    return {f"recall@{k}": metrics.chance_recall(candidates, targets, k) for k in ks}


def _margin(values: np.ndarray) -> float:
    """1.96 standard errors of a mean."""
    return float(1.96 * values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _label(facts: Mapping[str, Any]) -> str:
    """The metric the bars show: recall@10, or the first recall there is."""
    named = [m for pool in facts["pools"].values() for m in pool["chance"]]
    return "recall@10" if "recall@10" in named or not named else named[0]


def _bars(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per pool the value, its margin and chance, and the same as shares of the longest bar."""
    label = _label(facts)
    rows = []
    for name, pool in facts["pools"].items():
        if pool["questions"]:
            value, margin = pool["metrics"][label], pool["margins"][label]
            rows.append(dict(name=name, value=value, margin=margin, chance=pool["chance"][label]))
    longest = max([max(r["value"] + r["margin"], r["chance"]) for r in rows] or [1.0]) or 1.0
    for row in rows:
        ends = {"low": max(row["value"] - row["margin"], 0), "high": row["value"] + row["margin"]}
        for key, number in {**row, **ends}.items():
            if key != "name":
                row[f"{key}_at"] = round(number / longest, 4)
    return rows


def _by_history(per_user: pl.DataFrame) -> list[dict[str, Any]]:
    """How well users with short and long histories were answered, in the mixed pool."""
    metric = next((c for c in per_user.columns if c.startswith("recall@10")), None)
    rows = per_user.filter(pl.col("pool") == "mixed") if metric else per_user.clear()
    if not metric or not len(rows):
        return []
    place = np.digitize(rows["history"].to_numpy(), EDGES, right=True)
    return (
        rows.with_columns(pl.Series("length", [LENGTHS[i] for i in place]))
        .group_by("length")
        .agg(pl.len().alias("users"), pl.col(metric).mean().alias("value"), pl.col("history").min())
        .sort("history")
        .to_dicts()
    )


def _number(value: float | None) -> str:
    """Four digits after the point, without the leading zero of a share."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.4f}".removeprefix("0") if abs(value) < 1 else f"{value:.4f}"
