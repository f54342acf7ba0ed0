"""Lists of training with the right answer, for a language model that is tuned to order such lists.

Departures from Rec-GPT4V, which trains nothing: a small model that nobody taught to rank can be
taught by `reelm tune --on`, from the very questions that it will be asked.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from reelm.data.dataset import Dataset
from reelm.data.preferences import LETTERS
from reelm.rerank.lists import Lists, RerankConfig, drawn, request, within
from reelm.tallies import YES_NO


def lessons(train: Dataset, told: Mapping[str, str], config: RerankConfig) -> list[dict[str, Any]]:
    """Lines for `reelm tune --on`, of `config.questions` lists; nothing held out is read.

    Each list is a place of somebody's training history with `config.watched` videos before it. Of
    letters a list is one line, whose answer is the letter; shown alone it is two, the video that
    was watched next and another one.

    Args:
        told: what is told of each video, by its id; see `lines`.

    Raises:
        BadData: no history is long enough, or too few videos are told of.
    """
    lists = drawn(within(train, config.watched), train.items, told, config, salt=2)
    found = []
    for row in range(len(lists)):
        for order, answer in _shown(lists, row, config):
            asked = request(lists, row, order, train.items, told, config).parts
            messages = [
                {"role": "user", "content": "".join(map(str, asked))},
                {"role": "assistant", "content": answer},
            ]
            found.append({"messages": messages, "user_id": train.users[lists.user[row]]})
    return found


def _shown(lists: Lists, row: int, config: RerankConfig) -> list[tuple[np.ndarray, str]]:
    """Places that are shown, in order, and the right answer."""
    target = int(lists.target[row])
    if config.ask == "letters":
        return [(np.arange(config.candidates), LETTERS[target])]
    other = (target + 1) % config.candidates  # lists are in random order
    return [(np.array([target]), YES_NO[0]), (np.array([other]), YES_NO[1])]
