"""Full ranking: questions a processor second through `evaluate`, beside other ways of doing it.

    python benchmarks/bench_rank.py [--questions 1024] [--items 50000] [--dim 64] [--length 50]
    python benchmarks/bench_rank.py --peers faiss --rounds 7

All sides take turns, round after round, on one thread; a line gives the median of its processor
seconds, the quartiles, and the quotient to `evaluate` taken round by round.

- limit: the product `[questions, dim] @ [dim, items]`, in blocks that stay in cache. Any ranking of
  the whole catalogue by a dot product must do it.
- evaluate: histories masked, exact ranks of the targets, metrics of each question; then with the
  lists judged too, and with targets ranked among 100 drawn videos too.
- dense: how RecBole 1.2.1 goes about it, written anew and not called: all scores of a batch as
  one tensor, -inf where the history is, `torch.topk` over all items, and a look-up of the hits in a
  tensor of the same size. Its default of 4096 scores a batch makes that one user at a time for
  catalogues as large as this one; 256 at a time is measured beside it.
- faiss: the flat index, asked for k + history neighbours so that the history could be struck from
  them; the striking and the metrics are not counted. It runs in an environment of its own that is
  made under work/bench-envs by pip, and so only if asked for.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Spent, interleaved, ratio, report
from peers.host import Unavailable, environment

from reelm.config import Config
from reelm.data.batches import padded
from reelm.data.dataset import Dataset
from reelm.data.split import Questions
from reelm.evaluate import Lists, Sampled, evaluate
from reelm.models.base import Retriever
from reelm.models.blocks.dot import dot

KS = (10, 20)
FAISS = "faiss-cpu==1.15.1"


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
        return dot(self.vector[history[:, -1]], self.vector)


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


def product(states: torch.Tensor, table: torch.Tensor, at_once: int = 512) -> None:
    """Every score, each thrown away as soon as it is there."""
    blocks = table.split(1024)
    kept = torch.empty(at_once, len(blocks[0]))
    for part in states.split(at_once):
        for block in blocks:
            torch.mm(part, block.T, out=kept[: len(part), : len(block)])


def dense(model: Dot, questions: Questions, at_once: int) -> list[torch.Tensor]:
    """The hits of each question's list, by tensors as large as all scores of the batch."""
    found = []
    for rows in np.array_split(np.arange(len(questions)), -(-len(questions) // at_once)):
        part = questions.take(rows)
        history = padded(part.item, part.start, part.stop)
        scores = model.vector[history[:, -1]] @ model.vector.T
        scores[:, 0] = -torch.inf
        row = torch.arange(len(rows))[:, None].expand_as(history)
        scores[row.flatten(), history.flatten()] = -torch.inf
        best = torch.topk(scores, max(KS), dim=-1).indices
        wanted = torch.zeros_like(scores, dtype=torch.int)
        wanted[torch.arange(len(rows)), torch.from_numpy(part.target).long()] = 1
        hits = torch.gather(wanted, 1, best)
        found.append(torch.cat([hits, wanted.sum(1, keepdim=True)], 1))
    return found


def faiss(model: Dot, questions: Questions, length: int, scratch: Path) -> Callable[[], Spent]:
    """A search in another process, which says what it took.

    Raises:
        Unavailable: its environment cannot be made.
    """
    python = environment("faiss", (FAISS, "numpy"))
    newest = questions.item[questions.stop - 1]
    table = model.vector.numpy()
    np.savez(scratch / "arrays.npz", queries=table[newest], table=table)
    settings = {"arrays": str(scratch / "arrays.npz"), "k": max(KS) + length}
    script = Path(__file__).parent / "peers" / "search_faiss.py"
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    worker = subprocess.Popen(
        [str(python), str(script), json.dumps(settings)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | one,
    )  # fmt: skip
    assert worker.stdin is not None and worker.stdout is not None
    to, back = worker.stdin, worker.stdout

    def search() -> Spent:
        to.write("\n")
        to.flush()
        return Spent(json.loads(back.readline())["cpu_s"])

    return search


def main() -> None:
    """One line per side."""
    parser = argparse.ArgumentParser()
    sizes = {"questions": 1024, "items": 50000, "dim": 64, "length": 50, "rounds": 5}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peers", choices=("none", "faiss"), default="none")
    asked = parser.parse_args()
    torch.manual_seed(0)
    data, questions = made_up(asked.questions, asked.items, asked.length)
    model = Dot(data, asked.dim).eval()
    states, lists = torch.randn(asked.questions, asked.dim), Lists.of(data)

    def asking(*more: Any) -> Callable[[], Any]:
        return lambda: evaluate(model, questions, ("mixed",), KS, *more)

    calls: dict[str, Callable[[], Any]] = {
        "evaluate": asking(),
        "limit": lambda: product(states, model.vector),
        "evaluate with lists": asking(lists),
        "evaluate with sampled": asking(None, Sampled(100)),
        "dense, 1 at a time": lambda: dense(model, questions, 1),
        "dense, 256 at a time": lambda: dense(model, questions, 256),
    }
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        if asked.peers == "faiss":
            try:
                calls["faiss k + history"] = faiss(model, questions, asked.length, Path(scratch))
            except Unavailable as why:
                print(f"faiss is left out: {why}", file=sys.stderr)
        found = interleaved(calls, asked.rounds)
    for name, spans in found.items():
        speed = asked.questions / spans["cpu_s"]
        times = ratio(found, name, "evaluate")
        report(
            f"rank/{name}", vars(asked), {k: v for k, v in spans.items() if k != "rounds"},
            questions_per_cpu_s=speed, evaluate_is_faster=times["ratio"],
            evaluate_is_faster_spread=times["ratio_spread"],
        )  # fmt: skip


if __name__ == "__main__":
    main()
