"""Training SASRec: tokens per processor second of one epoch, against its matrix products alone.

    python benchmarks/bench_sasrec.py [--users 600] [--items 3416] [--dim 64] [--layers 2] ...

Data are drawn with the shape of ML-1M (3416 items, lengths about 165, popularity like 1 / rank);
`users` is a tenth of its 6040. The floor is a training step made of nothing but the matrix
products that the layers and the loss cannot do without, forward and backward, with weights and
batches of the same shapes: no attention, no softmax, no norms, no optimizer.
"""

import argparse

import numpy as np
import torch
from harness import report, timed

from reelm.data.batches import SequenceBatch
from reelm.data.dataset import Dataset
from reelm.models.sasrec import SASRec, SASRecConfig
from reelm.train import TrainConfig, build, train


def made_up(users: int, items: int) -> Dataset:
    """Lengths spread as a log-normal around 96 (mean about 165), items drawn by 1 / rank."""
    rng = np.random.default_rng(0)
    sizes = np.clip(rng.lognormal(4.56, 0.98, users), 18, 1000).astype(np.int64)
    weight = 1 / (np.arange(items) + 20.0)
    item = rng.choice(items, int(sizes.sum()), p=weight / weight.sum()).astype(np.int32) + 1
    ends = np.concatenate([[0], np.cumsum(sizes)])
    return Dataset(
        tuple(f"u{n}" for n in range(users)),
        ("", *(f"v{n}" for n in range(items))),
        ends, item, np.zeros(len(item)), np.ones(len(item), np.float32),
    )  # fmt: skip


def products(model: SASRec, batches: list[SequenceBatch], negatives: int) -> None:
    """Only the matrix products of an epoch, forward and backward."""
    config = model.config
    linear = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    for batch in batches:
        rows = int((batch.history != 0).sum())
        others = torch.randn(negatives, config.dim, requires_grad=True)
        total = torch.zeros(())
        for layer in linear:
            x = torch.randn(batch.history.numel(), layer.in_features, requires_grad=True)
            total = total + (x @ layer.weight.T).sum()
        total = total + (torch.randn(rows, config.dim, requires_grad=True) @ others.T).sum()
        total.backward()


def main() -> None:
    """Two lines: the floor and the epoch."""
    parser = argparse.ArgumentParser()
    defaults = {
        "users": 600,
        "items": 3416,
        "dim": 64,
        "layers": 2,
        "max_length": 200,
        "batch": 128,
    }
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    data = made_up(asked.users, asked.items)
    config = SASRecConfig(dim=asked.dim, layers=asked.layers, max_length=asked.max_length)
    model = build("sasrec", config, data, seed=0)
    batches = list(model.batches(data, asked.batch, torch.Generator().manual_seed(0)))
    tokens = sum(int((batch.next_item != 0).sum()) for batch in batches)
    settings = TrainConfig(epochs=1, batch_size=asked.batch)

    negatives = min(config.negatives, int((data.counts > 0).sum()))
    floor = timed(lambda: products(model, batches, negatives))
    whole = timed(lambda: train(model, data, settings))
    shapes = vars(asked) | {"tokens": tokens, "negatives": negatives}
    report("sasrec/matmul", shapes, floor, tokens_per_cpu_s=tokens / floor["cpu_s"])
    report(
        "sasrec/epoch", shapes, whole,
        tokens_per_cpu_s=tokens / whole["cpu_s"], share_of_matmul=floor["cpu_s"] / whole["cpu_s"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
