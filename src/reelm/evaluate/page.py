"""The page of a report: one HTML file that needs nothing else."""

import math
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

Number = int | float

WAYS = {
    "seen": "By whether training saw the video",
    "frequency": "By training interactions of the video",
    "history": "By length of history",
    "tables": "By the features the video has",
}
TITLES = {
    "accuracy": "How high the targets stand",
    "lists": "What the lists are like",
    "sampled": "Among drawn videos only: not to be compared with the figures above",
}


def html(facts: Mapping[str, Any], kind: Callable[[str], str]) -> str:
    """Bars with intervals, then every figure.

    Args:
        facts: what report.json holds.
        kind: accuracy, lists or sampled, by the name of a metric.
    """
    label = _label(facts)
    grids = {
        name: [(title, _grid(pool, name_of, kind)) for name_of, title in TITLES.items()]
        for name, pool in facts["pools"].items()
    }
    bars = _pool_bars(facts, label)
    told = {"facts": facts, "label": label, "bars": bars, "parts": _parts(facts), "grids": grids}
    return rendered("reelm.evaluate", "report.html", told)


def rendered(
    package: str,
    name: str,
    facts: Mapping[str, Any],
    filters: Mapping[str, Callable[[Any], Any]] | None = None,
) -> str:
    """A page from the template `name` of a package; a fact that it lacks is an error.

    Args:
        filters: what its text may go through beside `number`.
    """
    import jinja2

    text = resources.files(package).joinpath(name).read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page.filters |= {"number": number, **(filters or {})}
    return page.from_string(text).render(facts)


def number(value: float | None) -> str:
    """Four digits that matter, without the leading zero of a share; a dash for none. Thousands are
    set apart."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) < 1:
        return f"{value:.4f}".replace("0.", ".", 1)
    return f"{value:,.{max(0, 3 - int(math.log10(abs(value))))}f}"


def room(low: Number, high: Number) -> tuple[Number, Number]:
    """Ends of an axis: from 0 if the values come near to it, with some room to either side."""
    if 0 <= low < 0.5 * high:
        return 0.0, 1.05 * high
    room = 0.1 * (high - low) or 0.1 * abs(high) or 0.1
    return low - room, high + room


def scaled(value: Number, given: tuple[Number, Number], wanted: tuple[Number, Number]) -> float:
    """Where a value of a given range lies in the wanted one, to a tenth."""
    share = (value - given[0]) / (given[1] - given[0])
    return round(wanted[0] + share * (wanted[1] - wanted[0]), 1)


def _label(facts: Mapping[str, Any]) -> str:
    """The metric the bars show: recall@10, or the first recall there is."""
    named = [m for pool in facts["pools"].values() for m in pool["metrics"] if m[:7] == "recall@"]
    return "recall@10" if "recall@10" in named or not named else named[0]


def _pool_bars(facts: Mapping[str, Any], label: str) -> list[dict[str, Any]]:
    """One bar per pool that has questions."""
    return _bars(
        [
            _bar(name, pool, label, pool["chance"][label])
            for name, pool in facts["pools"].items()
            if pool["questions"]
        ]
    )


def _parts(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For the first pool that has questions, each way of slicing with a bar per part."""
    label = _label(facts)
    for name, pool in facts["pools"].items():
        if pool["questions"]:
            return [
                {
                    "title": f"{WAYS[way]}, pool {name}",
                    "bars": _bars([_bar(part["part"], part, label) for part in parts]),
                }
                for way, parts in pool["slices"].items()
            ]
    return []


def _bar(
    name: str, told: Mapping[str, Any], label: str, chance: float | None = None
) -> dict[str, Any]:
    value, margin = told["metrics"][label], told["margins"][label]
    ends = {"low": max(value - margin, 0), "high": value + margin}
    given = {"name": name, "value": value, "margin": margin, "questions": told["questions"]}
    return given | ends | {"chance": chance}


def _bars(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows, and where on the page their numbers lie as shares of the longest."""
    longest = max([max(row["high"], row["chance"] or 0) for row in rows] or [1.0]) or 1.0
    for row in rows:
        for key in ("value", "low", "high", "chance"):
            row[f"{key}_at"] = None if row[key] is None else round(row[key] / longest, 4)
    return list(rows)


def _grid(
    pool: Mapping[str, Any], wanted: str, kind: Callable[[str], str]
) -> dict[str, Any] | None:
    """The metrics of one kind, one row per measure and one column per k; None if there are none."""
    names = [name for name in pool["metrics"] if kind(name) == wanted]
    ks = list(dict.fromkeys(name.partition("@")[2] for name in names))
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        measure, _, k = name.partition("@")
        rows.setdefault(measure, {})[k] = {
            "value": pool["metrics"][name],
            "margin": pool["margins"].get(name),
            "chance": pool["chance"].get(name),
        }
    return {"ks": ks, "rows": rows} if names else None
