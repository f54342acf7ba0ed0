import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelm.errors import UnknownName
from reelm.world.clips import Clip, consistent, sample_clip, sentence
from reelm.world.vocabulary import ATTRIBUTES, COLOURS, SEEN_IN

seeds = st.integers(0, 10_000)


@given(seeds)
def test_every_value_is_in_its_vocabulary(seed):
    clip = sample_clip(random.Random(seed))
    assert list(clip.attributes()) == list(ATTRIBUTES) == list(SEEN_IN)
    assert all(value in ATTRIBUTES[name] for name, value in clip.attributes().items())


@given(seeds)
def test_tempo_and_mood_fit_the_instrument(seed):
    clip = sample_clip(random.Random(seed))
    assert (clip.tempo == "none") == (clip.instrument == "none")
    assert (clip.mood == "none") == (clip.instrument in ("none", "drums"))


@given(seeds)
def test_a_consistent_clip_stays_as_it_is(seed):
    clip = sample_clip(random.Random(seed))
    assert consistent(clip, random.Random(1)) == clip


def test_every_value_occurs():
    rng = random.Random(0)
    clips = [sample_clip(rng) for _ in range(600)]
    for name, values in ATTRIBUTES.items():
        assert {getattr(clip, name) for clip in clips} == set(values), name


def test_fixed_values_are_kept_and_music_follows_them():
    clip = sample_clip(random.Random(4), subject="cat", instrument="drums", mood="happy")
    assert (clip.subject, clip.instrument, clip.mood) == ("cat", "drums", "none")
    loud = sample_clip(random.Random(4), instrument="piano", tempo="none", mood="none")
    assert "none" not in (loud.tempo, loud.mood)


def test_an_unknown_attribute_or_value_is_named():
    with pytest.raises(UnknownName, match=r"unknown attribute 'color'.*colour"):
        sample_clip(random.Random(0), color="red")
    with pytest.raises(UnknownName, match="unknown subject 'dog'"):
        sample_clip(random.Random(0), subject="dog")


def test_the_sentence_says_everything():
    clip = Clip(
        "cat", "red", "2", "left", "beach", "sunset", "hearts", "WOW", "piano", "slow", "sad", 1
    )
    assert sentence(clip) == (
        "two red cat moving left in the beach at sunset with hearts, text says WOW, "
        "slow sad piano music."
    )
    quiet = Clip(
        "cat", "red", "1", "spin", "beach", "day", "none", "none", "none", "none", "none", 1
    )
    assert sentence(quiet) == "one red cat spinning in the beach at day, no music."


def test_the_colours_are_those_of_the_vocabulary():
    assert tuple(COLOURS) == ATTRIBUTES["colour"]
