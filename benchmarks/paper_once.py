"""ONCE in the rendered world: what tokens' states, tuned layers and generated texts are worth.

    python benchmarks/paper_once.py world --work work/study [--seeds 0 1 2 3 4] [--only ARM ...]
    python benchmarks/paper_once.py steps
    python benchmarks/paper_once.py summary

The world of world_study.py, cut down to what two cores train in half an hour: VIDEOS of its videos
as `pocket` saw them and PEOPLE of each population, half of whom are new and have four interactions
before the test. Before each interaction stand four videos drawn by how often the same part of the
log (training, validation, test) chose them. AUC is that of the lists of five, ties half, mean over
lists. Weights are chosen on validation; the test is opened once per line of
results/once_world.jsonl; lines that are there are not made again. The language model is the one
within `pocket`: three layers, 128 wide.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cold_study
import numpy as np
import polars as pl
import study
import torch
from harness import interleaved, ratio, report
from jaxtyping import Float
from world_study import PEOPLE as WATCHING
from world_study import SEED
from world_study import VIDEOS as RENDERED

from reelm import dossiers, files
from reelm.data.dataset import Dataset, DatasetConfig
from reelm.data.packing import pack
from reelm.data.split import Split, SplitConfig, split
from reelm.data.tables import Features, read_catalog
from reelm.encode import fielded
from reelm.encoders.hashing import Hashing
from reelm.encoders.states import States, StatesConfig
from reelm.encoders.text import Text
from reelm.evaluate import places
from reelm.halves import POCKET
from reelm.models.once import ONCEConfig
from reelm.probabilities import grouped_auc
from reelm.prompts.generated_videos import GeneratedVideos
from reelm.tallies import Tallies
from reelm.train import TrainConfig, build, fit
from reelm.world.people import SPLIT_DAY, simulate
from reelm.world.tables import DAY_S, EPOCH_S, events_table
from reelm.world.titles import make_uploads

TABLE = "once_world"
VIDEOS, PEOPLE = 800, 300
NEGATIVES = 4
NEW = 4  # interactions before the test of a new person, the last of them validation
TOKENS, LENGTH = 16, 20
CUT, WATCHED = 0.7, 20  # share of a training history that is told of, and most videos of it
GENERIC = "you won't believe this"
SCHEDULE = TrainConfig(
    epochs=60, patience=6, batch_size=1024, learning_rate=3e-3, measure="places/auc"
)
"""This, and the encoder of users, were chosen by the validation of populations 50 to 52."""
PLACES = 64  # of a step that is timed
PAIRS = (
    ("title, k=0", "title, one vector"),
    ("title and notes, one vector", "title, one vector"),
    ("title and notes, k=0", "title, one vector"),
    ("title and notes, k=0", "title, k=0"),
    ("title and notes, k=0", "title and notes, one vector"),
    ("title and dealt notes, k=0 (placebo)", "title, k=0"),
    ("title and notes, k=1", "title and notes, k=0"),
    ("half generic titles, k=1", "half generic titles, k=0"),
    ("later parts alone", "title and notes, k=0"),
    ("+ interests", "later parts alone"),
    ("+ interests", "+ interests, as in the paper"),
    ("+ interests of others (placebo)", "later parts alone"),
    ("+ generated, as text", "later parts alone"),
    ("+ generated, nearest", "later parts alone"),
    ("+ generated for others (placebo)", "later parts alone"),
)
CONFIG = {"tokens": TOKENS, "max_length": LENGTH, "user_encoder": "naml"}


@dataclass(frozen=True)
class Texts:
    """What is known of the videos in words, and its states; the same for every population."""

    title: Mapping[str, Mapping[str, Any]]
    """Title and hashtags by video."""
    notes: Mapping[str, Mapping[str, Any]]
    made: dict[Any, Features] = field(default_factory=dict)

    @classmethod
    def of(cls, work: Path) -> "Texts":
        """Of every second video of the rendered world in `work`, made if it is not there."""
        if not (work / "notes").is_dir():
            cold_study.noted(work)
        videos = read_catalog(files.latest(work / "catalog")).videos
        rows = videos.select("video_id", "title", "hashtags").to_dicts()[:: RENDERED // VIDEOS]
        titles = {r["video_id"]: {k: r[k] for k in ("title", "hashtags")} for r in rows}
        said = dossiers.said([files.latest(work / "notes")])
        return cls(titles, {video: said[video] for video in titles})

    def lines(self, kind: str) -> list[str]:
        """The text of each video."""
        videos, rng = list(self.title), np.random.default_rng(0)
        said = dict(self.notes)
        if kind == "title and dealt notes":
            said = dict(zip(videos, rng.permutation(list(self.notes.values())), strict=True))
        titles = dict(self.title)
        if kind == "half generic":
            for video in rng.permutation(videos)[: len(videos) // 2]:
                titles[video] = {"title": GENERIC}
        told = kind in ("title and notes", "title and dealt notes")
        return [fielded(titles[v] | (said[v] if told else {})) for v in videos]

    def states(self, kind: str, top: int) -> Features:
        """States of the texts, rounded as they are on disk."""
        if (kind, top) not in self.made:
            encoder = encoder_of(top)
            vectors = _in_parts(encoder, self.lines(kind)).astype(np.float16)
            facts = encoder.identity()
            self.made[kind, top] = Features("states", tuple(self.title), vectors, encoder=facts)
        return self.made[kind, top]

    def sentences(self, kind: str) -> Features:
        """One vector of each text, by all-MiniLM-L6-v2: the encoder-only control."""
        if kind not in self.made:
            vectors = _in_parts(Text(), self.lines(kind))
            self.made[kind] = Features("sentence", tuple(self.title), vectors)
        return self.made[kind]


def encoder_of(top: int) -> States:
    """The language model below its `top` layers."""
    return States(StatesConfig(top=top, tokens=TOKENS, device="cpu"))


def _in_parts(encoder: States | Text, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
    parts = [encoder.encode(texts[at : at + 64]) for at in range(0, len(texts), 64)]
    return np.concatenate(parts)


@dataclass(frozen=True)
class World:
    """One population's log with drawn negatives."""

    seed: int
    events: pl.DataFrame
    texts: Texts

    @cached_property
    def shown(self) -> pl.DataFrame:
        """Every interaction with its part of the log, and the drawn ones just before it."""
        return lists(chosen(self.events, list(self.texts.title), self.seed), self.seed)

    def split(self, *features: Features) -> Split:
        """The log cut, with these tables."""
        packed = pack([self.shown], list(self.texts.title), DatasetConfig(exposures=True))
        return split(Dataset.of(packed, features), SplitConfig(name="given"))


