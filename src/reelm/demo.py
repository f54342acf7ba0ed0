"""Verb: everything in one go on a rendered world, from nothing to a run that can be served."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from reelm import files
from reelm.config import Config

Say = Callable[[str], Any]
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "popularity": ("popularity", {}),
    "item-kNN": ("item_knn", {}),
    "SASRec, ID only": ("sasrec", {"items": "id"}),
    "SASRec + title and hashtags": ("sasrec", {"items": "both", "features": ("title",)}),
    "SASRec + notes by pocket": ("sasrec", {"items": "both", "features": ("notes",)}),
    "SASRec + notes, taste": (
        "sasrec", {"items": "both", "features": ("notes",), "taste": ("values",)},
    ),
}  # fmt: skip
"""What is compared: the name shown, the model and its settings."""
POOLS = ("warm", "cold", "mixed")
MEASURE = "recall@10"
RESULT = "demo.json"


class DemoConfig(Config):
    """Section [demo]."""

    videos: PositiveInt = 160
    """Videos to render."""
    people: PositiveInt = 300
    """People who watch them."""
    seed: int = 0
    """Of the world and of training."""
    epochs: PositiveInt = 40
    """Passes over the log, at most."""


def demo(config: DemoConfig, work: Path, say: Say) -> Path:
    """Render, ingest, annotate, encode, train, evaluate and compare; give the best run's folder.

    The best is the one with the highest validation figure. What is done already is reused.
    """
    started = time.monotonic()
    catalog = _filmed(config, work, say)
    notes, features = _watched(catalog, work, say)
    sources = _sources(catalog.folder, notes, features)
    rows, best = _compared(config, sources, work, say)
    page = _page(catalog, notes, work)
    say(_table(rows))
    say(f"one seed on a small world: differences of a few hundredths are noise. Best: {best.name}")
    say(f"what was seen and said: {page}")
    say(f"done in {time.monotonic() - started:.0f} s")
    facts = {"best": str(best), "rows": rows, "settings": config.model_dump()}
    files.write_text(work / RESULT, json.dumps(facts, indent=2) + "\n")
    return best


def serve(work: Path, port: int, say: Say) -> None:
    """Serve the run that the last demo in this folder found best, until interrupted."""
    from reelm.serve import server

    served = server.open_served(Path(json.loads((work / RESULT).read_text())["best"]))
    server.serve(served, port=port, announce=lambda at: say(f"feed: {at}  (Ctrl-C stops)"))


def _filmed(config: DemoConfig, work: Path, say: Say) -> Any:
    """The catalogue of a rendered world."""
    from reelm.data.tables import read_catalog
    from reelm.ingest import IngestConfig, ingest
    from reelm.world import WorldConfig, render

    say(f"1/6 render {config.videos} videos and let {config.people} people watch them")
    chosen = WorldConfig(videos=config.videos, people=config.people, seed=config.seed)
    name = f"world-{config.videos}-{config.people}-{config.seed}"
    world = render(chosen, work / name)
    say("2/6 ingest: probe, hash, check")
    return read_catalog(ingest(world, work, IngestConfig()))


def _watched(catalog: Any, work: Path, say: Say) -> tuple[Path, dict[str, Path]]:
    """Notes by pocket; text features of the titles and of the notes, and the noted values."""
    from reelm import backends, encoders, prompts
    from reelm.annotate import AnnotateConfig, annotate
    from reelm.backends.base import Maker
    from reelm.encode import EncodeConfig, encode

    say("3/6 annotate: pocket watches every video")
    kind = backends.find("pocket")
    backend = Maker(kind, kind.Config())
    notes = annotate(catalog, backend, prompts.find("attributes"), AnnotateConfig(), work)
    say("4/6 encode titles and notes")
    text = encoders.find("text")()
    return notes, {
        "title": encode(catalog, text, EncodeConfig(input="title"), work),
        "notes": encode(catalog, text, EncodeConfig(input="notes"), work, notes),
        "values": encode(catalog, encoders.find("values")(), EncodeConfig(), work, notes),
    }


def _sources(catalog: Path, notes: Path, features: dict[str, Path]) -> Any:
    """The dataset of the comparison: cut where the world recorded what people like."""
    from reelm.data.split import SplitConfig
    from reelm.sources import Sources
    from reelm.world.people import SPLIT_DAY
    from reelm.world.tables import DAY_S, EPOCH_S

    cut = SplitConfig(name="global_time", valid_share=0, test_from=EPOCH_S + SPLIT_DAY * DAY_S)
    return Sources(catalog=catalog, features=features, notes=(notes,), split=cut)


def _compared(
    config: DemoConfig, sources: Any, work: Path, say: Say
) -> tuple[dict[str, dict[str, float]], Path]:
    """Every arm's test figures, and the run that validation likes best."""
    from reelm import evaluate, models, runs, train

    split = sources.read()
    rows: dict[str, dict[str, float]] = {}
    chance: dict[str, float] = {}
    best: tuple[float, Path] | None = None
    schedule = train.TrainConfig(epochs=config.epochs, seed=config.seed)
    for arm, (name, settings) in ARMS.items():
        say(f"5/6 train {arm}")
        chosen = models.find(name).Config(**settings)
        folder = train.train_run(split, name, chosen, schedule, work, sources)
        run = runs.load(folder)
        pools = json.loads((evaluate.test(run, split, work) / "report.json").read_text())["pools"]
        rows[arm] = {pool: pools[pool]["metrics"][MEASURE] for pool in POOLS}
        chance = {pool: pools[pool]["chance"][MEASURE] for pool in POOLS}
        valid = evaluate.evaluate(run, split.valid, pools=("mixed",), ks=(10,))
        score = valid["mixed/ndcg@10"]
        best = max(best or (score, folder), (score, folder))
    assert best is not None
    return rows | {"chance": chance}, best[1]


def _page(catalog: Any, notes: Path, work: Path) -> Path:
    from reelm.look import look

    return look(catalog, notes, work / "look.html", limit=60)


def _table(rows: dict[str, dict[str, float]]) -> str:
    """Recall@10 by pool, as a plain table."""
    wide = max(map(len, rows))
    lines = [
        f"6/6 recall@10 on the test questions\n{'':{wide}}  {'  '.join(f'{p:>6}' for p in POOLS)}"
    ]
    for arm, cells in rows.items():
        lines.append(f"{arm:{wide}}  " + "  ".join(f"{cells[pool]:6.3f}" for pool in POOLS))
    return "\n".join(lines)
