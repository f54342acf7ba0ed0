"""report.html of a search: trials in order, each setting against what came of it, all trials."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from reelm.evaluate.page import Number, rendered, room, scaled
from reelm.search.space import Range
from reelm.search.trials import Trial, ranked

HIGH, LEFT, RIGHT, BELOW = 220, 52, 12, 24  # of a plot, in its own units
WIDE, NARROW = 660, 330

Point = tuple[Number, Trial]
Mark = tuple[Number, str]


def html(about: Mapping[str, Any], ranges: Mapping[str, Range], trials: Sequence[Trial]) -> str:
    """One page that needs nothing else.

    Args:
        about: model, measure and command, as text.
    """
    order = ranked(trials)
    facts = {
        "about": about,
        "names": list(ranges),
        "trials": order + [trial for trial in trials if trial not in order],
        "failed": sum(trial.state == "failed" for trial in trials),
        "plots": plots(ranges, trials) if order else [],
    }
    return rendered("reelm.search", "report.html", facts, {"value": told})


def told(value: Any) -> str:
    """A setting's value; numbers with four digits that matter."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()


def plots(ranges: Mapping[str, Range], trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Figures by trial with the best so far, then figures by each setting."""
    done = [trial for trial in trials if trial.valid is not None]
    last = max(1, trials[-1].number)
    drawn = [_plot("trials", [(t.number / last, t) for t in done], [(0, "0"), (1, str(last))])]
    for name, one in ranges.items():
        points = [(one.place(trial.settings[name]), trial) for trial in done]
        drawn.append(_plot(name, points, [(one.place(v), told(v)) for v in one.values]))
    return drawn


def _plot(title: str, points: Sequence[Point], marks: Sequence[Mark]) -> dict[str, Any]:
    figures = [trial.valid or 0.0 for _, trial in points]
    ends, wide = room(min(figures), max(figures)), WIDE if title == "trials" else NARROW

    def across(share: Number) -> float:
        return scaled(share, (0, 1), (LEFT + 6, wide - RIGHT))

    def up(figure: Number) -> float:
        return scaled(figure, ends, (HIGH - BELOW, 8))

    best = max(figures)
    dots = [
        {
            "x": across(share),
            "y": up(trial.valid or 0.0),
            "trial": trial,
            "best": trial.valid == best,
        }
        for share, trial in points
    ]
    steps = zip(dots, map(up, accumulate(figures, max)), strict=True)
    return {
        "title": title,
        "wide": wide,
        "high": HIGH,
        "left": LEFT,
        "floor": HIGH - BELOW,
        "dots": dots,
        "path": " ".join(f"H{dot['x']}V{y}" for dot, y in steps) if title == "trials" else "",
        "start": f"M{dots[0]['x']} {dots[0]['y']}",
        "levels": [{"y": up(f), "value": f} for f in (ends[0], sum(ends) / 2, ends[1])],
        "marks": [{"x": across(share), "text": text} for share, text in marks],
    }
