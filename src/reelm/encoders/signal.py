"""What can be measured without any learned weight: colour, light, motion, cuts, loudness, beat.

Every value is put on a scale of about -1..1 by fixed numbers, so no statistics of a data set are
needed and a video's vector never depends on the others.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from pydantic import PositiveInt

from reelm.encoders.base import Clip, Encoder, EncoderConfig
from reelm.media.views import LUMA, SOUND_RATE, View, mel_bank

SIDE = 32  # pixels; frames are squashed to this before anything is measured
GRID = 4  # coarse layout, cells along each side
HUES = 12
BANDS = 12
WINDOW, HOP = 512, 128  # samples
CUT = 0.35  # share of the colour histogram that changes at a cut
BEATS = (40, 220)  # beats per minute that count as tempo

Small = Float[np.ndarray, "moments side side 3"]


class SignalConfig(EncoderConfig):
    """Section [encoder] for `signal`."""

    moments: PositiveInt = 6
    """Frames that are looked at."""


class Signal(Encoder):
    """Colour and layout, motion between frames, and the shape of the sound."""

    name: ClassVar[str] = "signal"
    Config: ClassVar[type[EncoderConfig]] = SignalConfig
    reads: ClassVar[Literal["text", "video"]] = "video"

    def __init__(self, config: SignalConfig | None = None) -> None:
        self.config = config or SignalConfig()
        self.view = View(moments=self.config.moments)
        grey = np.zeros((1, SIDE, SIDE, 3), np.uint8)
        self.dim = len(measure(Clip(grey, np.zeros(0, np.float32))))

    def encode(self, inputs: Sequence[Clip]) -> Float32[np.ndarray, "inputs dim"]:
        vectors = np.zeros((len(inputs), self.dim), np.float32)
        for vector, clip in zip(vectors, inputs, strict=True):
            vector[:] = measure(clip)
        return vectors

    def identity(self) -> dict[str, Any]:
        return {"encoder": self.name, **self.config.model_dump()}


def measure(clip: Clip) -> Float32[np.ndarray, "dim"]:
    """All measures of one video, finite also for one frame and for silence."""
    small = shrink(clip.frames)
    parts = (_colours(small), _layout(small), _motion(small), _loudness(clip.sound))
    sounds = (_spectrum(clip.sound), _beat(clip.sound))
    return np.clip(np.concatenate([*parts, *sounds]), -3, 3).astype(np.float32)


def shrink(frames: UInt8[np.ndarray, "moments height width 3"]) -> Small:
    """Every frame as SIDE by SIDE pixels of 0..1."""
    side = (SIDE, SIDE)
    made = [Image.fromarray(f).resize(side, Image.Resampling.BOX) for f in frames]
    return np.stack([np.asarray(one, np.float32) for one in made]) / 255


def _colours(small: Small) -> np.ndarray:
    """Mean and spread of each channel, histogram of hues by saturation, brightness over time."""
    flat = small.reshape(-1, 3)
    high, low = flat.max(1), flat.min(1)
    chroma = high - low
    safe = np.maximum(chroma, 1e-6)
    r, g, b = flat.T
    sector = np.where(
        high == r, (g - b) / safe, np.where(high == g, 2 + (b - r) / safe, 4 + (r - g) / safe)
    )
    hue = (sector % 6) / 6
    counts, _ = np.histogram(hue, HUES, (0, 1), weights=chroma)
    hues = counts / max(1e-6, counts.sum()) * min(1.0, 4 * float(chroma.mean()))
    bright = (small @ LUMA).mean((1, 2))
    light = [2 * bright.mean() - 1, 4 * bright.std(), 2 * chroma.mean(), 4 * (small @ LUMA).std()]
    return np.concatenate([2 * flat.mean(0) - 1, 4 * flat.std(0) - 1, 2 * hues, light])


def _layout(small: Small) -> np.ndarray:
    """Mean colour of each cell of a coarse grid, over all frames."""
    cell = SIDE // GRID
    grid = small.mean(0).reshape(GRID, cell, GRID, cell, 3).mean((1, 3))
    return 2 * grid.ravel() - 1


def _motion(small: Small) -> np.ndarray:
    """Energy, cuts, and where the picture and its brightest change drift, per step."""
    if len(small) < 2:
        return np.zeros(7)
    bright = small @ LUMA
    change = np.abs(np.diff(bright, axis=0))
    energy = change.mean((1, 2))
    cuts = [_histogram_change(a, b) > CUT for a, b in pairwise(small)]
    drift = np.array([_shift(a, b) for a, b in pairwise(bright)])
    still = ~np.array(cuts)
    across, down = drift[still].mean(0) if still.any() else (0.0, 0.0)
    place = _centre(change)
    return np.array(
        [6 * energy.mean(), 6 * energy.max(), np.mean(cuts), across / 4, down / 4, *place]
    )


def _histogram_change(one: np.ndarray, other: np.ndarray) -> float:
    """Half the sum of differences between coarse colour histograms, 0..1."""
    counts = [
        np.histogramdd(frame.reshape(-1, 3), bins=4, range=[(0, 1)] * 3)[0] / (SIDE * SIDE)
        for frame in (one, other)
    ]
    return float(np.abs(counts[0] - counts[1]).sum() / 2)


def _shift(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Pixels (right, down) by which a picture moved, by phase correlation; (0, 0) if unclear.

    Source: Kuglin & Hines 1975, "The phase correlation image alignment method".
    """
    window = np.hanning(SIDE)[:, None] * np.hanning(SIDE)[None]
    a, b = (np.fft.rfft2((frame - frame.mean()) * window) for frame in (one, other))
    cross = b * a.conj()
    peaks = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), (SIDE, SIDE))
    if peaks.max() < 4 * peaks.std() or not np.isfinite(peaks).all():
        return 0.0, 0.0
    down, across = np.unravel_index(int(peaks.argmax()), peaks.shape)
    half = SIDE // 2
    return float((across + half) % SIDE - half), float((down + half) % SIDE - half)


