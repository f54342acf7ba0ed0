"""What is kept of a video: near pictures, the very samples, and a worker that is soon ready."""

import subprocess
import sys

import numpy as np
import pytest

from reelm.media.packing import (
    DAMAGE,
    packed_picture,
    packed_sound,
    unpacked_picture,
    unpacked_sound,
)


def off_db(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal to noise ratio of two pictures."""
    return 10 * np.log10(255**2 / ((one.astype(float) - other) ** 2).mean())


def coloured() -> np.ndarray:
    """Stripes of red and green, two pixels wide: what halved colours smear."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, (np.arange(64) // 2) % 2 == 0, 0] = 200
    pixels[:, (np.arange(64) // 2) % 2 == 1, 1] = 200
    return pixels


def test_edges_between_colours_stay():
    assert off_db(unpacked_picture(packed_picture(coloured(), 88)), coloured()) > 35


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (33, 17)])
def test_pictures_of_odd_sizes(shape):
    pixels = np.full((*shape, 3), 90, np.uint8)
    back = unpacked_picture(packed_picture(pixels, 88))
    assert (back.shape, back.dtype) == (pixels.shape, np.uint8)
    assert np.abs(back.astype(int) - pixels).max() <= 2


@pytest.mark.parametrize("count", [1, 2, 255, 8000])
def test_sound_comes_back_to_the_bit(count):
    """Steps across the whole range too, which do not fit 16 bits and wrap."""
    whole = np.random.default_rng(count).integers(-32767, 32768, count)
    whole[: min(2, count)] = (32767, -32767)[: min(2, count)]
    wave = whole.astype(np.float32) / np.float32(32767)
    back = unpacked_sound(packed_sound(wave))
    assert back.dtype == np.float32
    assert np.array_equal(back, wave)


def test_no_sound_takes_no_bytes():
    assert packed_sound(np.zeros(0, np.float32)) == b""
    assert unpacked_sound(b"").shape == (0,)


def test_a_tone_takes_less_than_its_samples():
    wave = np.sin(np.arange(32000) / 8000 * 2 * np.pi * 440).astype(np.float32) / 2
    assert len(packed_sound(wave)) < 0.7 * 2 * len(wave)


def test_damaged_bytes_are_noticed():
    picture, voice = packed_picture(coloured(), 88), packed_sound(np.ones(100, np.float32))
    for broken in (picture[:20], picture[: len(picture) // 2], b"no picture"):
        with pytest.raises(DAMAGE):
            unpacked_picture(broken)
    for broken in (voice[:-5], b"no sound"):
        with pytest.raises(DAMAGE):
            unpacked_sound(broken)


def test_a_worker_imports_no_tables():
    """They took longer to import than all that a worker needs."""
    script = "import sys, reelm.media.packing; sys.exit('polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
