"""ReeLM's own training loop behind the gate; asked for the limit, only its matrix products."""

from collections.abc import Iterator

import numpy as np
import torch
from gate import Gate
from torch import Tensor

from reelm.data.batches import SequenceBatch
from reelm.data.dataset import Dataset
from reelm.losses import TILE
from reelm.models.sasrec import SASRec, SASRecConfig
from reelm.train import TrainConfig, build, train

BLOCK = 64  # queries whose products with their keys are taken together: few keys of the future


def dataset(path: str) -> Dataset:
    """The packed interactions that the host wrote."""
    with np.load(path) as file:
        offsets, item, items = file["offsets"], file["item"], int(file["items"])
    users = tuple(f"u{row}" for row in range(len(offsets) - 1))
    names = ("", *(f"v{row}" for row in range(1, items + 1)))
    return Dataset(
        users, names, offsets, item.astype(np.int32), np.zeros(len(item)),
        np.ones(len(item), np.float32),
    )  # fmt: skip


def targets(batch: SequenceBatch) -> int:
    """Places that predict something."""
    return int((batch.next_item != 0).sum())


def learn(gate: Gate, model: SASRec, data: Dataset) -> None:
    """Train for ever; the gate ends it."""

    def loss(batch: SequenceBatch) -> dict[str, Tensor]:
        gate.step(targets(batch))
        return model.loss(batch)

    settings = {"epochs": 10**9, "batch_size": gate.settings["batch"]}
    if gate.settings["precision"] != "float32":
        settings["precision"] = gate.settings["precision"]
    train(model, data, TrainConfig(**settings), loss=loss)


def multiply(gate: Gate, model: SASRec, data: Dataset) -> None:
    """The same batches, with nothing done but matrix products, forward and backward."""
    work = Products(model, gate.settings)
    for batch in endless(model, data, gate.settings["batch"]):
        real = targets(batch)
        gate.step(real)
        work.layers(real)
        work.attention(*batch.history.shape)
        work.compare(real)


def endless(model: SASRec, data: Dataset, size: int) -> Iterator[SequenceBatch]:
    """Epoch after epoch."""
    rng = torch.Generator().manual_seed(0)
    while True:
        yield from model.batches(data, size, rng)


class Products:
    """Products of a step's shapes with numbers drawn once: neither they nor their order matter."""

    def __init__(self, model: SASRec, settings: dict) -> None:
        self.dim, self.heads, self.layer_count = (
            settings[key] for key in ("dim", "heads", "layers")
        )
        linear = [layer for layer in model.blocks.modules() if isinstance(layer, torch.nn.Linear)]
        self.type = getattr(torch, settings["precision"])
        self.weights = [layer.weight.detach().to(self.type) for layer in linear]
        widest = max(max(weight.shape) for weight in self.weights)
        longest = settings["batch"] * settings["length"]
        self.drawn = torch.randn(longest * widest, dtype=self.type)
        seen = int(model.seen.sum())
        others = {"softmax": seen, "sampled": min(settings["negatives"], seen), "binary": 0}
        self.others = others[settings["objective"]]

    def layers(self, rows: int) -> None:
        """Every linear layer on the real places only."""
        for weight in self.weights:
            wide, narrow = weight.shape
            thrice(self.draw(rows, narrow), weight.mT, self.draw(rows, wide))

    def attention(self, batch: int, length: int) -> None:
        """Queries with keys and shares with values, as far as the past goes, in blocks."""
        lists, width = batch * self.heads, self.dim // self.heads
        for _ in range(self.layer_count):
            for at in range(0, length, BLOCK):
                end = min(at + BLOCK, length)
                query, key = self.draw(lists, end - at, width), self.draw(lists, end, width)
                shares = self.draw(lists, end - at, end)
                thrice(query, key.mT, shares)
                thrice(shares, key, query)

    def compare(self, rows: int) -> None:
        """States with the items they are set against, in the tiles that the loss works in."""
        if not self.others:
            return
        items = self.draw(self.others, self.dim)
        for at in range(0, rows, TILE):
            tile = min(TILE, rows - at)
            thrice(self.draw(tile, self.dim), items.mT, self.draw(tile, self.others))

    def draw(self, *shape: int) -> Tensor:
        """Some of the numbers in this shape; drawn once more if they do not suffice."""
        need = int(np.prod(shape))
        if need > len(self.drawn):
            self.drawn = torch.randn(need, dtype=self.type)
        return self.drawn[:need].view(shape)


def thrice(left: Tensor, right: Tensor, slope: Tensor) -> None:
    """A product and both of its gradients."""
    _ = left @ right, slope @ right.mT, left.mT @ slope


def main() -> None:
    """Set up, then learn or multiply until the host has had enough."""
    gate = Gate()
    asked = gate.settings
    data = dataset(asked["data"])
    same = ("dim", "layers", "heads", "feedforward", "dropout", "objective", "window")
    negatives = {} if asked["objective"] == "binary" else {"negatives": asked["negatives"]}
    config = SASRecConfig(
        max_length=asked["length"], **{key: asked[key] for key in same}, **negatives
    )
    model = build("sasrec", config, data, seed=0)
    (multiply if asked["limit"] else learn)(gate, model, data)


if __name__ == "__main__":
    main()
