"""The leak detector: does training, or a question, hold what it should not know yet?

It sees only what is in the data it is given. It cannot see: a time that was wrong in the log
from the start; an embedding, a language model or an encoder that met these videos or people while
it was trained elsewhere; settings that somebody chose by looking at the test; the same content
in files that differ in a byte and have neither like features nor one title; paraphrases.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from reelm.compare import twins, words
from reelm.compare.findings import Evidence, Finding, Severity, histories, shared, targets
from reelm.data.dataset import SPLITS, Dataset
from reelm.data.split import Split
from reelm.data.tables import Catalog
from reelm.errors import BadData

ORDERED = ("global_time", "leave_last_two")  # splits that promise to follow a user's time
NEAR = 0.9  # correlation from which a column tells the held-out counts
LEAST = 20  # items with held-out interactions below which a correlation says nothing
RANK = {"leak": 0, "warning": 1, "note": 2}


def leaks(
    split: Split,
    data: Dataset | None = None,
    catalog: Catalog | None = None,
    notes: Sequence[pl.DataFrame] = (),
) -> list[Finding]:
    """Everything suspicious about a split, its features and its texts, the worst first.

    Args:
        data: the dataset that was cut, for the times of targets; without it those are not checked.
        catalog: titles, hashes and other columns of videos and users; without it no texts and no
            file hashes are checked.
        notes: tables as `read_notes` gives them.

    Raises:
        BadData: `data` is not the dataset that was cut.
    """
    train = split.train
    if data is not None and (data.users, data.items) != (train.users, train.items):
        raise BadData("leaks: `data` has other users or videos than the split was cut from.")
    evidence = Evidence(split, data, catalog, tuple(notes))
    found = [
        *time_leaks(evidence),
        *held_out_in_training(evidence),
        *not_asked(evidence),
        *wrong_counts(evidence),
        *telling_columns(evidence),
        *twins.twins(evidence),
        *words.video_texts(evidence),
        *words.user_texts(evidence),
    ]
    return sorted(found, key=lambda finding: RANK[finding.severity])


def time_leaks(evidence: Evidence) -> list[Finding]:
    """Training interactions that happened after the moment a question asks about.

    Cannot see: times in an order that the log itself got wrong; interactions without a time. A
    pair that occurs several times is taken at its last occurrence.
    """
    data, train = evidence.data, evidence.split.train
    if data is None or np.isnan(data.time).all():
        return []
    own, of_item = np.full(len(train.users), -np.inf), np.full(evidence.width, -np.inf)
    np.fmax.at(own, train.user, train.time)
    np.fmax.at(of_item, train.item, train.time)
    end = of_item.max()
    found: list[Finding] = []
    for part, questions in evidence.asked:
        question, item = targets(questions)
        user = questions.users[question]
        pair = user * evidence.width + item
        when = _moments(data, pair, evidence.width)
        timed = int(np.count_nonzero(~np.isnan(when)))
        later = int(np.count_nonzero(end > when))
        found += _own_future(evidence, part, pair[own[user] > when], timed)
        found += _others_future(evidence, part, pair[of_item[item] > when], later, timed)
    return found


def held_out_in_training(evidence: Evidence) -> list[Finding]:
    """Targets among the same user's training interactions, or in the history they are asked with.

    A video that a user chose again is no leak: where the dataset that was cut is given, it is
    told apart from a held-out interaction that stayed in training. A validation target in the
    history of a test question is as it should be.
    """
    train, width = evidence.split.train, evidence.width
    learned = train.user * width + train.item
    found = []
    for part, questions in evidence.asked:
        question, item = targets(questions)
        pair = questions.users[question] * width + item
        row, shown = histories(questions)
        inside = np.isin(pair, learned) | np.isin(question * width + item, row * width + shown)
        if inside.any():
            found.append(_held(evidence, part, pair[inside], learned))
    return found


def not_asked(evidence: Evidence) -> list[Finding]:
    """Held-out interactions that no question asks about, since their user had chosen the video in
    a part before: in a split that the source came with, a test that stands in training too.

    Cannot see anything without the dataset that was cut.
    """
    data, cut, found = evidence.data, evidence.split, []
    if data is None or cut.label is None:
        return []
    pair = data.user * evidence.width + data.item
    for part, name, questions in (("validation", "valid", cut.valid), ("test", "test", cut.test)):
        number = SPLITS[name]
        held = np.unique(pair[cut.label == number])
        question, item = targets(questions)
        asked = questions.users[question] * evidence.width + item
        lost = held[np.isin(held, pair[cut.label < number]) & ~np.isin(held, asked)]
        if len(lost):
            found.append(_lost(evidence, part, lost, len(held)))
    return found


def wrong_counts(evidence: Evidence) -> list[Finding]:
    """Training counts that are not those of the training interactions."""
    train = evidence.split.train
    return counted(train.counts, train, "the training dataset")


def counted(counts: np.ndarray, train: Dataset, whose: str) -> list[Finding]:
    """A finding if `counts`, one per item, are not what a recount of `train` gives.

    Cannot see a model that keeps popularity under another name; see `telling_columns`.
    """
    recount = np.bincount(train.item, minlength=len(train.items))
    wrong = np.flatnonzero(np.asarray(counts) != recount)
    if not len(wrong):
        return []
    at = int(wrong[0])
    return [
        Finding(
            "popularity",
            "leak" if np.sum(counts) > len(train) else "warning",
            len(wrong),
            f"video {train.items[at]}: {counts[at]:g} counted, {recount[at]} in training",
            f"The counts of {whose} are not those of the training interactions; if they hold more, "
            "they hold what should have been held out.",
            "Count the training part of the split only.",
        )
    ]


def telling_columns(evidence: Evidence) -> list[Finding]:
    """Feature columns and numbers of the catalogue that tell how often a video is held out.

    What training counts explain (in a straight line of the counts and of their logarithm) is
    taken away from both sides; a column is told on if the rests correlate at NEAR or more on
    either half of the videos. So it finds counts, shares and logarithms of counts over all data.

    Cannot see: columns that mix such a count with much else, counts spread over several columns,
    ranks, or counts of fewer than LEAST held-out videos.
    """
    split, train = evidence.split, evidence.split.train
    held = np.zeros(evidence.width, np.int64)
    for _, questions in evidence.asked:
        held += np.bincount(questions.target, minlength=evidence.width)
    if np.count_nonzero(held) < LEAST:
        return []
    found = []
    for where, names, table, known in _columns(evidence):
        told = _telling(table, known, split.train.counts, held)
        for column in np.flatnonzero(told >= NEAR).tolist():
            at = int(np.argmax(np.where(known, held, -1)))
            told_of = f"video {train.items[at]}: {table[at, column]:g}, held out {held[at]} times"
            found.append(
                Finding(
                    "popularity",
                    "leak" if where.startswith("features") else "warning",
                    1,
                    f"{where}, column {names[column]}: {told_of}",
                    f"Beyond the training counts this column follows the held-out ones "
                    f"(correlation {told[column]:.3f}): it was made from all interactions.",
                    "Make it again from the training interactions, or leave it out.",
                )
            )
    return found


def _moments(data: Dataset, pair: np.ndarray, width: int) -> Float[np.ndarray, "pairs"]:
    """When each user and item of `pair` last met; NaN if never, or if the log does not say."""
    key = data.user * width + data.item
    order = np.lexsort((data.time, key))
    place = np.searchsorted(key[order], pair, side="right") - 1
    met = (place >= 0) & (key[order][place] == pair)
    return np.where(met, data.time[order][place], np.nan)


def _own_future(evidence: Evidence, part: str, late: np.ndarray, asked: int) -> list[Finding]:
    if not len(late):
        return []
    assert evidence.data is not None
    timed = not np.isnan(evidence.data.time).any()  # else the order is that of the log
    promised = timed and _base(evidence.split) in ORDERED
    return [
        Finding(
            "time",
            "leak" if promised else "warning",
            len(late),
            evidence.named(late[0]),
            f"{len(late)} of {asked} {part} targets ({shared(len(late), asked)}) were chosen "
            "before something that the same user's training history holds.",
            "Cut by time, or give every interaction its time; else results are of a world in which "
            "models know the future."
            if not promised
            else "The split does not keep its promise; look at how it was made.",
        )
    ]


def _others_future(
    evidence: Evidence, part: str, of_item: np.ndarray, anything: int, asked: int
) -> list[Finding]:
    if not anything:
        return []
    by_time = _base(evidence.split) == "global_time"
    example = evidence.named(of_item[0]) if len(of_item) else f"{anything} targets"
    return [
        Finding(
            "time",
            "leak" if by_time else "note",
            anything,
            example,
            f"{anything} of {asked} {part} targets ({shared(anything, asked)}) were chosen before "
            f"training ended, and {len(of_item)} ({shared(len(of_item), asked)}) are videos that "
            "others chose later within training: models may know what became popular afterwards.",
            "The cut by time has a hole; look at how it was made."
            if by_time
            else f"Expected of {_base(evidence.split)}; split.name = global_time is free of it.",
        )
    ]


def _held(evidence: Evidence, part: str, pair: np.ndarray, learned: np.ndarray) -> Finding:
    """What targets inside training or inside their own history mean."""
    again = "the user chose the video more than once, and the evaluator counts it all the same"
    severity: Severity
    if evidence.data is None:
        severity, means = "warning", f"Either they leaked, or {again}."
    else:
        whole = evidence.data.user * evidence.width + evidence.data.item
        kept = _count(learned, pair) >= np.maximum(_count(whole, pair), 1)
        if kept.any():
            pair, severity = pair[kept], "leak"
            means = "The very interaction that was held out is in training."
        else:
            severity, means = "note", f"No held-out interaction is in training: {again}."
    return Finding(
        "held out",
        severity,
        len(pair),
        evidence.named(pair[0]),
        f"{len(pair)} {part} targets are also in the user's training interactions or in the "
        f"history they are asked with. {means}",
        "Cut again, or drop these interactions from training."
        if severity != "note"
        else "Nothing; to ask for new videos only, keep the first of each user's choices.",
    )


def _lost(evidence: Evidence, part: str, pair: np.ndarray, held: int) -> Finding:
    given = _base(evidence.split) == "given"
    return Finding(
        "held out",
        "warning" if given else "note",
        len(pair),
        evidence.named(pair[0]),
        f"{len(pair)} of {held} held-out {part} choices ({shared(len(pair), held)}) are of videos "
        "that the same user has in a part before too. Nobody is asked about them.",
        "Look at how the split was made: its parts overlap."
        if given
        else "Nothing; only new videos are asked for.",
    )


def _count(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How often each wanted number occurs."""
    ordered = np.sort(keys)
    right = np.searchsorted(ordered, wanted, side="right")
    return right - np.searchsorted(ordered, wanted, side="left")


