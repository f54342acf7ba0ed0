"""The ten subjects, drawn with outlines and faces on a unit square."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw

from reelm.world.vocabulary import COLOURS, INK, RGB, WHITE, Number, blend

FINE = 4  # drawn this many times larger, then reduced
_MASTERS = (128, 512)  # sizes that are drawn; every other size is a reduced copy of one of them


@dataclass(frozen=True)
class Sketch:
    """A square picture in drawing: places and sizes are shares of its side, y runs down."""

    draw: ImageDraw.ImageDraw
    side: int
    body: RGB

    @property
    def dark(self) -> RGB:
        """The body colour in shadow."""
        return blend(self.body, (0, 0, 0), 0.38)

    @property
    def pale(self) -> RGB:
        """The body colour in bright light."""
        return blend(self.body, WHITE, 0.45)

    @property
    def edge(self) -> int:
        """Width of an outline in pixels."""
        return max(2, int(self.side * 0.025))

    def at(self, *shares: Number) -> list[Number]:
        """Shares as pixels."""
        return [share * self.side for share in shares]

    def oval(self, *box: Number, fill: RGB, bare: bool = False) -> None:
        """An ellipse in a box, outlined unless `bare`."""
        outline = None if bare else INK
        self.draw.ellipse(self.at(*box), fill=fill, outline=outline, width=self.edge)

    def spot(self, x: float, y: float, radius: float, fill: RGB, bare: bool = False) -> None:
        """A circle round a point."""
        self.oval(x - radius, y - radius, x + radius, y + radius, fill=fill, bare=bare)

    def shape(self, *corners: Number, fill: RGB, bare: bool = False) -> None:
        """A polygon, outlined unless `bare`."""
        outline = None if bare else INK
        self.draw.polygon(self.at(*corners), fill=fill, outline=outline, width=self.edge)

    def box(self, *box: Number, fill: RGB, round_by: float = 0.0, bare: bool = False) -> None:
        """A rectangle, its corners rounded by a share of the side."""
        outline, radius = None if bare else INK, self.side * round_by
        self.draw.rounded_rectangle(
            self.at(*box), radius=radius, fill=fill, outline=outline, width=self.edge
        )

    def line(self, *points: Number, fill: RGB = INK, thick: float = 0.025) -> None:
        """A line, `thick` as a share of the side."""
        width = max(1, int(self.side * thick))
        self.draw.line(self.at(*points), fill=fill, width=width)

    def arc(
        self, *box: Number, turn: tuple[int, int], fill: RGB = INK, thick: float = 0.05
    ) -> None:
        """Part of an ellipse's outline, from degree to degree, clockwise from the right."""
        width = max(1, int(self.side * thick))
        self.draw.arc(self.at(*box), *turn, fill=fill, width=width)

    def eye(self, x: float, y: float, radius: float) -> None:
        """A white eye that looks a little to the right."""
        self.spot(x, y, radius, WHITE)
        nudge = radius * 0.05
        self.spot(x + nudge, y + nudge, radius * 0.5, INK, bare=True)


@lru_cache(512)
def sprite(kind: str, colour: str, pixels: int) -> Image.Image:
    """A subject as an RGBA square of `pixels` a side. It is shared: copy it before changing it."""
    size = next((size for size in _MASTERS if size >= pixels), _MASTERS[-1])
    return _master(kind, colour, size).resize((pixels, pixels), Image.Resampling.BOX)


@lru_cache(160)
def _master(kind: str, colour: str, size: int) -> Image.Image:
    image = Image.new("RGBA", (size * FINE, size * FINE), (0, 0, 0, 0))
    _SUBJECTS[kind](Sketch(ImageDraw.Draw(image), size * FINE, COLOURS[colour]))
    return image.reduce(FINE)


