"""Quality against cost: a dot per run, as a page that needs nothing else or as a PNG picture."""

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from reelm import files
from reelm.bill import AMOUNTS, Entry
from reelm.errors import BadData, ConfigError, nearest
from reelm.evaluate.page import Number, rendered, room, scaled

WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 64, 24, 20, 48
STEPS = 5
KINDS = (*AMOUNTS, "money")
INK, SOFT, DOT = "#1b1d22", "#626874", "#3457d5"


class Lack(Enum):
    """Why a run is not on the plot, and what to do if none is."""

    COST = "{against} is not known", "choose another --against"
    RATE = "money is not known", "name a rate, such as --set rates.device_hour=2.5"
    METRIC = "no report with {metric}", "choose another --metric"
    REPORT = "no report", "run `reelm evaluate` on one"

    def why(self, metric: str, against: str) -> str:
        """In words."""
        return self.value[0].format(metric=metric, against=against)

    @property
    def fix(self) -> str:
        """What to do."""
        return self.value[1]


@dataclass(frozen=True)
class Dot:
    """A run on the plot, in its own units and in pixels."""

    name: str
    cost: Number
    quality: Number
    margin: Number
    """Half of the quality's 95 % interval."""
    best: bool
    """No cheaper run is as good."""
    x: float = 0.0
    y: float = 0.0
    low: float = 0.0
    """Pixels of the interval's ends."""
    high: float = 0.0
    before: bool = False
    """The name stands to the left, for want of room."""


@dataclass(frozen=True)
class Plot:
    """Dots and axes, in pixels."""

    metric: str
    against: str
    """What the cost is, with its unit."""
    dots: list[Dot]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    left_out: list[tuple[str, str]]
    """Runs that are not on it, and why."""


def plot(
    work: Path, entries: Sequence[Entry], metric: str, against: str, currency: str = ""
) -> Plot:
    """Runs by what they cost and how good their newest report says they are.

    Args:
        entries: of runs, as `bill.runs` gives them.
        metric: as `pool/metric@k`; without a pool, of the mixed one.
        against: which cost; one of KINDS.

    Raises:
        ConfigError: there is no such cost.
        BadData: no run has both.
    """
    if against not in KINDS:
        hint = nearest(against, KINDS)
        raise ConfigError(f"cost --against {against}:{hint} Known: {', '.join(KINDS)}.")
    reports, dots, left_out = _reports(work), [], []
    for entry in entries:
        cost, key = getattr(entry, against), _key(work / entry.name)
        told = _quality(reports[key], metric) if key in reports else None
        if cost is None:
            left_out.append((entry.name, Lack.RATE if against == "money" else Lack.COST))
        elif told is None:
            left_out.append((entry.name, Lack.METRIC if key in reports else Lack.REPORT))
        else:
            dots.append((entry.name.partition("/")[2], cost, *told))
    if not dots:
        lacking = _lacking([lack for _, lack in left_out], metric, against)
        raise BadData(f"{work}: no run to plot: {lacking}.")
    unit = {"money": currency, "joules": "J", "tokens_in": "tokens", "tokens_out": "tokens"}
    label = f"{against.removesuffix('_s').replace('_', ' ')} ({unit.get(against, 's')})"
    said = [(name, lack.why(metric, against)) for name, lack in left_out]
    return Plot(metric, label, *_placed(dots), said)


def write(made: Plot, out: Path) -> Path:
    """Write the plot, as the suffix of `out` says: .html or .png.

    Raises:
        ConfigError: another suffix.
    """
    if out.suffix == ".html":
        return files.write_text(out, html(made))
    if out.suffix == ".png":
        with files.atomic(out) as tmp:
            tmp.write_bytes(png(made))
        return out
    raise ConfigError(f"--plot {out}: name a file that ends with .html or .png")


def html(made: Plot) -> str:
    """The plot as SVG, and every number below it."""
    size = {"wide": WIDE, "high": HIGH, "left": LEFT, "right": WIDE - RIGHT,
            "top": TOP, "bottom": HIGH - BOTTOM}  # fmt: skip
    return rendered("reelm.bill", "plot.html", size | asdict(made))