def _columns(
    evidence: Evidence,
) -> list[tuple[str, list[str], Float[np.ndarray, "items columns"], Bool[np.ndarray, "items"]]]:
    """Tables of numbers per item: where they are from, their columns, and who has them."""
    train = evidence.split.train
    found = []
    for name, vectors in train.features.items():
        table = vectors.numpy().astype(np.float64)
        names = [str(n) for n in range(table.shape[1])]
        found.append((f"features.{name}", names, table, train.has_feature[name]))
    numbers = evidence.columns(numbers=True)
    for name, column in numbers.items():
        values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()[:, None]
        found.append(("catalogue", [name], np.nan_to_num(values), np.isfinite(values[:, 0])))
    return found


def _telling(
    table: np.ndarray, known: np.ndarray, counts: np.ndarray, held: np.ndarray
) -> Float[np.ndarray, "columns"]:
    """Per column the smaller of two halves' largest partial correlations with held-out counts."""
    rows = np.flatnonzero(known)
    worst = np.ones(table.shape[1])
    for half in (rows[::2], rows[1::2]):
        if np.count_nonzero(held[half]) < LEAST // 2 or len(half) < LEAST:
            return np.zeros(table.shape[1])
        seen, out = counts[half].astype(np.float64), held[half].astype(np.float64)
        known_of = np.stack([np.ones(len(half)), seen, np.log1p(seen)], axis=1)
        wanted = np.stack([out, np.log1p(out), np.log1p(out + seen)], axis=1)
        left, right = _rest(table[half], known_of), _rest(wanted, known_of)
        worst = np.minimum(worst, np.abs(left.T @ right).max(axis=1))
    return worst


def _rest(values: np.ndarray, known: np.ndarray) -> Float[np.ndarray, "items columns"]:
    """What `known` does not explain of each column, of length 1; 0 if it explains all of it."""
    basis, _ = np.linalg.qr(known)
    rest = values - basis @ (basis.T @ values)
    size, whole = np.linalg.norm(rest, axis=0), np.linalg.norm(values, axis=0)
    return np.divide(rest, size, out=np.zeros_like(rest), where=size > 1e-6 * whole)


def _base(split: Split) -> str:
    """The rule of a split, without what was done to it afterwards."""
    return split.name.partition("-")[0]
