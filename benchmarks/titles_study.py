"""Rec-GPT4V's question, read by counting: do notes of what was seen beat titles that are noisy?

    python benchmarks/titles_study.py --work work/study [--seeds 0 1 2 3 4]

World, notes by `pocket` and cut of the log are those of world_study.py. Every title is told clean
(the true sentence about the clip) and noisy (half of the videos, drawn by a seed, have that of
another); beside them stand the world's own titles, of which a third say nothing. For each of five
populations 500 lists of the test, the same in every arm: the video that was watched next among nine
drawn ones. Arms tell of a video by its title, its note, or both; "permuted" keeps titles and deals
the notes out to other videos. The reader counts (`tallies`) and learns nothing; `popularity`, the
order shown and nearest neighbours by words of the same lines stand beside it.

Before anything is ranked the notes are held against the truth: below .8 of the fields right nothing
is run. A line of results/titles_world.jsonl is one arm of one population; lines that are there are
not made again.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import study
import torch
from world_study import SEED, VIDEOS, cut

from reelm import dossiers, files, rerank
from reelm.data.split import Split
from reelm.data.tables import read_catalog
from reelm.encoders.hashing import Hashing
from reelm.models.content import Content, ContentConfig
from reelm.paired import t_interval
from reelm.rerank import Lists, RerankConfig
from reelm.rerank.reading import Kept, read
from reelm.runs import Run
from reelm.tallies import Answers, Tallies
from reelm.train import fit
from reelm.world.clips import sentence
from reelm.world.titles import make_uploads
from reelm.world.vocabulary import ATTRIBUTES

TABLE = "titles_world"
CONFIG = RerankConfig(turns=1)  # a reader that counts does not mind the order
MERGED = CONFIG.model_copy(update={"merge": 0.5})
NOISE = {"clean": 0.0, "noisy": 0.5}
GATE = 0.8  # share of a note's fields that must be right


def titled(videos: pl.DataFrame, titles: list[str], noise: float, seed: int) -> pl.DataFrame:
    """The videos with these titles, of which a share has been dealt out among themselves."""
    rng = np.random.default_rng(seed)
    some = np.flatnonzero(rng.random(len(titles)) < noise)
    given = np.array(titles, object)
    given[some] = given[np.roll(rng.permutation(some), 1)] if len(some) else given[some]
    return videos.with_columns(title=pl.Series(given.tolist(), dtype=pl.String))


def arms(
    videos: pl.DataFrame, titles: list[str], answers: Answers, seed: int
) -> dict[str, dict[str, str]]:
    """What each arm tells of each video.

    Args:
        titles: the clean ones, a video's in its row of `videos`.
        seed: of the noise and of the permutation.
    """
    own = videos["title"].to_list()
    kinds = {name: titled(videos, titles, noise, seed) for name, noise in NOISE.items()}
    kinds |= {"own": titled(videos, own, 0.0, seed), "own noisy": titled(videos, own, 0.5, seed)}
    ids = list(answers)
    order = np.random.default_rng([seed, 1]).permutation(len(ids))
    other = {video: answers[ids[n]] for video, n in zip(ids, order.tolist(), strict=True)}
    found = {"notes": rerank.lines(videos, answers, "notes")}
    found["notes, permuted"] = rerank.lines(videos, other, "notes")
    for name, table in kinds.items():
        found[f"{name}: titles"] = rerank.lines(table, {}, "titles")
        found[f"{name}: both"] = rerank.lines(table, answers, "both")
        found[f"{name}: both, permuted"] = rerank.lines(table, other, "both")
    return found


def right(answers: Answers, videos: list[str], truth: list[Mapping[str, str]]) -> float:
    """Share of the fields of notes that are as the truth is."""
    hits = [
        str(answers[video].get(name, "")).lower() == clip[name].lower()
        for video, clip in zip(videos, truth, strict=True)
        for name in ATTRIBUTES
    ]
    return float(np.mean(hits))


def told(work: Path, seed: int) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Ids of the rendered world's videos, and the arms; the notes have passed the gate."""
    videos = read_catalog(files.latest(work / "catalog")).videos
    answers = dossiers.said([files.latest(work / "notes", name="attributes-*")])
    clips = [upload.clip for upload in make_uploads(VIDEOS, SEED)]
    ids = videos["video_id"].to_list()
    share = right(answers, ids, [clip.attributes() for clip in clips])
    print(json.dumps({"fields of notes that are right": round(share, 4)}), flush=True)
    if share < GATE:
        raise SystemExit(f"{share:.2f} of the fields are right, less than {GATE}: nothing is run")
    return ids, arms(videos, [sentence(clip) for clip in clips], answers, seed)