def png(made: Plot, scale: int = 2) -> bytes:
    """The plot as a picture, `scale` pixels for each of the page."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDE * scale, HIGH * scale), "#ffffff")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(12.0 * scale)

    def line(*ends: Number, ink: str = SOFT) -> None:
        pen.line([end * scale for end in ends], fill=ink, width=scale)

    def text(x: Number, y: Number, said: str, anchor: str, ink: str = INK) -> None:
        pen.text((x * scale, y * scale), said, fill=ink, font=font, anchor=anchor)

    floor = HIGH - BOTTOM
    line(LEFT, floor, WIDE - RIGHT, floor)
    line(LEFT, TOP, LEFT, floor)
    for x, said in made.across:
        text(x, floor + 6, said, "ma", SOFT)
    for y, said in made.up:
        text(LEFT - 6, y, said, "rm", SOFT)
    text(WIDE - RIGHT, HIGH - 18, made.against, "ra")
    text(LEFT, 2, made.metric, "la")
    for dot in made.dots:
        line(dot.x, dot.low, dot.x, dot.high, ink=DOT)
        spot = [(dot.x - 4) * scale, (dot.y - 4) * scale, (dot.x + 4) * scale, (dot.y + 4) * scale]
        pen.ellipse(spot, fill=DOT if dot.best else "#ffffff", outline=DOT, width=scale)
        text(
            *(
                (dot.x - 8, dot.y - 4, dot.name, "rs")
                if dot.before
                else (dot.x + 8, dot.y - 4, dot.name, "ls")
            )
        )
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()


def _lacking(lacks: Sequence[Lack], metric: str, against: str) -> str:
    """What runs lack to be drawn, how many lack it, and what to do."""
    told = [
        f"{lack.why(metric, against)} for {count} of them: {lack.fix}"
        for lack, count in Counter(lacks).items()
    ]
    return "; ".join(told) or "there is none: run `reelm train`"


def _reports(work: Path) -> dict[str, dict[str, Any]]:
    """What the newest report of each run says of pools of videos, by the run's key; short lists, as
    `reelm rerank` orders them, are none."""
    found: dict[str, tuple[float, dict[str, Any]]] = {}
    for folder in sorted((work / "reports").glob("*")):
        if not files.finished(folder) or not (path := folder / "report.json").is_file():
            continue
        facts = files.manifest(folder)
        pools = json.loads(path.read_text(encoding="utf-8")).get("pools")
        run, when = facts.get("inputs", {}).get("run"), facts.get("finished_at", 0)
        if pools and isinstance(run, str) and when >= found.get(run, (0, pools))[0]:
            found[run] = when, pools
    return {run: pools for run, (_, pools) in found.items()}


def _key(run: Path) -> str | None:
    return files.manifest(run).get("key") if files.finished(run) else None


def _quality(pools: Mapping[str, Any], metric: str) -> tuple[Number, Number] | None:
    """A figure of a report and its margin."""
    pool, _, name = metric.rpartition("/")
    told = pools.get(pool or "mixed", {})
    value = told.get("metrics", {}).get(name)
    return None if value is None else (value, told.get("margins", {}).get(name) or 0.0)


def _placed(
    told: Sequence[tuple[str, Number, Number, Number]],
) -> tuple[list[Dot], list[tuple[float, str]], list[tuple[float, str]]]:
    """Dots with their places, and the marks of both axes."""
    costs = [cost for _, cost, _, _ in told]
    ends = [value + side * margin for _, _, value, margin in told for side in (-1, 1)]
    wide, tall = room(min(costs), max(costs)), room(max(min(ends), 0.0), max(ends))
    if wide[0] == wide[1]:
        wide = (0.0, 1.0)
    if tall[0] == tall[1]:
        tall = (0.0, 1.0)
    right, up = (LEFT, WIDE - RIGHT), (HIGH - BOTTOM, TOP)
    dots = []
    for name, cost, value, margin in sorted(told, key=lambda one: one[1]):
        best = all(value > other.quality for other in dots)
        spot = scaled(cost, wide, right), scaled(value, tall, up)
        whisker = scaled(max(value - margin, tall[0]), tall, up), scaled(value + margin, tall, up)
        before = spot[0] > WIDE * 0.7
        dots.append(Dot(name, cost, value, margin, best, *spot, *whisker, before))
    return dots, _marks(wide, right), _marks(tall, up)


def _marks(given: tuple[Number, Number], wanted: tuple[int, int]) -> list[tuple[float, str]]:
    values = [given[0] + (given[1] - given[0]) * n / STEPS for n in range(STEPS + 1)]
    return [(scaled(value, given, wanted), f"{value:.3g}") for value in values]
