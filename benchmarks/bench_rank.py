"""Full ranking: questions a processor second through `evaluate`, against the matrix product alone.

    python benchmarks/bench_rank.py [--questions 2048] [--items 20000] [--dim 64] [--length 50]

The product `[questions, dim] @ [dim, items]` is what any ranking of the whole catalogue by a dot
product must do; `share_of_matmul` says how much of the time evaluation takes is that product.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from harness import report, timed

from reelm import metrics
from reelm.config import Config
from reelm.data.batches import padded
from reelm.data.dataset import Dataset
from reelm.data.split import Questions
from reelm.evaluate import evaluate
from reelm.models.base import Retriever


class Dot(Retriever):
    """The cheapest model that scores by a dot product: a user's vector is their newest item's."""

    Config = Config

    def __init__(self, data: Dataset, dim: int) -> None:
        super().__init__(None, data)
        self.register_buffer("vector", torch.randn(len(data.items), dim))
        self.vector: torch.Tensor

    def batches(self, data: Dataset, size: int, rng: torch.Generator) -> Iterator[Any]:
        return iter(())

    def loss(self, batch: Any) -> dict[str, torch.Tensor]:
        return {}

    def score(self, user: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        return self.vector[history[:, -1]] @ self.vector.T


def made_up(questions: int, items: int, length: int) -> tuple[Dataset, Questions]:
    """One question for each user, with one target; histories of even length, items even."""
    rng = np.random.default_rng(0)
    item = rng.integers(1, items + 1, questions * length).astype(np.int32)
    ends = np.arange(questions + 1) * length
    users = np.arange(questions)
    data = Dataset(
        tuple(f"u{n}" for n in users),
        ("", *(f"v{n}" for n in range(items))),
        ends, item, np.zeros(len(item)), np.ones(len(item), np.float32),
    )  # fmt: skip
    target = rng.integers(1, items + 1, questions).astype(np.int32)
    return data, Questions(users, item, ends[:-1], ends[1:], target, np.arange(questions + 1))


def main() -> None:
    """One line per way."""
    parser = argparse.ArgumentParser()
    for name, value in (("questions", 2048), ("items", 20000), ("dim", 64), ("length", 50)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    torch.manual_seed(0)
    data, questions = made_up(asked.questions, asked.items, asked.length)
    model = Dot(data, asked.dim)
    user = torch.from_numpy(questions.users[:1024])
    some = padded(questions.item, questions.start[:1024], questions.stop[:1024])
    states, table = torch.randn(asked.questions, asked.dim), model.vector

    with torch.inference_mode():
        scores = model.score(user, some).numpy()
        product = timed(lambda: [part @ table.T for part in states.split(256)])
    rows, target = np.arange(len(scores)), questions.target[: len(scores)]
    ranked = timed(lambda: metrics.ranks(scores, rows, target))
    whole = timed(lambda: evaluate(model, questions, ("mixed",), (10, 20)))
    shapes = vars(asked)
    share = product["cpu_s"] / whole["cpu_s"]
    report("rank/matmul", shapes, product, questions_per_cpu_s=asked.questions / product["cpu_s"])
    report("rank/metrics", shapes, ranked, questions_per_cpu_s=len(scores) / ranked["cpu_s"])
    report(
        "rank/evaluate", shapes, whole,
        questions_per_cpu_s=asked.questions / whole["cpu_s"], share_of_matmul=share,
    )  # fmt: skip


if __name__ == "__main__":
    main()
