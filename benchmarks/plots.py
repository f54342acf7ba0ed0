"""Curves of the tables as SVG files, without any plotting library.

python benchmarks/plots.py          rewrites docs/images/{curve_*,scale_graph}.svg from results/
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import study

IMAGES = Path(__file__).parent.parent / "docs" / "images"
COLOURS = ("#0b6e99", "#d9480f", "#2b8a3e", "#862e9c", "#5c5f66", "#c2255c", "#e67700", "#1864ab")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 770, 380, 56, 44, 34, 240

Curve = Sequence[tuple[float, float]]


def curves(title: str, named: Mapping[str, Sequence[Curve]], x: str, line: float | None) -> str:
    """One colour per name, dashed when they begin anew, one thin line per curve; `line` is a value
    to be reached."""
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
        again, number = divmod(row, len(COLOURS))
        look = f'stroke="{COLOURS[number]}"' + ' stroke-dasharray="6 3"' * bool(again)
        for curve in some:
            path = "L".join("{:.1f} {:.1f}".format(*at(*point)) for point in curve)
            parts.append(f'<path d="M{path}" fill="none" {look} stroke-width="1.6"/>')
        y = TOP + 14 + 18 * row
        parts.append(
            f'<path d="M{WIDTH - RIGHT + 12} {y - 4}h18" {look} stroke-width="3"/>'
            f'<text x="{WIDTH - RIGHT + 36}" y="{y}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _round_steps(top: float) -> list[float]:
    """Four to eight round numbers from 0 to `top`."""
    step = 10 ** np.floor(np.log10(top / 4))
    step = next(step * m for m in (1, 2, 5, 10) if top / (step * m) <= 8)
    return [round(float(n * step), 10) for n in range(int(top / step) + 1)]


def slopes(title: str, named: Mapping[str, Curve], x: str, y: str) -> str:
    """Both axes by powers of 2; one line with dots per name, and a dashed one of proportion."""
    points = np.log2([p for curve in named.values() for p in curve])
    (left, low), (right, top) = np.floor(points.min(0)), np.ceil(points.max(0))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(px: float, py: float) -> tuple[float, float]:
        across, up = (np.log2(px) - left) / (right - left), (np.log2(py) - low) / (top - low)
        return LEFT + float(across) * wide, TOP + (1 - float(up)) * high

    def path(curve: Curve, look: str) -> str:
        line = "L".join("{:.1f} {:.1f}".format(*at(*point)) for point in curve)
        return f'<path d="M{line}" fill="none" {look}/>'

    parts = [_head(title, x, y)]
    for value in 2.0 ** np.arange(low, top + 1):
        py = at(1, value)[1]
        parts.append(f'<path d="M{LEFT} {py:.1f}H{LEFT + wide}" stroke="#dee2e6"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{py + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in 2.0 ** np.arange(left, right + 1):
        px = at(value, 2**low)[0]
        parts.append(f'<text x="{px:.1f}" y="{HEIGHT - 24}" text-anchor="middle">{value:g}</text>')
    start, most = next(iter(named.values()))[0], 2 ** min(right, top - low)
    ends = [start, (start[0] * most, min(start[1] * most, 2**top))]
    parts.append(path(ends, 'stroke="#868e96" stroke-dasharray="5 4"'))
    for row, (name, curve) in enumerate(named.items()):
        colour = COLOURS[row]
        parts.append(path(curve, f'stroke="{colour}" stroke-width="1.6"'))
        dots = ('{:.1f}" cy="{:.1f}'.format(*at(*point)) for point in curve)
        parts += [f'<circle cx="{dot}" r="3" fill="{colour}"/>' for dot in dots]
        py = TOP + 28 + 18 * row
        parts.append(
            f'<path d="M{WIDTH - RIGHT + 12} {py - 4}h18" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{WIDTH - RIGHT + 36}" y="{py}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _head(title: str, x: str, y: str) -> str:
    """The sheet, its title and what its axes are."""
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>{escape(title)}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>'
        f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>'
        f'<text x="{WIDTH - RIGHT + 12}" y="{TOP + 4}" fill="#495057">{escape(y)}</text>'
    )


def against(title: str, points: Mapping[str, Mapping[str, float]], x: str, y: str) -> str:
    """name -> at, mean and half of an interval: a point by powers of ten of `at`, with its
    interval; the dashed line is zero."""
    left, right = (f(np.log10([p["at"] for p in points.values()])) for f in (np.min, np.max))
    left, right = float(np.floor(left)), float(np.ceil(right))
    ends = [p["mean"] + sign * p["half"] for p in points.values() for sign in (-1, 1)]
    low, top = min(*ends, 0.0) * 1.1, max(ends) * 1.1
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(px: float, py: float) -> tuple[float, float]:
        across, up = (np.log10(px) - left) / (right - left), (py - low) / (top - low)
        return LEFT + float(across) * wide, TOP + (1 - float(up)) * high

    zero = at(10**left, 0)[1]
    parts = [_head(title, x, y)]
    parts.append(
        f'<path d="M{LEFT} {zero:.1f}H{LEFT + wide}" stroke="#868e96" stroke-dasharray="5 4"/>'
    )
    for value in _round_steps(top):
        py = at(10**left, value)[1]
        parts.append(f'<text x="{LEFT - 6}" y="{py + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in 10.0 ** np.arange(left, right + 1):
        px = at(value, 0)[0]
        parts.append(f'<text x="{px:.1f}" y="{HEIGHT - 24}" text-anchor="middle">{value:g}</text>')
    for row, (name, p) in enumerate(points.items()):
        (px, py), colour = at(p["at"], p["mean"]), COLOURS[row]
        ends = (at(p["at"], p["mean"] + sign * p["half"])[1] for sign in (-1, 1))
        parts.append('<path d="M{:.1f} {:.1f}V{:.1f}" stroke="{}"/>'.format(px, *ends, colour))
        parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour}"/>')
        beside, down = WIDTH - RIGHT + 16, TOP + 28 + 18 * row
        parts.append(f'<circle cx="{beside}" cy="{down - 4}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{beside + 12}" y="{down}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def growth() -> dict[str, Curve]:
    """MMSSL: seconds of an epoch by how many times the base an axis is, axis by axis."""
    rows = study.rows("bench_graph")
    points = [row for row in rows if row["bench"] == "graph/mmssl"]
    found: dict[str, Curve] = {}
    for fit in (row for row in rows if row["bench"] == "graph/mmssl_growth"):
        axis = fit["axis"]
        others = {key: fit[key] for key in ("users", "items", "edges") if key != axis}
        own = [row for row in points if others.items() <= row.items()]
        curve = [(row[axis] / fit["values"][0], row["epoch_cpu_s"]) for row in own]
        found[f"{axis}: power {fit['slope_epoch_cpu_s']:.2f}"] = sorted(curve)
    return found


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


def whiskers(title: str, panels: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> str:
    """panel -> line -> name -> values of all seeds: a point at the mean, its 95 % interval, and a
    colour per name. Every panel has a scale of its own."""
    names = list(
        dict.fromkeys(n for panel in panels.values() for line in panel.values() for n in line)
    )
    parts, y = [f'<text x="12" y="20" font-size="14" font-weight="bold">{escape(title)}</text>'], 40
    for row, name in enumerate(names):
        at = 120 + 130 * row
        parts.append(f'<circle cx="{at}" cy="36" r="4" fill="{COLOURS[row]}"/>')
        parts.append(f'<text x="{at + 9}" y="40">{escape(name)}</text>')
    for heading, lines in panels.items():
        found = {(line, n): study.interval(v) for line, by in lines.items() for n, v in by.items()}
        top = max(mean + np.nan_to_num(half) for mean, half in found.values()) * 1.05 or 1.0
        y += 34
        parts.append(f'<text x="12" y="{y}" font-weight="bold">{escape(heading)}</text>')
        bottom = y + 12 + 26 * len(lines)
        for value in _round_steps(top):
            x = 120 + 580 * value / top
            parts.append(f'<path d="M{x:.1f} {y + 8}V{bottom}" stroke="#dee2e6"/>')
            parts.append(
                f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{value:g}</text>'
            )
        for line, by in lines.items():
            y += 26
            parts.append(f'<text x="110" y="{y + 4}" text-anchor="end">{escape(line)}</text>')
            for name in by:
                mean, half = (120 + 580 * np.nan_to_num(v) / top for v in found[line, name])
                colour, at = COLOURS[names.index(name)], y - 6 + 4 * names.index(name)
                low, high = max(mean - half + 120, 120), mean + half - 120
                parts.append(f'<path d="M{low:.1f} {at}H{high:.1f}" stroke="{colour}"/>')
                parts.append(f'<circle cx="{mean:.1f}" cy="{at}" r="3.5" fill="{colour}"/>')
        y = bottom + 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 16}" role="img" '
        f'font-family="sans-serif" font-size="12"><rect width="{WIDTH}" height="{y + 16}" '
        'fill="#fff"/>' + "\n".join([*parts, "</svg>"]) + "\n"
    )


def content() -> dict[str, dict[str, dict[str, list[float]]]]:
    """Recall@20 of never-seen videos among themselves, for `whiskers`."""
    panels: dict[str, dict[str, dict[str, list[float]]]] = {}
    named = {"microlens": "MicroLens-50k, titles", "world": "Rendered world"}
    for table, heading in named.items():
        for row in study.rows(f"content_{table}"):
            model, _, kind = row["arm"].partition(", ")
            if ", " in kind:
                continue  # an ablation
            if table == "microlens":
                model, kind = row["arm"], "titles" if row["test"]["cold@20"] else "none"
            line = panels.setdefault(heading, {}).setdefault(model, {})
            line.setdefault(kind or "none", []).append(row["test"]["cold@20"])
    return panels


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
    if grown := growth():
        x = "times 5,000 users, 5,000 items, 62,500 edges; one axis at a time"
        drawn = slopes("An epoch of MMSSL", grown, x, "processor seconds")
        (IMAGES / "scale_graph.svg").write_text(drawn, encoding="utf-8")
    for name, (found, title, x, line) in plots.items():
        if found:
            path = IMAGES / f"{name}.svg"
            path.write_text(curves(title, found, x, line), encoding="utf-8")
            print(path)
    if panels := content():
        path = IMAGES / "content.svg"
        path.write_text(whiskers("Never-seen videos, recall@20", panels), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
