"""Curves of the tables as SVG files, without any plotting library.

python benchmarks/plots.py          rewrites docs/images/curve_*.svg from results/
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import study

IMAGES = Path(__file__).parent.parent / "docs" / "images"
COLOURS = ("#0b6e99", "#d9480f", "#2b8a3e", "#862e9c", "#5c5f66", "#c2255c", "#e67700", "#1864ab")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 380, 56, 44, 34, 190

Curve = Sequence[tuple[float, float]]


def curves(title: str, named: Mapping[str, Sequence[Curve]], x: str, line: float | None) -> str:
    """One colour per name, one thin line per curve; `line` is a value to be reached."""
    points = [p for some in named.values() for curve in some for p in curve]
    right, top = max(p[0] for p in points), max(p[1] for p in points) * 1.05
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(px: float, py: float) -> tuple[float, float]:
        return LEFT + px / right * wide, TOP + (1 - py / top) * high

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>{escape(title)}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>'
    ]
    for value in _round_steps(top):
        y = at(0, value)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + wide}" stroke="#dee2e6"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in _round_steps(right):
        px = at(value, 0)[0]
        parts.append(f'<text x="{px:.1f}" y="{HEIGHT - 24}" text-anchor="middle">{value:g}</text>')
    parts.append(
        f'<text x="{LEFT + wide / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>'
    )
    if line is not None:
        y = at(0, line)[1]
        parts.append(
            f'<path d="M{LEFT} {y:.1f}H{LEFT + wide}" stroke="#868e96" stroke-dasharray="5 4"/>'
            f'<text x="{LEFT + 4}" y="{y - 5:.1f}" fill="#495057">{line:g}</text>'
        )
    for row, (name, some) in enumerate(named.items()):
        colour = COLOURS[row % len(COLOURS)]
        for curve in some:
            path = "L".join("{:.1f} {:.1f}".format(*at(*point)) for point in curve)
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        y = TOP + 14 + 18 * row
        parts.append(
            f'<path d="M{WIDTH - RIGHT + 12} {y - 4}h18" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{WIDTH - RIGHT + 36}" y="{y}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _round_steps(top: float) -> list[float]:
    """Four to eight round numbers from 0 to `top`."""
    step = 10 ** np.floor(np.log10(top / 4))
    step = next(step * m for m in (1, 2, 5, 10) if top / (step * m) <= 8)
    return [round(float(n * step), 10) for n in range(int(top / step) + 1)]


def by_cost(*tables: str) -> dict[str, list[Curve]]:
    """Validation by processor minutes, arm by arm."""
    found: dict[str, list[Curve]] = {}
    for table in tables:
        for row in study.rows(table):
            curve = [(s / 60, v) for s, v in row["curve"]]
            found.setdefault(f"{_MODEL[table.split('_')[1]]}{row['arm']}", []).append(curve)
    return found


def by_epoch(*tables: str) -> dict[str, list[Curve]]:
    """Validation by epoch, arm by arm."""
    found: dict[str, list[Curve]] = {}
    for table in tables:
        for row in study.rows(table):
            curve = [(float(n + 1), v) for n, v in enumerate(row["curve"])]
            found.setdefault(row["arm"], []).append(curve)
    return found


_MODEL = {"sasrec": "sasrec, ", "mamba4rec": "", "reppad": ""}  # said before the arm


def main() -> None:
    """Every plot whose table is there."""
    measure = "validation NDCG@10"
    cost = "processor minutes, one core, training and validation"
    plots = {
        "curve_ml1m": (
            by_cost("paper_sasrec_ml1m", "paper_mamba4rec_ml1m"),
            f"MovieLens-1M, {measure}",
            cost,
            0.165,
        ),
        "curve_beauty": (
            by_cost("paper_sasrec_beauty", "paper_mamba4rec_beauty"),
            f"Amazon Beauty, {measure}",
            cost,
            None,
        ),
        "curve_reppad": (by_cost("paper_reppad_beauty"), f"Eight arms, {measure}", cost, None),
        "curve_initial_ml1m": (
            by_epoch("initial_vectors_ml1m"),
            f"Initial vectors, MovieLens-1M, {measure}",
            "epoch",
            None,
        ),
        "curve_initial_beauty": (
            by_epoch("initial_vectors_beauty"),
            f"Initial vectors, Beauty, {measure}",
            "epoch",
            None,
        ),
    }
    for name, (found, title, x, line) in plots.items():
        if found:
            path = IMAGES / f"{name}.svg"
            path.write_text(curves(title, found, x, line), encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
