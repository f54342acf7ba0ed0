"""What a first page and three swipes are worth: a user whom training never saw, and popularity.

    python benchmarks/cold_users.py [--seeds 0 1 2 3 4 5 6 7 8 9] [--cuts time people]

The rendered world's people watch; every fifth is kept from training. Two cuts are asked:

- `time`, as a service meets strangers: training and catalogue end at day 22, what the new people
  watch comes after it.
- `people`: training has the whole log of the others, also what came after a new person's watches.
  So old favourites are known for ever here, and popularity of all times looks better than it is.

Of such a person the engine is told the first three watches, with their portions, as a client would
tell it, and is asked for ten videos; before that it is asked for a stranger's ten. Recall@10 counts
the videos that this person later watched at least half of. Popularity is what training saw most
often, without those three. Videos are not rendered: the notes that the engine reads are the world's
true attributes, so tastes by notes are at their best here.

Settings were chosen on seeds 50 to 53 (`time`, days 15 and 22). Each line of
benchmarks/results/cold_users.jsonl is one world and one cut; lines that are there are not made
again. In the end it prints mean differences with 95 % intervals over worlds. Lines with `engine_of`
"before" are of the fallback as it was until 2026-11-26 and were made by its code.
"""

import argparse

import numpy as np
import polars as pl
import study

from reelm import models
from reelm.data.dataset import Dataset
from reelm.data.tables import Catalog
from reelm.paired import t_interval
from reelm.runs import Run
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.notes import Notes
from reelm.serve.records import StoredEvent
from reelm.serve.store import Store
from reelm.world.people import SPLIT_DAY, simulate
from reelm.world.tables import DAY_S, EPOCH_S, events_table, video_id, videos_table
from reelm.world.titles import make_uploads

TABLE = "cold_users"
VIDEOS, PEOPLE, SWIPES, K = 400, 400, 3, 10
MODEL = "item_knn"
ARMS = {
    "engine": {},
    "new_share = 0": {"new_share": 0.0},
    "popular ever": {"popular_within": None},
    "diversity = 0": {"diversity": 0.0},
    "newcomer = 0": {"newcomer": 0.0},
}
"""What differs from the defaults."""


def world(seed):
    """Log, table of videos, notes."""
    uploads = make_uploads(VIDEOS, seed)
    watches, _ = simulate(uploads, PEOPLE, seed)
    answers = {video_id(n): upload.clip.attributes() for n, upload in enumerate(uploads)}
    return events_table(watches, seed), videos_table(uploads).drop("path"), Notes(answers)


def recall(chosen, wanted):
    return len(set(chosen) & wanted) / min(K, len(wanted))


def asked(engine, user):
    """Ids of the first page."""
    return [one.video_id for one in engine.feed(user, K).items]


def parted(seed, cut):
    """A run over the known people, its catalogue, notes, and what each new person watched."""
    log, videos, notes = world(seed)
    end = EPOCH_S + SPLIT_DAY * DAY_S if cut == "time" else float("inf")
    new = log["user_id"].unique().sort().to_list()[::5]
    known = log.filter(~pl.col("user_id").is_in(new) & (pl.col("timestamp") < end))
    videos = videos.filter(pl.col("uploaded_at") < end)
    data = Dataset.build(known, videos=videos)
    kind = models.find(MODEL)
    run = Run.of(MODEL, kind(kind.Config(), data), data)
    after = log.filter((pl.col("event") == "watch") & pl.col("video_id").is_in(list(run.items)))
    if cut == "time":
        after = after.filter(pl.col("timestamp") >= end)
    rows = after.sort("timestamp").select("user_id", "video_id", "timestamp", "value").rows()
    watched = {user: [row[1:] for row in rows if row[0] == user] for user in new}
    return run, Catalog(None, videos, known), notes, watched


def measured(seed, cut):
    """Mean recall of popularity and of each arm over the new people of one world."""
    run, catalog, notes, watched = parted(seed, cut)
    order = [run.items[row] for row in np.argsort(-run.counts, kind="stable") if row]
    engines = {
        name: Engine(run, catalog, notes, Store(), EngineConfig(**changed))
        for name, changed in ARMS.items()
    }
    rows = []
    for user, mine in watched.items():
        first = [v for v, _, _ in mine[:SWIPES]]
        wanted = {v for v, _, portion in mine[SWIPES:] if portion >= 0.5} - set(first)
        if not wanted:
            continue
        popular = [v for v in order if v not in first][:K]
        row = {"popularity": recall(popular, wanted)}
        row["popularity, stranger"] = recall(order[:K], wanted)
        for name, engine in engines.items():
            swipes = [
                StoredEvent(f"{user}-{n}", user, v, "watch", at, portion)
                for n, (v, at, portion) in enumerate(mine[:SWIPES])
            ]
            engine.store.add_events(swipes)
            row[name] = recall(asked(engine, user), wanted)
            row[f"{name}, stranger"] = recall(asked(engine, f"x-{user}"), wanted)
        rows.append(row)
    means = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}
    return {"model": MODEL, "cut": cut, "seed": seed, "people": len(rows)} | means


def told(cut, seeds):
    """Mean differences from popularity, before and now."""
    for engine in ("before", None):
        rows = [r for r in study.rows(TABLE) if r["cut"] == cut and r["seed"] in seeds]
        rows = [r for r in rows if r.get("engine_of") == engine]
        for name in rows[0] if len(rows) > 1 else ():
            if not isinstance(rows[0][name], float) or name.startswith("popularity"):
                continue
            base = "popularity, stranger" if name.endswith("stranger") else "popularity"
            gain = np.array([row[name] - row[base] for row in rows])
            found = t_interval(gain)
            value, against = (float(np.mean([row[n] for row in rows])) for n in (name, base))
            print(f"{cut}, {engine or 'now'}, {name}: {value:.3f}, popularity {against:.3f}, "
                  f"difference {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], "
                  f"{len(rows)} worlds")  # fmt: skip


def main():
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--seeds", type=int, nargs="+", default=range(10))
    ask.add_argument("--cuts", nargs="+", default=["time", "people"], choices=["time", "people"])
    given = ask.parse_args()
    for cut in given.cuts:
        for seed in given.seeds:
            done = {(r["cut"], r["seed"]) for r in study.rows(TABLE) if "engine_of" not in r}
            if (cut, seed) not in done:
                study.keep(TABLE, measured(seed, cut))
        told(cut, given.seeds)


if __name__ == "__main__":
    main()