def _centre(change: np.ndarray) -> tuple[float, float]:
    """How far the centre of what changes travels (right, down) from the first step to the last."""
    places = np.linspace(-1, 1, SIDE)
    weight = change + 1e-6
    total = weight.sum((1, 2))
    across = (weight * places[None, None]).sum((1, 2)) / total
    down = (weight * places[None, :, None]).sum((1, 2)) / total
    return float(across[-1] - across[0]), float(down[-1] - down[0])


def _windows(sound: Float32[np.ndarray, "samples"]) -> np.ndarray:
    """Overlapping windows, at least one; short sounds are padded with silence."""
    wave = np.nan_to_num(sound).astype(np.float32)
    if len(wave) < WINDOW:
        wave = np.pad(wave, (0, WINDOW - len(wave)))
    return np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]


def _loudness(sound: Float32[np.ndarray, "samples"]) -> np.ndarray:
    """Mean and spread of loudness, share of silence, and whether there is sound at all."""
    level = 20 * np.log10(np.sqrt((_windows(sound) ** 2).mean(1)) + 1e-4)  # dB, -80 and up
    return np.array(
        [(level.mean() + 40) / 40, level.std() / 10, (level < -60).mean(), float(len(sound) > 0)]
    )


def _spectrum(sound: Float32[np.ndarray, "samples"]) -> np.ndarray:
    """Centroid, roll-off and flatness, and the mean level of each mel band."""
    power = np.abs(np.fft.rfft(_windows(sound) * np.hanning(WINDOW), axis=1)).mean(0) + 1e-6
    place = np.linspace(0, 1, len(power))
    share = power / power.sum()
    roll = place[np.searchsorted(share.cumsum(), 0.85).clip(max=len(place) - 1)]
    flat = np.exp(np.log(power).mean()) / power.mean()
    bands = np.log10(mel_bank(WINDOW, BANDS, SOUND_RATE) @ power + 1e-4)
    return np.array([4 * (share @ place) - 1, 2 * roll - 1, 2 * flat - 1, *(bands / 2 + 1)])


def _beat(sound: Float32[np.ndarray, "samples"]) -> np.ndarray:
    """Tempo (fast ones may count at half), how marked it is, and how many sounds begin.

    By autocorrelation of the rises in energy.
    Source: Ellis 2007, "Beat Tracking by Dynamic Programming", section 3.1, one band only.
    """
    spectra = np.log1p(100 * np.abs(np.fft.rfft(_windows(sound) * np.hanning(WINDOW), axis=1)))
    rises = np.maximum(0, np.diff(spectra, axis=0)).mean(1) if len(spectra) > 1 else np.zeros(1)
    rises = rises - rises.mean()
    per_minute = 60 * SOUND_RATE / HOP
    first, last = (int(per_minute / bpm) for bpm in reversed(BEATS))
    power = float(rises @ rises)
    if len(rises) <= first + 2 or power < 1e-6:
        return np.zeros(3)
    lags = np.arange(first, min(last, len(rises) - 1))
    alike = np.array([rises[:-lag] @ rises[lag:] for lag in lags]) / power
    liking = np.exp(-0.5 * (np.log2(per_minute / lags / 110) / 0.9) ** 2)
    best = int((alike * liking).argmax())
    onsets = (rises > 2 * rises.std()).mean()
    return np.array([np.log2(per_minute / lags[best] / 110), 2 * alike[best], 10 * onsets])
