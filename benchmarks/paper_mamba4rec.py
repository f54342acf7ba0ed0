"""Mamba4Rec beside SASRec with the same loss, in the same harness.

    REELM_DATA=... python benchmarks/paper_mamba4rec.py ml1m|beauty [--seeds N] [--only ARM ...]

Leave-one-out, the whole catalogue ranked, softmax over all items; every arm sees the same pieces
of histories. `blanket` starts the steps of the scan as the authors' code does. The softmax arm of
SASRec is in paper_sasrec.py with the same seeds and settings, and is read from its table.
"""

from typing import Any

import paper_sasrec
import study
from study import Arm

from reelm.models.mamba4rec import Mamba4RecConfig


def arms(data: str) -> list[Arm]:
    """One layer as in the paper, two, and the authors' start."""
    settings = Mamba4RecConfig(
        dim=64, max_length=200 if data == "ml1m" else 50, dropout=0.2 if data == "ml1m" else 0.4,
        objective="softmax", window="all",
    )  # fmt: skip
    beside = next(arm for arm in paper_sasrec.arms(data) if arm.name == "softmax")
    changes: dict[str, dict[str, Any]] = {
        "mamba4rec": {},
        "mamba4rec, two layers": {"layers": 2},
        "mamba4rec, blanket start": {"dt_start": "blanket"},
    }
    return [
        Arm(name, "mamba4rec", settings.model_copy(update=change), beside.train)
        for name, change in changes.items()
    ]


def main() -> None:
    """Rows that are missing are made; then the table is printed."""
    asked = study.asked("ml1m", "beauty")
    table = f"paper_mamba4rec_{asked.data}"
    data = study.ml1m() if asked.data == "ml1m" else study.amazon(asked.data)
    chosen = study.wanted(arms(asked.data), asked.only)
    study.run(table, data, chosen, range(asked.seeds))
    print(study.show(table))


if __name__ == "__main__":
    main()
