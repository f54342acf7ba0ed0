"""A training that ends in the middle, as if its process were killed."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reelm import train


class Killed(Exception):
    """Stands for the end of the process."""


@contextmanager
def killed_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The training inside of the block ends after so many steps; it must not end before."""
    step, done = train._add, []

    def fatal(*arguments):
        if len(done) == steps:
            raise Killed
        done.append(1)
        return step(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train, "_add", fatal)
        yield
