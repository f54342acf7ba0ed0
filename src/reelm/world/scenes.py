"""Backgrounds: eight places by day, at sunset and at night, drawn once and kept."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from reelm.world.vocabulary import RGB, WHITE, Number, lit

FINE = 2  # drawn this many times larger, then reduced, so that edges are smooth

SKY: dict[str, tuple[RGB, RGB]] = {
    "beach": ((95, 190, 250), (215, 240, 255)),
    "forest": ((150, 215, 225), (220, 240, 200)),
    "city": ((130, 170, 220), (235, 225, 215)),
    "space": ((12, 8, 40), (50, 20, 90)),
    "snow": ((175, 205, 235), (240, 246, 252)),
    "desert": ((245, 200, 120), (252, 232, 190)),
    "ocean": ((30, 150, 200), (8, 50, 120)),
    "stage": ((70, 10, 60), (25, 5, 35)),
}
_SUN: dict[str, RGB] = {"day": (255, 244, 170), "sunset": (255, 150, 70), "night": (235, 238, 250)}


@dataclass(frozen=True)
class Canvas:
    """A picture being drawn in shares of its width and height (0..1)."""

    draw: ImageDraw.ImageDraw
    width: int
    height: int
    light: str
    rng: random.Random

    def points(self, *shares: Number) -> list[tuple[Number, Number]]:
        """x, y, x, y, ... as pixels."""
        pairs = zip(shares[::2], shares[1::2], strict=True)
        return [(x * self.width, y * self.height) for x, y in pairs]

    def lit(self, colour: RGB) -> RGB:
        """`colour` in this picture's light."""
        return lit(colour, self.light)

    def box(self, *shares: Number, fill: RGB) -> None:
        """A lit rectangle: left, top, right, bottom."""
        self.draw.rectangle(self.points(*shares), fill=self.lit(fill))

    def oval(self, *shares: Number, fill: RGB) -> None:
        """A lit ellipse in a box."""
        self.draw.ellipse(self.points(*shares), fill=self.lit(fill))

    def shape(self, *shares: Number, fill: RGB) -> None:
        """A lit polygon."""
        self.draw.polygon(self.points(*shares), fill=self.lit(fill))

    def line(self, *shares: Number, fill: RGB, thick: float) -> None:
        """A lit line, `thick` in shares of the width."""
        pixels = max(1, int(thick * self.width))
        self.draw.line(self.points(*shares), fill=self.lit(fill), width=pixels, joint="curve")

    def disc(self, x: float, y: float, radius: float, fill: tuple[int, ...]) -> None:
        """A round spot in exactly this colour; `radius` in shares of the width."""
        (cx, cy), r = self.points(x, y)[0], radius * self.width
        self.draw.ellipse([cx - r, cy - r, cx + r, cy + r], fill=fill)


@lru_cache(160)
def background(scene: str, light: str, width: int, height: int, variant: int) -> Image.Image:
    """The scenery as an RGB image. It is shared: copy it before drawing on it.

    `variant` (any whole number) moves the sun, trees and houses.
    """
    image = _gradient(scene, light, width * FINE, height * FINE)
    pen = ImageDraw.Draw(image, "RGBA")
    canvas = Canvas(pen, image.width, image.height, light, random.Random(variant))
    if scene not in ("ocean", "stage"):
        _sun(canvas, scene)
        if scene == "space" or light == "night":
            _stars(canvas, 1.0 if scene == "space" else 0.5)
    _SCENES[scene](canvas)
    return image.reduce(FINE)


def _gradient(scene: str, light: str, width: int, height: int) -> Image.Image:
    top, bottom = (np.array(lit(colour, light), float) for colour in SKY[scene])
    down = np.linspace(0, 1, height)[:, None, None]
    rows = (top * (1 - down) + bottom * down).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(rows, (height, width, 3))))


def _sun(canvas: Canvas, scene: str) -> None:
    x, y = canvas.rng.uniform(0.15, 0.85), canvas.rng.uniform(0.08, 0.2)
    colour = canvas.lit((230, 150, 90)) if scene == "space" else _SUN[canvas.light]
    for size, alpha in ((2.2, 28), (1.6, 50), (1.0, 255)):
        canvas.disc(x, y, 0.09 * size, (*colour, alpha))


