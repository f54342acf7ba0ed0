"""From a clip to a picture of one moment: where things are, how they move, drawing them."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from reelm.world.clips import Clip
from reelm.world.effects import draw_effect
from reelm.world.scenes import background
from reelm.world.sprites import sprite
from reelm.world.vocabulary import RGB

__all__ = [
    "Layout", "Place", "background", "contact_sheet", "draw", "draw_effect", "layout", "place",
    "pose", "sprite", "word_pill",
]  # fmt: skip

WORD_STYLES: tuple[tuple[RGB, tuple[int, int, int, int]], ...] = (
    ((255, 255, 255), (20, 20, 30, 230)),
    ((20, 20, 30), (255, 255, 255, 235)),
    ((255, 235, 60), (20, 20, 30, 230)),
)
"""Colours of letters and of the plate behind them."""

_COLUMNS = {1: (0.5,), 2: (0.27, 0.73), 3: (0.18, 0.5, 0.82)}
_SIZES = {1: 0.64, 2: 0.47, 3: 0.34}
_WEIGHTLESS = frozenset({"space", "ocean"})
_FLYING = frozenset({"rocket", "ghost", "fish"})


@dataclass(frozen=True)
class Place:
    """Where one object rests: shares of width and height, and its tilt in degrees."""

    x: float
    y: float
    tilt: float


@dataclass(frozen=True)
class Layout:
    """What chance decided about a clip beyond its attributes. Shares are of the frame's width
    (`size`) and height (`word_top`); `speed` 1 is usual; the phases say where a movement starts."""

    objects: tuple[Place, ...]
    size: float
    beat: float
    speed: float
    variant: int
    word_style: int
    word_top: float
    effect_seed: int
    offset: float


def layout(clip: Clip) -> Layout:
    """The clip's layout: the same for the same seed and count."""
    rng, count = random.Random(clip.seed), int(clip.count)
    size = _SIZES[count] * rng.uniform(0.9, 1.12)
    spread = 0.12 if count == 1 else 0.04
    right, y = rng.uniform(-spread, spread), rng.uniform(0.45, 0.68)
    return Layout(
        objects=tuple(
            Place(x + right, y + rng.uniform(-0.05, 0.05), rng.uniform(-14, 14))
            for x in _COLUMNS[count]
        ),
        size=size,
        beat=rng.random(),
        speed=rng.uniform(0.85, 1.15),
        variant=rng.randrange(6),
        word_style=rng.randrange(3),
        word_top=rng.choice([0.09, 0.12, 0.84]),
        effect_seed=rng.randrange(1 << 20),
        offset=rng.uniform(-0.5, 0.5),
    )


def pose(layout: Layout, motion: str, index: int, t: float) -> tuple[float, float, float, float]:
    """Centre x and y (shares), turn (degrees clockwise) and scale of object `index` at `t` (0..1).

    Every directed motion passes the same places: from one frame alone it cannot be told.
    """
    rest = layout.objects[index]
    u, offset = (t - 0.5) * layout.speed, layout.offset
    x, y, turn, scale = offset * 0.34, offset * 0.22, rest.tilt, 1.0
    if motion in ("left", "right"):
        x = 0.34 * (u if motion == "right" else -u) + offset * 0.1
    elif motion in ("up", "down"):
        y = 0.24 * (u if motion == "down" else -u) + offset * 0.06
    elif motion == "spin":
        turn += 360 * u
    elif motion == "pulse":
        scale = 1 + 0.32 * math.sin(math.tau * (1.37 * t * layout.speed + layout.beat))
    elif motion == "bounce":
        y = 0.05 - 0.11 * abs(math.sin(math.pi * (2.3 * t * layout.speed + layout.beat)))
        turn += 6 * math.sin(math.tau * 2.3 * t)
    return rest.x + x, rest.y + y, turn, scale


def draw(clip: Clip, layout: Layout, t: float, width: int, height: int) -> Image.Image:
    """The frame at `t` (0..1 of the clip) as an RGB image of width x height pixels."""
    scenery = background(clip.scene, clip.light, width, height, layout.variant)
    image = scenery.copy()
    for index in range(len(layout.objects)):
        x, y, turn, scale = pose(layout, clip.motion, index, t)
        pixels = max(8, int(width * layout.size * scale))
        if clip.scene not in _WEIGHTLESS and clip.subject not in _FLYING:
            place(image, _shadow(pixels), x, y + 0.52 * pixels / height)
        place(image, _turned(clip.subject, clip.colour, pixels, round(turn)), x, y)
    draw_effect(image, clip.effect, layout.effect_seed, t)
    if clip.word != "none":
        pill = word_pill(clip.word, width, layout.word_style)
        place(image, pill, 0.5, layout.word_top + pill.height / 2 / height)
    return image


def place(image: Image.Image, picture: Image.Image, x: float, y: float) -> None:
    """Paste an RGBA picture with its centre at (x, y), shares of the image, in place."""
    left, top = x * image.width - picture.width / 2, y * image.height - picture.height / 2
    image.paste(picture, (int(left), int(top)), picture)


def contact_sheet(clips: Sequence[Clip], columns: int = 6, width: int = 180) -> Image.Image:
    """One frame of each clip, a third into it, in rows of `columns`; `width` pixels each."""
    height = width * 16 // 9
    rows = -(-len(clips) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height))
    for number, clip in enumerate(clips):
        row, column = divmod(number, columns)
        sheet.paste(draw(clip, layout(clip), 1 / 3, width, height), (column * width, row * height))
    return sheet


@lru_cache(256)
def word_pill(word: str, width: int, style: int) -> Image.Image:
    """A word on a rounded plate, RGBA, sized for a frame of `width` pixels; style 0, 1 or 2.

    The font is the one Pillow carries, Aileron Regular. The image is shared: copy it
    before changing it.
    """
    wide = width * 2  # drawn twice as large, then reduced, so that edges are smooth
    image = Image.new("RGBA", (int(width * 0.78) * 2, int(width * 0.28) * 2), (0, 0, 0, 0))
    pen, font = ImageDraw.Draw(image), _font(int(wide * 0.2))
    (ink, plate), (w, h) = WORD_STYLES[style], image.size
    half = pen.textlength(word, font=font) / 2 + wide * 0.04
    box = [w / 2 - half, h * 0.06, w / 2 + half, h * 0.94]
    pen.rounded_rectangle(box, radius=h * 0.22, fill=plate)
    bold = {"stroke_width": max(1, wide // 140), "stroke_fill": ink}
    pen.text((w / 2, h / 2), word, font=font, fill=ink, anchor="mm", **bold)
    return image.reduce(2)


@lru_cache(16)
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=pixels)


@lru_cache(96)
def _turned(kind: str, colour: str, pixels: int, degrees: int) -> Image.Image:
    """A sprite turned clockwise, on a square large enough for it."""
    upright = sprite(kind, colour, pixels)
    if abs(degrees) <= 2:
        return upright
    return upright.rotate(-degrees, resample=Image.Resampling.BILINEAR, expand=True)


@lru_cache(96)
def _shadow(pixels: int) -> Image.Image:
    """The shadow that an object this large throws on the ground."""
    wide, high = max(4, int(pixels * 0.72)), max(1, int(pixels * 0.12))
    image = Image.new("RGBA", (wide * 4, high * 4), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse([0, 0, wide * 4 - 1, high * 4 - 1], fill=(0, 0, 0, 55))
    return image.reduce(4)
