"""KAR and ONCE: what knowledge of a language model adds to a CTR model beside plain text.

    REELM_DATA=... python benchmarks/paper_kar.py ml1m|goodreads [--seeds N] [--only ARM ...]

ml1m: single ratings of MovieLens-1M as CoLLM cut them by time; liked is a rating above 3. Nobody
there has asked a language model, so the arms are the backbones, the encoded titles and genres
(encoder-only), the same dealt to the wrong films (placebo), and each adaptor; and what counting
says of the people (`reelm annotate --prompt user_profile --backend tallies`), by the genres of the
films that each liked in the first half of training, of which half no place is learned, beside the
same of others, nothing said at all, and the titles and genres themselves in one text (`history`).
goodreads: books with the descriptions that GPT-3.5 wrote from their titles (ONCE's release); the
CORE-core of it, each user's last book for the test and the one before for validation, and before
every book one that was drawn by how often books are chosen, which counts as not liked. Interests
in that release were written from whole histories, the test's book included: the arms that read
them say `leaks`, and are there to show what such a leak is worth. `once` reads a book as one
vector of a text: the language models at hand know no words of books, so none reads it by tokens.
Weights are chosen by the AUC of validation; the test is opened once per arm and seed. Texts are
encoded by all-MiniLM-L6-v2 once and kept under REELM_WORK.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import study
from study import Arm

from reelm import files
from reelm.backends.base import Answer
from reelm.data.dataset import Dataset, DatasetConfig
from reelm.data.packing import pack
from reelm.data.split import Split, SplitConfig, split
from reelm.data.tables import Features
from reelm.dossiers import profile_dossiers
from reelm.encoders.text import Text, TextConfig
from reelm.formats.base import ReadOptions
from reelm.formats.collm import CoLLM
from reelm.formats.goodreads import Goodreads
from reelm.models.dcn import DCNConfig
from reelm.models.din import DINConfig
from reelm.models.kar import KARConfig
from reelm.models.once import ONCEConfig
from reelm.models.pointwise import PointwiseConfig
from reelm.prompts.user_profile import UserProfile
from reelm.tallies import Answers, Tallies
from reelm.train import TrainConfig

CORE = (
    15  # choices that a book, and a third of them that a user must have: what a small CPU encodes
)
TRAIN = TrainConfig(
    epochs=12, batch_size=512, learning_rate=2e-3, weight_decay=0.01, patience=2,
    measure="places/auc",
)  # fmt: skip
LONG = TRAIN.model_copy(update={"epochs": 20, "patience": 20})
"""For goodreads, where a model may stand at chance for its first epochs."""
LIKED, CUT = 20, 0.5  # films that a profile tells of, and the part of training that it sees
SIZE = {"dim": 16, "max_length": 20, "dropout": 0.2}


def arms(data: str) -> list[Arm]:
    """The lines of the table."""
    title, people = {"item_knowledge": "title"}, {"item_knowledge": "", "after": False}
    films = {
        "encoder-only": title,
        "placebo": {"item_knowledge": "title, dealt"},
        "encoder-only, mlp": title | {"adaptor": "mlp"},
        "encoder-only, dedicated": title | {"adaptor": "dedicated"},
        "encoder-only, shared": title | {"adaptor": "shared"},
        "encoder-only, later halves": title | {"user_knowledge": "nothing"},
        "encoder-only, profile": title | {"user_knowledge": "profile"},
        "encoder-only, profile, dealt": title | {"user_knowledge": "profile, dealt"},
        "encoder-only, history": title | {"user_knowledge": "history"},
    }
    books = {
        "encoder-only": title,
        "knowledge": {"item_knowledge": "said"},
        "placebo": {"item_knowledge": "said, dealt"},
        "interests (leaks)": people | {"user_knowledge": "interests"},
        "interests, dealt": people | {"user_knowledge": "interests, dealt"},
    }
    schedule = TRAIN if data == "ml1m" else LONG
    plain: dict[str, type[PointwiseConfig]] = {"din": DINConfig, "dcn": DCNConfig}
    found = []
    for name, kind in plain.items():
        found.append(Arm(name, name, kind(**SIZE), schedule))
        for told, more in (films if data == "ml1m" else books).items():
            settings = KARConfig(backbone=name, **SIZE, **more)  # pyright: ignore[reportArgumentType]
            found.append(Arm(f"{name}, {told}", "kar", settings, schedule))
    if data == "goodreads":
        for told, table in {"encoder-only": "title", "knowledge": "said"}.items():
            for name, features in ((told, table), (f"{told}, dealt", f"{table}, dealt")):
                found.append(Arm(f"once, {name}", "once", read_as_one(features), schedule))
    return found


def read_as_one(table: str) -> ONCEConfig:
    """ONCE over one vector of each book."""
    return ONCEConfig(states="", features=(table,), user_encoder="naml", max_length=20)


def ml1m() -> Split:
    """CoLLM's split with encoded titles and genres."""
    read = CoLLM().read(study.folder() / "ml1m", ReadOptions())
    texts = read.videos["title"] + ". " + read.videos["hashtags"].fill_null("")
    ids = read.videos["video_id"].to_list()
    features = [encoded("title", ids, texts.to_list())]
    packed = pack([read.events], read.videos, DatasetConfig(exposures=True))
    cut = split(Dataset.of(packed, [*features, *map(dealt, features)]), SplitConfig(name="given"))
    genres = read.videos["hashtags"].fill_null("").to_list()
    notes = {i: {"genre": some.split()} for i, some in zip(ids, genres, strict=True) if some}
    people = counted(cut, notes, dict(zip(ids, texts.to_list(), strict=True)))
    return replace(cut, train=cut.train.with_profiles(people))


