"""Repeated padding and its controls on Amazon data: does copying a short history help, and why?

    REELM_DATA=... python benchmarks/paper_reppad.py beauty|sports [--seeds N] [--only ARM ...]

The arms of the control, all with the shape of the authors' code (dim 64, 2 layers, 2 heads, dropout
0.5, length 50, learning rate 1e-3); batches of 64 users instead of 256, so that 25 epochs take as
many steps as 100 of theirs, and items' vectors are normalised on entry, which takes few steps:

    A  base        one drawn item per place
    B  reppad      copies of the history in front of it, their number drawn anew each epoch
    C  isolated    the same copies, which cannot see each other
    D  users       A, each user counts alike in the loss
    E  negatives   A with nine drawn items per place: RepPad draws about as many anew
    F  both        D and E
    G  foreign     B, but what stands in front is another user's history
    H  sampled     softmax against 256 drawn items, no copies
    I  long        A for four times the steps, so that it meets about as many places as B
    R  released    B in the authors' recipe: batches of 256, up to 400 epochs, and attention weights
                   dropped too
    S  undropped   R without dropping attention weights

R and S are not run by default. All but I, R and S take the same number of steps, and all are
stopped early by validation. Beside the metrics, a row says how much of the unmasked top ten the
user has already had (repeat), its recall without masking (open), how popular the ten are, how many
different ones they are, and recall by the length of the history.
"""

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import study
import torch
from study import Arm

from reelm.data.batches import padded
from reelm.data.split import Split
from reelm.models.base import Retriever
from reelm.models.sasrec import SASRecConfig
from reelm.train import TrainConfig

LENGTHS = (5, 7, 12, 49)  # histories up to these, and longer ones
RECIPE = SASRecConfig(
    dim=64, layers=2, heads=2, feedforward=256, dropout=0.5, max_length=50, objective="binary",
    weigh="place",
)  # fmt: skip
TRAIN = TrainConfig(
    epochs=25, batch_size=64, learning_rate=1e-3, weight_decay=0.0, precision="fastest",
    validate_on=10_000, validate_every=5, patience=4,
)  # fmt: skip


def arms() -> list[Arm]:
    """The eight arms, and three with other budgets."""
    changes: dict[str, dict[str, Any]] = {
        "A base": {},
        "B reppad": {"repeat": "random"},
        "C isolated": {"repeat": "isolated"},
        "D users": {"weigh": "user"},
        "E negatives": {"negatives": 9},
        "F both": {"weigh": "user", "negatives": 9},
        "G foreign": {"repeat": "foreign"},
        "H sampled": {"objective": "sampled", "negatives": 256},
    }
    same = [
        Arm(name, "sasrec", RECIPE.model_copy(update=change), TRAIN)
        for name, change in changes.items()
    ]
    copied = RECIPE.model_copy(update=changes["B reppad"])
    long = TRAIN.model_copy(update={"epochs": 100, "validate_every": 10})
    released = TRAIN.model_copy(update={"epochs": 400, "batch_size": 256, "validate_every": 20})
    return [
        *same,
        Arm("I long", "sasrec", RECIPE, long),
        Arm("R released", "sasrec", copied.model_copy(update={"attention_dropout": 0.5}), released),
        Arm("S undropped", "sasrec", copied, released),
    ]


def seen(model: Retriever, data: Split) -> Mapping[str, Any]:
    """What the top ten look like when the history is not left out, and by length of history."""
    test, k = data.test, 10
    model.eval()
    repeats, hits, kept, shown = [], [], [], []
    with torch.inference_mode():
        for rows in np.array_split(np.arange(len(test)), -(-len(test) // 512)):
            part = test.take(rows)
            history = padded(part.item, part.start, part.stop)
            scores = model.score(torch.from_numpy(part.users), history)
            scores[:, 0] = -torch.inf
            target = torch.from_numpy(part.target[part.target_offsets[:-1]].astype(np.int64))
            top = scores.topk(k).indices
            hits.append((top == target[:, None]).any(1))
            repeats.append((top[:, :, None] == history[:, None, :]).any(2).float().mean(1))
            masked = scores.scatter(1, history, -torch.inf).topk(k).indices
            kept.append((masked == target[:, None]).any(1))
            shown.append(masked)
    found, top = torch.cat(kept).float().numpy(), torch.cat(shown)
    length = np.digitize(test.stop - test.start, LENGTHS, right=True)
    return {
        "open_recall@10": float(torch.cat(hits).float().mean()),
        "repeat@10": float(torch.cat(repeats).mean()),
        "popularity@10": float(model.counts[top].float().mean()),
        "coverage@10": int(top.unique().numel()),
        "by_length": [float(found[length == n].mean()) for n in range(len(LENGTHS) + 1)],
    }


def main() -> None:
    """Rows that are missing are made; then the table is printed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", choices=("beauty", "sports"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="letters of the arms to run")
    asked = parser.parse_args()
    table = f"paper_reppad_{asked.data}"
    chosen = [arm for arm in arms() if arm.name[0] in (asked.only or "ABCDEFGHI")]
    study.run(table, study.amazon(asked.data), chosen, range(asked.seeds), seen)
    print(study.show(table))


if __name__ == "__main__":
    main()
