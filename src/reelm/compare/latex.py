r"""table.tex of a comparison: means and their intervals over seeds, ready for \input."""

from collections.abc import Mapping, Sequence
from typing import Any

from reelm.metrics import ACCURACY

Row = dict[str, Any]
SIGNS = {sign: f"\\{sign}" for sign in "&%$#_{}"}
SIGNS |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
HEAD = r"""% Means over seeds; \pm is half of the 95 % interval over seeds, where seeds differ.
% Bold: the highest mean. $\ast$: better or worse than {reference} (Holm's p below .05, and the
% interval over seeds, where there is one, does not hold 0). Needs \usepackage{booktabs}.
"""


def latex(facts: Mapping[str, Any]) -> str:
    """A tabular for each dataset and pool: a row per model, a column per metric of accuracy."""
    about = facts["about"]
    places = dict.fromkeys((row["dataset"], row["pool"]) for row in facts["figures"])
    head = HEAD.replace("{reference}", about["reference"])
    marked = {
        (row["dataset"], row["pool"], row["metric"], row["model"])
        for row in facts["comparisons"]
        if row["verdict"] in ("better", "worse")
    }
    tables = [
        _table([row for row in facts["figures"] if (row["dataset"], row["pool"]) == at], marked)
        for at in places
    ]
    return head + "\n".join(tables)


def _table(figures: Sequence[Row], marked: set[tuple[str, str, str, str]]) -> str:
    """One tabular; empty where the pool had no question that is measured for accuracy."""
    kept = [row for row in figures if row["metric"].partition("@")[0] in ACCURACY]
    if not kept:
        return ""
    names = list(dict.fromkeys(row["metric"] for row in kept))
    cells = {(row["model"], row["metric"]): row for row in kept}
    best = {n: max(row["mean"] for row in kept if row["metric"] == n) for n in names}
    dataset, pool, questions = (kept[0][name] for name in ("dataset", "pool", "questions"))
    lines = [
        f"% {dataset}, {pool}: {questions} questions",
        f"\\begin{{tabular}}{{l{'r' * len(names)}}}",
        r"\toprule",
        " & ".join(["model", *map(_escaped, names)]) + r" \\",
        r"\midrule",
    ]
    for model in dict.fromkeys(row["model"] for row in kept):
        told = [_cell(cells.get((model, name)), best[name], marked) for name in names]
        lines.append(" & ".join([_escaped(model), *told]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _cell(row: Row | None, best: float, marked: set[tuple[str, str, str, str]]) -> str:
    if row is None:
        return "--"
    mean = f"{row['mean']:.4f}"
    mean = rf"\mathbf{{{mean}}}" if row["mean"] == best else mean
    told = row["low"] is not None
    half = rf" \pm {(row['high'] - row['low']) / 2:.4f}" if told else ""
    at = (row["dataset"], row["pool"], row["metric"], row["model"])
    mark = r"^{\ast}" if at in marked else ""
    return f"${mean}{half}{mark}$"


def _escaped(text: str) -> str:
    return "".join(SIGNS.get(sign, sign) for sign in text)
