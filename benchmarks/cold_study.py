"""Do never-seen videos surface in a mixed list, and what does it cost the others? Rendered world.

    python benchmarks/cold_study.py --work work/study

The world, the notes by `pocket` and the split are those of world_study.py. Settings were chosen on
other people (populations 50 to 52, whose log was cut at day 17 and asked until day 22), and tested
once on populations 10 to 14. Each line of benchmarks/results/cold_study.jsonl is one population and
one arm; lines that are there are not made again. At the end it prints the tables of docs/cold.md
and draws docs/images/cold.svg.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import study
import torch
from world_study import EPOCHS, HERE, PEOPLE, SEED, VIDEOS, Truth, cut

from reelm.annotate import AnnotateConfig, annotate
from reelm.backends import find as find_backend
from reelm.data.batches import padded
from reelm.data.split import Questions, Split
from reelm.data.tables import Features, read_catalog, read_features
from reelm.encode import EncodeConfig, encode
from reelm.encoders import find as find_encoder
from reelm.evaluate import evaluate
from reelm.ingest import IngestConfig, ingest
from reelm.models.sasrec import SASRecConfig
from reelm.prompts import find as find_prompt
from reelm.train import TrainConfig, fit
from reelm.world import WorldConfig, render
from reelm.world.tables import true_utility

TABLE = "cold_study"
PLOT = HERE.parent / "docs" / "images" / "cold.svg"
AGES = 16
BONUS = -0.05  # beside taste and ages, chosen on populations 50 to 52
BONUSES = (-0.6, -0.3, -0.05, 0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.2, 1.5)  # of the plot
TRAINED: dict[str, dict[str, Any]] = {
    "plain": {"features": ("notes",)},
    "ages": {"features": ("notes",), "ages": AGES},
    "taste": {"features": ("notes",), "taste": ("values",)},
    "taste, ages": {"features": ("notes",), "taste": ("values",), "ages": AGES},
    "taste, ages, shuffled": {
        "features": ("shuffled",), "taste": ("shuffled values",), "ages": AGES,
    },
}  # fmt: skip
PLOTTED = ("plain", "ages", "taste, ages")
TITLES = {
    "plain": "plain (items = both)",
    "ages": f"ages = {AGES}",
    "taste": "taste",
    "taste, ages": f"taste, ages = {AGES}",
    f"taste, ages {BONUS:+.2f}": f"taste, ages = {AGES}, cold_bonus = {BONUS}",
    "taste, ages, shuffled": "the same, other videos' notes (placebo)",
    "truth": "true utility",
}
COLOURS = {"plain": "#c25", "ages": "#27a", "taste, ages": "#284", "truth": "#555"}
COLUMNS = {
    "cold in mixed": "cold, mixed list",
    "cold by chance": "chance in its places",
    "cold places": "cold places of 10",
    "warm in mixed": "warm, mixed list",
    "warm": "warm list",
    "cold": "cold list",
    "mixed": "all, mixed list",
}


def noted(work: Path) -> tuple[list[str], dict[str, Features]]:
    """Ids of the rendered world's videos; their notes as vectors of sentences and as columns of
    values, and the same shuffled."""
    world = work / "world"
    render(WorldConfig(videos=VIDEOS, people=PEOPLE, seed=SEED, width=180, height=320, fps=15,
                       workers=2), world)  # fmt: skip
    catalog = read_catalog(ingest(world, work, IngestConfig()))
    backend = find_backend("pocket")()
    notes = annotate(catalog, backend, find_prompt("attributes"), AnnotateConfig(), work)
    text = find_encoder("text")()
    seen = read_features(encode(catalog, text, EncodeConfig(input="notes"), work, notes), "notes")
    values = find_encoder("values")()
    noted = read_features(encode(catalog, values, EncodeConfig(), work, notes), "values")
    assert noted.ids == seen.ids
    order = np.random.default_rng(0).permutation(len(seen.ids))
    found = {
        "notes": seen,
        "values": noted,
        "shuffled": Features("shuffled", seen.ids, seen.vectors[order]),
        "shuffled values": Features("shuffled values", seen.ids, noted.vectors[order]),
    }
    return catalog.videos["video_id"].to_list(), found


def narrowed(questions: Questions, wanted: np.ndarray) -> Questions:
    """The questions with those targets only that are `wanted`, [items]; others stay candidates."""
    size = len(questions)
    owner = np.repeat(np.arange(size), np.diff(questions.target_offsets))
    inside = wanted[questions.target]
    sizes = np.bincount(owner[inside], minlength=size)
    rows = np.flatnonzero(sizes)
    ends = np.concatenate([[0], np.cumsum(sizes[rows])])
    return replace(questions.take(rows), target=questions.target[inside], target_offsets=ends)


def measure(scores: torch.Tensor, split: Split) -> dict[str, float]:
    """Recall@10 of cold and of warm targets in the mixed list and in their own lists.

    `cold by chance`: what the cold targets would have if the list's cold places went to cold
    videos drawn blindly.
    """
    seen, test = split.train.counts > 0, split.test
    model = Truth(split.train, scores)
    whole = evaluate(model, test, pools=("warm", "cold", "mixed"), ks=(10,))
    found = {pool: whole[f"{pool}/recall@10"] for pool in ("warm", "cold", "mixed")}
    asked = narrowed(test, ~seen)
    cold = evaluate(model, asked, pools=("mixed",), ks=(10,))
    warm = evaluate(model, narrowed(test, seen), pools=("mixed",), ks=(10,))
    hidden = scores[torch.from_numpy(asked.users)].clone()
    hidden[:, 0] = -torch.inf
    shown = padded(asked.item, asked.start, asked.stop)
    hidden.scatter_(1, shown, -torch.inf)
    places = (~seen)[hidden.topk(10).indices.numpy()].sum(1)
    targets = np.diff(asked.target_offsets)
    chance = places / (~seen)[1:].sum() * targets / np.minimum(targets, 10)
    hits = cold.per_user["recall@10"].to_numpy() * np.minimum(targets, 10)
    return found | {
        "cold in mixed": cold["mixed/recall@10"],
        "cold hit in mixed": cold["mixed/hit@10"],
        "cold hits per target": float(hits.sum() / targets.sum()),
        "cold by chance": float(chance.mean()),
        "cold places": float(places.mean()),
        "warm in mixed": warm["mixed/recall@10"],
        "warm in mixed, ndcg": warm["mixed/ndcg@10"],
        "warm, ndcg": whole["warm/ndcg@10"],
    }


def trained(name: str, split: Split, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    """One training, and the arms that differ from it in the scores alone."""
    begun = time.process_time()
    config = SASRecConfig(items="both", **TRAINED[name])
    schedule = TrainConfig(seed=seed, epochs=EPOCHS, patience=EPOCHS)
    model = fit(split, "sasrec", config, schedule).model
    cost = {"cpu_s": round(time.process_time() - begun, 1)}
    test, unseen = split.test, torch.from_numpy(split.train.counts == 0)
    scores = torch.zeros(len(split.train.users), len(unseen))
    with torch.inference_mode():
        users = torch.from_numpy(test.users)
        scores[users] = model.score(users, padded(test.item, test.start, test.stop))
    yield name, measure(scores, split) | cost
    if name in PLOTTED:
        for more in BONUSES:
            yield f"{name} {more:+.2f}", measure(scores + more * unseen, split)


def one_seed(seed: int, split: Split, truth: Path, done: set, arms: Sequence[str]) -> None:
    """Those of these arms of one population that have no line yet, and the truth's."""
    data = split.train
    if (seed, "truth") not in done:
        utility = np.zeros((len(data.users), len(data.items)), np.float32)
        utility[:, 1:] = true_utility(truth, data.users, data.items[1:])
        append(seed, "truth", measure(torch.from_numpy(utility), split))
    for name in arms:
        if (seed, name) not in done:
            rows = list(trained(name, split, seed))
            for arm, figures in reversed(rows):  # its own line last: it says that all are there
                append(seed, arm, figures)


