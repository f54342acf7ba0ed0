"""From cells to figures, paired differences and verdicts in plain words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from reelm import paired
from reelm.compare.cells import Cell
from reelm.errors import BadData
from reelm.evaluate.report import kind

ALPHA = 0.05
ROOM = 40  # random sign patterns per comparison, so that the smallest p survives Holm's factor

Row = dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """The cells that ended well."""

    cells: Mapping[tuple[str, str], Mapping[int, Cell]]
    """(dataset, model) -> place -> cell; a model that has nothing to train is in every place."""
    datasets: Sequence[str]
    models: Sequence[str]

    @staticmethod
    def of(
        done: Sequence[Cell], datasets: Sequence[str], models: Sequence[str], seeds: int
    ) -> "Grid":
        """Sort cells by what they are about."""
        found: dict[tuple[str, str], dict[int, Cell]] = {}
        for cell in done:
            if cell.report is not None:
                places = range(seeds) if cell.alike else (cell.place,)
                found.setdefault((cell.dataset, cell.model), {}).update(dict.fromkeys(places, cell))
        return Grid(found, datasets, models)

    def at(self, dataset: str, model: str) -> Mapping[int, Cell]:
        """Cells of one model on one dataset; empty if all failed."""
        return self.cells.get((dataset, model), {})

    def measured(self, dataset: str) -> list[tuple[str, str]]:
        """Pools and metrics that any cell of the dataset has, in the order of the reports."""
        names: dict[tuple[str, str], None] = {}
        for model in self.models:
            for cell in self.at(dataset, model).values():
                for pool, facts in cell.pools.items():
                    names |= dict.fromkeys((pool, metric) for metric in facts["metrics"])
        return list(names)


def figures(grid: Grid) -> list[Row]:
    """One row per dataset, pool, metric and model: the mean over seeds and its interval.

    `low` and `high` are the ends of a 95 % interval over seeds, None where there is one seed or
    nothing is drawn. `margin` is half a 95 % interval over questions.
    """
    rows = []
    for dataset in grid.datasets:
        for pool, metric in grid.measured(dataset):
            for model in grid.models:
                some = grid.at(dataset, model)
                values = _values(some, sorted(some), pool, metric)
                if not np.isfinite(values).any():
                    continue
                known = values[np.isfinite(values)]
                cell = next(iter(some.values()))
                ends = _ends(known) if not cell.alike else None
                rows.append(
                    {
                        "dataset": dataset,
                        "pool": pool,
                        "metric": metric,
                        "model": model,
                        "mean": float(known.mean()),
                        "low": ends["low"] if ends else None,
                        "high": ends["high"] if ends else None,
                        "margin": cell.pools[pool].get("margins", {}).get(metric),
                        "chance": cell.pools[pool].get("chance", {}).get(metric),
                        "questions": cell.pools[pool]["questions"],
                        "values": known[:1].tolist() if cell.alike else known.tolist(),
                    }
                )
    return rows


def comparisons(grid: Grid, reference: str, measure: str, resamples: int) -> list[Row]:
    """One row per dataset, pool, metric and model but the reference: the paired difference, its
    intervals, p-values and verdict.

    `users`: over users, of the mean over paired seeds, with the permutation test; None for
    metrics that no single question has. `seeds`: over seeds, with the t-test; None for one seed,
    or where neither model draws anything. `p` is that over users if there is one, else over
    seeds. `p_holm` is corrected within its family: "measure" holds the comparisons by the
    measure, in all datasets and of all models; "others" holds all the rest.

    Raises:
        BadData: two reports of one dataset asked different users.
    """
    others = [model for model in grid.models if model != reference]
    wanted = {dataset: grid.measured(dataset) for dataset in grid.datasets}
    count = len(others) * sum(map(len, wanted.values()))
    resamples = max(resamples, ROOM * count)
    rows: list[Row] = []
    for dataset, names in wanted.items():
        for pool in dict.fromkeys(pool for pool, _ in names):
            metrics = [metric for p, metric in names if p == pool]
            for model in others:
                one, other = grid.at(dataset, model), grid.at(dataset, reference)
                found = _pool(one, other, pool, metrics, resamples)
                about = {"dataset": dataset, "pool": pool, "model": model}
                rows += [about | {"reference": reference} | row for row in found]
    for row in rows:
        row["family"] = "measure" if f"{row['pool']}/{row['metric']}" == measure else "others"
    _correct(rows)
    for row in rows:
        row["verdict"] = verdict(row)
    return rows


def verdict(row: Row) -> str:
    """better, worse (higher, lower where more is not better) or "no difference shown".

    A difference is shown if Holm's p is below ALPHA and, where there is an interval over seeds,
    that interval does not hold 0.
    """
    if row["p_holm"] is None:
        return "not tested"
    seeds = row["seeds"]
    holds_zero = seeds is not None and seeds["low"] <= 0 <= seeds["high"]
    if row["p_holm"] >= ALPHA or holds_zero:
        return "no difference shown"
    words = ("higher", "lower") if kind(row["metric"]) == "lists" else ("better", "worse")
    return words[row["difference"] < 0]


def _pool(
    one: Mapping[int, Cell],
    other: Mapping[int, Cell],
    pool: str,
    metrics: Sequence[str],
    resamples: int,
) -> list[Row]:
    """Differences of two models in one pool, over the seeds that both have."""
    places = sorted(set(one) & set(other))
    if not places:
        return []
    drawn = not (one[places[0]].alike and other[places[0]].alike)
    over_users = _over_users(one, other, places, pool, metrics, resamples)
    rows = []
    for metric in metrics:
        change = _values(one, places, pool, metric) - _values(other, places, pool, metric)
        if not np.isfinite(change).all():
            continue
        users, seeds = over_users.get(metric), _ends(change) if drawn else None
        if seeds is not None:
            seeds["p"] = float(paired.t_p(change))
        rows.append(
            {
                "metric": metric,
                "difference": float(change.mean()),
                "before": float(_values(other, places, pool, metric).mean()),
                "pairs": len(places) if drawn else 1,
                "users": users,
                "seeds": seeds,
                "p": users["p"] if users else seeds["p"] if seeds else None,
            }
        )
    return rows


def _over_users(
    one: Mapping[int, Cell],
    other: Mapping[int, Cell],
    places: Sequence[int],
    pool: str,
    metrics: Sequence[str],
    resamples: int,
) -> dict[str, Row]:
    """metric -> mean, low, high, p and the number of questions."""
    (ids, mine), (theirs_ids, theirs) = (_mean(c, places, pool, metrics) for c in (one, other))
    if not ids.equals(theirs_ids):
        raise BadData(f"{one[places[0]].report}: other users were asked than of the reference.")
    names = [name for name in mine if name in theirs]
    if not names or not len(ids):
        return {}
    change = {name: mine[name] - theirs[name] for name in names}
    full = [name for name in names if np.isfinite(change[name]).all()]
    groups = [full] if full else []
    groups += [[name] for name in names if name not in full]  # some questions have no such value
    found: dict[str, Row] = {}
    for group in groups:
        table = np.stack([change[name] for name in group], axis=1)
        table = table[np.isfinite(table).all(axis=1)]
        if not len(table):
            continue
        ends = paired.bootstrap_interval(table)
        p = paired.sign_flip_p(table, resamples)
        for column, name in enumerate(group):
            found[name] = _row(ends, column) | {"p": float(p[column]), "questions": len(table)}
    return found


def _mean(
    cells: Mapping[int, Cell], places: Sequence[int], pool: str, metrics: Sequence[str]
) -> tuple[pl.Series, dict[str, np.ndarray]]:
    """User ids and each metric's value per question, as a mean over seeds."""
    each = {id(cells[place]): cells[place] for place in places}  # one that is alike counts once
    tables = [cell.per_user(pool) for cell in each.values()]
    ids = tables[0]["user_id"]
    if not all(table["user_id"].equals(ids) for table in tables):
        raise BadData(f"{cells[places[0]].report}: other users were asked than with another seed.")
    names = [name for name in metrics if all(name in table.columns for table in tables)]
    values = {name: [_numbers(table[name]) for table in tables] for name in names}
    return ids, {name: np.mean(columns, axis=0) for name, columns in values.items()}


def _numbers(column: pl.Series) -> np.ndarray:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _values(cells: Mapping[int, Cell], places: Sequence[int], pool: str, metric: str) -> np.ndarray:
    """A metric at each place; NaN where it was not measured."""
    found = (cells[p].pools.get(pool, {}).get("metrics", {}).get(metric) for p in places)
    return np.array([np.nan if value is None else value for value in found], np.float64)


def _ends(values: np.ndarray) -> Row | None:
    """Mean and interval over seeds, if there are two or more."""
    return _row(paired.t_interval(values[:, None]), 0) if len(values) > 1 else None


def _row(ends: paired.Interval, column: int) -> Row:
    return {name: float(getattr(ends, name)[column]) for name in ("mean", "low", "high")}


def _correct(rows: list[Row]) -> None:
    """Holm's p within each family, in place."""
    for row in rows:
        row["p_holm"] = None
    for family in ("measure", "others"):
        tested = [row for row in rows if row["family"] == family and row["p"] is not None]
        raised = paired.holm(np.array([row["p"] for row in tested], np.float64))
        for row, p in zip(tested, raised.tolist(), strict=True):
            row["p_holm"] = p