def chosen(events: pl.DataFrame, videos: Sequence[str], seed: int) -> pl.DataFrame:
    """Interactions of some people with these videos: user_id, video_id, part."""
    log = events.filter((pl.col("event") == "watch") & (pl.col("value") >= 0.5))
    log = log.filter(pl.col("video_id").is_in(videos)).unique(["user_id", "video_id"])
    rng = np.random.default_rng(seed)
    people = rng.permutation(sorted(log["user_id"].unique()))[:PEOPLE]
    new = pl.Series(people[::2])
    log = log.filter(pl.col("user_id").is_in(people)).sort("user_id", "timestamp", "video_id")
    log = log.with_columns(test=pl.col("timestamp") >= EPOCH_S + SPLIT_DAY * DAY_S)
    back = pl.int_range(pl.len(), 0, -1).over("user_id", "test")  # 1 is the last of its part
    log = log.with_columns(back=back)
    log = log.filter(
        pl.col("test") | ~pl.col("user_id").is_in(new.implode()) | (pl.col("back") <= NEW)
    )
    held = pl.when(pl.col("back") == 1).then(pl.lit("valid")).otherwise(pl.lit("train"))
    return log.select(
        "user_id", "video_id",
        split=pl.when("test").then(pl.lit("test")).otherwise(held),
        new=pl.col("user_id").is_in(new.implode()),
    )  # fmt: skip


