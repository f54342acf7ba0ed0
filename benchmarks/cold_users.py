"""What three swipes are worth: a user whom training never saw, against popularity.

    python benchmarks/cold_users.py [--worlds 5] [--model item_knn]

The rendered world's people watch; every fifth is kept from training. Of such a person the engine is
told the first three watches, with their portions, as a client would tell it, and is asked for ten
videos. Recall@10 counts the videos that this person later watched at least half of. Popularity is
what training saw most often, without those three. Videos are not rendered: the notes that the
engine reads are the world's true attributes, so tastes by notes are at their best here.

Prints one JSON line per world, then the mean difference with a 95 % interval over worlds.
"""

import argparse
import json

import numpy as np
import polars as pl

from reelm import models
from reelm.data.dataset import Dataset
from reelm.data.tables import Catalog
from reelm.paired import t_interval
from reelm.runs import Run
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.notes import Notes
from reelm.serve.store import Store, StoredEvent
from reelm.world.people import simulate
from reelm.world.tables import events_table, video_id, videos_table
from reelm.world.titles import make_uploads

VIDEOS, PEOPLE, SWIPES, K = 400, 400, 3, 10


def world(seed):
    """Log, table of videos, notes."""
    uploads = make_uploads(VIDEOS, seed)
    watches, _ = simulate(uploads, PEOPLE, seed)
    answers = {video_id(n): upload.clip.attributes() for n, upload in enumerate(uploads)}
    return events_table(watches, seed), videos_table(uploads).drop("path"), Notes(answers)


def recall(chosen, wanted):
    return len(set(chosen) & wanted) / min(K, len(wanted))


def measured(seed, model):
    """Mean recall of engine and popularity over the new people of one world."""
    log, videos, notes = world(seed)
    people = log["user_id"].unique(maintain_order=True).sort().to_list()
    new = people[::5]
    known = log.filter(~pl.col("user_id").is_in(new))
    data = Dataset.build(known, videos=videos)
    kind = models.find(model)
    run = Run.of(model, kind(kind.Config(), data), data)
    order = [run.items[row] for row in np.argsort(-run.counts, kind="stable") if row]
    catalog = Catalog(None, videos, known)
    engines = {
        "engine": Engine(run, catalog, notes, Store(), EngineConfig()),
        "without new": Engine(run, catalog, notes, Store(), EngineConfig(new_share=0.0)),
        "without notes": Engine(run, catalog, None, Store(), EngineConfig(new_share=0.0)),
    }
    rows = []
    for user in new:
        mine = log.filter((pl.col("user_id") == user) & (pl.col("event") == "watch"))
        mine = mine.sort("timestamp").select("video_id", "timestamp", "value").rows()
        first, later = mine[:SWIPES], mine[SWIPES:]
        wanted = {v for v, _, portion in later if portion >= 0.5} - {v for v, _, _ in first}
        if not wanted:
            continue
        popular = [v for v in order if v not in {v for v, _, _ in first}][:K]
        row = {"popularity": recall(popular, wanted)}
        for name, engine in engines.items():
            swipes = [
                StoredEvent(f"{user}-{n}", user, v, "watch", at, portion)
                for n, (v, at, portion) in enumerate(first)
            ]
            engine.store.add_events(swipes)
            row[name] = recall([i.video_id for i in engine.feed(user, K).items], wanted)
            row[f"{name}, stranger"] = recall(
                [i.video_id for i in engine.feed(f"x-{user}", K).items], wanted
            )
        rows.append(row)
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {"seed": seed, "people": len(rows)} | {n: round(v, 4) for n, v in means.items()}


def main():
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--worlds", type=int, default=5)
    ask.add_argument("--model", default="item_knn", choices=["item_knn", "ease"])
    asked = ask.parse_args()
    rows = []
    for seed in range(asked.worlds):
        rows.append(measured(seed, asked.model))
        print(json.dumps({"model": asked.model} | rows[-1]), flush=True)
    for name in rows[0]:
        if name in ("seed", "people", "popularity"):
            continue
        found = t_interval(np.array([row[name] - row["popularity"] for row in rows]))
        print(json.dumps({
            "difference": f"{name} - popularity", "mean": round(float(found.mean), 4),
            "low": round(float(found.low), 4), "high": round(float(found.high), 4),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
