"""One reading gives what two give, bit for bit."""

from pathlib import Path

import numpy as np
import pytest

from reelm.errors import MediaError
from reelm.media import planned, probe
from reelm.media import watching as module
from reelm.media.frames import frames
from reelm.media.sound import sound
from reelm.media.watching import watched


def outcome(call, path: Path, most_s: float | None):
    try:
        return call(path, most_s)
    except MediaError as error:
        return error.reason, error.detail


def apart(path: Path, most_s: float | None = None):
    return frames(path, 6, 160), sound(path, 8000, most_s)


def together(path: Path, most_s: float | None = None):
    return watched(path, 6, 160, 8000, most_s)


def same(path: Path, most_s: float | None = None) -> None:
    one, two = outcome(apart, path, most_s), outcome(together, path, most_s)
    assert type(one[0]) is type(two[0]), path
    for a, b in zip(one, two, strict=True):
        assert a == b if isinstance(a, str) else (np.array_equal(a, b) and a.dtype == b.dtype), path


@pytest.mark.parametrize("most_s", [None, 0.5])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_sounding_clips(clip, name, most_s):
    same(clip(name, count=26, tone_hz=440), most_s)


def test_a_silent_clip(clip):
    path = clip()
    same(path)
    assert together(path)[1].shape == (0,)


def test_another_codec(clip):
    same(clip("a.webm", codec="libvpx"))


@pytest.mark.parametrize("most_s", [None, 1.0])
def test_real_files(videos_dev, most_s):
    for path, _ in videos_dev:
        same(path, most_s)


def test_the_file_is_opened_once(clip, monkeypatch):
    path, seen = clip(tone_hz=440), []
    inner = probe.opened
    for place in (module, module.sound.__globals__, module.sample.__globals__):
        where = place if isinstance(place, dict) else vars(place)
        monkeypatch.setitem(where, "opened", lambda p: seen.append(p) or inner(p))
    pictures, wave = together(path)
    assert (len(pictures), len(seen)) == (6, 1)
    assert len(wave) == pytest.approx(16000, abs=1200)


def test_sound_counts_when_a_plan_must_not_read_too_much(clip, monkeypatch):
    """Its packets are held in memory beside those of the pictures."""
    path = clip(tone_hz=440)
    with probe.opened(path) as container:
        video, audio = probe.video_stream(container), probe.audio_stream(container)
        pictures, voice = planned._packets(container, video, audio)
    taken = sum(packet.size for packet in pictures)
    monkeypatch.setattr(planned, "MOST_BYTES", taken + sum(packet.size for packet in voice) - 1)
    with probe.opened(path) as container, pytest.raises(planned.Unplanned):
        video, audio = probe.video_stream(container), probe.audio_stream(container)
        planned.shown(container, video, [0], audio)
    same(path)