def _cat(s: Sketch) -> None:
    s.line(0.78, 0.78, 0.95, 0.5, thick=0.11)
    s.line(0.78, 0.78, 0.945, 0.51, fill=s.body, thick=0.07)
    s.shape(0.2, 0.4, 0.2, 0.05, 0.45, 0.25, fill=s.body)
    s.shape(0.8, 0.4, 0.8, 0.05, 0.55, 0.25, fill=s.body)
    s.oval(0.25, 0.5, 0.8, 0.97, fill=s.body)
    s.oval(0.38, 0.66, 0.66, 0.92, fill=s.pale, bare=True)
    s.oval(0.15, 0.15, 0.85, 0.68, fill=s.body)
    s.eye(0.36, 0.4, 0.075)
    s.eye(0.64, 0.4, 0.075)
    s.shape(0.46, 0.5, 0.54, 0.5, 0.5, 0.55, fill=(250, 120, 140), bare=True)
    for side in (-1, 1):
        for drop in (-0.03, 0.04):
            start, end = (0.5 + side * 0.12, 0.54 + drop / 2), (0.5 + side * 0.36, 0.53 + drop)
            s.line(*start, *end, thick=0.013)


def _fish(s: Sketch) -> None:
    s.shape(0.7, 0.5, 0.98, 0.22, 0.98, 0.78, fill=s.dark)
    s.shape(0.4, 0.25, 0.6, 0.05, 0.65, 0.3, fill=s.dark)
    s.oval(0.04, 0.2, 0.8, 0.8, fill=s.body)
    for x in (0.42, 0.56):
        s.arc(x - 0.1, 0.3, x + 0.1, 0.7, turn=(-70, 70), fill=s.dark)
    s.eye(0.22, 0.42, 0.08)
    s.arc(0.06, 0.5, 0.22, 0.66, turn=(10, 100), thick=0.025)


def _car(s: Sketch) -> None:
    s.box(0.2, 0.25, 0.74, 0.6, fill=s.dark, round_by=0.12)
    for left, right in ((0.27, 0.45), (0.5, 0.67)):
        s.box(left, 0.32, right, 0.5, fill=(190, 230, 250), bare=True)
    s.box(0.03, 0.45, 0.97, 0.75, fill=s.body, round_by=0.08)
    s.oval(0.87, 0.5, 0.96, 0.6, fill=(255, 240, 140), bare=True)
    for x in (0.25, 0.74):
        s.spot(x, 0.75, 0.13, INK, bare=True)
        s.spot(x, 0.75, 0.06, (210, 210, 215), bare=True)


def _rocket(s: Sketch) -> None:
    s.shape(0.36, 0.76, 0.5, 1.0, 0.64, 0.76, fill=(255, 150, 30), bare=True)
    s.shape(0.42, 0.78, 0.5, 0.93, 0.58, 0.78, fill=(255, 240, 120), bare=True)
    s.shape(0.32, 0.5, 0.1, 0.85, 0.36, 0.78, fill=s.dark)
    s.shape(0.68, 0.5, 0.9, 0.85, 0.64, 0.78, fill=s.dark)
    hull = [(0.5 - 0.22 * bend, 0.02 + 0.76 * down) for down, bend in _HULL]
    mirrored = [(1 - x, y) for x, y in reversed(hull)]
    s.shape(*(share for point in hull + mirrored for share in point), fill=s.body)
    s.box(0.36, 0.76, 0.64, 0.82, fill=INK, bare=True)
    s.oval(0.38, 0.28, 0.62, 0.52, fill=(170, 225, 250))


_HULL = [(k / 24, math.sqrt(max(0.0, 1 - (1 - k / 24 * 1.63) ** 2))) for k in range(25)]


def _pizza(s: Sketch) -> None:
    s.shape(0.05, 0.22, 0.95, 0.22, 0.5, 0.98, fill=(252, 214, 110))
    s.box(0.02, 0.1, 0.98, 0.3, fill=(205, 140, 70), round_by=0.1)
    slices = ((0.35, 0.42, 0.09), (0.62, 0.4, 0.09), (0.5, 0.62, 0.085), (0.5, 0.8, 0.05))
    for x, y, radius in slices:
        s.spot(x, y, radius, s.body)
    s.box(0.1, 0.27, 0.9, 0.35, fill=s.body, round_by=0.04, bare=True)


