"""Does watching help? SASRec with and without what was seen, on the rendered world, five seeds.

    python benchmarks/world_study.py --work work/study

Renders 1,600 videos once (180x320, 15 fps), lets the shipped `pocket` model watch them, and lets
1,200 people watch them five times over (five seeds of people and of training, paired across arms).
The log is cut at day 22: training before, each user's last training interaction for validation,
everything after for the test. Writes benchmarks/results/world_study.json, whose `rows` hold what
each seed measured, and prints a table.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import study
import torch

from reelm.annotate import AnnotateConfig, annotate
from reelm.backends import find as find_backend
from reelm.data.dataset import Dataset
from reelm.data.split import Split, SplitConfig, global_time
from reelm.data.tables import Features, read_catalog, read_features
from reelm.encode import EncodeConfig, encode
from reelm.encoders import find as find_encoder
from reelm.evaluate import evaluate
from reelm.ingest import IngestConfig, ingest
from reelm.models.base import Retriever
from reelm.models.sasrec import SASRecConfig
from reelm.prompts import find as find_prompt
from reelm.tallies import line
from reelm.train import TrainConfig, fit
from reelm.world import WorldConfig, render
from reelm.world.people import SPLIT_DAY, simulate
from reelm.world.tables import DAY_S, EPOCH_S, events_table, true_utility, write_truth
from reelm.world.titles import make_uploads
from reelm.world.vocabulary import ATTRIBUTES

VIDEOS, PEOPLE, SEED = 1600, 1200, 11
EPOCHS = 50  # all are run, the best kept: with `taste` validation dips before it rises
HERE = Path(__file__).parent
POOLS = ("warm", "cold", "mixed")
ARMS: dict[str, dict[str, Any]] = {
    "SASRec, ID only": {},
    "+ title and hashtags": {"features": ("title",)},
    "+ frozen random vision tower": {"features": ("random",)},
    "+ notes by pocket": {"features": ("notes",)},
    "+ notes by pocket, taste": {"features": ("notes",), "taste": ("values",)},
    "+ title and notes": {"features": ("title", "notes")},
    "+ title and shuffled notes (placebo)": {"features": ("title", "shuffled")},
    "+ shuffled notes, taste (placebo)": {
        "features": ("shuffled",), "taste": ("shuffled values",),
    },
    "+ true attributes (oracle)": {"features": ("oracle",)},
    "+ true attributes, taste (oracle)": {"features": ("oracle",), "taste": ("true values",)},
}  # fmt: skip


class Truth(Retriever):
    """Scores by the true utility: the ceiling."""

    Config = SASRecConfig

    def __init__(self, data: Dataset, utility: torch.Tensor) -> None:
        super().__init__(SASRecConfig(), data)
        self.utility = utility

    def batches(self, data, size, rng):
        return iter(())

    def loss(self, batch):
        return {}

    def score(self, user, history):
        return self.utility[user]


def watched(work: Path) -> tuple[Path, list[str], dict[str, Features]]:
    """The rendered world, its video ids, and every feature that an arm may read."""
    world = work / "world"
    render(WorldConfig(videos=VIDEOS, people=PEOPLE, seed=SEED, width=180, height=320, fps=15,
                       workers=2), world)  # fmt: skip
    catalog = read_catalog(ingest(world, work, IngestConfig()))
    backend = find_backend("pocket")()
    notes = annotate(catalog, backend, find_prompt("attributes"), AnnotateConfig(), work)
    text, vision, values = (find_encoder(name) for name in ("text", "vision", "values"))
    blind = vision(vision.Config(random=True))
    folders = {
        "title": encode(catalog, text(), EncodeConfig(input="title"), work),
        "notes": encode(catalog, text(), EncodeConfig(input="notes"), work, notes),
        "values": encode(catalog, values(), EncodeConfig(), work, notes),
        "random": encode(catalog, blind, EncodeConfig(), work),
    }
    found = {name: read_features(folder, name) for name, folder in folders.items()}
    ids = catalog.videos["video_id"].to_list()
    seen = found["notes"]
    order = np.random.default_rng(0).permutation(len(seen.ids))
    found["shuffled"] = Features("shuffled", seen.ids, seen.vectors[order])
    noted = found["values"].vectors[order]
    found["shuffled values"] = Features("shuffled values", seen.ids, noted)
    truth = pl.read_parquet(world / "truth" / "attributes.parquet")
    told = {
        "oracle": text().encode(truth["sentence"].to_list()),
        "true values": values().encode([line(row) for row in truth.select(*ATTRIBUTES).to_dicts()]),
    }
    for name, vectors in told.items():
        found[name] = Features(name, tuple(truth["video_id"]), np.asarray(vectors))
    return world, ids, found


def cut(ids: list[str], found: dict[str, Features], seed: int, work: Path) -> tuple[Split, Path]:
    """One population's log as a split, and the truth about it."""
    uploads = make_uploads(VIDEOS, SEED)
    log, tastes = simulate(uploads, PEOPLE, 100 + seed)
    truth = write_truth(work / f"truth-{seed}", uploads, tastes)
    data = Dataset.build(events_table(log, seed), found, videos=ids)
    at = EPOCH_S + SPLIT_DAY * DAY_S
    return global_time(data, SplitConfig(name="global_time", valid_share=0, test_from=at)), truth


