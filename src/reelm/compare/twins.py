"""Leak detector: the same video under two ids, one of them watched and the other asked for."""

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64

from reelm.compare.findings import Evidence, Finding, Severity, histories, shared, targets
from reelm.data.split import Questions

NEAR = 0.9999  # cosine from which two vectors are one
MOST = 2000  # videos of one title that are compared with each other

Groups = Int64[np.ndarray, "items"]


def twins(evidence: Evidence) -> list[Finding]:
    """Questions whose target is a copy of a video in their history.

    Copies are videos with one file hash (or that the catalogue calls duplicates), and videos with
    one title whose vectors have a cosine above NEAR in every feature table that holds both.

    Cannot see: files that were cut or encoded again, unless features and title are alike; copies
    under other titles; anything without a catalogue. Features made of the title alone are alike
    for all videos of one title, so such a finding is a warning to look at, not a proof.
    """
    files = _by_file(evidence)
    found = _told(evidence, files, "file", "leak", "are byte by byte the same file")
    alike = np.where(files > 0, 0, _by_look(evidence))
    return found + _told(
        evidence, alike, "features and title", "warning", "have one title and the same features"
    )


def _told(
    evidence: Evidence, group: Groups, by: str, severity: Severity, same: str
) -> list[Finding]:
    found = []
    for part, questions in evidence.asked if group.any() else ():
        question, item = targets(questions)
        told = _given_away(evidence.width, group, questions)
        if not told.any():
            continue
        count, first = int(told.sum()), int(told.argmax())
        pair = questions.users[question[first]] * evidence.width + item[first]
        shown = questions.history(int(question[first]))
        copy = evidence.split.train.items[int(shown[group[shown] == group[item[first]]][0])]
        found.append(
            Finding(
                f"duplicates by {by}",
                severity,
                count,
                f"{evidence.named(pair)}, a copy of video {copy}",
                f"{count} of {len(item)} {part} targets ({shared(count, len(item))}) {same} as "
                "a video in the history they are asked with: content gives them away.",
                "Let one id stand for all copies (ingest does so for equal files), or drop them.",
            )
        )
    return found


def _given_away(width: int, group: Groups, questions: Questions) -> Bool[np.ndarray, "targets"]:
    """Whether the history of a target's question holds a copy of it, and not the target too."""
    question, item = targets(questions)
    row, shown = histories(questions)
    twin = group[shown] > 0
    have = row[twin] * width + group[shown[twin]]
    itself = np.isin(question * width + item, row * width + shown)
    return (group[item] > 0) & np.isin(question * width + group[item], have) & ~itself


def _by_file(evidence: Evidence) -> Groups:
    """A number above 0 for items of one file; 0 for items of their own."""
    columns = evidence.columns()
    ids = pl.Series(evidence.split.train.items, dtype=pl.String)
    key = pl.Series([None] * len(ids), dtype=pl.String)
    if "sha256" in columns:
        key = columns["sha256"]
    if "duplicate_of" in columns:
        first = columns["duplicate_of"]
        named = ids.is_in(first.drop_nulls().implode())
        own = pl.when(named).then(ids).otherwise(key)
        key = pl.select(pl.coalesce(first, own)).to_series()
    return _numbered(key)


def _by_look(evidence: Evidence) -> Groups:
    """The same for items of one title and like features."""
    train, columns = evidence.split.train, evidence.columns()
    if "title" not in columns or not train.features:
        return np.zeros(evidence.width, np.int64)
    title = columns["title"].str.strip_chars().str.to_lowercase()
    same = _numbered(title.replace("", None))
    group = np.zeros(evidence.width, np.int64)
    order = np.argsort(same, kind="stable")
    order = order[same[order] > 0]
    ends = np.flatnonzero(np.diff(same[order])) + 1
    for rows in np.split(order, ends) if len(order) else ():
        for place, other in _like(evidence, rows[:MOST]):
            group[other] = group[place] = group[place] or place
    return group


def _like(evidence: Evidence, rows: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of items, the first of each kind and one like it."""
    train = evidence.split.train
    alike, told = np.ones((len(rows), len(rows)), bool), np.zeros((len(rows), len(rows)), bool)
    for name, vectors in train.features.items():
        table = vectors.numpy()[rows]
        length = np.linalg.norm(table, axis=1, keepdims=True)
        unit = np.divide(table, length, out=np.zeros_like(table), where=length > 0)
        both = np.outer(train.has_feature[name][rows], train.has_feature[name][rows])
        alike &= ~both | (unit @ unit.T > NEAR)
        told |= both
    alike &= told
    first = alike.argmax(axis=1)
    return [(int(rows[f]), int(rows[n])) for n, f in enumerate(first) if alike[n, f] and f < n]


def _numbered(key: pl.Series) -> Groups:
    """1, 2, ... for values that occur more than once; 0 for the rest and for null."""
    several = key.is_duplicated() & key.is_not_null()
    rank = pl.select(pl.when(several).then(key.rank("dense"))).to_series()
    return rank.fill_null(0).to_numpy().astype(np.int64)
