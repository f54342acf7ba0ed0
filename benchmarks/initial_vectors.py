"""Does it matter what SASRec's item vectors are at the start?

    REELM_DATA=... python benchmarks/initial_vectors.py ml1m|beauty [--seeds N] [--only ARM ...]

The same model, data, order of batches and budget; only the item table differs at the start:

    normal            independent, deviation 0.02, as everywhere else
    xavier            uniform in ± sqrt(6 / (items + dim))
    large             as normal, deviation 1
    content           main axes of the item's content, scaled to the same deviation as normal
    content shuffled  the same rows dealt out to other items: same spectrum, no meaning
    random frozen     normal, never trained, deviation 1 / sqrt(dim)
    content frozen    content, never trained, deviation 1 / sqrt(dim)
    projected         content through a trained projector, plus learned vectors that begin at zero

Content is the title and genres through the text encoder (ml1m), or the item's attributes (beauty).
A row has the validation curve, recall by how often training saw the target, and read-outs of the
trained model: how alike the table is to what it was (linear CKA; share of ten nearest neighbours
kept), how much of the final state the newest item's vector explains (R² of a linear fit), and
NDCG@10 with all but the newest item of the history in random order.
"""

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import study
import torch
from torch import Tensor

from reelm.data.batches import padded
from reelm.data.dataset import Dataset
from reelm.data.split import Questions, Split, SplitConfig, split
from reelm.data.tables import Features
from reelm.evaluate import evaluate
from reelm.models.blocks.items import START
from reelm.models.sasrec import SASRec, SASRecConfig
from reelm.train import TrainConfig, build, train

ARMS = (
    "normal", "xavier", "large", "content", "content shuffled", "random frozen", "content frozen",
    "projected",
)  # fmt: skip
BUCKETS = (0, 5, 20, 100)  # training interactions of the target: up to these, and more


def ml1m() -> Split:
    """Movies with the MiniLM vector of title and genres."""
    from reelm.encoders.text import Text

    root = study.folder() / "ml1m"
    log = pl.read_parquet(root / "interactions.parquet").sort("user", "pos")
    movies = pl.read_parquet(root / "movies.parquet")
    text = [f"{t}. {g.replace('|', ', ')}" for t, g in movies.select("title", "genres").rows()]
    encoder = Text()
    vectors = np.concatenate([encoder.encode(text[n : n + 64]) for n in range(0, len(text), 64)])
    feature = Features("text", tuple(str(i) for i in movies["item"]), vectors)
    return _split(log.select(user_id="user", video_id="item", event=pl.lit("rating")), feature)


def beauty() -> Split:
    """Products with their anonymous attributes as zeros and ones, rarer ones weighing more."""
    root = study.folder() / "amazon_beauty"
    log = pl.read_parquet(root / "sequences.parquet").explode("items")
    table = pl.read_parquet(root / "item_attributes.parquet")
    pairs = table.explode("attributes").drop_nulls()
    names = pairs["attributes"].unique().sort()
    column = {name: place for place, name in enumerate(names.to_list())}
    row = {item: place for place, item in enumerate(table["item"].to_list())}
    vectors = np.zeros((len(row), len(column)), np.float32)
    for item, name in pairs.select("item", "attributes").rows():
        vectors[row[item], column[name]] = 1
    vectors *= np.log(len(row) / vectors.sum(0))
    feature = Features("text", tuple(str(i) for i in row), vectors)
    return _split(
        log.select(user_id="user", video_id="items", event=pl.lit("interaction")), feature
    )


def _split(events: pl.DataFrame, feature: Features) -> Split:
    data = Dataset.build(events, [feature])
    return split(data, SplitConfig(name="leave_last_two"))


def axes(data: Dataset, dim: int) -> Tensor:
    """The first main axes of the content, each row an item; overall deviation 1."""
    table = data.features["text"]
    has = torch.from_numpy(data.has_feature["text"])
    middle = table[has] - table[has].mean(0)
    left, size, _ = torch.linalg.svd(middle, full_matrices=False)
    found = torch.zeros(len(table), dim)
    found[has] = (left * size)[:, :dim]
    return found / found[has].std()


def started(arm: str, data: Dataset, settings: SASRecConfig, seed: int) -> SASRec:
    """A model whose item table begins as the arm says."""
    if arm == "projected":
        return build("sasrec", settings.model_copy(update={"items": "both"}), data, seed)
    model = build("sasrec", settings, data, seed)
    rng, dim = torch.Generator().manual_seed(seed), settings.dim
    table = model.vectors.id.weight
    with torch.no_grad():
        if arm == "xavier":
            bound = (6 / (len(table) + dim)) ** 0.5
            table.copy_(torch.rand(table.shape, generator=rng) * 2 * bound - bound)
        elif arm == "large":
            table.mul_(1 / START)
        elif arm == "random frozen":
            table.mul_(dim**-0.5 / START)
        elif arm.startswith("content"):
            content = axes(data, dim)
            if arm == "content shuffled":
                content[1:] = content[1 + torch.randperm(len(content) - 1, generator=rng)]
            table.copy_(content * (dim**-0.5 if arm == "content frozen" else START))
    table.requires_grad_(not arm.endswith("frozen"))
    return model


