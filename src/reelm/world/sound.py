"""A clip's music, made from sine waves, saw teeth and noise."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from reelm.world.clips import DURATION_S, Clip

Wave = np.ndarray

BEATS_PER_MINUTE = {"slow": 66, "medium": 112, "fast": 176}


@dataclass(frozen=True)
class Note:
    """One stroke: its pitch (hertz), length (seconds), number in the piece, and sample times."""

    pitch: float
    length_s: float
    number: int
    third: int
    times: Wave
    noise: np.random.RandomState


def synthesize(
    clip: Clip, duration_s: float = DURATION_S, rate: int = 16000
) -> Float[np.ndarray, "samples"]:
    """The clip's sound as float32 mono in -1..1, `rate` samples per second.

    Happy music is major and high, sad music minor and low. Silence is a whisper of noise.
    """
    samples = int(duration_s * rate)
    noise = np.random.RandomState(clip.seed % 99991)
    if clip.instrument == "none":
        return noise.randn(samples).astype(np.float32) * np.float32(0.001)
    out = np.zeros(samples, np.float32)
    for start_s, note in _notes(clip, duration_s, rate, noise):
        _mix(out, _INSTRUMENTS[clip.instrument](note), int(start_s * rate))
    return out / (np.abs(out).max() + np.float32(1e-6)) * np.float32(0.8)


def _notes(
    clip: Clip, duration_s: float, rate: int, noise: np.random.RandomState
) -> list[tuple[float, Note]]:
    """Start (seconds; the first is before zero) and note, one each beat."""
    rng = random.Random(clip.seed ^ 0x5BD1)
    step = 60 / (BEATS_PER_MINUTE[clip.tempo] * rng.uniform(0.94, 1.06))
    happy = clip.mood == "happy"
    root, third = (55 if happy else 41) + rng.randrange(8), 4 if happy else 3
    scale = [0] if clip.instrument == "drums" else [0, third, 7, 12, 12 + third, 7]
    length_s = min(step * (1.9 if clip.instrument == "strings" else 1.0), 1.6)
    times = np.arange(int(length_s * rate)) / rate
    start_s, number, notes = rng.random() * step - step, 0, []
    while start_s < duration_s:
        key = root + 12 + scale[number * rng.choice([1, 1, 2]) % len(scale)]
        pitch = 440 * 2 ** ((key - 69) / 12)
        notes.append((start_s, Note(pitch, length_s, number, third, times, noise)))
        start_s, number = start_s + step, number + 1
    return notes


def _mix(out: Wave, wave: Wave, start: int) -> None:
    """Add `wave` to `out` from sample `start` on; what sticks out at either end is lost."""
    first, last = max(0, start), min(len(out), start + len(wave))
    if last > first:
        out[first:last] += wave[first - start : last - start].astype(np.float32)


def _saw(cycles: Wave) -> Wave:
    return cycles % 1 * 2 - 1


def _swell(note: Note, rise_s: float, fall_s: float) -> Wave:
    rise = np.minimum(1, note.times / rise_s)
    return rise * np.minimum(1, np.maximum(0, note.length_s - note.times) / fall_s)


def _piano(note: Note) -> Wave:
    angle = 2 * np.pi * note.pitch * note.times
    tones = [np.sin(angle * h) * 0.6**h for h in range(1, 6)]
    return np.sum(tones, axis=0) * np.exp(-4.5 * note.times)


def _synth(note: Note) -> Wave:
    return _saw(note.pitch * note.times) * 0.6 * np.exp(-1.5 * note.times)


def _flute(note: Note) -> Wave:
    vibrato = 0.25 * np.sin(2 * np.pi * 5 * note.times)
    tone = np.sin(4 * np.pi * note.pitch * note.times + vibrato)
    return (tone + note.noise.randn(len(note.times)) * 0.05) * _swell(note, 0.06, 0.06)


def _strings(note: Note) -> Wave:
    vibrato = 0.002 * np.sin(2 * np.pi * 5 * note.times)
    pitches = [note.pitch / 2 * 2 ** (key / 12) for key in (0, note.third, 7)]
    chord = np.sum([_saw(pitch * note.times + vibrato) for pitch in pitches], axis=0)
    return chord * 0.3 * _swell(note, 0.15, 0.25)


def _drums(note: Note) -> Wave:
    """A kick on even beats, a snare on odd ones, a hat on all."""
    t, size = note.times, len(note.times)
    if note.number % 2:
        stroke = note.noise.randn(size) * np.exp(-16 * t) * 0.7
    else:
        sweep = 50 * t + 6 * (1 - np.exp(-30 * t))
        stroke = np.sin(2 * np.pi * sweep) * np.exp(-9 * t) * 1.1
    return stroke + note.noise.randn(size) * np.exp(-60 * t) * 0.25


_INSTRUMENTS: dict[str, Callable[[Note], Wave]] = {
    "piano": _piano,
    "synth": _synth,
    "drums": _drums,
    "strings": _strings,
    "flute": _flute,
}