def counted(cut: Split, notes: Answers, texts: Mapping[str, str]) -> list[Features]:
    """What counting says of people by the notes of films they liked, the same of others, nothing,
    and the texts of these films."""
    found = profile_dossiers(cut, notes, LIKED, UserProfile, CUT)
    told = Tallies().answer([one.request for one in found])
    said = [json.loads(one.text) if isinstance(one, Answer) else {} for one in told]
    ids, read = tuple(one.user for one in found), np.array([one.read for one in found])
    lines = {
        "profile": [UserProfile.as_text(one) or "-" for one in said],
        "history": [". ".join(texts[film] for film in one.watched) for one in found],
    }
    made = [replace(encoded(name, ids, some, 256), read=read) for name, some in lines.items()]
    nothing = replace(made[0], name="nothing", vectors=np.zeros_like(made[0].vectors))
    others = np.random.default_rng(7).permutation(len(ids))
    shuffled = replace(made[0], name="profile, dealt", vectors=made[0].vectors[others])
    return [*made, nothing, shuffled]


def goodreads(interests: bool = True) -> Split:
    """The core of ONCE's Goodreads with drawn negatives; titles, descriptions, interests."""
    source = study.folder() / "goodreads_llm"
    log, features = books(source)
    people = told(source, log) if interests else []
    packed = pack([shown(log)], list(features[0].ids), DatasetConfig(exposures=True))
    data = Dataset.of(packed, features)
    data = data.with_profiles([*people, *map(dealt, people)])
    return split(data, SplitConfig(name="given"))


def books(source: Path) -> tuple[pl.DataFrame, list[Features]]:
    """The core of the log, and titles and descriptions of its books, each also dealt out."""
    read = Goodreads().read(source, ReadOptions())
    log = core(
        read.events.select("user_id", "video_id", "order").cast(
            {"user_id": pl.String, "video_id": pl.String}
        )
    )
    known = pl.read_parquet(source / "books.parquet").with_columns(
        video_id=pl.col("bid").cast(pl.String)
    )
    known = known.join(log, on="video_id", how="semi")
    ids = known["video_id"].to_list()
    features = [
        encoded("title", ids, known["title"].to_list()),
        encoded("said", ids, known["llm_description"].to_list()),
    ]
    return log, [*features, *map(dealt, features)]


