import random

import av
import numpy as np
import pytest

from reelm.world.clips import sample_clip
from reelm.world.drawing import draw, layout
from reelm.world.mp4 import write_mp4

CLIP = sample_clip(random.Random(2), motion="right", instrument="piano", effect="none")


@pytest.mark.parametrize("fps", [3, 6])
def test_a_file_holds_the_pictures_and_the_sound(tmp_path, fps):
    path = write_mp4(tmp_path / "v.mp4", CLIP, width=96, height=160, fps=fps, crf=20)
    with av.open(str(path)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 4 * fps
    for index in (0, 2 * fps, 4 * fps - 1):
        drawn = np.asarray(draw(CLIP, layout(CLIP), index / (4 * fps), 96, 160)).astype(int)
        assert np.abs(frames[index] - drawn).mean() < 8
    with av.open(str(path)) as video:
        sound = np.concatenate([f.to_ndarray().ravel() for f in video.decode(audio=0)])
        assert video.streams.audio[0].rate == 16000 and video.streams.audio[0].channels == 1
    assert abs(len(sound) / 16000 - 4) < 0.1 and np.abs(sound).max() > 0.3


def test_the_same_clip_gives_the_same_bytes_and_no_leftovers(tmp_path):
    one, two = (
        write_mp4(tmp_path / name, CLIP, width=64, height=96, fps=6) for name in ("a.mp4", "b.mp4")
    )
    assert one.read_bytes() == two.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_keyframes_come_as_often_as_asked(tmp_path):
    path = write_mp4(tmp_path / "v.mp4", CLIP, width=64, height=96, fps=12, keyframe_every=12)
    with av.open(str(path)) as video:
        keys = [index for index, frame in enumerate(video.decode(video=0)) if frame.key_frame]
    assert {0, 12, 24, 36} <= set(keys)


def test_the_index_comes_before_the_pictures(tmp_path):
    data = write_mp4(tmp_path / "v.mp4", CLIP, width=64, height=96, fps=3).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_a_failed_render_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_mp4(tmp_path / "v.mp4", CLIP, quality=3)
    assert list(tmp_path.iterdir()) == []
