"""Models in processes of their own, which end, hang and come back."""

import os
import signal
import time
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from reelm.backends.base import Answer, Failure, Maker, Request
from reelm.backends.blocks import replicas
from reelm.backends.blocks.replicas import Replicas
from reelm.backends.fake import Fake, FakeConfig
from reelm.errors import BackendError


class MoodyConfig(FakeConfig):
    log: Path


class Moody(Fake):
    """Ends its process, hangs or raises, as a request's key says."""

    Config: ClassVar[type] = MoodyConfig

    def __init__(self, config):
        super().__init__(config)
        if config.seed == 13:
            raise BackendError("model", "no weights here")
        with config.log.open("a") as file:
            file.write(f"{os.getpid()}\n")

    def answer(self, requests):
        for request in requests:
            if request.key.startswith("die"):
                os.kill(os.getpid(), signal.SIGSEGV)
            if request.key.startswith("hang"):
                time.sleep(60)
            if request.key.startswith("raise"):
                raise RuntimeError("out of registers")
            if (
                request.key.startswith("once")
                and not (mark := self.config.log.with_name("m")).exists()
            ):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().answer(requests)


SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", "y", "z"]}}, "required": ["a"]}


def requests(*keys):
    return [Request(key, (f"about {key}",), SCHEMA) for key in keys]


@pytest.fixture
def made(tmp_path):
    """Makes replicas, and closes them."""
    opened = []

    def make(count=1, answer_s=20.0, **settings):
        config = MoodyConfig(log=tmp_path / "log.txt", **settings)
        opened.append(Replicas(Maker(Moody, config), count, answer_s))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_they_answer_as_the_model_would_here(made):
    keys = [f"v{n}" for n in range(70)]
    here = Fake(FakeConfig())
    apart = made(count=2)
    assert apart.answer(requests(*keys)) == here.answer(requests(*keys))
    choices = [("yes", "no")] * 3
    assert apart.choose(requests(*"abc"), choices) == here.choose(requests(*"abc"), choices)
    assert apart.identity() == here.identity() and apart.view == here.view
    assert apart.answer([]) == []


@pytest.mark.parametrize("count", [1, 2])
def test_threads_are_shared_out_and_never_more_than_were_asked_for(monkeypatch, count):
    had = torch.get_num_threads()
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    try:
        for asked, given in ((1, 1), (16, 8 // count)):
            torch.set_num_threads(asked)
            replicas._loaded(Maker(Fake, FakeConfig()), count)
            assert torch.get_num_threads() == given
    finally:
        torch.set_num_threads(had)


def test_what_a_process_does_not_survive_fails_alone(made, tmp_path):
    said = made().answer(requests("v0", "v1", "die", "v3", "once", "raise", "v6"))
    kinds = [one.kind if isinstance(one, Failure) else "answer" for one in said]
    assert kinds == ["answer", "answer", "crashed", "answer", "answer", "model", "answer"]
    assert "SIGSEGV" in said[2].message and "out of registers" in said[5].message
    assert len((tmp_path / "log.txt").read_text().split()) > 3, "it was made again"


def test_what_hangs_is_ended(made, monkeypatch):
    monkeypatch.setattr(replicas, "BATCH", 2)
    start = time.monotonic()
    said = made(answer_s=1.0).answer(requests("v0", "hang", "v2"))
    assert [type(one) for one in said] == [Answer, Failure, Answer]
    assert said[1].kind == "hung" and not said[1].passing
    assert time.monotonic() - start < 50


def test_a_model_that_cannot_be_loaded_says_why(made):
    with pytest.raises(BackendError, match="no weights here"):
        made(seed=13)
