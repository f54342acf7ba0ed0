import dataclasses
import hashlib
import random
import subprocess
import sys

import numpy as np
import pytest

from reelm.world import drawing
from reelm.world.clips import Clip, sample_clip
from reelm.world.vocabulary import ATTRIBUTES, COLOURS

PLAIN = Clip("ball", "red", "1", "still", "space", "day", "none", "none", "none", "none", "none", 7)


def pixels(clip, t=0.4, width=90, height=160):
    return np.asarray(drawing.draw(clip, drawing.layout(clip), t, width, height)).astype(int)


def changed(one, other):
    """Share of pixels that differ clearly."""
    return (np.abs(one - other).max(axis=2) > 24).mean()


@pytest.mark.parametrize("name", ["subject", "colour", "count", "scene", "light", "effect", "word"])
def test_each_value_looks_unlike_the_others(name):
    pictures = [pixels(dataclasses.replace(PLAIN, **{name: v})) for v in ATTRIBUTES[name]]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert changed(one, other) > 0.005


@pytest.mark.parametrize("scene", ATTRIBUTES["scene"])
def test_effects_can_be_seen_in_every_scene(scene):
    bare = pixels(dataclasses.replace(PLAIN, scene=scene))
    for effect in ATTRIBUTES["effect"][1:]:
        clip = dataclasses.replace(PLAIN, scene=scene, effect=effect)
        assert changed(bare, pixels(clip)) > 0.005, effect


def centre(clip, t):
    """Mean column and row of the object's pixels, as shares of the frame."""
    near = np.abs(pixels(clip, t) - np.array(COLOURS[clip.colour])).max(axis=2) < 40
    rows, columns = np.nonzero(near)
    return columns.mean() / near.shape[1], rows.mean() / near.shape[0]


@pytest.mark.parametrize(
    ("motion", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)]
)
def test_directed_motion_goes_there(motion, axis, sign):
    clip = dataclasses.replace(PLAIN, motion=motion)
    start, end = centre(clip, 0.1), centre(clip, 0.9)
    assert sign * (end[axis] - start[axis]) > 0.08
    assert abs(end[1 - axis] - start[1 - axis]) < 0.02


def test_motions_turn_scale_and_stay():
    plan = drawing.layout(PLAIN)
    moments = [i / 24 for i in range(25)]

    def spread(motion, part):
        values = [drawing.pose(plan, motion, 0, t)[part] for t in moments]
        return max(values) - min(values)

    assert all(spread("still", part) == 0 for part in range(4))
    assert spread("spin", 2) > 300
    assert spread("pulse", 3) > 0.5
    assert spread("bounce", 1) > 0.08


def test_one_frame_does_not_tell_the_direction():
    """Left and right pass the same places, mirrored in time."""
    for seed in range(20):
        plan = drawing.layout(dataclasses.replace(PLAIN, seed=seed))
        for one, other in (("left", "right"), ("up", "down")):
            for t in (0.0, 0.3, 1.0):
                forth, back = (drawing.pose(plan, m, 0, s) for m, s in ((one, t), (other, 1 - t)))
                assert forth == pytest.approx(back)


def test_count_objects_are_laid_out():
    for count in ATTRIBUTES["count"]:
        assert len(drawing.layout(dataclasses.replace(PLAIN, count=count)).objects) == int(count)


def test_drawing_leaves_the_kept_pictures_alone():
    clip = dataclasses.replace(PLAIN, effect="confetti", word="WOW", scene="city")
    plan = drawing.layout(clip)
    scenery = drawing.background("city", "day", 90, 160, plan.variant).tobytes()
    first = drawing.draw(clip, plan, 0.5, 90, 160)
    assert drawing.background("city", "day", 90, 160, plan.variant).tobytes() == scenery
    assert drawing.draw(clip, plan, 0.5, 90, 160).tobytes() == first.tobytes()


def test_parts_can_be_put_together_by_hand():
    sheet = drawing.background("forest", "night", 128, 224, 3).copy()
    before = np.asarray(sheet).astype(int)
    drawing.place(sheet, drawing.sprite("cat", "pink", 50), 0.3, 0.4)
    drawing.place(sheet, drawing.word_pill("MOOD", 128, 1), 0.5, 0.8)
    drawing.draw_effect(sheet, "hearts", seed=5, t=0.2)
    assert changed(before, np.asarray(sheet).astype(int)) > 0.1


def test_another_process_draws_the_same():
    program = (
        "import random, hashlib; from reelm.world import drawing, clips\n"
        "rng = random.Random(3); h = hashlib.sha256()\n"
        "for clip in [clips.sample_clip(rng) for _ in range(6)]:\n"
        "    h.update(drawing.draw(clip, drawing.layout(clip), 0.3, 90, 160).tobytes())\n"
        "print(h.hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    rng, ours = random.Random(3), hashlib.sha256()
    for clip in [sample_clip(rng) for _ in range(6)]:
        ours.update(drawing.draw(clip, drawing.layout(clip), 0.3, 90, 160).tobytes())
    assert run.stdout.strip() == ours.hexdigest()


def test_a_contact_sheet_has_all_clips():
    rng = random.Random(0)
    sheet = drawing.contact_sheet([sample_clip(rng) for _ in range(7)], columns=3, width=90)
    assert sheet.size == (270, 480)
