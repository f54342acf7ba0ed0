"""Rec-GPT4V's question in the rendered world: do notes of what was watched order short lists?

    python benchmarks/paper_rec_gpt4v.py --work work/study [--seeds 0 1 2 3 4]

The world, its notes by `pocket` and the cut of the log are those of world_study.py. For each of
five populations 500 lists of validation and 500 of the test: the video that was watched next among
nine drawn ones. The run beside the reader is a SASRec of IDs; how much of it is mixed in is chosen
on validation. Nobody here has a language model that reads: the reader is `tallies`, which counts
values of notes. It cannot read titles, so the paper's own comparison, notes beside titles against
titles alone, is not made here. The placebo reads other videos' notes.

A line of results/rec_gpt4v_world.jsonl is one population; lines that are there are not made again.
"""

import argparse
import json
from pathlib import Path

import cold_study
import numpy as np
import study
import torch
from world_study import EPOCHS, cut

from reelm import dossiers, files, rerank, runs
from reelm.data.tables import read_catalog
from reelm.models.sasrec import SASRecConfig
from reelm.paired import t_interval
from reelm.rerank import RerankConfig
from reelm.tallies import Tallies
from reelm.train import TrainConfig, train_run

TABLE = "rec_gpt4v_world"
ARMS = {"notes": RerankConfig(show="notes"), "dealt": RerankConfig(show="notes", dealt=True)}
ORDERS = ("order", "popularity", "run", "reader", "mixed")


def population(work: Path, seed: int) -> dict:
    """The figures of one population."""
    ids, found = cold_study.noted(work)
    split, _ = cut(ids, found, seed, work)
    schedule = TrainConfig(seed=seed, epochs=EPOCHS)
    run = runs.load(train_run(split, "sasrec", SASRecConfig(), schedule, work / "rerank"))
    catalog = read_catalog(files.latest(work / "catalog"))
    notes = files.latest(work / "notes", name="attributes-*")
    told = rerank.lines(catalog.videos, dossiers.said([notes]), "notes")
    row: dict = {"seed": seed}
    for arm, config in ARMS.items():
        folder = rerank.rerank(run, split, told, Tallies(), config, work / "rerank")
        report = json.loads((folder / "report.json").read_text())
        row[arm] = {
            "ways": {way: {n: v[0] for n, v in by.items()} for way, by in report["ways"].items()},
            "weight": report["weight of the run"],
            "moved": report["moved by turning"],
            "by place": report["reader hit@1 by place of the target"],
        }
    return row


def table(rows: list[dict]) -> str:
    """Means over populations with 95 % intervals."""
    lines = ["| | NDCG@10 | hit@1 | mrr |", "|---|---|---|---|"]

    def told(values: list[float], sign: str = "") -> str:
        found = t_interval(np.array(values))
        return f"{found.mean:{sign}.3f} ± {(found.high - found.low) / 2:.3f}"

    for arm in ARMS:
        for way in ORDERS if arm == "notes" else ("reader", "mixed"):
            of = [row[arm]["ways"][way] for row in rows]
            cells = [told([one[name] for one in of]) for name in ("ndcg", "hit@1", "mrr")]
            lines.append(f"| {way}{'' if arm == 'notes' else ', dealt'} | {' | '.join(cells)} |")
    pairs = {
        "reader - run": ("notes", "reader", "notes", "run"),
        "mixed - run": ("notes", "mixed", "notes", "run"),
        "reader - dealt": ("notes", "reader", "dealt", "reader"),
        "mixed, dealt - run": ("dealt", "mixed", "dealt", "run"),
    }
    for name, (a, b, c, d) in pairs.items():
        cells = [
            told([row[a]["ways"][b][m] - row[c]["ways"][d][m] for row in rows], "+")
            for m in ("ndcg", "hit@1", "mrr")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path("work/study"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = study.rows(TABLE)
    for seed in arguments.seeds:
        if seed not in [row["seed"] for row in rows]:
            rows.append(population(arguments.work, seed))
            study.keep(TABLE, rows[-1])
    print(table(rows))


if __name__ == "__main__":
    main()
