"""One watching for several questions, batches of like length: answers stay what they were."""

from dataclasses import replace

import pytest
import torch

from reelm.backends.base import Answer, Request, show
from reelm.backends.blocks import together
from reelm.backends.pocket import Pocket
from reelm.backends.transformers import Transformers, TransformersConfig
from reelm.media.views import Picture
from reelm.prompts.base import closed
from tiny_llava import FACTS, ask, pixels


def questions(videos: int) -> list[Request]:
    """Three questions about each video; each has pictures of its own that are equal."""
    asked = []
    for n in range(videos):
        for words, schema in ((1, FACTS), (5, None), (3, closed({"colour": {"enum": ["red"]}}))):
            asked.append(ask(n, schema, words=words, max_tokens=20))
    return asked


def pixels_seen(backend, requests) -> tuple[list, int]:
    """The answers, and how many pictures went through the vision tower."""
    seen = 0
    forward = backend.model.forward

    def counting(*args, **given):
        nonlocal seen
        shown = given.get("pixel_values")
        seen += 0 if shown is None else len(shown)
        return forward(*args, **given)

    backend.model.forward = counting
    try:
        return backend.answer(requests), seen
    finally:
        del backend.model.forward


def test_pictures_are_watched_once_and_answers_stay_the_same(folder):
    asked = questions(4)
    said = {}
    for share in (True, False):
        backend = Transformers(TransformersConfig(model=str(folder), share=share))
        said[share], seen = pixels_seen(backend, asked)
        assert seen == (8 if share else 24)
    for one, other in zip(said[True], said[False], strict=True):
        assert replace(one, seconds=0.0) == replace(other, seconds=0.0)


def test_pocket_says_the_same_letter_by_letter():
    pocket = Pocket()
    assert pocket.vocabulary is not None and pocket.view.square is not None
    kinds = {k: {"type": "string", "enum": list(v)} for k, v in pocket.vocabulary.items()}
    asked = []
    for n in range(3):
        shown = [Picture(f"Frame {k + 1}", pixels(9 * n + k, pocket.view.square)) for k in range(4)]
        asked += [
            Request(f"v{n}", show(shown, "What is seen?"), closed(kinds)),
            Request(f"v{n}", show(shown, "Say in a sentence what happens here."), None, 16),
        ]
    shared = pocket.answer(asked)
    alone = [pocket.answer([request])[0] for request in asked]
    assert all(isinstance(one, Answer) for one in shared)
    assert [a.text for a in shared] == [a.text for a in alone]
    assert [a.tokens_in for a in shared] == [a.tokens_in for a in alone]


def test_choices_share_a_watching_too(folder):
    asked = questions(2)
    choices = [["red", "blue fish"]] * len(asked)
    scores = [
        Transformers(TransformersConfig(model=str(folder), share=share)).choose(asked, choices)
        for share in (True, False)
    ]
    torch.testing.assert_close(*(torch.tensor([one.logs for one in some]) for some in scores))


def test_a_model_that_counts_places_itself_reads_each_prompt_whole(folder):
    backend = Transformers(TransformersConfig(model=str(folder)))
    backend._shares = False
    _, seen = pixels_seen(backend, questions(1))
    assert seen == 6


def test_equal_pixels_are_one_sight_and_others_are_not():
    asked = [ask(1, words=1), ask(2), ask(1, words=2), ask(1, pictures=1)]
    assert together.sights(asked) == [[0, 2], [1], [3]]
    spoken = Request("v", ("hello",))
    assert together.sights([spoken, spoken]) == [[0], [1]]


@pytest.mark.parametrize("rows,tokens", [(4, 100), (2, 1000), (3, 1)])
def test_batches_keep_to_their_bounds_and_lose_nobody(rows, tokens):
    lengths = [30, 10, 90, 10, 20, 30, 5, 500]
    groups = [[0, 5], [1, 3, 4, 6], [2], [7]]
    made = together.batches(groups, lengths, rows, tokens)
    assert sorted(n for batch in made for n in batch) == list(range(8))
    for batch in made:
        assert len(batch) <= rows
        assert len(batch) == 1 or len(batch) * max(lengths[n] for n in batch) <= tokens


def test_each_row_keeps_a_token_of_its_own():
    assert together.common([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert together.common([[1, 2], [1, 2, 3]]) == 1
    assert together.common([[7]]) == 0


def test_small_batches_by_tokens_change_no_answer_and_no_order(folder, backend):
    asked = [ask(n, FACTS, pictures=1 + n % 3, words=1 + 4 * (n % 2)) for n in range(6)]
    small = Transformers(TransformersConfig(model=str(folder), batch_tokens=200))
    assert [a.text for a in small.answer(asked)] == [a.text for a in backend.answer(asked)]
