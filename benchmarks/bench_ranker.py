"""What a second stage costs a feed: processor time of ten places, without it and with it.

    python benchmarks/bench_ranker.py

The rendered world of cold_users.py (400 videos, 400 people, the log before day 22), item_knn as
the first stage and din, of the default widths, as the second; people with 10 interactions or more
of whom the last 30 are read. The weights of din are those it is built with: what they are does not
change what asking costs. Each feed is a new one, with `again`, so that nothing runs out.
"""

import itertools

import cold_users
import polars as pl
from harness import report, timed

from reelm.data.dataset import Dataset, DatasetConfig
from reelm.data.packing import pack
from reelm.models.din import DINConfig
from reelm.runs import Run
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.ranking import Ranking
from reelm.serve.store import Store
from reelm.train import build


def main() -> None:
    """One line without a second stage, then one for each number of candidates."""
    run, catalog, notes, _ = cold_users.parted(0, "time")
    log = catalog.events.filter(pl.col("event") == "watch")
    shown = Dataset.of(pack([log], catalog.videos, DatasetConfig(exposures=True)))
    din = Run.of("din", build("din", DINConfig(), shown, 0), shown)
    people = [user for user in run.users if len(run.history(user)) >= 10]
    for candidates in (0, 50, 100, 200):
        config = EngineConfig(ranker_candidates=candidates or 100)
        ranking = Ranking(din) if candidates else None
        engine, turn = (
            Engine(run, catalog, notes, Store(), config, ranking),
            itertools.cycle(people),
        )
        found = timed(
            lambda e=engine, t=turn: e.feed(next(t), 10, again=True), warmup=20, least_s=4
        )
        report("ranker/feed", {"items": len(run.items) - 1, "candidates": candidates}, found)
        engine.store.close()


if __name__ == "__main__":
    main()