def told(source: Path, log: pl.DataFrame) -> list[Features]:
    """What was said of the users of a log; written from whole histories."""
    people = pl.read_parquet(source / "user_profiles_llm.parquet")
    people = people.with_columns(user_id=pl.col("uid").cast(pl.String))
    people = people.join(log, on="user_id", how="semi")
    said = people["interests"].list.join(", ").to_list()
    return [encoded("interests", people["user_id"].to_list(), said)]


def core(log: pl.DataFrame) -> pl.DataFrame:
    """Books with CORE choices, and users with a third of that, until all that stay have them."""
    while True:
        size = log.height
        log = log.filter(pl.len().over("video_id") >= CORE)
        log = log.filter(pl.len().over("user_id") >= CORE // 3)
        if log.height == size:
            return log


def shown(log: pl.DataFrame) -> pl.DataFrame:
    """Every choice, and just before it a drawn book the user never chose, which he did not like."""
    rng = np.random.default_rng(0)
    log = log.sort("user_id", "order").with_columns(
        left=pl.len().over("user_id") - 1 - pl.int_range(pl.len()).over("user_id")
    )
    log = log.with_columns(
        split=pl.col("left").replace_strict({0: "test", 1: "valid"}, default="train")
    )
    own = {user: set(some["video_id"]) for (user,), some in log.group_by("user_id")}
    pool = log.filter(pl.col("split") == "train")["video_id"].to_list()
    drawn = []
    for user in log["user_id"]:
        one = pool[rng.integers(len(pool))]
        while one in own[user]:
            one = pool[rng.integers(len(pool))]
        drawn.append(one)
    passed = log.with_columns(
        video_id=pl.Series(drawn), event=pl.lit("dislike"), order=2 * pl.int_range(pl.len())
    )
    liked = log.with_columns(event=pl.lit("like"), order=2 * pl.int_range(pl.len()) + 1)
    return pl.concat([passed, liked]).drop("left").sort("order")


def encoded(name: str, ids: Sequence[str], texts: Sequence[str], longest: int = 96) -> Features:
    """Vectors of texts of at most so many tokens, from the folder where they were kept before."""
    path = study.WORK / f"kar-{name}-{files.digest(chr(0).join(texts).encode())}.npy"
    if not path.is_file():
        parts, encoder = [], Text(TextConfig(max_length=longest))
        for at in range(0, len(texts), 64):
            parts.append(encoder.encode(texts[at : at + 64]))
        with files.atomic(path) as tmp:
            np.save(tmp, np.concatenate(parts))
    return Features(name, tuple(ids), np.load(path))


def dealt(features: Features) -> Features:
    """The same vectors with the wrong owners."""
    order = np.random.default_rng(0).permutation(len(features.ids))
    return Features(f"{features.name}, dealt", features.ids, features.vectors[order])


def main() -> None:
    """Rows that are missing are made; then the table and the paired differences are printed."""
    asked = study.asked("ml1m", "goodreads")
    table = f"paper_kar_{asked.data}"
    chosen = study.wanted(arms(asked.data), asked.only)
    leaks = any("interests" in arm.name for arm in chosen)
    data = ml1m() if asked.data == "ml1m" else goodreads(leaks)
    study.run(table, data, chosen, range(asked.seeds))
    print(study.show(table, ("auc", "uauc", "logloss", "ece", "ece_raw")))
    made = {row["arm"] for row in study.rows(table)}
    for arm in chosen:
        base = arm.name.partition(", ")[0]
        for other in (base, f"{base}, encoder-only"):
            if other != arm.name and {arm.name, other} <= made:
                mean, half, seeds = study.paired(table, arm.name, other, "auc")
                print(f"{arm.name} - {other}: auc {mean:+.4f} ± {half:.4f} ({seeds} seeds)")


if __name__ == "__main__":
    main()
