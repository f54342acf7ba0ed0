"""Splits. A split gives one dataset to learn from and questions to be asked afterwards."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int8, Int32, Int64
from pydantic import Field, model_validator

from reelm import files
from reelm.config import Config
from reelm.data.dataset import SPLITS, Dataset
from reelm.data.exposures import Exposures, parts
from reelm.data.packing import offsets
from reelm.errors import BadData, ConfigError

Rows = Int64[np.ndarray, "questions"]
Mask = Bool[np.ndarray, "interactions"]


class SplitConfig(Config):
    """Section [split]: what is held out."""

    name: Literal["auto", "leave_last_two", "global_time", "given", "cold_item", "random"] = "auto"
    """auto: the source's own split if it has one, else global_time where every interaction has a
    time, else leave_last_two."""
    valid_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of interactions (global_time, random) or of items (cold_item) held out to choose by.
    0 with global_time: each user's last training interaction is held out instead."""
    test_share: float = Field(default=0.1, gt=0, lt=1)
    """Share held out for the report."""
    valid_from: float | None = None
    """Seconds since 1970 where validation begins; instead of valid_share (global_time)."""
    test_from: float | None = None
    """Seconds since 1970 where the test begins; instead of test_share (global_time)."""
    join_valid: bool = False
    """Train on the validation interactions too and choose by nothing: for models without
    choices, and for the last training of one whose choices were made."""
    strangers: bool = True
    """Whether users who have nothing to show are asked too (given); other splits never ask them."""
    seed: int = 0
    """Of the draw of held-out items (cold_item) or interactions (random)."""

    @model_validator(mode="after")
    def _some_is_left(self) -> "SplitConfig":
        if self.test_share + self.valid_share >= 1:
            raise ConfigError(
                f"split.test_share {self.test_share} and split.valid_share {self.valid_share} "
                "leave nothing to learn from; their sum must be below 1."
            )
        return self


@dataclass(frozen=True)
class Questions:
    """What the model may see of each user, and the held-out items it must rank high.

    Histories are slices of one packed array, which questions and datasets may share.
    """

    users: Rows
    item: Int32[np.ndarray, "interactions"]
    start: Rows
    stop: Rows
    """The history of question q is item[start[q]:stop[q]], oldest first."""
    target: Int32[np.ndarray, "targets"]
    target_offsets: Int64[np.ndarray, "ends"]
    """The targets of question q are target[target_offsets[q]:target_offsets[q + 1]]."""

    def __len__(self) -> int:
        return len(self.users)

    def history(self, question: int) -> Int32[np.ndarray, "length"]:
        """Items the model may see, oldest first."""
        return self.item[self.start[question] : self.stop[question]]

    def targets(self, question: int) -> Int32[np.ndarray, "targets"]:
        """Items the model should rank high."""
        return self.target[self.target_offsets[question] : self.target_offsets[question + 1]]

    def digest(self) -> str:
        """Twelve hex digits that change with who is asked, with what they are shown, in its order,
        and with what they should find."""
        shown = self.item[_spread(self.start, sizes := self.stop - self.start)]
        return _digest([self.users, sizes, shown, self.target, self.target_offsets])

    def take(self, rows: Rows) -> "Questions":
        """These questions only, in this order."""
        sizes = np.diff(self.target_offsets)[rows]
        return Questions(
            self.users[rows],
            self.item,
            self.start[rows],
            self.stop[rows],
            self.target[_spread(self.target_offsets[:-1][rows], sizes)],
            offsets(sizes),
        )


@dataclass(frozen=True)
class Split:
    """`test` is opened by `evaluate` alone; model choice looks at `valid`."""

    train: Dataset
    valid: Questions
    test: Questions
    name: str
    before_test: Dataset
    """The interactions of train and of valid."""
    label: Int8[np.ndarray, "interactions"] | None = None
    """Where each interaction of the whole dataset went: 0 train, 1 valid, 2 test."""
    valid_shown: Exposures | None = None
    test_shown: Exposures | None = None
    """Places to be rated, where the dataset has exposures; those to learn from are the training
    dataset's. A place's history has what was liked before its moment, in its own part of the
    split and in the parts before."""

    @cached_property
    def fingerprint(self) -> str:
        """Changes with what training sees: the training data and the questions it chooses by."""
        shown = self.valid_shown.digest() if self.valid_shown is not None else b""
        asked = _digest([], self.valid.digest().encode() + shown)
        return f"{self.name}-{self.train.fingerprint}-{asked}"


def split(data: Dataset, config: SplitConfig | None = None) -> Split:
    """Cut `data` as the settings say."""
    config = config or SplitConfig()
    if config.name == "auto":
        config = config.model_copy(update={"name": _natural(data)})
    cut = SPLITTERS[config.name](data, config)
    if data.exposures is not None:
        cut = with_exposures(cut, data, config)
    return joined(cut) if config.join_valid else cut


