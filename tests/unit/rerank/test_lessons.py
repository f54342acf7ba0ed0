"""Lists as lessons: what a model learns from is what it will be asked, and nothing held out."""

import json

import numpy as np
import pytest

import tiny_reader
from circle import circle_events
from reelm.backends.base import Request
from reelm.backends.transformers import Transformers, TransformersConfig
from reelm.data.dataset import Dataset
from reelm.data.split import leave_last_two
from reelm.lessons import write
from reelm.rerank import RerankConfig, drawn, lessons
from reelm.rerank.lists import request, within
from reelm.tallies import Tallies
from reelm.tune import conversations, lora
from reelm.tune.adapters import LoraConfig

SMALL = RerankConfig(candidates=4, watched=2, questions=20)


@pytest.fixture(scope="module")
def split():
    return leave_last_two(Dataset.build(circle_events()))


@pytest.fixture(scope="module")
def told(split):
    return {
        video: f"taste: {'even' if row % 2 else 'odd'}; name: {video}"
        for row, video in enumerate(split.train.items)
        if row
    }


def test_a_lesson_is_the_question_that_will_be_asked_and_its_answer(split, told):
    train = split.train
    found = lessons(train, told, SMALL)
    lists = drawn(within(train, 2), train.items, told, SMALL, salt=2)
    assert len(found) == len(lists) == 20
    for row, one in enumerate(found):
        asked = request(lists, row, np.arange(4), train.items, told, SMALL)
        user, assistant = one["messages"]
        assert (user["content"],) == asked.parts and assistant["content"] in "ABCD"
        right = train.items[lists.items[row, "ABCD".index(assistant["content"])]]
        assert right in {train.items[n] for n in train.history(train.row(one["user_id"]))}


def test_nothing_that_was_held_out_is_in_the_lessons(split, told):
    """A user's held-out videos may be drawn as others, as of any video he has not watched yet."""
    for one in lessons(split.train, told, SMALL):
        history = {
            split.train.items[n] for n in split.train.history(split.train.row(one["user_id"]))
        }
        shown, _, rest = one["messages"][0]["content"].partition("\n\n")
        watched = {line.rpartition(" ")[2] for line in shown.splitlines()}
        line = next(x for x in rest.splitlines() if x[0] == one["messages"][1]["content"])
        assert watched <= history and line.rpartition(" ")[2] in history - watched


def test_shown_alone_there_are_as_many_noes_as_yeses(split, told):
    found = lessons(split.train, told, SMALL.model_copy(update={"ask": "yes"}))
    said = [one["messages"][1]["content"] for one in found]
    assert said == ["Yes", "No"] * 20
    said = Tallies().choose(
        [Request(str(n), (one["messages"][0]["content"],)) for n, one in enumerate(found)],
        [("Yes", "No")] * 40,
    )
    yes = np.array([one.logs[0] for one in said])
    assert yes[::2].mean() > yes[1::2].mean()


def test_a_model_tuned_on_lessons_answers_them(split, told, tmp_path):
    pytest.importorskip("peft")
    path, folder = tmp_path / "lists.jsonl", tiny_reader.save(tmp_path / "reader")
    found = lessons(split.train, told, SMALL.model_copy(update={"questions": 4}))
    write(path, found)
    assert not conversations.read(path)[1]
    learn = LoraConfig(
        epochs=40, batch_size=4, learning_rate=3e-2, rank=16, held_out=0, device="cpu"
    )
    tuned = lora.tune(path, str(folder), learn, tmp_path)

    def right(**adapter):
        model = Transformers(TransformersConfig(model=str(folder), device="cpu", **adapter))
        asked = [Request("", (one["messages"][0]["content"],), None, 1) for one in found]
        logs = np.array([one.logs for one in model.choose(asked, [list("ABCD")] * 4)])
        answers = ["ABCD".index(one["messages"][1]["content"]) for one in found]
        return float(logs[np.arange(4), answers].mean())

    assert right(adapter=str(tuned / "adapter")) > right() + 0.5
    assert json.loads((tuned / "metrics.jsonl").read_text().splitlines()[-1])["loss"] < 2
