"""The study of titles and the lessons of the taught ranker: noise that is a permutation, answers
that follow from what is told, tokens that titles and notes share."""

import random
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import taught_ranker  # pyright: ignore[reportMissingImports]
import titles_study  # pyright: ignore[reportMissingImports]

from reelm.backends.transformers import load_reader
from reelm.rerank import Lists

TITLES = [f"title {number}" for number in range(200)]
VIDEOS = pl.DataFrame({"video_id": [str(n) for n in range(200)], "title": [""] * 200})


def test_half_of_the_titles_change_places_and_none_is_lost():
    assert titles_study.titled(VIDEOS, TITLES, 0.0, 1)["title"].to_list() == TITLES
    noisy = titles_study.titled(VIDEOS, TITLES, 0.5, 1)["title"].to_list()
    changed = sum(one != other for one, other in zip(noisy, TITLES, strict=True))
    assert 70 < changed < 130 and sorted(noisy) == sorted(TITLES)
    assert noisy == titles_study.titled(VIDEOS, TITLES, 0.5, 1)["title"].to_list()


def test_a_placebo_keeps_titles_and_deals_out_notes():
    answers = {str(n): {"subject": f"thing {n}"} for n in range(200)}
    found = titles_study.arms(VIDEOS, TITLES, answers, 0)
    assert found["clean: both"]["7"] == "title: title 7; subject: thing 7"
    dealt = found["clean: both, permuted"]
    assert dealt["7"].startswith("title: title 7; ") and dealt != found["clean: both"]
    assert {text.partition("; ")[2] for text in dealt.values()} == set(found["notes"].values())


def told(line, form):
    """The words of a title, or the fields of a note, of a line about a video."""
    text = line[2:].strip()
    empty = {"title", *taught_ranker.DROPPED.split("|")}
    return set(re.findall(r"\w+", text) if form == "titles" else text.split("; ")) - empty


@pytest.mark.parametrize(
    "stage",
    (*taught_ranker.FIRST, *taught_ranker.THEN["letters"], *taught_ranker.THEN["yes"]),
    ids=lambda stage: stage.name,
)
@pytest.mark.parametrize("form", ["titles", "notes"])
def test_answers_follow_from_what_was_watched(stage, form):
    """Whoever counts what comes often answers most lessons of clear tastes."""
    rng, right = random.Random(0), []
    for _ in range(30):
        turns = taught_ranker.clear(stage, form, rng)["messages"]
        lines = turns[0]["content"].splitlines()
        watched = [told(line, form) for line in lines if line.startswith("- ")]
        often = Counter(word for one in watched for word in one)
        for asked, said in zip(turns[::2], turns[1::2], strict=True):
            shown = {x[0]: told(x, form) for x in asked["content"].splitlines() if x[1:3] == ") "}
            worth = {name: sum(often[w] ** 3 for w in words) for name, words in shown.items()}
            if stage.ask == "letters":
                right.append(max(worth, key=worth.__getitem__) == said["content"])
            else:
                (liked,) = (v >= (0.6 * stage.watched) ** 3 for v in worth.values())
                right.append(liked == (said["content"] == "Yes"))
    assert np.mean(right) > 0.6


def test_a_value_is_the_same_token_in_a_title_and_in_a_note(tmp_path):
    words = load_reader(str(taught_ranker.build(tmp_path)))
    title, note = words.tokenize("title: red cat, no music."), words.tokenize("colour: red")
    assert title == ["title", "red", "cat", "no"] and note == ["red"]
    assert words.tokenize("subject: cat; colour: red") == ["subject", "cat", "red"]
    assert words.unk_token_id not in words("- title: cat\nA)")["input_ids"]


def test_targets_are_put_in_one_place_and_no_video_is_lost():
    items = np.array([[1, 2, 3], [4, 5, 6]])
    lists = Lists(np.arange(2), torch.zeros(2, 1, dtype=torch.long), items, np.array([2, 0]))
    for place in (0, 2):
        found = taught_ranker.put(lists, place)
        assert found.items[:, place].tolist() == [3, 4] and found.target.tolist() == [place] * 2
        assert np.array_equal(np.sort(found.items, 1), np.sort(items, 1))
