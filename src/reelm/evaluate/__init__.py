"""Verb: ask a model the held-out questions and report how high it ranked their targets.

This is the only place that opens a split's test questions.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool
from pydantic import Field, NonNegativeInt, PositiveInt

from reelm import files, metrics
from reelm.config import Config
from reelm.data.exposures import Exposures
from reelm.data.split import Questions, Split
from reelm.errors import BadData, ConfigError
from reelm.evaluate.lists import Lists
from reelm.evaluate.places import calibrate, places
from reelm.evaluate.places import write as write_places
from reelm.evaluate.ranking import Placed, Sampled, Wanted, place
from reelm.evaluate.report import Report, summary, write
from reelm.models.base import Ranker, Retriever
from reelm.runs import Run

POOLS = ("mixed", "warm", "cold")
VERSION = 3

__all__ = [
    "POOLS",
    "EvaluateConfig",
    "Lists",
    "Report",
    "Sampled",
    "calibrate",
    "evaluate",
    "places",
    "summary",
    "test",
]


class EvaluateConfig(Config):
    """Section [evaluate]."""

    ks: tuple[PositiveInt, ...] = Field(default=(5, 10, 20), min_length=1)
    """Lengths of the lists that recall, ndcg and hit look at."""
    pools: tuple[str, ...] = Field(default=POOLS, min_length=1)
    """mixed: all videos; warm: those that training saw; cold: those it never saw."""
    lists: bool = True
    """Whether the lists themselves are judged too: coverage, popularity, novelty."""
    diversity_by: str | None = None
    """Feature table by which the videos of a list are alike or not, e.g. text; unset: diversity
    is not measured."""
    sampled: NonNegativeInt = 0
    """Videos drawn for each question that its targets are also ranked among, as some papers do
    with 100; these metrics are called sampled100_recall@10 and so on. 0: not done."""
    sampled_seed: NonNegativeInt = 0
    """Of that draw."""


def test(run: Run, split: Split, work: Path, config: EvaluateConfig | None = None) -> Path:
    """Ask a run the test questions and write `work/reports/<run>-<split>-test-<key>/`.

    A run that rates single places is asked about the test's exposures, and the settings have no
    say. A second call with the same run, split and settings returns the folder at once.

    Raises:
        BadData: the run learned from other videos, or other interactions, than the split's
            training part has; or it rates single places, and the split has none.
        MissingInput: the features of `diversity_by` were not loaded.
    """
    config = config or EvaluateConfig()
    run.may_be_asked(split.train)
    inputs = {"run": run.identity, "split": split.fingerprint, "questions": _asked(run, split)}
    key = files.key("evaluate", VERSION, config.model_dump(), inputs)
    folder = work / "reports" / f"{run.name}-{split.name}-test-{key}"
    if files.finished(folder):
        return folder
    begun = time.monotonic()
    about = {"model": run.name, "run": run.identity, "split": split.name, "asked": "test"}
    rows = _rate(run, split, folder, about)
    if rows is None:
        rows = _rank(run, split, folder, about, config)
    return files.finish(
        folder,
        stage="evaluate",
        version=VERSION,
        key=key,
        settings=config.model_dump(),
        inputs=inputs,
        rows=rows,
        failed=0,
        seconds=round(time.monotonic() - begun, 3),
    )


def _asked(run: Run, split: Split) -> str:
    """What the test asks of a run, as a digest."""
    if isinstance(run.model, Retriever):
        return split.test.digest()
    return files.digest(_test_shown(split).digest())


def _test_shown(split: Split) -> Exposures:
    """Raises BadData if the dataset was read without exposures."""
    if split.test_shown is None:
        raise BadData(
            "this run rates single places, and the dataset was read without exposures. "
            "Read it with dataset.exposures = true, as the run's training was."
        )
    return split.test_shown


def _rate(run: Run, split: Split, folder: Path, about: dict[str, str]) -> int | None:
    """The report of a ranker; says of how many places. None if the run is none."""
    if not isinstance(run.model, Ranker):
        return None
    found = places(run.model, _test_shown(split))
    write_places(found, folder, about, found.table(run.users, run.items))
    return len(found.shown)


def _rank(
    run: Run, split: Split, folder: Path, facts: dict[str, str], config: EvaluateConfig
) -> int:
    """The report of a retriever; says of how many questions."""
    judged = config.lists or config.diversity_by is not None
    lists = Lists.of(split.train, config.diversity_by) if judged else None
    sampled = Sampled(config.sampled, config.sampled_seed) if config.sampled else None
    report = evaluate(run.retriever, split.test, config.pools, config.ks, lists, sampled)
    if config.diversity_by is not None:
        facts["diversity by"] = config.diversity_by
    named = _named(report.per_user, run.users), _named(report.targets, run.users, run.items)
    write(report, folder, facts, *named)
    return len(split.test)


def evaluate(
    model: Retriever | Run,
    questions: Questions,
    pools: Sequence[str] = POOLS,
    ks: Sequence[int] = (5, 10, 20),
    lists: Lists | None = None,
    sampled: Sampled | None = None,
) -> Report:
    """Rank every candidate of each pool for every question; videos already seen are left out.

    The pools: `mixed` holds all videos, `warm` those in the training interactions, `cold` those
    that are not there but are a target of some question. A question counts in a pool if one of
    its targets is in it, and only these targets count.

    Args:
        ks: lengths of the lists that recall, ndcg and hit look at.
        lists: if given, the first max(ks) videos of each question are judged too; see `lists`.
        sampled: if given, targets are also ranked among a few drawn videos only. The names of
            these metrics begin with `sampled<count>_`.

    Raises:
        ConfigError: a pool that is none of these.
        NonFinite: the model gave NaN or infinity.

    Cost: one scoring of the catalogue per question; memory for ranking.TILE scores.
    """
    model = model.retriever if isinstance(model, Run) else model
    counts = model.counts.cpu().numpy()
    masks = {name: _pool(name, counts > 0, questions) for name in pools}
    wanted = Wanted(max(ks, default=0) if lists else 0, sampled)
    found = place(model, questions, masks, wanted)
    whole = {n: lists.whole(found[n], questions, masks[n], ks) for n in masks} if lists else {}
    tables = [_table(n, found[n], questions, ks, lists) for n in masks]
    if sampled:
        among = [_sampled(found[name], sampled, ks) for name in masks]
        tables = [table.hstack(more) for table, more in zip(tables, among, strict=True)]
    sizes = {name: int(mask.sum()) for name, mask in masks.items()}
    targets = pl.concat(_targets(name, found[name], questions, counts) for name in masks)
    if lists and lists.tables:
        tables_of = pl.Series("tables", lists.tables).gather(targets["item"])
        targets = targets.with_columns(tables_of)
    return Report.of(pl.concat(tables), sizes, ks, len(questions), whole, targets)


def _table(
    name: str, found: Placed, questions: Questions, ks: Sequence[int], lists: Lists | None
) -> pl.DataFrame:
    """One row per question of a pool."""
    asked = found.question
    facts = {
        "pool": np.full(len(asked), name, object),
        "user": questions.users[asked],
        "history": (questions.stop - questions.start)[asked],
        "targets": found.size,
        "candidates": found.candidates,
    }
    told = metrics.per_question(found.rank, _ends(found), ks)
    if lists:
        told |= lists.per_question(found, ks)
    return pl.DataFrame(facts | told, schema_overrides={"pool": pl.String}, nan_to_null=True)


def _sampled(found: Placed, sampled: Sampled, ks: Sequence[int]) -> pl.DataFrame:
    """Columns of the shortened protocol, under names that say so."""
    told = metrics.per_question(found.sampled_rank, _ends(found), ks)
    return pl.DataFrame(
        {"drawn": found.drawn} | {f"{sampled.prefix}{name}": v for name, v in told.items()}
    )


def _targets(name: str, found: Placed, questions: Questions, counts: np.ndarray) -> pl.DataFrame:
    """One row per target of a pool."""
    question = np.repeat(found.question, found.size)
    columns = {
        "pool": np.full(len(question), name, object),
        "question": question,
        "user": questions.users[question],
        "history": (questions.stop - questions.start)[question],
        "item": found.target,
        "frequency": counts[found.target],
        "rank": found.rank,
    }
    return pl.DataFrame(columns, schema_overrides={"pool": pl.String})


def _ends(found: Placed) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(found.size)])


def _pool(
    name: str, seen: Bool[np.ndarray, "items"], questions: Questions
) -> Bool[np.ndarray, "items"]:
    """Which items are candidates."""
    pool = np.ones(len(seen), bool)
    if name == "warm":
        pool = seen.copy()
    elif name == "cold":
        pool = np.zeros(len(seen), bool)
        pool[questions.target] = True
        pool &= ~seen
    elif name != "mixed":
        raise ConfigError(f"evaluate.pools: {name!r} is no pool. Known: {', '.join(POOLS)}.")
    pool[0] = False
    return pool


def _named(
    table: pl.DataFrame, users: tuple[str, ...], items: tuple[str, ...] = ()
) -> pl.DataFrame:
    """The same with ids for rows of users and, where there are any, of items."""
    ids = {"user": ("user_id", users), "item": ("video_id", items)}
    for column in set(table.columns) & set(ids):
        name, known = ids[column]
        named = pl.Series(name, known, dtype=pl.String).gather(table[column])
        table = table.with_columns(named.alias(name)).drop(column)
    return table
