import numpy as np
import polars as pl
import pytest
import torch

from reelm.config import Config
from reelm.data.dataset import Dataset
from reelm.data.split import Questions
from reelm.models.base import Retriever


class Table(Retriever):
    """Says what a table holds for each user row."""

    Config = Config
    uses_user = True

    def __init__(self, scores, data):
        super().__init__(None, data)
        self.register_buffer("scores", torch.from_numpy(np.asarray(scores, np.float32)))

    def batches(self, data, size, rng):
        return iter(())

    def loss(self, batch):
        return {}

    def score(self, user, history):
        return self.scores[user]


class Asked:
    """Random interactions, questions with one target or several, and scores with ties."""

    def __init__(self, seed=0, users=40, items=30, most=4):
        rng = np.random.default_rng(seed)
        videos = [f"v{n:02}" for n in range(items)]
        drawn = [rng.choice(items - 5, rng.integers(1, 9), replace=False) for _ in range(users)]
        rows = [(f"u{u}", videos[v]) for u, chosen in enumerate(drawn) for v in chosen]
        table = pl.DataFrame(rows, schema=["user_id", "video_id"], orient="row")
        self.data = Dataset.build(table, videos=videos)
        sizes, every = rng.integers(1, most + 1, users), np.arange(1, items + 1)
        target = np.concatenate([
            rng.choice(np.setdiff1d(every, self.data.history(u)), n, replace=False)
            for u, n in enumerate(sizes)
        ])  # fmt: skip
        self.questions = Questions(
            np.arange(users), self.data.item, self.data.offsets[:-1], self.data.offsets[1:],
            target.astype(np.int32), np.concatenate([[0], np.cumsum(sizes)]),
        )  # fmt: skip
        scores = rng.integers(0, 8, (users, items + 1)) / 4  # many ties
        scores[:, 0] = 99.0
        self.model = Table(scores, self.data)


@pytest.fixture
def asked():
    return Asked


@pytest.fixture
def table():
    return Table