def with_exposures(cut: Split, data: Dataset, config: SplitConfig) -> Split:
    """The same with the exposures of the whole dataset, cut where its interactions were.

    Raises:
        ConfigError: this kind of split says nothing of places that were not liked.
        BadData: a place has no time to be cut by.
    """
    shown = data.exposures
    assert shown is not None and cut.label is not None
    if config.name == "given" and shown.split is not None:
        part = shown.split
    elif config.name == "global_time" and (config.valid_share or config.valid_from is not None):
        part = parts(shown, *_moments(data, config))
    else:
        raise ConfigError(
            f"split.name = {config.name!r} cannot cut exposures; use global_time with a "
            "valid_share above 0, or given, or set dataset.exposures = false."
        )
    train, valid, test = (shown.among(part == n, cut.label <= n) for n in range(3))
    known = shown.among(part <= SPLITS["valid"], cut.label <= SPLITS["valid"])
    return replace(
        cut,
        train=replace(cut.train, exposures=train),
        before_test=replace(cut.before_test, exposures=known),
        valid_shown=valid,
        test_shown=test,
    )


def joined(cut: Split) -> Split:
    """The same test, with the validation interactions among those to learn from."""
    none = cut.valid.take(np.zeros(0, np.int64))
    name = f"{cut.name}-joined"
    return replace(cut, train=cut.before_test, valid=none, valid_shown=None, name=name)


def leave_last_two(data: Dataset, config: SplitConfig | None = None) -> Split:
    """Each user's last interaction for test, the one before for valid; users with fewer than
    three only train. The test question shows everything before it.

    Mind that this lets a model learn from what others did after the question was asked.
    """
    size = np.diff(data.offsets)
    users = np.flatnonzero(size >= 3)
    place = np.arange(len(data)) - data.offsets[:-1][data.user]
    held = (size >= 3)[data.user] & (place >= size[data.user] - 2)

    def ask(back: int) -> Questions:
        start, last = data.offsets[:-1][users], data.offsets[1:][users] - back
        ends = np.arange(len(users) + 1)
        return Questions(users, data.item, start, last, data.item[last], ends)

    last = place == size[data.user] - 1
    known = keep(data, ~(held & last))
    label = _labels(~held, held & last)
    return Split(keep(data, ~held), ask(2), ask(1), "leave_last_two", known, label)


def global_time(data: Dataset, config: SplitConfig | None = None) -> Split:
    """Two moments cut the log: before the first is training, between them validation, after the
    second test. A user with a history before the cut is asked for everything new that followed.

    The test question shows what happened up to its moment, validation included.

    Raises:
        BadData: an interaction without a time.
    """
    config = config or SplitConfig()
    if not len(data) or np.isnan(data.time).any():
        raise BadData(
            "a split by time needs the time of every interaction, and this log lacks some. "
            "Use --set split.name=leave_last_two, which goes by order."
        )
    valid_at, test_at = _moments(data, config)
    if config.valid_share == 0 and config.valid_from is None:
        return _valid_is_last(data, data.time < test_at)
    train, seen = data.time < valid_at, data.time < test_at
    return Split(
        keep(data, train),
        asked(data, train, seen & ~train),
        asked(data, seen, ~seen),
        "global_time",
        keep(data, seen),
        _labels(train, ~seen),
    )


def given(data: Dataset, config: SplitConfig | None = None) -> Split:
    """The split the source came with. A test question shows the user's training and validation
    interactions, a validation question the training ones; either may be empty, unless `strangers`
    are not asked.

    Raises:
        BadData: the source came without a split.
    """
    if data.split is None:
        raise BadData("these events came without a column split. Choose another split.name.")
    at = {name: data.split == number for name, number in SPLITS.items()}
    train, known, empty = at["train"], ~at["test"], (config or SplitConfig()).strangers
    valid = asked(data, train, at["valid"], empty)
    test = asked(data, known, at["test"], empty)
    return Split(keep(data, train), valid, test, "given", keep(data, known), data.split)


def cold_item(data: Dataset, config: SplitConfig | None = None) -> Split:
    """Some videos are taken out of training altogether: users are asked for those they chose,
    and shown the rest of what they chose. Videos nobody watched stay where they are."""
    config = config or SplitConfig()
    watched = np.flatnonzero(data.counts)
    drawn = np.random.default_rng(config.seed).permutation(watched)
    tests, valids = _parts(len(watched), config)
    of = np.zeros(len(data.items), np.int8)
    of[drawn[:tests]], of[drawn[tests : tests + valids]] = SPLITS["test"], SPLITS["valid"]
    where = of[data.item]
    train = where == SPLITS["train"]
    return Split(
        keep(data, train),
        asked(data, train, where == SPLITS["valid"]),
        asked(data, train, where == SPLITS["test"]),
        "cold_item",
        keep(data, where != SPLITS["test"]),
        where,
    )


