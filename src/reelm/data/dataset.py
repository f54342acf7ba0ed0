"""The dataset in memory: ids become integer rows here, and nowhere else.

Everything a user did lies in one packed array; `offsets` says where each user begins. Item rows
start at 1, row 0 is padding. Histories run from oldest to newest.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int8, Int32, Int64
from pydantic import NonNegativeFloat
from torch import Tensor

from reelm.config import Config
from reelm.data.tables import Catalog, Features
from reelm.errors import BadData, MissingInput, UnknownUser

FIX = "reelm encode --encoder <name>"
SPLITS = {"train": 0, "valid": 1, "test": 2}
POSITIVE = ("like", "share", "comment", "follow", "favorite", "rating", "interaction")


class DatasetConfig(Config):
    """Section [dataset]: which events count as interactions."""

    min_portion: NonNegativeFloat = 0.5
    """A watch counts when at least this share of the video was watched, 0..1."""
    positive: tuple[str, ...] = POSITIVE
    """Kinds of event that count whatever their value is."""


@dataclass(frozen=True)
class Dataset:
    """Users, items and interactions; read-only after `build`."""

    users: tuple[str, ...]
    items: tuple[str, ...]
    """Video ids; items[0] is the padding row and has the empty id."""
    offsets: Int64[np.ndarray, "ends"]
    """Interactions of user row u are offsets[u]:offsets[u + 1]."""
    item: Int32[np.ndarray, "interactions"]
    time: Float64[np.ndarray, "interactions"]
    """Seconds since 1970, UTC; NaN where the log does not say."""
    value: Float32[np.ndarray, "interactions"]
    """Portion that was watched; 1 for other kinds of event."""
    split: Int8[np.ndarray, "interactions"] | None = None
    """0 train, 1 valid, 2 test, where the source came with a split."""
    features: Mapping[str, Float[Tensor, "items dim"]] = field(default_factory=dict)
    """Frozen vectors by name; row 0 and videos without a vector are zero."""
    has_feature: Mapping[str, Bool[np.ndarray, "items"]] = field(default_factory=dict)
    uploaded: Float64[np.ndarray, "items"] | None = None
    """Seconds since 1970, UTC; NaN where unknown."""

    @staticmethod
    def build(
        events: pl.DataFrame,
        features: Sequence[Features] | Mapping[str, Features] = (),
        min_portion: float = 0.5,
        positive: Sequence[str] = POSITIVE,
        videos: pl.DataFrame | Sequence[str] | None = None,
    ) -> "Dataset":
        """Give every user and video a row and pack what counts as an interaction.

        Args:
            events: user_id, video_id, event and, where known, value, timestamp, split, order.
            features: vectors of videos; called by their own names, or by the keys of a mapping.
            min_portion: a watch counts from this share on.
            positive: kinds of event that count whatever their value.
            videos: the whole catalogue, so that videos nobody watched are items too; a table
                may bring uploaded_at. Without it the items are the videos of the log.

        Interactions are ordered by timestamp, then by `order`; if one has no timestamp, by
        `order` alone. The same video twice in a row for one user (a watch and its like) is one.

        Raises:
            BadData: a split name that is not train, valid or test, or two features of one name.
        """
        table = _interactions(_completed(events), min_portion, positive)
        users = table["user_id"].unique(maintain_order=True)
        items, uploaded = _catalogue(table["video_id"], videos)
        user, item = _rows(table["user_id"], users), _rows(table["video_id"], items)
        order = np.argsort(user, kind="stable")
        offsets = np.zeros(len(users) + 1, np.int64)
        np.cumsum(np.bincount(user, minlength=len(users)), out=offsets[1:])
        ids = ("", *items.to_list())
        vectors, has = _aligned(features, ids)
        return Dataset(
            users=tuple(users.to_list()),
            items=ids,
            offsets=offsets,
            item=(item[order] + 1).astype(np.int32),
            time=table["timestamp"].to_numpy()[order].astype(np.float64),
            value=table["value"].to_numpy()[order].astype(np.float32),
            split=_split(table["split"], order),
            features=vectors,
            has_feature=has,
            uploaded=uploaded,
        )

    @staticmethod
    def load(
        catalog: Catalog,
        features: Sequence[Features] | Mapping[str, Features] = (),
        config: DatasetConfig | None = None,
    ) -> "Dataset":
        """The dataset of a catalogue. Events on a duplicate file count for its first copy, and
        files that could not be used are items only if somebody watched them."""
        config = config or DatasetConfig()
        videos, events = catalog.videos, catalog.events
        if "duplicate_of" in videos.columns:
            first = videos.filter(pl.col("duplicate_of").is_not_null())
            videos = videos.filter(pl.col("duplicate_of").is_null())
            events = events.with_columns(
                pl.col("video_id").replace(first["video_id"], first["duplicate_of"])
            )
        if "ok" in videos.columns:
            videos = videos.filter(pl.col("ok").fill_null(True))
        return Dataset.build(events, features, config.min_portion, config.positive, videos)

    def __len__(self) -> int:
        """How many interactions there are."""
        return len(self.item)

    def history(self, row: int) -> Int32[np.ndarray, "length"]:
        """Items of one user row, oldest first; a view, not a copy."""
        return self.item[self.offsets[row] : self.offsets[row + 1]]

    def row(self, user: str) -> int:
        """The integer row of a user id.

        Raises:
            UnknownUser: no interaction of this user is in the dataset.
        """
        if user not in self._rows:
            raise UnknownUser(user)
        return self._rows[user]

    def feature(self, name: str, needed_by: str) -> Float[Tensor, "items dim"]:
        """One table of frozen item vectors.

        Raises:
            MissingInput: the dataset was loaded without it; says how to make it.
        """
        if name not in self.features:
            raise MissingInput(needed_by, f"features.{name}", self.features, FIX)
        return self.features[name]

    @cached_property
    def counts(self) -> Int64[np.ndarray, "items"]:
        """Interactions per item."""
        return np.bincount(self.item, minlength=len(self.items)).astype(np.int64)

    @cached_property
    def user(self) -> Int64[np.ndarray, "interactions"]:
        """The user row of each interaction."""
        return np.repeat(np.arange(len(self.users)), np.diff(self.offsets))

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits that change with anything a model could learn from."""
        seen = hashlib.sha256()
        for ids in (self.users, self.items):
            seen.update("\0".join(ids).encode())
        for array in (self.offsets, self.item, self.time, self.value):
            seen.update(np.ascontiguousarray(array).data)
        for name in sorted(self.features):
            seen.update(name.encode())
            seen.update(np.ascontiguousarray(self.features[name].numpy()).data)
        return seen.hexdigest()[:12]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {user: row for row, user in enumerate(self.users)}