def read_out(model: SASRec, before: Tensor, data: Split, seed: int) -> Mapping[str, Any]:
    """What became of the table, and what the last state is made of."""
    with torch.inference_mode():
        after = model.eval().item_vectors()
    known = (model.counts > 5).nonzero()[:, 0]
    rng = np.random.default_rng(seed)
    some = data.test.take(np.sort(rng.permutation(len(data.test))[:2000]))
    states, newest = _states(model, some)
    return {
        "cka": _cka(before[known], after[known]),
        "neighbours": _kept(before[known], after[known]),
        "newest_explains": _explained(states, newest),
        "shuffled_ndcg@10": evaluate(model, _shuffled(data.test, rng), ("mixed",), (10,))[
            "ndcg@10"
        ],
    }


def _states(model: SASRec, questions: Questions) -> tuple[Tensor, Tensor]:
    """The final state of each question and the vector of its newest item."""
    with torch.inference_mode():
        vectors = model.item_vectors()
        history = padded(questions.item, questions.start, questions.stop, model.config.max_length)
        scores = model.score(torch.from_numpy(questions.users), history)
        states = torch.linalg.lstsq(vectors, scores.T).solution.T  # scores = states @ vectors.T
        return states, vectors[history[:, -1]]


def _shuffled(questions: Questions, rng: np.random.Generator) -> Questions:
    """The same questions with all but the newest item of each history in random order."""
    parts, start, stop, at = [], [], [], 0
    for question in range(len(questions)):
        history = questions.history(question).copy()
        history[:-1] = rng.permutation(history[:-1])
        parts.append(history)
        start.append(at)
        at += len(history)
        stop.append(at)
    packed = np.concatenate(parts)
    return Questions(
        questions.users, packed, np.array(start), np.array(stop),
        questions.target, questions.target_offsets,
    )  # fmt: skip


def _cka(one: Tensor, other: Tensor) -> float:
    """Linear CKA (Kornblith et al. 2019): 1 for tables that differ by turning and scale."""
    one, other = one - one.mean(0), other - other.mean(0)
    cross = (one.T @ other).norm() ** 2
    return float(cross / ((one.T @ one).norm() * (other.T @ other).norm()))


def _kept(one: Tensor, other: Tensor, k: int = 10) -> float:
    """Share of the k nearest neighbours by cosine that are the same."""
    near = []
    for table in (one, other):
        unit = torch.nn.functional.normalize(table, dim=1)
        near.append((unit @ unit.T).fill_diagonal_(-2).topk(k).indices)
    return float((near[0][:, :, None] == near[1][:, None, :]).any(2).float().mean())


def _explained(states: Tensor, newest: Tensor) -> float:
    """R² of a linear fit of the states by the newest items' vectors, on the half not fitted."""
    half = len(states) // 2
    inputs = torch.cat([newest, torch.ones(len(newest), 1)], dim=1)
    fit = torch.linalg.lstsq(inputs[:half], states[:half]).solution
    left = states[half:] - inputs[half:] @ fit
    return float(1 - left.square().sum() / (states[half:] - states[half:].mean(0)).square().sum())


def by_count(model: SASRec, data: Split) -> tuple[dict[str, float], list[float], list[int]]:
    """Metrics of the test, and recall@10 by how often training saw the target."""
    report = evaluate(model, data.test, ("mixed",), (10,))
    target = data.test.target[data.test.target_offsets[:-1]]
    bucket = np.digitize(data.train.counts[target], BUCKETS, right=True)
    hit = report.per_user["recall@10"].to_numpy()
    inside = [bucket == n for n in range(len(BUCKETS) + 1)]
    found = [float(hit[i].mean()) if i.any() else float("nan") for i in inside]
    return dict(report.pools["mixed"]), found, [int(i.sum()) for i in inside]


def main() -> None:
    """Rows that are missing are made; then the table is printed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", choices=("ml1m", "beauty"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=ARMS)
    asked = parser.parse_args()
    data = ml1m() if asked.data == "ml1m" else beauty()
    long = asked.data == "ml1m"
    settings = SASRecConfig(
        dim=64, heads=1, feedforward=64 if long else 128, max_length=200 if long else 50,
        dropout=0.2 if long else 0.3, objective="sampled", negatives=256,
    )  # fmt: skip
    table = f"initial_vectors_{asked.data}"
    done = {(row["arm"], row["seed"]) for row in study.rows(table)}
    for seed in range(asked.seeds):
        config = TrainConfig(
            batch_size=16 if long else 64, learning_rate=2e-3 if long else 1e-3, weight_decay=0.0,
            average=0.999, precision="fastest", epochs=10 if long else 20, patience=99,
            validate_on=2000, seed=seed,
        )  # fmt: skip
        for arm in asked.only or ARMS:
            if (arm, seed) in done:
                continue
            model = started(arm, data.train, settings, seed)
            with torch.inference_mode():
                before = model.eval().item_vectors().clone()
            rows = train(model, data.train, config, data.valid)
            metrics, found, sizes = by_count(model, data)
            row = {
                "arm": arm, "seed": seed, "test": metrics, "by_count": found, "questions": sizes,
                "best_epoch": next(r["epoch"] for r in rows if r.get("kept")),
                "cpu_s": round(sum(r["cpu_s"] for r in rows), 1),
                "curve": [round(r[config.measure], 5) for r in rows],
                **read_out(model, before, data, seed),
            }  # fmt: skip
            study.keep(table, row)
    print(study.show(table))


if __name__ == "__main__":
    main()
