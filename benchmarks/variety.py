"""What variety costs: recall of the feed against how unlike its places are, rendered world.

    python benchmarks/variety.py [--seeds 0 1 2 3 4]

The world and the cut are those of cold_users.py (`time`), asked for people whom training knows:
training ends at day 22, and recall@10 counts what a person watched at least half of afterwards.
Unlikeness is 1 minus the mean cosine of two places by what notes, hashtags and creators say. No
place is kept for new videos, so that the orders differ by `rerank` alone. Each line of
benchmarks/results/variety.jsonl is one world and one order; lines that are there are not made
again. It prints mean differences from no variety with 95 % intervals over worlds, and draws
docs/images/variety.svg.
"""

import argparse
from pathlib import Path

import cold_users
import numpy as np
import polars as pl
import study
from plots import curves

from reelm.data.dataset import Dataset
from reelm.data.tables import Catalog
from reelm.models.item_knn import ItemKNN
from reelm.paired import t_interval
from reelm.runs import Run
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.reranking import unit
from reelm.serve.store import Store
from reelm.world.people import SPLIT_DAY
from reelm.world.tables import DAY_S, EPOCH_S

TABLE = "variety"
PLOT = Path(__file__).parent.parent / "docs" / "images" / "variety.svg"
STRENGTHS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
ORDERS = [("none", 0.0), *((how, s) for how in ("mmr", "dpp") for s in STRENGTHS)]
K, ASKED = 10, 150


def parted(seed):
    """Run, catalogue, notes, and what each known person liked after the cut."""
    log, videos, notes = cold_users.world(seed)
    end = EPOCH_S + SPLIT_DAY * DAY_S
    known, videos = (
        log.filter(pl.col("timestamp") < end),
        videos.filter(pl.col("uploaded_at") < end),
    )
    data = Dataset.build(known, videos=videos)
    run = Run.of("item_knn", ItemKNN(ItemKNN.Config(), data), data)
    after = log.filter(
        (pl.col("timestamp") >= end) & (pl.col("event") == "watch") & (pl.col("value") >= 0.5)
        & pl.col("video_id").is_in(list(run.items)) & pl.col("user_id").is_in(list(run.users))
    )  # fmt: skip
    wanted = {u: set(v) for u, v in after.group_by("user_id", maintain_order=True).agg("video_id")
              .rows()}  # fmt: skip
    return run, Catalog(None, videos, known), notes, dict(list(wanted.items())[:ASKED])


def measured(engine, wanted):
    """Mean recall and unlikeness of the first page."""
    recalls, unlike = [], []
    for user, later in wanted.items():
        shown = [one.video_id for one in engine.feed(user, K).items]
        recalls.append(cold_users.recall(shown, later))
        rows = np.array([engine.videos.row[video] for video in shown])
        vectors = unit(engine.videos.facets.dense(rows).astype(np.float64))
        alike = vectors @ vectors.T
        unlike.append(1 - (alike.sum() - alike.trace()) / (K * (K - 1)))
    return {"recall": float(np.mean(recalls)), "unlike": float(np.mean(unlike))}


def one_world(seed):
    done = {(r["rerank"], r["strength"]) for r in study.rows(TABLE) if r["seed"] == seed}
    left = [order for order in ORDERS if order not in done]
    run, catalog, notes, wanted = parted(seed) if left else (None, None, None, None)
    for how, strength in left:
        config = EngineConfig(new_share=0.0, rerank=how, rerank_strength=strength)
        engine = Engine(run, catalog, notes, Store(), config)
        found = {name: round(value, 5) for name, value in measured(engine, wanted).items()}
        engine.store.close()
        line = {"seed": seed, "people": len(wanted), "rerank": how, "strength": strength} | found
        study.keep(TABLE, line)


def told(seeds):
    """Print differences from no variety; the curves of the picture, relative to it."""
    found = {(r["rerank"], r["strength"], r["seed"]): r for r in study.rows(TABLE)}
    drawn = {f"{n}, {how}": [] for how in ("mmr", "dpp") for n in ("recall", "unlikeness")}
    for how, strength in ORDERS:
        rows = [found[how, strength, seed] for seed in seeds]
        bases = [found["none", 0.0, seed] for seed in seeds]
        cells = []
        for name in ("recall", "unlike"):
            gap = t_interval(
                np.array([r[name] - b[name] for r, b in zip(rows, bases, strict=True)])
            )
            mean = float(np.mean([r[name] for r in rows]))
            cells.append(f"{mean:.4f} | {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]")
        print(f"| {how} {strength} | " + " | ".join(cells) + " |")
        for name in ("mmr", "dpp") if how == "none" else (how,):
            for key, label in (("recall", "recall"), ("unlike", "unlikeness")):
                share = sum(r[key] for r in rows) / sum(b[key] for b in bases)
                drawn[f"{label}, {name}"].append((strength, share))
    return {name: [curve] for name, curve in drawn.items()}


def main():
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--seeds", type=int, nargs="+", default=range(5))
    seeds = ask.parse_args().seeds
    for seed in seeds:
        one_world(seed)
    title = "Variety: recall and unlikeness, as shares of those without"
    PLOT.write_text(curves(title, told(seeds), "rerank_strength", 1.0))


if __name__ == "__main__":
    main()