def _stars(canvas: Canvas, lowest: float) -> None:
    rng = canvas.rng
    for _ in range(46):
        x, y, size = rng.random(), rng.random() * lowest, rng.uniform(0.002, 0.007)
        canvas.disc(x, y, size, (*WHITE, rng.randint(120, 255)))


def _beach(canvas: Canvas) -> None:
    canvas.box(0, 0.52, 1, 0.74, fill=(20, 140, 190))
    for i in range(4):
        wave = canvas.points(0, 0.56 + 0.045 * i, 1, 0.565 + 0.045 * i)
        canvas.draw.rectangle(wave, fill=(*WHITE, 70))
    canvas.shape(0, 0.74, 0.5, 0.70, 1, 0.75, 1, 1, 0, 1, fill=(240, 214, 150))
    x = canvas.rng.choice([0.1, 0.88])
    canvas.line(x, 0.78, x + 0.03, 0.45, fill=(120, 80, 40), thick=0.035)
    for reach, lift, drop in _FRONDS:
        crown, bend = x + 0.03, x + 0.03 + reach * 0.55
        tip = (crown + reach, 0.45 + drop)
        canvas.shape(crown, 0.44, bend, 0.44 - lift, *tip, bend, 0.475 - lift, fill=(30, 140, 60))


_FRONDS = (
    (-0.26, 0.045, 0.03), (0.26, 0.045, 0.03), (-0.2, 0.005, 0.085), (0.2, 0.005, 0.085),
    (-0.13, 0.075, -0.075), (0.13, 0.075, -0.075),
)  # fmt: skip


def _forest(canvas: Canvas) -> None:
    canvas.box(0, 0.72, 1, 1, fill=(80, 150, 60))
    layers = (((90, 160, 110), 0.45, 7), ((40, 120, 60), 0.52, 5))
    for layer, (green, top, trees) in enumerate(layers):
        for i in range(trees + 1):
            x = (i + canvas.rng.uniform(-0.3, 0.3)) / trees
            _tree(canvas, x, top - canvas.rng.uniform(0, 0.12), 0.74 + 0.03 * layer, green)


def _tree(canvas: Canvas, x: float, top: float, base: float, green: RGB) -> None:
    tall = base - top
    canvas.box(x - 0.012, base - 0.04, x + 0.012, base + 0.03, fill=(90, 60, 35))
    for k in range(3):
        y, half = top + tall * 0.28 * k, 0.11 * (0.5 + 0.25 * k)
        low = y + tall * 0.45
        canvas.shape(x, y, x - half, low, x + half, low, fill=green)


def _city(canvas: Canvas) -> None:
    for layer, wall in enumerate(((120, 130, 160), (70, 78, 105))):
        x = -0.05
        while x < 1:
            wide = canvas.rng.uniform(0.13, 0.22)
            _house(canvas, x, wide, canvas.rng.uniform(0.30, 0.5) + 0.1 * layer, wall)
            x += wide
    canvas.box(0, 0.84, 1, 1, fill=(60, 60, 66))
    for i in range(5):
        canvas.box(0.02 + 0.22 * i, 0.915, 0.13 + 0.22 * i, 0.93, fill=(240, 220, 90))


def _house(canvas: Canvas, x: float, wide: float, top: float, wall: RGB) -> None:
    canvas.box(x, top, x + wide, 0.84, fill=wall)
    pane = (200, 220, 240) if canvas.light == "day" else (255, 225, 120)
    for y in np.arange(top + 0.02, 0.82, 0.035):
        for left in np.arange(x + wide * 0.15, x + wide * 0.85, wide * 0.27):
            if canvas.rng.random() < 0.7:
                window = canvas.points(left, y, left + wide * 0.13, y + 0.015)
                canvas.draw.rectangle(window, fill=pane)


