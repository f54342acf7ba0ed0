"""Grounding sheets: one background, many sprites and words, each named at its token.

A clip shows one kind of subject in one colour; a sheet teaches six kinds and two words at once.
"""

import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from reelm import files
from reelm.media.views import squash
from reelm.tune.model import SIDE
from reelm.tune.rendered import HEIGHT, WIDTH, spread, through_codec, token_at, word_middle
from reelm.world import drawing
from reelm.world.clips import sample_clip
from reelm.world.drawing import sprite, word_pill
from reelm.world.vocabulary import ATTRIBUTES

PART = 2000
SPRITES, WORDS = 6, 2  # per sheet, at most
ROWS, COLUMNS = (0.16, 0.4, 0.62, 0.86), (0.27, 0.73)
WORD_TOPS = (0.09, 0.12, 0.84, 0.30, 0.62)


@dataclass(frozen=True)
class Sheets:
    """Pictures and, for up to six sprites and two words, the token and what stands there."""

    pixels: UInt8[np.ndarray, "sheets side side 3"]
    places: Int[Tensor, "sheets 8"]  # -1: none
    kinds: Int[Tensor, "sheets 8 2"]  # subject and colour, or the word twice
    scenery: Int[Tensor, "sheets 3"]  # scene, light, effect

    def __len__(self) -> int:
        return len(self.pixels)


def prepare(folder: Path, seed: int, count: int, workers: int) -> Sheets:
    """Draw `count` sheets into `folder`, part by part, and load them. Run again to resume."""
    starts = range(0, count, PART)
    sizes = [min(PART, count - start) for start in starts]
    paths = [folder / f"sheets-{seed}-{n:03d}-{size}.npz" for n, size in enumerate(sizes)]
    jobs = [(p, f"sheet-{seed}-{p.name}", n) for p, n in zip(paths, sizes, strict=True)]
    missing = [job for job in jobs if not job[0].exists()]
    spread(_draw_part, missing, workers)
    loaded = [np.load(path) for path in paths]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([part[name] for part in loaded])

    return Sheets(
        joined("pixels"),
        torch.from_numpy(joined("places")),
        torch.from_numpy(joined("kinds")),
        torch.from_numpy(joined("scenery")),
    )


def _draw_part(path: Path, seed: str, count: int) -> None:
    rng = random.Random(seed)
    rows = [_sheet(rng) for _ in range(count)]
    pixels, places, kinds, scenery = map(np.stack, zip(*rows, strict=True))
    with files.atomic(path) as tmp:
        np.savez(tmp, pixels=pixels, places=places, kinds=kinds, scenery=scenery)


def _sheet(rng: random.Random) -> tuple[np.ndarray, ...]:
    clip = sample_clip(rng, word="none", motion="still")
    empty = replace(drawing.layout(clip), objects=())
    picture = drawing.draw(clip, empty, rng.random(), WIDTH, HEIGHT)
    places = np.full(SPRITES + WORDS, -1, np.int64)
    kinds = np.zeros((SPRITES + WORDS, 2), np.int64)
    tops = rng.sample(WORD_TOPS, 2)
    tops = tops if abs(tops[0] - tops[1]) > 0.2 else tops[:1]
    cells = [(x, y) for y in ROWS for x in COLUMNS]
    rng.shuffle(cells)
    free = [c for c in cells if all(abs(c[1] - top - 0.08) >= 0.13 for top in tops)]
    for slot, cell in enumerate(free[:SPRITES]):
        places[slot], kinds[slot] = _place_sprite(picture, cell, rng)
    for slot, top in enumerate(tops, start=SPRITES):
        word = rng.randrange(1, len(ATTRIBUTES["word"]))
        pill = word_pill(ATTRIBUTES["word"][word], WIDTH, rng.randrange(3))
        picture.paste(pill, ((WIDTH - pill.width) // 2, int(top * HEIGHT)), pill)
        places[slot], kinds[slot] = token_at(0.5, word_middle(top)), word
    scenery = [ATTRIBUTES[name].index(getattr(clip, name)) for name in ("scene", "light", "effect")]
    return squash(through_codec(picture, rng), SIDE), places, kinds, np.array(scenery)


def _place_sprite(
    picture: Image.Image, cell: tuple[float, float], rng: random.Random
) -> tuple[int, tuple[int, int]]:
    """Paste one random sprite near the middle of a cell; give its token, subject and colour."""
    x, y = cell[0] + rng.uniform(-0.1, 0.1), cell[1] + rng.uniform(-0.05, 0.05)
    subject = rng.randrange(len(ATTRIBUTES["subject"]))
    colour = rng.randrange(len(ATTRIBUTES["colour"]))
    pixels = int(WIDTH * rng.uniform(0.3, 0.62))
    image = sprite(ATTRIBUTES["subject"][subject], ATTRIBUTES["colour"][colour], pixels)
    turn = rng.uniform(0, 360) if rng.random() < 0.25 else rng.uniform(-16, 16)
    image = image.rotate(turn, resample=Image.Resampling.BILINEAR, expand=True)
    corner = int(x * WIDTH - image.width / 2), int(y * HEIGHT - image.height / 2)
    picture.paste(image, corner, image)
    return token_at(x, y), (subject, colour)