def row(scores: np.ndarray, lists: Lists, **named: object) -> dict:
    """Means of one way to order the lists."""
    found = rerank.figures(scores, lists)
    return named | {name: round(float(values.mean()), 5) for name, values in found.items()}


def neighbours(texts: Mapping[str, str], split: Split, lists: Lists) -> np.ndarray:
    """Scores by cosines of hashed words of lines, between a candidate and the history's mean."""
    vectors = Hashing().encode([texts.get(video, "") for video in split.train.items])
    data = replace(split.train, features={"told": torch.from_numpy(vectors)})
    model = Content(ContentConfig(features="told"), data)
    return rerank.scored(lists, Run.of("content", model, data))


def population(work: Path, seed: int, done: set[str]) -> None:
    """Every arm of one population that has no line yet."""
    ids, found = told(work, seed)
    split, _ = cut(ids, {}, seed, work)
    items = split.train.items
    lists = rerank.drawn(split.test, items, found["notes"], CONFIG, salt=1)
    popular = Run.of("popularity", fit(split, "popularity").model, split.train)
    plain = {
        "order": -np.broadcast_to(np.arange(CONFIG.candidates, dtype=float), lists.items.shape),
        "popularity": popular.counts[lists.items].astype(float),
    }
    for name, scores in plain.items():
        if name not in done:
            study.keep(TABLE, row(scores, lists, seed=seed, arm=name))
    for name, texts in found.items():
        if f"words: {name}" not in done:
            study.keep(
                TABLE, row(neighbours(texts, split, lists), lists, seed=seed, arm=f"words: {name}")
            )
        for arm, config in ((name, CONFIG), (f"{name}, merged", MERGED)):
            if arm not in done:
                ask = Kept(Tallies(), work / f"titles-{seed}.jsonl")
                study.keep(
                    TABLE, row(read(lists, items, texts, ask, config)[0], lists, seed=seed, arm=arm)
                )


def table(found: list[dict]) -> str:
    """Means over populations with 95 % intervals, then the paired differences."""
    by: dict[str, dict[int, dict]] = {}
    for line in found:
        by.setdefault(line["arm"], {})[line["seed"]] = line
    lines = ["| | NDCG@10 | hit@1 | mrr |", "|---|---|---|---|"]

    def said(arm: str, less: str | None = None) -> str:
        seeds = sorted(by[arm])
        cells = []
        for name in ("ndcg", "hit@1", "mrr"):
            values = [by[arm][s][name] - (by[less][s][name] if less else 0) for s in seeds]
            one = t_interval(np.array(values))
            cells.append(f"{one.mean:{'+' if less else ''}.3f} ± {(one.high - one.low) / 2:.3f}")
        return " | ".join(cells)

    lines += [f"| {arm} | {said(arm)} |" for arm in by]
    for kind in (*NOISE, "own", "own noisy"):
        for arm in ("both", "both, permuted", "both, merged"):
            less = "both" if "merged" in arm else "titles"
            if f"{kind}: {arm}" in by:
                pair = (f"{kind}: {arm}", f"{kind}: {less}")
                lines.append(f"| {pair[0]} - {less} | {said(*pair)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path("work/study"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--summary", action="store_true", help="only sum up lines that are there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in [] if arguments.summary else arguments.seeds:
        population(arguments.work, seed, {x["arm"] for x in study.rows(TABLE) if x["seed"] == seed})
    print(table(study.rows(TABLE)))


if __name__ == "__main__":
    main()
