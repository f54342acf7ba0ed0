import numpy as np
import pytest

from reelm.world import people, titles
from reelm.world.vocabulary import ATTRIBUTES


@pytest.fixture(scope="module")
def uploads():
    return titles.make_uploads(200, seed=1)


@pytest.fixture(scope="module")
def world(uploads):
    return people.simulate(uploads, 60, seed=1)


def test_the_same_seed_gives_the_same_log(uploads, world):
    again, _ = people.simulate(uploads, 60, seed=1)
    other, _ = people.simulate(uploads, 60, seed=2)
    assert np.array_equal(world[0].video, again.video)
    assert not np.array_equal(world[0].video[:50], other.video[:50])


def test_the_log_is_possible(uploads, world):
    watches, _ = world
    uploaded = np.array([upload.day for upload in uploads])
    assert (np.diff(watches.day) >= 0).all()
    assert (watches.day > uploaded[watches.video]).all()
    assert watches.portion.min() >= 0.02 and watches.portion.max() <= 1
    pairs = list(zip(watches.user.tolist(), watches.video.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)  # nobody sees a video twice


def test_people_watch_longer_what_they_like(uploads, world):
    watches, tastes = world
    attributes = people.attribute_matrix([upload.clip for upload in uploads])
    liked = (tastes.on(15.0) @ attributes.T)[watches.user, watches.video]
    by_user = [
        np.corrcoef(liked[watches.user == u], watches.portion[watches.user == u])[0, 1]
        for u in range(60)
    ]
    assert np.mean(by_user) > 0.4


def test_attribute_rows_are_one_hot(uploads):
    matrix = people.attribute_matrix([upload.clip for upload in uploads])
    assert matrix.shape == (200, sum(len(ATTRIBUTES[name]) for name in people.WEIGHT))
    assert (matrix.sum(axis=1) == len(people.WEIGHT)).all()


def test_a_log_worked_out_before(uploads, world):
    """Guards the fixed constants: this is the log they gave when they were set."""
    watches, _ = world
    assert len(watches.user) == 3162
    assert watches.user[:5].tolist() == [48] * 5
    assert watches.video[:5].tolist() == [0, 10, 19, 13, 4]
    assert watches.video[-3:].tolist() == [179, 137, 154]
    assert watches.portion.sum() == pytest.approx(2250.2544716)


def test_creators_repeat_themselves(uploads):
    by_creator = {}
    for upload in uploads:
        by_creator.setdefault(upload.creator, []).append(upload.clip.subject)
    large = [subjects for subjects in by_creator.values() if len(subjects) >= 8]
    top = np.mean([max(map(s.count, s)) / len(s) for s in large])
    assert len(large) > 5 and top > 0.4


def test_titles_and_tags(uploads):
    empty = np.mean([upload.title in titles._EMPTY_TITLES for upload in uploads])
    assert 0.25 < empty < 0.45
    assert all(tag.startswith("#") for upload in uploads for tag in upload.hashtags)
    assert uploads[0].day == -4 and all("{" not in upload.title for upload in uploads)


def test_a_tiny_world_has_a_creator_and_a_log():
    uploads = titles.make_uploads(3, seed=0)
    watches, tastes = people.simulate(uploads, 2, seed=0)
    assert {upload.creator for upload in uploads} == {0}
    assert len(watches.user) == 0 and tastes.start.shape[0] == 2  # too few videos for a session
