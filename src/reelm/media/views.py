"""What of a video a model is shown: moments as pictures, movement and sound as pictures too.

A picture language model reads single images. Movement is shown as a time-colour composite (red,
green and blue are the brightness of an early, a middle and a late moment, so that what moves
leaves coloured ghosts) and sound as a log-mel spectrogram.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

Pixels = UInt8[np.ndarray, "height width 3"]

SOUND_RATE = 8000  # Hz; what sound pictures are made from
SOUND_WINDOW = 512  # samples per spectrum
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class View:
    """How a model wants to see a video. Moments lie at (i + 0.5) / moments of the duration."""

    moments: int = 4
    """Frames that are decoded."""
    shown: tuple[int, ...] = ()
    """Which moments become pictures of their own, counted from 0; empty means all."""
    square: int | None = None
    """Side in pixels to which each frame is squashed; None keeps shape and size."""
    sound: bool = False
    """Add a log-mel picture of the sound."""
    sound_s: float = 4.0
    """Seconds of sound, from the start, that the log-mel picture covers."""
    motion: bool = False
    """Add time-colour composites; needs at least three moments."""

    @staticmethod
    def of(values: Mapping[str, Any]) -> "View":
        """A view from plain JSON values, as `reelm.json` holds them."""
        return View(**{**values, "shown": tuple(values.get("shown", ()))})


@dataclass(frozen=True)
class Picture:
    """One named picture: `Frame 1`, `Sound`, `Motion 1` …"""

    name: str
    pixels: Pixels


def pictures(
    view: View,
    frames: UInt8[np.ndarray, "moments height width 3"],
    sound: Float[np.ndarray, "samples"] | None,
) -> list[Picture]:
    """The pictures that `view` asks for, in the order a model is shown them.

    Args:
        frames: one per moment of the view, upright, square pixels.
        sound: mono at SOUND_RATE; None or empty is shown as silence.
    """
    side = view.square
    small = [squash(frame, side) if side else frame for frame in frames]
    shown = view.shown or range(view.moments)
    out = [Picture(f"Frame {n + 1}", small[i]) for n, i in enumerate(shown)]
    if view.sound:
        out.append(Picture("Sound", sound_picture(sound, side or 80, view.sound_s)))
    if view.motion:
        moving = motion_pictures(np.stack(small))
        out += [Picture(f"Motion {n + 1}", pixels) for n, pixels in enumerate(moving)]
    return out


def squash(frame: Pixels, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Resize to a square, ignoring the aspect ratio as vision towers do."""
    if frame.shape[:2] == (side, side):
        return frame
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))


def motion_pictures(frames: UInt8[np.ndarray, "moments height width 3"]) -> list[Pixels]:
    """Two interleaved composites (moments 0, 2, 4 and 1, 3, 5) from six or more moments, else one.

    With more than six moments the six nearest to an even spread are used.
    """
    bright = frames.astype(np.float32) @ LUMA
    count = len(bright)
    if count < 6:
        picks = [np.linspace(0, count - 1, 3).round().astype(int)]
    else:
        six = np.linspace(0, count - 1, 6).round().astype(int)
        picks = [six[0::2], six[1::2]]
    return [bright[pick].transpose(1, 2, 0).round().astype(np.uint8) for pick in picks]


def sound_picture(sound: Float[np.ndarray, "samples"] | None, side: int, seconds: float) -> Pixels:
    """Log-mel spectrogram as a grey picture: time runs down, pitch runs to the right."""
    wanted = int(seconds * SOUND_RATE)
    wave = np.zeros(wanted, np.float32)
    if sound is not None:
        wave[: len(sound)] = sound[:wanted]
    hop = (wanted - SOUND_WINDOW) // (side - 1)
    at = np.arange(SOUND_WINDOW)[None] + hop * np.arange(side)[:, None]
    spectrum = np.abs(np.fft.rfft(wave[at] * np.hanning(SOUND_WINDOW), axis=1))
    mel = np.log10(spectrum @ mel_bank(SOUND_WINDOW, side, SOUND_RATE).T + 1e-3)
    grey = np.clip((mel + 2.5) / 4 * 255, 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


@cache
def mel_bank(window: int, bands: int, rate: int) -> Float[np.ndarray, "bands bins"]:
    """Triangular filters evenly spaced on the mel scale from 40 Hz to half the rate; read only.

    Each row sums to one. Source: O'Shaughnessy 1987, mel = 2595 log10(1 + f / 700).
    """
    low, high = (2595 * np.log10(1 + f / 700) for f in (40.0, rate / 2))
    edges = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(window, 1 / rate)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    bank = np.maximum(0.0, np.minimum(rising, falling))
    bank /= bank.sum(1, keepdims=True) + 1e-6
    bank.flags.writeable = False  # it is shared between calls
    return bank