def measure(model: Retriever, split: Split) -> dict[str, float]:
    """Recall@10 and NDCG@10 on the test questions, in each pool."""
    report = evaluate(model, split.test, pools=POOLS, ks=(10,))
    return {f"{p}/{m}@10": report[f"{p}/{m}@10"] for p in POOLS for m in ("recall", "ndcg")}


def one_seed(seed: int, split: Split, truth: Path) -> dict[str, dict[str, float]]:
    """Every arm on one population."""
    data, out = split.train, {}
    for name in ("popularity", "item_knn"):
        out[name] = measure(fit(split, name).model, split)
    for arm, given in ARMS.items():
        start = time.process_time()
        config = SASRecConfig(items="both" if given else "id", **given)
        schedule = TrainConfig(seed=seed, epochs=EPOCHS, patience=EPOCHS)
        out[arm] = measure(fit(split, "sasrec", config, schedule).model, split)
        out[arm]["cpu_s"] = round(time.process_time() - start, 1)
        print(json.dumps({"seed": seed, "arm": arm} | out[arm]), flush=True)
    utility = np.zeros((len(data.users), len(data.items)), np.float32)
    utility[:, 1:] = true_utility(truth, data.users, data.items[1:])
    out["true utility (ceiling)"] = measure(Truth(data, torch.from_numpy(utility)), split)
    chance = evaluate(fit(split, "popularity").model, split.test, pools=POOLS, ks=(10,)).chance
    out["chance"] = {f"{pool}/recall@10": by["recall@10"] for pool, by in chance.items()}
    return out


def summary(rows: list[dict[str, dict[str, float]]]) -> dict:
    """Means with intervals, and paired differences from the arms they are compared with."""
    table = {
        arm: {
            key: study.interval([row[arm][key] for row in rows])
            for key in rows[0][arm]
            if key != "cpu_s"
        }
        for arm in rows[0]
    }
    pairs = {
        "notes - ID": ("+ notes by pocket", "SASRec, ID only"),
        "notes - title": ("+ notes by pocket", "+ title and hashtags"),
        "notes - random tower": ("+ notes by pocket", "+ frozen random vision tower"),
        "oracle - notes": ("+ true attributes (oracle)", "+ notes by pocket"),
        "taste - ID": ("+ notes by pocket, taste", "SASRec, ID only"),
        "taste - notes": ("+ notes by pocket, taste", "+ notes by pocket"),
        "taste, placebo - taste": ("+ shuffled notes, taste (placebo)", "+ notes by pocket, taste"),
        "taste, oracle - taste": ("+ true attributes, taste (oracle)", "+ notes by pocket, taste"),
        "placebo - title": ("+ title and shuffled notes (placebo)", "+ title and hashtags"),
        "title and notes - title": ("+ title and notes", "+ title and hashtags"),
    }
    paired = {
        name: {
            key: study.interval([row[one][key] - row[other][key] for row in rows])
            for key in rows[0][one]
            if key != "cpu_s"
        }
        for name, (one, other) in pairs.items()
    }
    return {"arms": table, "paired": paired}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path("work/study"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--summary", action="store_true", help="only sum up seeds that are done")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    done = {s: arguments.work / f"seed-{s}.json" for s in arguments.seeds}
    if not arguments.summary:
        _, ids, found = watched(arguments.work)
        for seed, path in done.items():
            if not path.exists():
                split, truth = cut(ids, found, seed, arguments.work)
                path.write_text(json.dumps(one_seed(seed, split, truth), indent=1))
    there = {seed: json.loads(path.read_text()) for seed, path in done.items() if path.exists()}
    rows = list(there.values())
    facts = {"videos": VIDEOS, "people": PEOPLE, "seeds": len(rows), "machine": platform.machine()}
    each = [{"seed": seed, "arms": row} for seed, row in there.items()]
    result = facts | summary(rows) | {"rows": each}
    (HERE / "results" / "world_study.json").write_text(json.dumps(result, indent=1) + "\n")
    for arm, figures in result["arms"].items():
        cells = [f"{figures[f'{p}/recall@10'][0]:.3f} ± {figures[f'{p}/recall@10'][1]:.3f}"
                 for p in POOLS if f"{p}/recall@10" in figures]  # fmt: skip
        print(f"| {arm} | " + " | ".join(cells) + " |")
    for name, figures in result["paired"].items():
        cells = [f"{figures[f'{p}/recall@10'][0]:+.3f} ± {figures[f'{p}/recall@10'][1]:.3f}"
                 for p in POOLS]  # fmt: skip
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
