"""report.html of a comparison: the geometry of its plots, drawn by hand; the rest is template."""

from collections.abc import Mapping, Sequence
from typing import Any

from reelm.evaluate.page import Number, number, rendered, room, scaled

WIDE, LEFT, RIGHT = 620, 170, 20  # of a plot of dots, in its own units
ROW = 26
CURVE_WIDE, CURVE_HIGH, MARGIN = 620, 240, 48
COLOURS = 8  # classes c0 .. c7 of the page

Row = dict[str, Any]


def html(facts: Mapping[str, Any]) -> str:
    """One page that needs nothing else: findings, verdicts, plots, curves, costs, all tables."""
    measure = facts["about"]["measure"]
    told = {
        "facts": facts,
        "measure": measure,
        "colour": {label: n % COLOURS for n, label in enumerate(facts["models"])},
        "failed": [cell for cell in facts["cells"] if cell["error"]],
        "first": [row for row in facts["comparisons"] if row["family"] == "measure"],
        "main": [plot for plot in plots(facts["figures"]) if plot["name"] == measure],
        "groups": groups(facts),
        "curves": curves(facts),
        "costs": costs(facts["cells"]),
    }
    filters = {"signed": signed, "chance": probability}
    return rendered("reelm.compare", "report.html", told, filters)


def plots(figures: Sequence[Row]) -> list[Row]:
    """A plot per dataset, pool and metric: dots of the means, lines of the intervals over seeds,
    small dots of the single seeds."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in figures:
        found.setdefault((row["dataset"], f"{row['pool']}/{row['metric']}"), []).append(row)
    return [_dots(dataset, name, rows) for (dataset, name), rows in found.items()]


def groups(facts: Mapping[str, Any]) -> list[Row]:
    """Dataset and pool with all of their plots and comparisons."""
    drawn = plots(facts["figures"])
    places = dict.fromkeys((row["dataset"], row["pool"]) for row in facts["figures"])
    told = facts["comparisons"]
    return [
        {
            "dataset": dataset,
            "pool": pool,
            "plots": [
                p for p in drawn if p["dataset"] == dataset and p["name"].startswith(f"{pool}/")
            ],
            "rows": [r for r in told if (r["dataset"], r["pool"]) == (dataset, pool)],
        }
        for dataset, pool in places
    ]


def curves(facts: Mapping[str, Any]) -> list[Row]:
    """Per dataset and validation measure two plots: by epoch, and by processor seconds where they
    are known, else by seconds."""
    found = []
    for dataset in facts["datasets"]:
        lines: dict[str, list[Row]] = {}
        for cell in facts["cells"]:
            measure = facts["models"][cell["model"]]["train"]["measure"]
            points = _points(cell["curve"], measure)
            if cell["dataset"] == dataset and points:
                line = {"model": cell["model"], "seed": cell["seed"], "points": points}
                lines.setdefault(measure, []).append(line)
        for measure, some in lines.items():
            clock = (
                "cpu_s" if all(p["cpu_s"] for line in some for p in line["points"]) else "seconds"
            )
            for axis in ("epoch", clock):
                found.append({"dataset": dataset, "measure": measure, **_curve(some, axis)})
    return found


def costs(cells: Sequence[Row]) -> list[Row]:
    """Means over the seeds of each dataset and model."""
    found: dict[tuple[str, str], list[Row]] = {}
    for cell in cells:
        if not cell["error"]:
            found.setdefault((cell["dataset"], cell["model"]), []).append(cell["cost"])
    rows = []
    for (dataset, model), some in found.items():
        row: Row = {"dataset": dataset, "model": model, "trainings": len(some)}
        for name in ("train_s", "cpu_s", "parameters", "epochs"):
            known = [cost[name] for cost in some if cost.get(name) is not None]
            row[name] = sum(known) / len(known) if known else None
        rows.append(row)
    return rows


def signed(value: Number | None) -> str:
    """A difference with its sign."""
    return "-" if value is None else ("+" if value >= 0 else "\u2212") + number(abs(value))


def probability(value: Number | None) -> str:
    """A p-value."""
    if value is None:
        return "-"
    return "< .001" if value < 0.001 else f"{value:.3f}".replace("0.", ".", 1)


def _dots(dataset: str, name: str, rows: Sequence[Row]) -> Row:
    ends = [v for r in rows for v in (r["low"], r["high"], *r["values"]) if v is not None]
    low, high = room(min(ends), max(ends))

    def at(value: Number | None) -> float | None:
        return None if value is None else scaled(value, (low, high), (LEFT, WIDE - RIGHT))

    lines = [
        {
            "model": row["model"],
            "y": ROW * n + ROW // 2,
            "mean": row["mean"],
            "x": at(row["mean"]),
            "low": at(row["low"]),
            "high": at(row["high"]),
            "seeds": [at(value) for value in row["values"]],
        }
        for n, row in enumerate(rows)
    ]
    ticks = [{"x": at(t), "value": t} for t in (low, (low + high) / 2, high)]
    return {
        "dataset": dataset,
        "name": name,
        "rows": lines,
        "ticks": ticks,
        "wide": WIDE,
        "high": ROW * len(rows) + 24,
        "floor": ROW * len(rows),
    }


def _points(curve: Sequence[Row], measure: str) -> list[Row]:
    """Validated epochs with what was spent up to them."""
    points, spent, cpu = [], 0.0, 0.0
    for row in curve:
        spent, cpu = spent + row["seconds"], cpu + row.get("cpu_s", 0.0)
        if measure in row:
            told = {"epoch": row["epoch"], "seconds": spent, "cpu_s": cpu}
            points.append(told | {"value": row[measure], "kept": bool(row.get("kept"))})
    return points


def _curve(lines: Sequence[Row], axis: str) -> Row:
    every = [point for line in lines for point in line["points"]]
    low, high = room(min(p["value"] for p in every), max(p["value"] for p in every))
    end = max(p[axis] for p in every) or 1.0
    floor = CURVE_HIGH - MARGIN / 2

    def at(point: Row) -> tuple[float, float]:
        x = scaled(point[axis], (0, end), (MARGIN, CURVE_WIDE - RIGHT))
        return x, scaled(point["value"], (low, high), (floor, 8))

    drawn = []
    for line in lines:
        places = [at(point) for point in line["points"]]
        kept = [place for place, p in zip(places, line["points"], strict=True) if p["kept"]]
        drawn.append(
            {
                "model": line["model"],
                "seed": line["seed"],
                "path": " ".join(f"{x},{y}" for x, y in places),
                "kept": kept,
            }
        )
    middle = (low + high) / 2
    marks = [{"y": scaled(v, (low, high), (floor, 8)), "value": v} for v in (low, middle, high)]
    told = {"epoch": "epochs", "cpu_s": "processor seconds", "seconds": "seconds"}[axis]
    sizes = {"wide": CURVE_WIDE, "high": CURVE_HIGH, "left": MARGIN, "right": CURVE_WIDE - RIGHT}
    models = list(dict.fromkeys(line["model"] for line in lines))
    return {"axis": told, "end": end, "lines": drawn, "marks": marks, "models": models, **sizes}
