"""Sound has the right length, pitch and loudness at any rate."""

import numpy as np
import pytest

from reelm.media.sound import sound


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_a_tone_keeps_pitch_loudness_and_length(clip, rate):
    wave = sound(clip(count=20, fps=10, tone_hz=440), rate)
    assert wave.dtype == np.float32
    assert len(wave) / rate == pytest.approx(2.0, abs=0.15)
    middle = wave[rate // 2 : rate // 2 + rate]
    heard = np.abs(np.fft.rfft(middle * np.hanning(rate)))
    assert int(heard.argmax()) == pytest.approx(440, abs=2)
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.05)


def test_a_silent_film_is_empty(clip):
    assert sound(clip()).shape == (0,)


def test_no_more_is_read_than_asked_for(clip):
    assert len(sound(clip(tone_hz=440), 8000, most_s=0.5)) == 4000


def test_real_sound_is_as_long_as_its_video(videos_dev):
    for path, entry in videos_dev:
        told = entry["pyav"]
        if told.get("acodec"):
            seconds = len(sound(path, 8000)) / 8000
            assert seconds == pytest.approx(told["dur"], abs=0.15), path.name
