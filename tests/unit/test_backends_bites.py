"""A batch of prompts is padded so that the newest token of each stands at the end."""

import numpy as np
import pytest

import tiny_llava as tiny
from reelm.backends.base import Request
from reelm.backends.blocks.prepare import Inputs
from reelm.media.views import Picture


def request(text: str, side: int, pictures: int = 1) -> Request:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    shown = (Picture("Frame 1", pixels),) * pictures
    return Request("v", (*shown, text))


@pytest.mark.parametrize("side", [tiny.SIDE, 40])
def test_padding_stands_before_the_prompt_in_both_ways_to_prepare_it(side):
    inputs = Inputs(tiny.processor())
    short, long = request("a cat", side), request("a red cat dances on the beach", side)
    alone = inputs([short])["input_ids"][0].tolist()
    both = inputs([short, long])
    row, mask = both["input_ids"][0].tolist(), both["attention_mask"][0].tolist()
    gap = len(row) - len(alone)
    assert gap > 0
    assert row == [inputs.pad] * gap + alone
    assert mask == [0] * gap + [1] * len(alone)
