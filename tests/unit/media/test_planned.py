"""A plan finds what decoding everything finds, with less decoding, or gives up."""

from itertools import chain
from pathlib import Path

import av
import numpy as np
import pytest

from reelm.errors import MediaError
from reelm.media import frames as module
from reelm.media import planned
from reelm.media.frames import frames, sample


def decoded_by(monkeypatch, call):
    """How many packets a plan decodes for a call."""
    sent = []
    inner = planned.needed
    monkeypatch.setattr(planned, "needed", lambda p, w: sent.append(inner(p, w)) or sent[-1])
    call()
    return sum(end - first for first, end in chain(*sent))


def by_plan(path: Path, moments: int, longest: int | None):
    with module.opened(path) as container:
        return module.planned(container, moments, longest)[0]


@pytest.mark.parametrize("moments", [1, 3, 6, 20, 60])
@pytest.mark.parametrize("gop", [1, 5, 250])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_plan_finds_what_reading_everything_finds(clip, moments, gop, name):
    path = clip(name, count=26, fps=10, gop=gop)
    found = by_plan(path, moments, 32)
    assert np.array_equal(found, module._sample(path, moments, 32, seeking=False).frames)


def test_a_plan_leaves_out_groups_that_nobody_asks_for(clip, monkeypatch):
    path = clip(count=26, fps=10, gop=2, reorder=False)
    assert decoded_by(monkeypatch, lambda: frames(path, 3)) <= 6


def test_pictures_that_none_refers_to_are_skipped(clip):
    with module.opened(clip(count=26, fps=10)) as container:
        stream = module.video_stream(container)
        packets, _ = planned._packets(container, stream, None)
        last = max(packet.pts for packet in packets)
        came = [frame.pts for frame in planned._frames(stream, [packets], {last})]
    assert came[-1] == last
    assert 1 < len(came) < 20


def test_runs_neither_touch_nor_overlap(clip):
    with module.opened(clip(count=12, gop=2, reorder=False)) as container:
        packets, _ = planned._packets(container, module.video_stream(container), None)
    times = [packet.pts for packet in packets]
    assert planned.needed(packets, [times[9], times[0], times[1]]) == [(0, 2), (8, 10)]
    assert planned.needed(packets, [times[2], times[1]]) == [(0, 3)]


def test_a_point_of_recovery_is_not_taken_for_a_whole_picture(tmp_path):
    """Intra refresh: packets marked as keys hold a strip; the rest is of the pictures before."""
    path = tmp_path / "a.mkv"
    refreshed(path, 90)
    with module.opened(path) as container:
        packets, _ = planned._packets(container, module.video_stream(container), None)
    assert sum(packet.is_keyframe for packet in packets) > 3
    for moments in (5, 14, 19):
        whole = module._sample(path, moments, None, seeking=False).frames
        assert np.array_equal(frames(path, moments), whole)


def refreshed(path: Path, count: int) -> None:
    """A moving texture, encoded with one key frame and then by intra refresh."""
    texture = np.random.default_rng(0).integers(0, 255, (24, 16, 3), np.uint8)
    texture = texture.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 96, "yuv420p"
        stream.options = {"x264-params": "intra-refresh=1:keyint=20:bframes=0"}
        for n in range(count):
            x, y = 3 * n % 64, n % 96
            pixels = np.ascontiguousarray(texture[y : y + 96, x : x + 64])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def test_damage_is_left_to_the_careful_reader(clip):
    path = clip(count=26, fps=10)
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat") + len(data) // 3
    data[at : at + 400] = b"\xa5" * 400
    path.write_bytes(data)
    with pytest.raises(planned.Unplanned):
        by_plan(path, 6, None)
    assert np.array_equal(frames(path, 6), sample(path, 6).frames)


@pytest.mark.parametrize(("limit", "value"), [("MOST_PACKETS", 10), ("MOST_BYTES", 500)])
def test_long_videos_are_not_read_whole(clip, monkeypatch, limit, value):
    path = clip(count=26, fps=10)
    monkeypatch.setattr(planned, limit, value)
    with pytest.raises(planned.Unplanned):
        by_plan(path, 6, None)
    assert len(frames(path, 6)) == 6


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.webm", "libvpx")])
def test_other_codecs_are_walked_through(clip, name, codec):
    with pytest.raises(planned.Unplanned):
        by_plan(clip(name, codec=codec), 2, None)


def test_real_files_look_the_same(videos_dev):
    """Whichever way they are read; broken ones fail alike."""
    for path, _ in videos_dev:
        assert outcome(frames, path) == outcome(lambda p, m, s: sample(p, m, s).frames, path), path


def outcome(call, path: Path):
    try:
        return call(path, 6, 160).tobytes()
    except MediaError as error:
        return error.reason, error.detail
