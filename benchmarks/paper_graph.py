"""Models of who chose what, with and without content, on TikTok: does content add anything?

    REELM_DATA=... python benchmarks/paper_graph.py [--seeds N] [--only ARM ...]

The split is the source's own; training reads its training part alone, and weights are chosen by
recall@20 on all of its validation questions. The test is opened once per arm and seed. `shuffled`
deals the feature rows out to other videos: same spectrum, no meaning. A row has recall and NDCG at
20 over all videos, over warm and over cold ones, and recall of the users with few and with many
interactions. Models that are complete when built have one row; the others one per seed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import study
import torch
from study import Arm

from reelm.data.split import Split
from reelm.evaluate import evaluate
from reelm.models import find
from reelm.models.base import Retriever
from reelm.train import TrainConfig

TABLE = "paper_graph_tiktok"
FEATURES = {"features": ("image", "audio")}
SOFT = {"objective": "softmax", "temperature": 0.2, "decay": 0.0}
SMOOTH = SOFT | {"layers": 2}
GENTLE = FEATURES | SMOOTH | {"content": 0.1, "refine": 0.1}  # .55 and .36: .078 on validation
TRAIN = TrainConfig(
    epochs=60, batch_size=4096, learning_rate=3e-3, weight_decay=0.0, clip=1e9,
    validate_on=100_000, validate_every=4, patience=4, measure="mixed/recall@20",
)  # fmt: skip
HEAVY = 4  # interactions beyond which a user is one of the 103 heavy ones: nobody has 5 to 322
FIXED = ("popularity", "ease", "item_knn")


def arms() -> list[Arm]:
    """The lines of the table: name, model and what differs from its defaults."""
    lines: list[tuple[str, str, dict[str, Any]]] = [
        ("popularity", "popularity", {}),
        ("item_knn", "item_knn", {}),
        ("ease", "ease", {"ridge": 35.0}),
        ("mf", "mf", {}),
        ("mf, softmax", "mf", SOFT),
        ("lightgcn", "lightgcn", {}),
        ("lightgcn, softmax", "lightgcn", SMOOTH),
        ("vbpr", "vbpr", FEATURES),
        ("freedom", "freedom", FEATURES),
        ("freedom, softmax", "freedom", FEATURES | SMOOTH),
        ("mmssl", "mmssl", FEATURES),
        ("mmssl, softmax", "mmssl", GENTLE),
        ("mmssl, softmax, empty graph", "mmssl", GENTLE | {"graph_items": 0}),
        ("mmssl, softmax, no critic", "mmssl", GENTLE | {"critic": 0.0}),
        ("mmssl, softmax, no contrast", "mmssl", GENTLE | {"contrast": 0.0}),
        ("mmssl, softmax, shuffled", "mmssl", GENTLE),
    ]
    return [Arm(name, model, find(model).Config(**change), TRAIN) for name, model, change in lines]


def parts(model: Retriever, data: Split) -> Mapping[str, Any]:
    """What the mean over all questions hides."""
    report = evaluate(model, data.test, ("mixed", "warm", "cold"), (20,))
    table = report.per_user
    size = np.diff(data.train.offsets)
    mixed = table.filter(table["pool"] == "mixed")
    heavy = size[mixed["user"].to_numpy()] > HEAVY
    recall = mixed["recall@20"].to_numpy()
    return {
        "warm": report["warm/recall@20"],
        "cold": report["cold/recall@20"],
        "cold_in_mixed": _cold_in_mixed(report),
        "light": float(recall[~heavy].mean()),
        "heavy": float(recall[heavy].mean()) if heavy.any() else None,
        "heavy_questions": int(heavy.sum()),
    }


def _cold_in_mixed(report: Any) -> float | None:
    """Recall@20 of questions whose target training never saw, among all videos."""
    for part in report.slices["mixed"]["seen"]:
        if part["part"] == "cold":
            return part["metrics"]["recall@20"]
    return None


def shuffled(data: Split) -> Split:
    """The same split with feature rows dealt out to other videos."""
    from dataclasses import replace

    size = len(data.train.items)
    order = torch.randperm(size - 1, generator=torch.Generator().manual_seed(17)) + 1
    order = torch.cat([torch.zeros(1, dtype=torch.long), order])
    train = replace(
        data.train,
        features={name: table[order] for name, table in data.train.features.items()},
        has_feature={name: has[order.numpy()] for name, has in data.train.has_feature.items()},
    )
    return replace(data, train=train)


def main() -> None:
    """Rows that are missing are made; then the table is printed."""
    asked = study.asked()
    data = study.tiktok()
    chosen = study.wanted(arms(), asked.only)
    for seed in range(asked.seeds):
        for arm in chosen:
            if seed and arm.model in FIXED:
                continue
            split = shuffled(data) if arm.name.endswith("shuffled") else data
            study.run(TABLE, split, [arm], [seed], parts)
    print(study.show(TABLE, ("recall@20", "ndcg@20")))


if __name__ == "__main__":
    main()