def lists(log: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The interactions as events, and before each of them the drawn ones, which are disliked."""
    rng = np.random.default_rng(1000 + seed)
    own = {user: set(some["video_id"]) for (user,), some in log.group_by("user_id")}
    pool = {part: some["video_id"].to_numpy() for (part,), some in log.group_by("split")}
    rows = []
    for user, video, part in log.select("user_id", "video_id", "split").iter_rows():
        drawn: dict[str, None] = {}
        while len(drawn) < NEGATIVES:
            one = str(rng.choice(pool[part]))
            if one not in own[user]:
                drawn[one] = None
        rows += [(user, one, "dislike", part) for one in drawn]
        rows.append((user, video, "like", part))
    table = pl.DataFrame(rows, ["user_id", "video_id", "event", "split"], orient="row")
    return table.with_row_index("order").cast({"order": pl.Int64})


@dataclass(frozen=True)
class Arm:
    """One line of the table."""

    videos: Callable[[Texts], Features]
    settings: dict[str, Any]
    users: Callable[[World, Split], list[Features]] = lambda world, cut: []


def arms() -> dict[str, Arm]:
    """By name, what matters most first."""

    def states(kind: str, top: int = 0) -> Callable[[Texts], Features]:
        return lambda texts: texts.states(kind, top)

    def sentences(kind: str) -> Callable[[Texts], Features]:
        return lambda texts: texts.sentences(kind)

    def told(dealt: bool = False, silent: bool = False) -> Callable[..., list[Features]]:
        return lambda world, cut: generated(world, cut, dealt, silent)

    alone, tuned, whole = {"states": "", "features": ("sentence",)}, {"top": 1}, "title and notes"
    wanted, nearest = {"generated": "wanted"}, {"generated": "wanted", "generated_as": "nearest"}
    interests = {"profiles": ("interests",)}
    replaced = interests | {"joined": "replaced"}
    return {
        "title and notes, k=0": Arm(states(whole), {}),
        "title, one vector": Arm(sentences("title"), alone),
        "title, k=0": Arm(states("title"), {}),
        "title and dealt notes, k=0 (placebo)": Arm(states("title and dealt notes"), {}),
        "title and notes, one vector": Arm(sentences(whole), alone),
        "title and notes, k=1": Arm(states(whole, 1), tuned),
        "later parts alone": Arm(states(whole), wanted, told(silent=True)),
        "+ interests": Arm(states(whole), interests, told()),
        "+ interests, as in the paper": Arm(states(whole), replaced, told()),
        "+ interests of others (placebo)": Arm(states(whole), interests, told(dealt=True)),
        "+ generated, as text": Arm(states(whole), wanted, told()),
        "+ generated, nearest": Arm(states(whole), nearest, told()),
        "+ generated for others (placebo)": Arm(states(whole), wanted, told(dealt=True)),
        "half generic titles, k=0": Arm(states("half generic"), {}),
        "half generic titles, k=1": Arm(states("half generic", 1), tuned),
    }


def generated(world: World, cut: Split, dealt: bool, silent: bool) -> list[Features]:
    """Interests and videos for each user, by counting in the first CUT of his training.

    Args:
        dealt: give each user what was made for another, who had read as much.
        silent: say nothing; what was read is left out of training all the same.
    """
    found = dossiers.profile_dossiers(cut, world.texts.notes, WATCHED, GeneratedVideos, CUT)
    said = [json.loads(one.text) for one in Tallies().answer([d.request for d in found])]
    ids, read = tuple(one.user for one in found), np.array([one.read for one in found])
    order = np.arange(len(ids))
    if dealt:
        rng = np.random.default_rng(7)
        for size in np.unique(read):
            some = np.flatnonzero(read == size)
            mixed = rng.permutation(some)
            order[mixed] = np.roll(mixed, 1)
    texts = {
        name: [GeneratedVideos.as_text({name: said[n][name]}) or "-" for n in order]
        for name in ("interests", "videos")
    }
    encoder = encoder_of(0)
    states = _in_parts(encoder, texts["videos"]).astype(np.float16) * (not silent)
    return [
        Features("interests", ids, Hashing().encode(texts["interests"]), read),
        Features("wanted", ids, states, read, encoder.identity()),
    ]


def row(world: World, name: str) -> dict[str, Any]:
    """Train one arm and open the test once."""
    arm = arms()[name]
    cut = world.split(arm.videos(world.texts))
    cut = replace(cut, train=cut.train.with_profiles(arm.users(world, cut)))
    schedule = SCHEDULE.model_copy(update={"seed": world.seed})
    begun = time.process_time()
    config = ONCEConfig(**CONFIG, **arm.settings)
    model = fit(cut, "once", config, schedule).model
    spent = time.process_time() - begun
    return {
        "arm": name,
        "seed": world.seed,
        "test": {k: round(v, 5) for k, v in tested(model, cut, world).items()},
        "cpu_s": round(spent, 1),
    }


def tested(model: Any, cut: Split, world: World) -> dict[str, float]:
    """AUC of the lists of the test: of all, of new people's and of the others'."""
    assert cut.test_shown is not None
    found = places(model, cut.test_shown)
    shown = found.shown
    which = np.unique(shown.user * (1 << 32) + shown.stop, return_inverse=True)[1]
    assert (np.bincount(which) == NEGATIVES + 1).all()
    fresh = chosen(world.events, list(world.texts.title), world.seed).filter("new")
    new = np.isin(np.array(cut.train.users)[shown.user], fresh["user_id"].unique())
    parts = {"auc": np.ones_like(new), "auc new": new, "auc old": ~new}
    return {
        name: grouped_auc(shown.label[some], found.score[some], which[some])[1]
        for name, some in parts.items()
    }


def run(work: Path, seeds: Sequence[int], only: Sequence[str] | None) -> None:
    """Every arm and seed that the table lacks, arm by arm."""
    worlds: dict[int, World] = {}
    uploads, texts = make_uploads(RENDERED, SEED), Texts.of(work)
    done = {(one["arm"], one["seed"]) for one in study.rows(TABLE)}
    for name in arms():
        for seed in seeds:
            if (name, seed) in done or (only and name not in only):
                continue
            if seed not in worlds:
                log, _ = simulate(uploads, WATCHING, 100 + seed)
                worlds[seed] = World(seed, events_table(log, seed), texts)
            study.keep(TABLE, row(worlds[seed], name))


def steps() -> None:
    """Processor seconds of a step that tunes 2 of 32 layers, and of one that tunes 31, in turn."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    folder = study.WORK / "deep"
    if not (folder / "config.json").is_file():
        words = AutoTokenizer.from_pretrained(str(POCKET))
        torch.manual_seed(0)
        shape = Qwen2Config(
            vocab_size=len(words), hidden_size=128, intermediate_size=352, num_attention_heads=4,
            num_key_value_heads=1, num_hidden_layers=32, pad_token_id=words.pad_token_id,
            tie_word_embeddings=True, max_position_embeddings=1024,
        )  # fmt: skip
        Qwen2ForCausalLM(shape).save_pretrained(folder)
        words.save_pretrained(folder)
    calls = {f"top {top}": stepper(folder, top) for top in (0, 1, 2, 31)}
    found = interleaved(calls, rounds=3)
    for name, spans in found.items():
        shares = ratio(found, name, "top 31")
        shapes = {"layers": 32, "width": 128, "places": PLACES, "tokens": TOKENS, "tuned": name}
        report("once/step", shapes, {"cpu_s": spans["cpu_s"]}, **shares)


def stepper(folder: Path, top: int) -> Callable[[], None]:
    """One training step on PLACES places of 256 videos."""
    encoder = States(StatesConfig(model=str(folder), top=top, tokens=TOKENS, device="cpu"))
    ids = [f"v{n}" for n in range(256)]
    lines = [
        f"title: video {n} of a cat in the city; subject: cat; scene: city" for n in range(256)
    ]
    vectors = _in_parts(encoder, lines).astype(np.float16)
    states = Features("states", tuple(ids), vectors, encoder=encoder.identity())
    rng = np.random.default_rng(0)
    rows = [
        (f"u{n % 64}", ids[rng.integers(256)], rng.choice(["like", "dislike"]), n)
        for n in range(64 * 20)
    ]
    log = pl.DataFrame(rows, ["user_id", "video_id", "event", "order"], orient="row")
    data = Dataset.of(pack([log], ids, DatasetConfig(exposures=True)), [states])
    config = ONCEConfig(tokens=TOKENS, top=top, language_model=str(folder))
    model = build("once", config, data, 0).train()
    batch = next(iter(model.batches(data, PLACES, torch.Generator().manual_seed(0))))

    def step() -> None:
        model.zero_grad()
        model.loss(batch)["likes"].backward()

    return step


def show() -> str:
    """The table and the paired differences in Markdown."""
    metrics = ("auc", "auc new", "auc old")
    lines = ["| arm | seeds | " + " | ".join(metrics) + " | CPU s |", "|---|---|---|---|---|---|"]
    made: dict[str, list[dict[str, Any]]] = {}
    for one in study.rows(TABLE):
        made.setdefault(one["arm"], []).append(one)
    for name, found in made.items():
        cells = []
        for metric in metrics:
            mean, half = study.interval([one["test"][metric] for one in found])
            cells.append(f"{mean:.4f} ± {half:.4f}")
        spent = np.mean([one["cpu_s"] for one in found])
        lines.append(f"| {name} | {len(found)} | {' | '.join(cells)} | {spent:.0f} |")
    lines += ["", "| difference | seeds | " + " | ".join(metrics) + " |", "|---|---|---|---|---|"]
    for one, other in PAIRS:
        if one in made and other in made:
            found = [study.paired(TABLE, one, other, metric) for metric in metrics]
            cells = [f"{mean:+.4f} ± {half:.4f}" for mean, half, _ in found]
            lines.append(f"| {one} - {other} | {found[0][2]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    given = study.asked_of_world("world", "steps", "summary")
    if given.what == "world":
        run(given.work, given.seeds, given.only)
    elif given.what == "steps":
        steps()
    else:
        print(show())


if __name__ == "__main__":
    main()
