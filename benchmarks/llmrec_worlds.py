"""The worlds of the LLMRec study, whose truth is known: a small one, and the rendered one.

The small one: 400 users, 300 items of 8 topics; a user's taste is Dirichlet(.25), an item's
popularity lognormal(0, .6). Of 11 picks by Gumbel's trick on log(taste * popularity) 6 are
training, 2 validation and 3 the test; 15 % of the training picks are replaced by other items.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cold_study
import numpy as np
import polars as pl
from jaxtyping import Float, Int
from world_study import PEOPLE, SEED, VIDEOS

from reelm import files
from reelm.data.dataset import Dataset
from reelm.data.split import Split, SplitConfig, global_time, split
from reelm.data.tables import Features, read_catalog, read_features, read_notes
from reelm.encode import EncodeConfig, encode
from reelm.encoders.text import Text
from reelm.tallies import Answers
from reelm.world.people import SPLIT_DAY, simulate
from reelm.world.tables import DAY_S, EPOCH_S, events_table, write_truth
from reelm.world.titles import make_uploads
from reelm.world.vocabulary import ATTRIBUTES

USERS, ITEMS, TOPICS = 400, 300, 8
TRAIN, VALID, TEST = 6, 2, 3
NOISE = 0.15
QUALITIES = (1.0, 0.75, 0.5, 0.0)  # of the oracle describer


@dataclass(frozen=True)
class World:
    """A split, and how likely each user is to pick each item."""

    split: Split
    truth: Float[np.ndarray, "users items"]
    """Columns as the dataset has them, the padding item first."""


def world(seed: int) -> World:
    """One draw of users, items and picks."""
    rng = np.random.default_rng(seed)
    taste = rng.dirichlet(np.full(TOPICS, 0.25), USERS)
    topic, popularity = rng.integers(TOPICS, size=ITEMS), rng.lognormal(0, 0.6, ITEMS)
    liking = np.log(taste[:, topic] * popularity + 1e-12)
    picks = np.argsort(-(liking + rng.gumbel(size=liking.shape)), axis=1)[:, : TRAIN + VALID + TEST]
    picks = np.take_along_axis(picks, rng.random(picks.shape).argsort(1), axis=1)
    noisy = rng.random((USERS, TRAIN)) < NOISE
    picks[:, :TRAIN][noisy] = rng.integers(ITEMS, size=int(noisy.sum()))
    parts = ["train"] * TRAIN + ["valid"] * VALID + ["test"] * TEST
    events = pl.DataFrame(
        {
            "user_id": np.repeat([f"u{u}" for u in range(USERS)], picks.shape[1]),
            "video_id": [f"v{i}" for i in picks.flatten()],
            "event": "watch",
            "value": 1.0,
            "split": parts * USERS,
            "order": np.arange(picks.size),
        }
    )
    videos = [f"v{i}" for i in range(ITEMS)]
    cut = split(Dataset.build(events, videos=videos), SplitConfig(name="given"))
    truth = np.zeros((USERS, ITEMS + 1))
    people = [int(user[1:]) for user in cut.train.users]
    shelf = [int(item[1:]) for item in cut.train.items[1:]]
    truth[:, 1:] = liking[np.ix_(people, shelf)]
    return World(cut, truth)


def oracle_edges(
    data: Dataset,
    candidates: Int[np.ndarray, "users some"],
    truth: Float[np.ndarray, "users items"],
    quality: float,
    seed: int,
) -> pl.DataFrame:
    """For each user the best and the worst candidate by the truth, or, with a chance of 1 -
    quality, two random ones; each of weight 1."""
    rng = np.random.default_rng(seed)
    rows = []
    for user, shown in enumerate(candidates):
        order = shown[np.argsort(-truth[user, shown])]
        liked, disliked = order[[0, -1]]
        if rng.random() >= quality:
            liked, disliked = rng.choice(shown, 2, replace=False)
        rows.append((data.users[user], data.items[liked], data.items[disliked], 1.0))
    return edges(rows)


def edges(rows: Sequence[tuple[str, str, str, float]]) -> pl.DataFrame:
    """A table of edges."""
    return pl.DataFrame(rows, schema=["user_id", "liked", "disliked", "weight"], orient="row")


def dealt(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The same edges dealt out to other users: the placebo."""
    order = np.random.default_rng(seed).permutation(len(table))
    return table.with_columns(pl.col("user_id").gather(order))


@dataclass(frozen=True)
class Population:
    """People of the rendered world of world_study.py, and what may be said of the videos."""

    events: pl.DataFrame
    videos: tuple[str, ...]
    truth: Path
    described: Mapping[float, Answers]
    """True attributes, each kept with this chance, else a random value of its field."""
    pocket: Answers
    titles: Features

    def split(self, *features: Features) -> Split:
        """Cut at day 22; each user's last training interaction is validation."""
        data = Dataset.build(self.events, features, videos=self.videos)
        at = EPOCH_S + SPLIT_DAY * DAY_S
        return global_time(data, SplitConfig(name="global_time", valid_share=0, test_from=at))


def population(work: Path, seed: int) -> Population:
    """The rendered world in `work`, made if it is not there, and one draw of people."""
    if not (work / "notes").is_dir():
        cold_study.noted(work)
    catalog = read_catalog(files.latest(work / "catalog"))
    notes = read_notes(files.latest(work / "notes"))
    pairs = zip(notes["video_id"], notes["answer"], strict=True)
    pocket = {video: json.loads(answer) for video, answer in pairs if answer}
    uploads = make_uploads(VIDEOS, SEED)
    log, tastes = simulate(uploads, PEOPLE, 100 + seed)
    truth = write_truth(work / f"truth-{seed}", uploads, tastes)
    titles = encode(catalog, Text(), EncodeConfig(input="title"), work)
    return Population(
        events_table(log, seed),
        tuple(catalog.videos["video_id"]),
        truth,
        {q: blurred(truth, q, seed) for q in QUALITIES},
        pocket,
        read_features(titles, "title"),
    )


def blurred(truth: Path, quality: float, seed: int) -> Answers:
    """The oracle describer of this quality."""
    table = pl.read_parquet(truth / "attributes.parquet")
    rng = np.random.default_rng(3000 + seed)
    for name, known in ATTRIBUTES.items():
        drawn = rng.choice(np.array(known), len(table))
        wrong = rng.random(len(table)) >= quality
        table = table.with_columns(pl.Series(name, np.where(wrong, drawn, table[name].to_numpy())))
    return {row["video_id"]: {f: row[f] for f in ATTRIBUTES} for row in table.to_dicts()}