def _space(canvas: Canvas) -> None:
    for corners, cloud in (
        ((0.1, 0.38, 0.9, 0.62), (180, 60, 200, 26)),
        ((0.25, 0.42, 0.8, 0.56), (90, 120, 255, 26)),
    ):
        canvas.draw.ellipse(canvas.points(*corners), fill=cloud)
    x, ratio = canvas.rng.uniform(0.2, 0.8), canvas.width / canvas.height
    canvas.oval(x - 0.5, 0.9 - 0.3 * ratio, x + 0.5, 0.9 + 0.7 * ratio, fill=(110, 70, 170))
    canvas.oval(x - 0.25, 0.9 - 0.15 * ratio, x - 0.1, 0.9 - 0.05 * ratio, fill=(80, 50, 140))
    canvas.oval(x + 0.1, 0.9 - 0.05 * ratio, x + 0.18, 0.9, fill=(80, 50, 140))


def _snow(canvas: Canvas) -> None:
    canvas.shape(0, 0.62, 0.3, 0.34, 0.55, 0.62, fill=(140, 160, 190))
    canvas.shape(0.2, 0.43, 0.3, 0.34, 0.385, 0.43, 0.3, 0.40, fill=WHITE)
    canvas.shape(0.35, 0.64, 0.74, 0.38, 1.1, 0.64, fill=(120, 142, 178))
    canvas.shape(0.64, 0.45, 0.74, 0.38, 0.84, 0.45, 0.74, 0.43, fill=WHITE)
    canvas.box(0, 0.61, 1, 1, fill=(240, 246, 255))
    canvas.oval(-0.3, 0.58, 0.6, 0.8, fill=(228, 238, 250))


def _desert(canvas: Canvas) -> None:
    canvas.oval(-0.5, 0.58, 0.8, 1.1, fill=(222, 165, 90))
    canvas.oval(0.1, 0.64, 1.6, 1.3, fill=(236, 185, 110))
    x, q = canvas.rng.uniform(0.15, 0.8), 0.03
    for arm in (
        (x - q, 0.48, x + q, 0.72),
        (x - q * 4, 0.53, x - q * 2.4, 0.61),
        (x - q * 4, 0.595, x, 0.62),
        (x + q * 2.4, 0.50, x + q * 4, 0.58),
        (x, 0.565, x + q * 4, 0.59),
    ):
        radius, green = q * 0.8 * canvas.width, canvas.lit((50, 130, 70))
        canvas.draw.rounded_rectangle(canvas.points(*arm), radius=radius, fill=green)


def _ocean(canvas: Canvas) -> None:
    rng = canvas.rng
    for i in range(4):
        x = (i + rng.random()) / 4
        ray = canvas.points(x, 0, x + 0.08, 0, x - 0.1, 1, x - 0.35, 1)
        canvas.draw.polygon(ray, fill=(*WHITE, 22))
    canvas.oval(-0.3, 0.88, 1.3, 1.2, fill=(200, 180, 120))
    for _ in range(6):
        x = rng.random()
        coral = rng.choice([(240, 90, 110), (250, 150, 60), (70, 190, 120)])
        for k in (-1, 0, 1):
            top = (x + k * 0.05, 0.92 - rng.uniform(0.05, 0.12))
            canvas.line(x, 0.92, *top, fill=coral, thick=0.025)


def _stage(canvas: Canvas) -> None:
    canvas.box(0, 0.78, 1, 1, fill=(120, 60, 40))
    for i in range(6):
        canvas.line(0, 0.8 + 0.035 * i, 1, 0.8 + 0.035 * i, fill=(90, 42, 28), thick=0.007)
    for i in range(5):
        red = (190 - 14 * i, 20, 40)
        canvas.box(i * 0.035, 0, (i + 1) * 0.035, 0.78, fill=red)
        canvas.box(1 - (i + 1) * 0.035, 0, 1 - i * 0.035, 0.78, fill=red)
    beams = ((255, 240, 160, 60), (255, 120, 220, 50), (120, 200, 255, 50))
    for k, beam in enumerate(beams):
        x = 0.25 + 0.25 * k
        canvas.draw.polygon(canvas.points(x, 0, x - 0.2, 0.85, x + 0.2, 0.85), fill=beam)


_SCENES: dict[str, Callable[[Canvas], None]] = {
    "beach": _beach,
    "forest": _forest,
    "city": _city,
    "space": _space,
    "snow": _snow,
    "desert": _desert,
    "ocean": _ocean,
    "stage": _stage,
}
