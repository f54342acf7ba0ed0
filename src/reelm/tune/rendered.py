"""Training material: clips rendered, encoded to mp4, decoded again and cut down to pictures."""

import io
import math
import multiprocessing
import random
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from reelm import files
from reelm.media import views
from reelm.tune.model import GRID, SIDE
from reelm.tune.wording import VIEW
from reelm.world.clips import DURATION_S, Clip, sample_clip
from reelm.world.drawing import draw, layout, pose
from reelm.world.vocabulary import ATTRIBUTES

PART = 250  # clips per file; at most this many are rendered again after a kill
FPS = 3  # frames 1, 3, 5, … of such a clip lie exactly at the view's six moments
SMALL = 0.4  # share of clips that are encoded at half size
WIDTH, HEIGHT = 180, 320  # of what is drawn without being encoded
OBJECTS = 3  # at most this many subjects


@dataclass(frozen=True)
class Rendered:
    """Clips as the model will see them, with what is known of them."""

    clips: list[Clip]
    frames: UInt8[np.ndarray, "clips moments side side 3"]
    sound: UInt8[np.ndarray, "clips side side"]
    labels: dict[str, Int[Tensor, "clips"]]
    places: Int[Tensor, "clips moments 4"]  # token of subjects 1-3 and of the word; -1: none
    poses: Float[Tensor, "clips moments 3 5"]

    def __len__(self) -> int:
        return len(self.clips)


def sample(seed: int, count: int) -> list[Clip]:
    """Clip i depends on the seed and i alone."""
    return [sample_clip(random.Random(f"clip-{seed}-{i}")) for i in range(count)]


def prepare(folder: Path, seed: int, count: int, workers: int) -> Rendered:
    """Render `count` clips into `folder`, part by part, and load them. Run again to resume."""
    clips = sample(seed, count)
    parts = [clips[start : start + PART] for start in range(0, count, PART)]
    paths = [folder / f"clips-{seed}-{n:04d}-{len(part)}.npz" for n, part in enumerate(parts)]
    missing = [(path, part) for path, part in zip(paths, parts, strict=True) if not path.exists()]
    spread(_render_part, missing, workers)
    loaded = [np.load(path) for path in paths]
    places, poses = positions(clips)
    return Rendered(
        clips,
        np.concatenate([part["frames"] for part in loaded]),
        np.concatenate([part["sound"] for part in loaded]),
        labels(clips),
        places,
        poses,
    )


def spread(function: Callable[..., None], jobs: list[tuple[Any, ...]], workers: int) -> None:
    """Call `function` with each job's values, in so many processes; with one, in this one."""
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            function(*job)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        list(pool.map(function, *zip(*jobs, strict=True)))


def labels(clips: list[Clip]) -> dict[str, Int[Tensor, "clips"]]:
    """Attribute to the index of each clip's value."""
    return {
        name: torch.tensor([values.index(getattr(clip, name)) for clip in clips])
        for name, values in ATTRIBUTES.items()
    }


def positions(
    clips: list[Clip],
) -> tuple[Int[Tensor, "clips moments 4"], Float[Tensor, "clips moments 3 5"]]:
    """Where subjects and words stand in the token grid, and how subjects stand within a token.

    A pose is: place inside the token across and down (-1..1), sine and cosine of the turn, size.
    """
    places = np.full((len(clips), VIEW.moments, OBJECTS + 1), -1, np.int64)
    poses = np.zeros((len(clips), VIEW.moments, OBJECTS, 5), np.float32)
    for row, clip in enumerate(clips):
        plan = layout(clip)
        for moment in range(VIEW.moments):
            time = (moment + 0.5) / VIEW.moments
            for index in range(int(clip.count)):
                x, y, turn, scale = pose(plan, clip.motion, index, time)
                angle, size = math.radians(turn), (scale * plan.size - 0.45) * 5
                inside = (x * GRID) % 1 * 2 - 1, (y * GRID) % 1 * 2 - 1
                poses[row, moment, index] = [*inside, math.sin(angle), math.cos(angle), size]
                places[row, moment, index] = token_at(x, y)
            if clip.word != "none":
                places[row, moment, OBJECTS] = token_at(0.5, word_middle(plan.word_top))
    return torch.from_numpy(places), torch.from_numpy(poses)


def token_at(x: float, y: float) -> int:
    """The token that covers a point given as shares of width and height; -1 outside."""
    if not (0.02 < x < 0.98 and 0.02 < y < 0.98):
        return -1
    return int(y * GRID) * GRID + int(x * GRID)


def word_middle(top: float) -> float:
    """Height of the middle of a word pill, as a share of a 9:16 frame."""
    return top + 0.14 * 9 / 16


def sketched(clip: Clip, rng: random.Random) -> UInt8[np.ndarray, "moments side side 3"]:
    """The clip's frames drawn small, without writing a video: quick, and nearly the same."""
    plan = layout(clip)
    times = [(moment + 0.5) / VIEW.moments for moment in range(VIEW.moments)]
    drawn = [draw(clip, plan, time, WIDTH, HEIGHT) for time in times]
    return np.stack([views.squash(through_codec(picture, rng), SIDE) for picture in drawn])


def through_codec(picture: Image.Image, rng: random.Random) -> UInt8[np.ndarray, "height width 3"]:
    """The blocks and blur of lossy video, cheaply: one JPEG pass."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=rng.randrange(35, 90))
    return np.asarray(Image.open(buffer).convert("RGB"))


def _render_part(path: Path, clips: list[Clip]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        rows = [_render(clip, Path(scratch) / "clip.mp4") for clip in clips]
    with files.atomic(path) as tmp:
        np.savez(
            tmp,
            frames=np.stack([frames for frames, _ in rows]),
            sound=np.stack([sound for _, sound in rows]),
        )


def _render(clip: Clip, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One clip through the codec: what the model will meet is what it is trained on."""
    from reelm.media.frames import frames
    from reelm.media.sound import sound
    from reelm.world.mp4 import write_mp4

    half = random.Random(clip.seed).random() < SMALL
    width, height = (180, 320) if half else (360, 640)
    write_mp4(path, clip, width=width, height=height, fps=FPS)
    seen = np.stack([views.squash(frame, SIDE) for frame in frames(path, VIEW.moments)])
    heard = sound(path, views.SOUND_RATE)
    return seen, views.sound_picture(heard, SIDE, DURATION_S)[..., 0]
