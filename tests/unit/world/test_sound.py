import dataclasses

import numpy as np
import pytest

from reelm.world.clips import Clip
from reelm.world.sound import synthesize
from reelm.world.vocabulary import ATTRIBUTES

PIANO = Clip(
    "ball", "red", "1", "still", "space", "day", "none", "none", "piano", "medium", "happy", 7
)


def music(**changes):
    return synthesize(dataclasses.replace(PIANO, **changes), rate=8000)


@pytest.mark.parametrize("instrument", ATTRIBUTES["instrument"])
def test_sound_is_float32_in_range_and_repeats(instrument):
    one = music(instrument=instrument)
    assert one.dtype == np.float32 and one.shape == (32000,)
    assert np.abs(one).max() <= 1
    assert np.array_equal(one, music(instrument=instrument))


def test_silence_is_quiet_and_music_is_not():
    assert np.abs(music(instrument="none", tempo="none", mood="none")).max() < 0.01
    for instrument in ATTRIBUTES["instrument"][:-1]:
        assert np.abs(music(instrument=instrument)).max() > 0.7


def strokes(wave):
    """Jumps of loudness between hundredths of a second."""
    loud = np.square(wave.reshape(-1, 80)).mean(axis=1)
    return int((np.diff(loud) > 0.3 * loud.max()).sum())


def test_faster_tempo_has_more_strokes():
    slow, medium, fast = (strokes(music(tempo=tempo)) for tempo in ("slow", "medium", "fast"))
    assert slow < medium < fast


def middle(wave):
    """Centre of the spectrum in hertz."""
    strength = np.abs(np.fft.rfft(wave))
    return (strength * np.fft.rfftfreq(len(wave), 1 / 8000)).sum() / strength.sum()


def test_happy_music_is_higher():
    for seed in range(5):
        assert middle(music(mood="happy", seed=seed)) > middle(music(mood="sad", seed=seed))


def test_length_and_rate_are_as_asked():
    assert synthesize(PIANO, duration_s=1.5, rate=16000).shape == (24000,)