def _guitar(s: Sketch) -> None:
    s.line(0.55, 0.5, 0.9, 0.08, thick=0.13)
    s.line(0.55, 0.5, 0.89, 0.09, fill=(150, 95, 50), thick=0.08)
    s.box(0.82, 0.02, 0.98, 0.16, fill=(90, 55, 30))
    s.oval(0.32, 0.3, 0.72, 0.68, fill=s.body)
    s.oval(0.04, 0.48, 0.58, 0.98, fill=s.body)
    s.oval(0.36, 0.36, 0.66, 0.62, fill=s.body, bare=True)
    s.oval(0.34, 0.47, 0.52, 0.65, fill=INK, bare=True)
    s.line(0.2, 0.82, 0.85, 0.12, fill=(240, 240, 240), thick=0.012)
    s.box(0.15, 0.76, 0.3, 0.82, fill=INK, bare=True)


def _flower(s: Sketch) -> None:
    s.line(0.5, 0.5, 0.5, 0.98, fill=(40, 140, 60), thick=0.07)
    s.oval(0.5, 0.74, 0.8, 0.86, fill=(60, 170, 80))
    for degrees in range(0, 360, 60):
        turn = math.radians(degrees)
        s.spot(0.5 + 0.22 * math.cos(turn), 0.36 + 0.22 * math.sin(turn), 0.155, s.body)
    s.oval(0.36, 0.22, 0.64, 0.5, fill=(120, 70, 30))


def _robot(s: Sketch) -> None:
    s.line(0.5, 0.05, 0.5, 0.2, thick=0.05)
    s.oval(0.44, 0, 0.56, 0.1, fill=(255, 80, 80), bare=True)
    s.box(0.2, 0.14, 0.8, 0.55, fill=s.body, round_by=0.06)
    s.box(0.28, 0.24, 0.72, 0.42, fill=INK, bare=True)
    for x in (0.38, 0.62):
        s.spot(x, 0.33, 0.06, (120, 255, 220), bare=True)
    for left, right in ((0.06, 0.2), (0.8, 0.94)):
        s.box(left, 0.58, right, 0.84, fill=s.body)
    for left, right in ((0.3, 0.44), (0.56, 0.7)):
        s.box(left, 0.86, right, 0.99, fill=INK, bare=True)
    s.box(0.26, 0.58, 0.74, 0.88, fill=s.dark, round_by=0.03)


def _ghost(s: Sketch) -> None:
    for colour, grow in ((INK, 0.025), (s.body, 0.0)):  # an outline: the same shape, larger, below
        s.oval(0.12 - grow, 0.03 - grow, 0.88 + grow, 0.8, fill=colour, bare=True)
        s.box(0.12 - grow, 0.4, 0.88 + grow, 0.83, fill=colour, bare=True)
        for i in range(4):
            x = 0.12 + 0.19 * i
            s.oval(x - grow, 0.7, x + 0.19 + grow, 0.95 + grow, fill=colour, bare=True)
    for x in (0.36, 0.64):
        s.oval(x - 0.09, 0.28, x + 0.09, 0.52, fill=INK, bare=True)
    s.oval(0.43, 0.55, 0.57, 0.7, fill=INK, bare=True)


def _ball(s: Sketch) -> None:
    s.oval(0.05, 0.05, 0.95, 0.95, fill=s.body)
    s.line(0.05, 0.5, 0.95, 0.5, thick=0.05)
    s.line(0.5, 0.05, 0.5, 0.95, thick=0.05)
    s.arc(-0.42, 0.05, 0.32, 0.95, turn=(-46, 46))
    s.arc(0.68, 0.05, 1.42, 0.95, turn=(134, 226))


_SUBJECTS: dict[str, Callable[[Sketch], None]] = {
    "cat": _cat,
    "fish": _fish,
    "car": _car,
    "rocket": _rocket,
    "pizza": _pizza,
    "guitar": _guitar,
    "flower": _flower,
    "robot": _robot,
    "ghost": _ghost,
    "ball": _ball,
}
