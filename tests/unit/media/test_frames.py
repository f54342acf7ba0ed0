"""Frames are those that a player shows at the asked times, whichever way they are reached."""

from fractions import Fraction

import numpy as np
import pytest

from conftest import number_of
from reelm.errors import MediaError
from reelm.media import frames as module
from reelm.media.frames import frames, sample


@pytest.mark.parametrize("moments", [1, 2, 5, 20])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_the_frame_on_show_at_each_moment(clip, moments, name):
    codec = "mpeg4" if name == "a.avi" else "libx264"
    seen = frames(clip(name, count=20, fps=10, codec=codec), moments)
    assert seen.shape == (moments, 48, 64, 3)
    wanted = [int((i + 0.5) / moments * 20) for i in range(moments)]
    assert [number_of(p) for p in seen] == pytest.approx(wanted, abs=1 if name == "a.ts" else 0)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.webm"])
@pytest.mark.parametrize("gop", [5, 250])
def test_seeking_finds_what_decoding_everything_finds(clip, name, gop):
    codec = "libvpx" if name.endswith("webm") else "libx264"
    path = clip(name, count=26, fps=2, gop=gop, codec=codec)
    quick = sample(path, 6)  # decodes everything only where a seek went wrong
    whole = module._sample(path, 6, None, seeking=False)
    assert quick.times_s == whole.times_s
    assert np.array_equal(quick.frames, whole.frames)


def test_seeking_decodes_less(clip, monkeypatch):
    path = clip(count=26, fps=1, gop=2)
    decoded = []
    timed = module._Reader._timed
    monkeypatch.setattr(module._Reader, "_timed", lambda s, f: decoded.append(f) or timed(s, f))
    sample(path, 3)
    assert 0 < len(decoded) < 13


def test_moments_in_one_group_of_frames_decode_it_once(clip, monkeypatch):
    path = clip(count=26, fps=1, gop=250)
    decoded = []
    timed = module._Reader._timed
    monkeypatch.setattr(module._Reader, "_timed", lambda s, f: decoded.append(f) or timed(s, f))
    sample(path, 8)
    assert 0 < len(decoded) <= 27


def test_uneven_times_are_respected(clip):
    times = [0, 100, 200, 300, 1900, 1950]  # frame 3 stays on show for 1.6 s
    seen = frames(clip(times_ms=times, reorder=False), 4)
    assert [number_of(p) for p in seen][1:] == [3, 3, 3]


@pytest.mark.parametrize(
    ("turn", "corner"), [(0, (0, -1)), (-90, (-1, -1)), (90, (0, 0)), (180, (-1, 0))]
)
def test_pictures_are_upright(clip, turn, corner):
    """The white corner is stored at the top right; -90 turns clockwise."""
    (seen,) = frames(clip(rotation=turn), 1)
    assert seen.shape == ((64, 48, 3) if turn % 180 else (48, 64, 3))
    white = {at: seen[at].mean() for at in [(0, 0), (0, -1), (-1, 0), (-1, -1)]}
    assert max(white, key=white.get) == corner


def test_frames_stay_in_order_where_the_file_knows_only_how_they_are_stored(clip):
    seen = [number_of(p) for p in frames(clip("reordered.avi", count=20, fps=10), 5)]
    assert seen == sorted(seen)
    assert seen == pytest.approx([2, 6, 10, 14, 18], abs=2)


def test_pixels_become_square(clip):
    assert frames(clip(aspect=Fraction(3, 2)), 1).shape == (1, 48, 96, 3)


def test_ten_bits_and_odd_sizes(clip):
    deep = clip("deep.mkv", pixel_format="yuv420p10le")
    assert [number_of(p) for p in frames(deep, 2)] == [5, 15]
    odd = clip("odd.mkv", size=(35, 21), pixel_format="yuv444p")
    assert frames(odd, 2).shape == (2, 21, 35, 3)
    assert frames(clip("tiny.webm", size=(8, 8), codec="libvpx"), 2).shape == (2, 8, 8, 3)


def test_longest_makes_smaller_and_never_larger(clip):
    path = clip()
    assert frames(path, 1, longest=32).shape == (1, 24, 32, 3)
    assert frames(path, 1, longest=640).shape == (1, 48, 64, 3)


def test_one_frame_is_shown_at_every_moment(clip):
    seen = sample(clip(count=1), 3)
    assert [number_of(p) for p in seen.frames] == [0, 0, 0]
    assert not seen.cut_short


def test_a_truncated_file_gives_what_it_has_and_says_so(clip):
    path = clip("cut.mkv", count=26, fps=2, gop=4)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 7 // 10])
    seen = sample(path, 6)
    assert seen.cut_short
    assert len(seen.frames) == 6
    assert seen.times_s[0] < seen.times_s[-1] < 10


def test_damage_on_the_way_is_counted(videos_dev):
    path = next(p for p, entry in videos_dev if "corrupted" in p.name)
    assert sample(path, 6).damaged == 1


def test_a_file_without_pictures_has_a_reason(clip, videos_dev):
    reasons = {}
    for path, _ in videos_dev:
        try:
            frames(path, 4, longest=64)
        except MediaError as error:
            reasons[path.name.partition("__")[2]] = error.reason
    assert reasons == {
        "sample_opus.mp4": "no video stream",
        "Mpeg4.mp4": "no video stream",
        "chunk_out_of_range.mp4": "cannot be decoded",
        "bipbop_cbcs_video_init.mp4": "no frame could be decoded",
    }


@pytest.mark.slow
def test_real_files_look_the_same_with_and_without_seeking(videos_dev):
    for path, entry in videos_dev:
        if entry["kind"] in ("ok", "odd-but-decodes"):
            quick = module._sample(path, 3, 64, seeking=True)
            whole = module._sample(path, 3, 64, seeking=False)
            assert np.array_equal(quick.frames, whole.frames), path.name


def test_no_moments_is_a_mistake(clip):
    with pytest.raises(ValueError, match="at least 1"):
        frames(clip(), 0)
