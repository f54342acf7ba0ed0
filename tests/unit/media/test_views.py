import numpy as np
import pytest

from reelm.media import views
from reelm.media.views import View


def moving(count: int, step: int = 4, size: int = 40) -> np.ndarray:
    """A white square that moves to the right by `step` pixels per frame."""
    frames = np.zeros((count, size, size, 3), np.uint8)
    for i in range(count):
        frames[i, 10:16, 2 + step * i : 8 + step * i] = 255
    return frames


def test_pictures_come_in_the_order_the_view_names():
    view = View(moments=6, shown=(0, 2, 4), square=20, sound=True, motion=True)
    made = views.pictures(view, moving(6), np.zeros(100, np.float32))
    names = [picture.name for picture in made]
    assert names == ["Frame 1", "Frame 2", "Frame 3", "Sound", "Motion 1", "Motion 2"]
    assert all(picture.pixels.shape == (20, 20, 3) for picture in made)


def test_without_a_square_frames_keep_their_shape():
    frames = np.zeros((2, 30, 20, 3), np.uint8)
    made = views.pictures(View(moments=2), frames, None)
    assert [picture.pixels.shape for picture in made] == [(30, 20, 3)] * 2


def test_backwards_the_composites_swap_places_and_red_with_blue():
    there = views.motion_pictures(moving(6))
    back = views.motion_pictures(moving(6)[::-1])
    np.testing.assert_array_equal(back[0], there[1][..., ::-1])
    np.testing.assert_array_equal(back[1], there[0][..., ::-1])


def test_what_stands_still_is_grey_and_what_moves_is_coloured():
    still, moved = views.motion_pictures(moving(6, step=0)), views.motion_pictures(moving(6))
    assert all((np.ptp(picture, axis=-1) == 0).all() for picture in still)
    assert all((np.ptp(picture, axis=-1) > 0).any() for picture in moved)


@pytest.mark.parametrize(("count", "made"), [(1, 1), (3, 1), (5, 1), (6, 2), (12, 2)])
def test_any_number_of_moments_makes_composites(count, made):
    assert len(views.motion_pictures(moving(count, step=1))) == made


def test_a_tone_is_one_bright_column_and_silence_is_dark():
    time = np.arange(4 * views.SOUND_RATE) / views.SOUND_RATE
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    heard = views.sound_picture(tone, 80, 4.0)[..., 0]
    peaks = heard.argmax(1)
    assert np.ptp(peaks) <= 1 and heard.max() > 150
    silent = views.sound_picture(None, 80, 4.0)
    assert silent.max() == silent.min()


def test_short_sound_is_followed_by_silence():
    noise = np.random.default_rng(0).normal(size=views.SOUND_RATE).astype(np.float32)
    heard = views.sound_picture(noise, 80, 4.0)[..., 0].astype(float)
    assert heard[:15].mean() > heard[40:].mean() + 50


def test_mel_filters_each_sum_to_one_and_rise_in_pitch():
    bank = views.mel_bank(512, 80, 8000)
    covered = bank.sum(1) > 0
    np.testing.assert_allclose(bank.sum(1)[covered], 1, atol=0.1)
    centres = bank[covered].argmax(1)
    assert (np.diff(centres) >= 0).all()
