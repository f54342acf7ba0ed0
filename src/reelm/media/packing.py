"""One video decoded and packed small, and back again; what a worker of the store imports.

Pictures are JPEG with colours as fine as brightness: twice as large as WebP of like quality, a
sixth of the work there and half of it back. Sound is 16-bit differences, all low bytes before all
high ones, through zlib: smaller than FLAC without search, and a third of the work. This file
imports no tables (polars): every worker would wait for them.
"""

import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from reelm.media.views import SOUND_RATE
from reelm.media.watching import watched

FULL = 32767  # the 16-bit number for full scale
DAMAGE = (OSError, ValueError, zlib.error)
"""What unpacking raises over bytes that are not what was packed."""

Wave = Float32[np.ndarray, "samples"]
Picture = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class Settings:
    """Everything that changes what is stored."""

    moments: int
    longest: int
    quality: int
    sound_s: float | int


@dataclass(frozen=True)
class Task:
    """One video to decode in a child process."""

    sha256: str
    path: Path
    settings: Settings


@dataclass(frozen=True)
class Entry:
    """A video as stored: pictures, then sound (empty when there is none)."""

    pieces: tuple[bytes, ...]
    gain: float
    """What the sound was divided by to fit 16 bits; 1 for sound within full scale."""


def decode(task: Task) -> Entry:
    """Decode and pack one video; runs in a child process."""
    settings = task.settings
    pictures, wave = watched(
        task.path, settings.moments, settings.longest, SOUND_RATE, settings.sound_s
    )
    gain = max(1.0, float(np.abs(wave).max(initial=0.0)))
    packed = [packed_picture(pixels, settings.quality) for pixels in pictures]
    return Entry((*packed, packed_sound(wave / np.float32(gain))), gain)


def packed_picture(pixels: Picture, quality: int) -> bytes:
    """JPEG bytes; colours are kept for each pixel, or edges between them would smear."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="JPEG", quality=quality, subsampling="4:4:4")
    return out.getvalue()


def unpacked_picture(data: bytes) -> Picture:
    """
    Raises:
        OSError: these are not the bytes of a picture.
    """
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def packed_sound(wave: Wave) -> bytes:
    """16 bits a sample; nothing for silence that was never there.

    Args:
        wave: within -1 and 1.
    """
    if not len(wave):
        return b""
    steps = np.diff(np.rint(wave * FULL).astype("<i2"), prepend=np.zeros(1, "<i2"))  # may wrap
    return zlib.compress(steps.view(np.uint8).reshape(-1, 2).T.tobytes(), level=1)


def unpacked_sound(data: bytes) -> Wave:
    """
    Raises:
        zlib.error, ValueError: these are not the bytes of a sound.
    """
    if not data:
        return np.zeros(0, np.float32)
    planes = np.frombuffer(zlib.decompress(data), np.uint8).reshape(2, -1)
    steps = np.ascontiguousarray(planes.T).view("<i2")[:, 0]
    return np.cumsum(steps, dtype=np.int16).astype(np.float32) / np.float32(FULL)
