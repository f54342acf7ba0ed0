"""Small things that drift through a clip: snowflakes, confetti, hearts, bubbles, sparkles."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw

from reelm.world.vocabulary import RGB, WHITE, Number

FINE = 4
PARTICLES = 14
_PAPER: tuple[RGB, ...] = (
    (255, 60, 90), (255, 200, 40), (60, 200, 255), (120, 230, 90), (200, 110, 255), (255, 130, 40),
)  # fmt: skip
_FALLS = {"snowflakes": 1, "confetti": 1, "hearts": -1, "bubbles": -1, "sparkles": 0}


@dataclass(frozen=True)
class Particle:
    """One particle: column and start (shares), speed (heights per clip), size, and a number."""

    x: float
    start: float
    speed: float
    size: float
    hue: int

    def place(self, fall: int, t: float) -> tuple[float, float]:
        """Where it is at `t` (0..1 of the clip) as shares; it wobbles and comes round again."""
        x = self.x + 0.03 * math.sin(math.tau * (t * 1.5 + self.start))
        return x, (self.start + fall * t * self.speed) % 1.1 - 0.05 if fall else self.start


@lru_cache(256)
def particles(seed: int) -> tuple[Particle, ...]:
    """The same particles for the same seed."""
    rng = random.Random(seed)

    def one() -> Particle:
        x, start, speed, size = rng.random(), rng.random(), rng.uniform(0.5, 1.1), 0.042
        return Particle(x, start, speed, size * rng.uniform(0.8, 1.15), rng.randrange(6))

    return tuple(one() for _ in range(PARTICLES))


def draw_effect(image: Image.Image, effect: str, seed: int, t: float) -> None:
    """Draw an effect's particles at `t` (0..1) onto an RGB image, in place; "none" draws none."""
    if effect == "none":
        return
    width, height = image.size
    for particle in particles(seed):
        x, y = particle.place(_FALLS[effect], t)
        mark = _mark(effect, particle, width, t)
        left, top = round(x * width - mark.width / 2), round(y * height - mark.height / 2)
        image.paste(mark, (left, top), mark)


def _mark(effect: str, particle: Particle, width: int, t: float) -> Image.Image:
    """One particle as a small RGBA picture, kept by its rounded size and turn."""
    size, turn = particle.size * width, 0
    if effect == "sparkles":
        size *= 1.7 * (0.35 + 0.65 * abs(math.sin(math.tau * (t * 1.6 + particle.start))))
    if effect == "confetti":
        turn = round(32 * (t * 2 + particle.start)) % 32
    return _drawn(effect, max(2, round(size)), turn, particle.hue if effect == "confetti" else 0)


@lru_cache(2048)
def _drawn(effect: str, size: int, turn: int, hue: int) -> Image.Image:
    side = 4 * size + 2
    image = Image.new("RGBA", (side * FINE, side * FINE), (0, 0, 0, 0))
    pen = Pen(ImageDraw.Draw(image), side * FINE / 2, size * FINE, turn / 32, _PAPER[hue])
    _EFFECTS[effect](pen)
    return image.reduce(FINE)


@dataclass(frozen=True)
class Pen:
    """Draws round a centre in units of one particle's size."""

    draw: ImageDraw.ImageDraw
    centre: Number
    unit: Number
    turn: float
    paper: RGB

    def at(self, *units: Number) -> list[Number]:
        """Units from the centre as pixels."""
        return [self.centre + share * self.unit for share in units]


def _snowflake(pen: Pen) -> None:
    for degrees in (0, 60, 120):
        _arm(pen, degrees, 1.32, 0.46, (110, 150, 215, 130))  # a halo, to be seen on snow too
    for degrees in (0, 60, 120):
        _arm(pen, degrees, 1.2, 0.28, (*WHITE, 245))


def _arm(pen: Pen, degrees: int, reach: float, thick: float, fill: tuple[int, ...]) -> None:
    x, y = reach * math.cos(math.radians(degrees)), reach * math.sin(math.radians(degrees))
    pen.draw.line(pen.at(-x, -y, x, y), fill=fill, width=max(1, int(pen.unit * thick)))


def _paper(pen: Pen) -> None:
    a = math.cos(math.tau * pen.turn)
    pen.draw.polygon(pen.at(-a, -0.9, a, -0.6, a, 0.9, -a, 0.6), fill=(*pen.paper, 255))


def _heart(pen: Pen) -> None:
    red = (255, 50, 95, 245)
    pen.draw.ellipse(pen.at(-1.25, -1.0, 0.1, 0.25), fill=red)
    pen.draw.ellipse(pen.at(-0.1, -1.0, 1.25, 0.25), fill=red)
    pen.draw.polygon(pen.at(-1.18, -0.12, 1.18, -0.12, 0, 1.25), fill=red)


def _bubble(pen: Pen) -> None:
    edge, skin = (235, 250, 255, 240), (200, 235, 255, 60)
    width = max(1, int(pen.unit * 0.29))
    pen.draw.ellipse(pen.at(-1.2, -1.2, 1.2, 1.2), fill=skin, outline=edge, width=width)
    pen.draw.ellipse(pen.at(-0.6, -0.72, -0.12, -0.24), fill=(*WHITE, 220))


def _sparkle(pen: Pen) -> None:
    star = [0, -1, 0.22, -0.22, 1, 0, 0.22, 0.22, 0, 1, -0.22, 0.22, -1, 0, -0.22, -0.22]
    edge = [1.12 * share for share in star]
    pen.draw.polygon(pen.at(*edge), fill=(190, 130, 30, 150))
    pen.draw.polygon(pen.at(*star), fill=(255, 245, 150, 255))


_EFFECTS: dict[str, Callable[[Pen], None]] = {
    "snowflakes": _snowflake,
    "confetti": _paper,
    "hearts": _heart,
    "bubbles": _bubble,
    "sparkles": _sparkle,
}
