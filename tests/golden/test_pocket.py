"""The model that is shipped sees what it should, on clips it never met, read from mp4 files."""

import json
import random

import numpy as np
import pytest

from reelm.backends.base import Answer, Request, show
from reelm.backends.pocket import FOLDER, Pocket
from reelm.media.frames import frames
from reelm.media.sound import sound
from reelm.media.views import SOUND_RATE, pictures
from reelm.prompts.attributes import Attributes
from reelm.prompts.caption import Caption
from reelm.world.clips import sample_clip, sentence
from reelm.world.mp4 import write_mp4
from reelm.world.vocabulary import SEEN_IN

EASY = ("scene", "light", "colour", "word", "instrument", "tempo", "mood")


@pytest.fixture(scope="module")
def pocket():
    return Pocket()


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("films"), random.Random(77)
    clips = [sample_clip(rng) for _ in range(32)]
    made = []
    for number, clip in enumerate(clips):
        path = write_mp4(folder / f"{number}.mp4", clip, width=180, height=320, fps=12)
        made.append((frames(path, 6), sound(path, SOUND_RATE)))
    return clips, made


def ask(pocket, sights, prompt=Attributes):
    question, schema = pocket.phrase(prompt.name), prompt.schema(pocket.vocabulary)
    requests = [
        Request(str(n), show(pictures(pocket.view, *sight), question), schema, prompt.max_tokens)
        for n, sight in enumerate(sights)
    ]
    answers = pocket.answer(requests)
    assert all(isinstance(answer, Answer) for answer in answers)
    return [json.loads(answer.text) for answer in answers]


def right(said, clips, names):
    return np.mean([s[n] == getattr(c, n) for s, c in zip(said, clips, strict=True) for n in names])


def test_it_is_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 15_000_000


@pytest.mark.slow
def test_it_names_what_is_seen_heard_and_moving(pocket, films):
    clips, sights = films
    said = ask(pocket, sights)
    assert right(said, clips, EASY) > 0.95
    assert right(said, clips, ("subject", "effect")) > 0.85
    assert right(said, clips, ("motion", "count")) > 0.75


@pytest.mark.slow
def test_frames_in_reverse_flip_directions(pocket, films):
    flip = {"left": "right", "right": "left", "up": "down", "down": "up"}
    clips, sights = films
    moving = [n for n, clip in enumerate(clips) if clip.motion in flip]
    said = ask(pocket, [(sights[n][0][::-1].copy(), sights[n][1]) for n in moving])
    flipped = [s["motion"] == flip[clips[n].motion] for s, n in zip(said, moving, strict=True)]
    assert np.mean(flipped) > 0.7


@pytest.mark.slow
def test_music_follows_the_sound_and_nothing_else_does(pocket, films):
    clips, sights = films
    donors = [*clips[1:], clips[0]]
    swapped = [(a[0], b[1]) for a, b in zip(sights, [*sights[1:], sights[0]], strict=True)]
    said = ask(pocket, swapped)
    heard = [name for name, where in SEEN_IN.items() if where == "sound"]
    assert right(said, donors, heard) > 0.9
    assert right(said, clips, ("scene", "light", "colour")) > 0.9


@pytest.mark.slow
def test_captions_say_what_the_attributes_say(pocket, films):
    clips, sights = films
    said = [answer["caption"] for answer in ask(pocket, sights[:16], Caption)]
    words = [set(s.split()) for s in said]
    known = [set(sentence(clip).split()) for clip in clips]
    shared = [len(a & b) / len(b) for a, b in zip(words, known, strict=False)]
    assert np.mean(shared) > 0.85