def _completed(events: pl.DataFrame) -> pl.DataFrame:
    """The events with every column, in the order of the log."""
    table = events.with_row_index("place")
    defaults = {"event": "watch", "value": 1.0, "timestamp": None, "split": None}
    kinds = {"event": pl.String, "value": pl.Float64, "timestamp": pl.Float64, "split": pl.String}
    given = set(table.columns)
    table = table.with_columns(
        *(pl.lit(defaults[n], kinds[n]).alias(n) for n in kinds if n not in given),
        *([] if "order" in given else [pl.col("place").cast(pl.Int64).alias("order")]),
    )
    return table.select(
        pl.col("user_id", "video_id").cast(pl.String),
        *(pl.col(name).cast(kind) for name, kind in kinds.items()),
        "order",
    )


def _interactions(table: pl.DataFrame, min_portion: float, positive: Sequence[str]) -> pl.DataFrame:
    """Events that count, in time, with runs of one video by one user folded into one row."""
    watched = (pl.col("event") == "watch") & (pl.col("value") >= min_portion)
    table = table.filter(watched | pl.col("event").is_in(list(positive)))
    timed = table["timestamp"].null_count() == 0
    by = ["timestamp", "order"] if timed else ["order"]
    table = table.sort(by, maintain_order=True)
    table = table.with_columns(
        pl.when(pl.col("event") == "watch").then(pl.col("value")).alias("value"),
        again=(pl.col("video_id") == pl.col("video_id").shift(1)).over("user_id").fill_null(False),
    )
    if table["again"].any():
        table = (
            table.with_columns(run=(~pl.col("again")).cum_sum().over("user_id"))
            .group_by("user_id", "run", maintain_order=True)
            .agg(
                pl.col("video_id", "timestamp", "split").first(),
                pl.col("value").max(),
            )
        )
    return table.with_columns(
        pl.col("value").fill_null(1.0), pl.col("timestamp").fill_null(float("nan"))
    )


def _catalogue(
    watched: pl.Series, videos: pl.DataFrame | Sequence[str] | None
) -> tuple[pl.Series, Float64[np.ndarray, "items"] | None]:
    """All video ids, the catalogue's before those only the log knows, and their upload times."""
    if isinstance(videos, pl.DataFrame):
        known = videos["video_id"].cast(pl.String)
        at = videos["uploaded_at"] if "uploaded_at" in videos.columns else None
    else:
        known, at = pl.Series("video_id", list(videos or ()), dtype=pl.String), None
    if known.n_unique() != len(known):
        twice = known.filter(known.is_duplicated())[0]
        raise BadData(f"the catalogue lists the video {twice!r} more than once.")
    items = pl.concat([known.alias("v"), watched.alias("v")]).unique(maintain_order=True)
    if at is None:
        return items, None
    uploaded = np.full(len(items) + 1, np.nan)
    uploaded[1 : len(known) + 1] = at.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return items, uploaded


def _rows(ids: pl.Series, known: pl.Series) -> Int64[np.ndarray, "interactions"]:
    """The place of each id in `known`."""
    table = pl.DataFrame({"id": known}).with_row_index("row")
    found = pl.DataFrame({"id": ids}).join(table, on="id", how="left", maintain_order="left")
    return found["row"].to_numpy().astype(np.int64)


def _split(
    names: pl.Series, order: Int64[np.ndarray, "interactions"]
) -> Int8[np.ndarray, "interactions"] | None:
    if names.null_count() == len(names):
        return None
    wrong = set(names.unique().to_list()) - set(SPLITS)
    if wrong:
        said = ", ".join(sorted(map(repr, wrong)))
        raise BadData(f"column split: {said}; every row must say train, valid or test.")
    return names.replace_strict(SPLITS, return_dtype=pl.Int8).to_numpy()[order]


def _aligned(
    features: Sequence[Features] | Mapping[str, Features], items: tuple[str, ...]
) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
    """Each feature as [items, dim], with zeros where a video has none, and who has one."""
    pairs = features.items() if isinstance(features, Mapping) else ((f.name, f) for f in features)
    place = {video: row for row, video in enumerate(items)}
    vectors, has = {}, {}
    for name, feature in pairs:
        if name in vectors:
            raise BadData(f"two features are called {name!r}; give them different names.")
        rows = np.array([place.get(video, 0) for video in feature.ids], np.int64)
        table = np.zeros((len(items), feature.vectors.shape[1]), np.float32)
        table[rows] = feature.vectors
        table[0] = 0
        mask = np.zeros(len(items), bool)
        mask[rows] = True
        mask[0] = False
        vectors[name], has[name] = torch.from_numpy(table), mask
    return vectors, has
