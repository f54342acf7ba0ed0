"""Small real video files, made on the spot: the brightness of a frame tells its number."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

STEP = 8  # grey levels between neighbouring frames


@dataclass(frozen=True)
class Recipe:
    """How to make a clip. Left half grey by frame number; top right corner white."""

    count: int = 20
    size: tuple[int, int] = (64, 48)
    fps: int = 10
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    gop: int = 250
    reorder: bool = True
    times_ms: Sequence[int] | None = None
    rotation: int = 0
    aspect: Fraction | None = None
    tone_hz: float | None = None
    title: str | None = None


def picture(number: int, size: tuple[int, int]) -> np.ndarray:
    """Frame `number`: grey 16 + 8 * number, with a white top right quarter."""
    width, height = size
    pixels = np.full((height, width, 3), 16 + STEP * number % 224, np.uint8)
    pixels[: height // 2, width // 2 :] = 255
    return pixels


def number_of(pixels: np.ndarray) -> int:
    """Which frame a picture was, read from its lower left part (as stored)."""
    height, width = pixels.shape[:2]
    return round((float(pixels[height * 3 // 4 :, : width // 4].mean()) - 16) / STEP)


def write(path: Path, recipe: Recipe) -> Path:
    """Encode a clip by its recipe."""
    with av.open(str(path), "w") as container:
        if recipe.title:
            container.metadata["title"] = recipe.title
        stream = container.add_stream(recipe.codec, rate=recipe.fps)
        stream.width, stream.height = recipe.size
        stream.pix_fmt = recipe.pixel_format
        stream.codec_context.gop_size = recipe.gop
        stream.codec_context.time_base = Fraction(1, 1000)
        if recipe.aspect:
            stream.codec_context.sample_aspect_ratio = recipe.aspect
        if recipe.codec == "libx264":
            stream.options = {"crf": "10", "sc_threshold": "0"}
            stream.options |= {} if recipe.reorder else {"bf": "0"}
        if recipe.rotation:
            stream.set_display_rotation(recipe.rotation)
        voice = container.add_stream("aac", rate=16000, layout="stereo") if recipe.tone_hz else None
        times = recipe.times_ms or [round(1000 * i / recipe.fps) for i in range(recipe.count)]
        for number, at in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, recipe.size), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None:
            container.mux(voice.encode(_tone(recipe)))
            container.mux(voice.encode(None))
    return path


def _tone(recipe: Recipe) -> av.AudioFrame:
    """A sine at half of full scale in both channels, as long as the pictures."""
    at = np.arange(16000 * recipe.count // recipe.fps) / 16000
    wave = 0.5 * np.sin(2 * np.pi * recipe.tone_hz * at)
    whole = np.stack([wave, wave]).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(whole, format="fltp", layout="stereo")
    frame.sample_rate = 16000
    return frame


@pytest.fixture
def clip(tmp_path):
    """`clip("name.mp4", count=20, …)` writes a clip and gives its path."""

    def make(name="clip.mp4", **recipe):
        return write(tmp_path / name, Recipe(**recipe))

    return make


@pytest.fixture(scope="session")
def videos_dev(data_folder):
    """The real test files, each with its row of the manifest."""
    import json

    folder = data_folder / "videos_dev"
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    return [(folder / entry["file"], entry) for entry in listed]