def append(seed: int, arm: str, figures: dict[str, float]) -> None:
    study.keep(TABLE, {"seed": seed, "arm": arm} | {k: round(v, 6) for k, v in figures.items()})


def rows(seeds: Sequence[int] | None = None) -> dict[str, dict[int, dict[str, float]]]:
    """arm -> seed -> figures, of all populations or of these."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for row in study.rows(TABLE):
        if seeds is None or row["seed"] in seeds:
            found.setdefault(row["arm"], {})[row["seed"]] = row
    return found


def table(found: dict) -> str:
    """The tables of docs/cold.md: means with intervals, then paired figures."""
    said = lambda values: "{:.3f} ± {:.3f}".format(*study.interval(values))  # noqa: E731
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for arm, title in TITLES.items():
        if arm in found:
            cells = [said([r[key] for r in found[arm].values()]) for key in COLUMNS]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", "Per population, then averaged:", ""]
    lines += ["| | cold, as a share of the true utility's | hits, likewise | warm in mixed,"
              " against plain | warm list, against plain |", "|---|---|---|---|---|"]  # fmt: skip
    for arm, title in TITLES.items():
        if arm in found and "truth" not in arm:
            seeds = [s for s in found[arm] if s in found["plain"] and s in found["truth"]]
            cells = [
                said([found[arm][s][key] / found["truth"][s][key] for s in seeds])
                for key in ("cold in mixed", "cold hit in mixed")
            ]
            for key in ("warm in mixed", "warm"):
                change = [100 * (found[arm][s][key] / found["plain"][s][key] - 1) for s in seeds]
                cells.append("{:+.1f} ± {:.1f} %".format(*study.interval(change)))
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(found: dict) -> str:
    """Cold against warm recall in the mixed list, a point per bonus, as an SVG."""
    points = {
        name: [mean(found.get(f"{name} {more:+.2f}", {})) for more in BONUSES] for name in PLOTTED
    }
    points["truth"] = [mean(found["truth"])]
    across = lambda value: 60 + 440 * value / 0.18  # noqa: E731 - scales of the two axes
    up = lambda value: 300 - 280 * value / 0.18  # noqa: E731
    parts = []
    for tick in (0, 0.06, 0.12, 0.18):
        x, y = across(tick), up(tick)
        parts.append(f'<path d="M{x:.0f} 300v5M60 {y:.0f}h-5" stroke="#777"/>')
        parts.append(f'<text x="{x:.0f}" y="320" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="50" y="{y + 4:.0f}" text-anchor="end">{tick:g}</text>')
    half = up(points["truth"][0][1] / 2)
    parts.append(f'<path d="M60 {half:.0f}H500" stroke="#777" stroke-dasharray="4 4"/>')
    parts.append(f'<text x="64" y="{half - 5:.0f}">half of the true utility</text>')
    for name, colour in COLOURS.items():
        at = [(across(warm), up(cold)) for warm, cold in points[name]]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]
        label = "true utility" if name == "truth" else name
        x, y = at[len(at) // 2]
        parts.append(f'<text x="{x + 8:.0f}" y="{y - 6:.0f}" fill="{colour}">{label}</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 520 350" font-family="sans-serif"'
        ' font-size="12"><rect width="520" height="350" fill="#fff"/>'
        '<path d="M60 20V300H500" fill="none" stroke="#777"/>'
        '<text x="280" y="342" text-anchor="middle">recall@10 of warm targets, mixed list</text>'
        '<text transform="translate(16 160) rotate(-90)" text-anchor="middle">'
        "recall@10 of cold targets, mixed list</text>" + "".join(parts) + "</svg>\n"
    )


def mean(by_seed: dict) -> tuple[float, float]:
    """Warm and cold recall in the mixed list."""
    figures = [(row["warm in mixed"], row["cold in mixed"]) for row in by_seed.values()]
    warm, cold = np.mean(figures, axis=0)
    return float(warm), float(cold)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path("work/study"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[10, 11, 12, 13, 14])
    parser.add_argument("--only", nargs="*", default=list(TRAINED), help="train these arms alone")
    parser.add_argument("--summary", action="store_true", help="only sum up lines that are there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.summary:
        ids, found = noted(arguments.work)
        for seed in arguments.seeds:
            done = {(s, arm) for arm, by in rows().items() for s in by}
            split, truth = cut(ids, found, seed, arguments.work)
            one_seed(seed, split, truth, done, arguments.only)
    found = rows(arguments.seeds)
    print(table(found))
    if all(f"{name} {more:+.2f}" in found for name in PLOTTED for more in BONUSES):
        PLOT.write_text(plot(found))


if __name__ == "__main__":
    main()