def random(data: Dataset, config: SplitConfig | None = None) -> Split:
    """Interactions drawn by chance, whenever they happened. A test question shows the user's
    training and validation interactions, a validation question the training ones; users with
    nothing to show are not asked.

    Mind that a model sees what happened after the question, of the same user too: figures are
    larger than a service would ever reach. For comparison with papers that split so.
    """
    config = config or SplitConfig()
    drawn = np.random.default_rng(config.seed).permutation(len(data))
    tests, valids = _parts(len(data), config)
    test, valid = np.zeros(len(data), bool), np.zeros(len(data), bool)
    test[drawn[:tests]], valid[drawn[tests : tests + valids]] = True, True
    train = ~test & ~valid
    asks = asked(data, train, valid), asked(data, ~test, test)
    return Split(keep(data, train), *asks, "random", keep(data, ~test), _labels(train, test))


SPLITTERS: dict[str, Callable[[Dataset, SplitConfig], Split]] = {
    "leave_last_two": leave_last_two,
    "global_time": global_time,
    "given": given,
    "cold_item": cold_item,
    "random": random,
}


def keep(data: Dataset, mask: Mask) -> Dataset:
    """The interactions under `mask`; users, items and features stay as they are. Exposures are
    left out: `with_exposures` gives each part its own."""
    return replace(
        data,
        offsets=offsets(np.bincount(data.user[mask], minlength=len(data.users))),
        item=data.item[mask],
        time=data.time[mask],
        value=data.value[mask],
        split=None if data.split is None else data.split[mask],
        exposures=None,
    )


def asked(data: Dataset, shown: Mask, held: Mask, empty: bool = False) -> Questions:
    """One question for each user with something held out that was not shown.

    Args:
        shown: interactions the question may show.
        held: interactions whose items are the targets; each once, without those shown.
        empty: whether users who have nothing to show are asked too.
    """
    width = len(data.items)
    pair = data.user * width + data.item
    new = np.setdiff1d(pair[held], pair[shown])  # sorted by user, each pair once
    counts = np.bincount(data.user[shown], minlength=len(data.users))
    if not empty:
        new = new[counts[new // width] > 0]
    users, sizes = np.unique(new // width, return_counts=True)
    ends = offsets(counts)
    return Questions(
        users,
        data.item[shown],
        ends[:-1][users],
        ends[1:][users],
        (new % width).astype(np.int32),
        offsets(sizes),
    )


def _valid_is_last(data: Dataset, seen: Mask) -> Split:
    """Validation by each user's last seen interaction, where there are at least two."""
    known = keep(data, seen)
    size = np.diff(known.offsets)
    last = np.zeros(len(known), bool)
    last[known.offsets[1:][size >= 2] - 1] = True
    train = seen.copy()
    train[seen] = ~last
    return Split(
        keep(known, ~last),
        asked(known, ~last, last),
        asked(data, seen, ~seen),
        "global_time",
        known,
        _labels(train, ~seen),
    )


def _labels(train: Mask, test: Mask) -> Int8[np.ndarray, "interactions"]:
    """The numbers of `SPLITS` for masks; what is neither is validation."""
    label = np.full(len(train), SPLITS["valid"], np.int8)
    label[train], label[test] = SPLITS["train"], SPLITS["test"]
    return label


def _parts(count: int, config: SplitConfig) -> tuple[int, int]:
    """How many of `count` are for test and for validation."""
    return round(config.test_share * count), round(config.valid_share * count)


def _moments(data: Dataset, config: SplitConfig) -> tuple[float, float]:
    """Where validation and test begin."""
    test_at = _moment(data, config.test_from, config.test_share)
    if config.valid_share == 0 and config.valid_from is None:
        return test_at, test_at
    valid_at = _moment(data, config.valid_from, config.test_share + config.valid_share)
    if valid_at > test_at:
        raise ConfigError(
            f"validation would begin at {valid_at}, after the test, which begins at {test_at}. Set "
            "split.valid_from below that, or split.valid_share = 0."
        )
    return valid_at, test_at


def _moment(data: Dataset, at: float | None, share: float) -> float:
    """The moment after which `share` of the interactions lie, if it is not given."""
    return at if at is not None else float(np.quantile(data.time, 1 - share))


def _natural(data: Dataset) -> str:
    if data.split is not None:
        return "given"
    timed = len(data) > 0 and not np.isnan(data.time).any()
    return "global_time" if timed else "leave_last_two"


def _spread(start: np.ndarray, sizes: np.ndarray) -> Int64[np.ndarray, "places"]:
    """start[0], start[0] + 1, ... for sizes[0] places, then the same for start[1], and so on."""
    inside = np.arange(int(sizes.sum())) - np.repeat(offsets(sizes)[:-1], sizes)
    return np.repeat(start, sizes) + inside


def _digest(arrays: list[np.ndarray], more: bytes = b"") -> str:
    whole = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return files.digest(whole + more)
