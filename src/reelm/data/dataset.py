"""The dataset in memory: ids become integer rows here, and nowhere else.

Everything a user did lies in one packed array; `offsets` says where each user begins. Item rows
start at 1, row 0 is padding. Histories run from oldest to newest.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int8, Int32, Int64
from torch import Tensor

from reelm.data import stored
from reelm.data.exposures import Exposures, parted
from reelm.data.packing import POSITIVE, SPLITS, DatasetConfig, Packed, pack
from reelm.data.preferences import Preferences
from reelm.data.tables import Catalog, Features
from reelm.errors import BadData, MissingInput, UnknownUser

__all__ = ["SPLITS", "Dataset", "DatasetConfig"]

FIX = "reelm encode --encoder <name>"
FIX_PROFILES = (
    "reelm train --profiles name=<features folder of users>, or Dataset.with_profiles(features), "
    "one vector per user id"
)


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
    features: Mapping[str, Float[Tensor, "items _"]] = field(default_factory=dict)
    """Frozen vectors by name; row 0 and videos without a vector are zero."""
    has_feature: Mapping[str, Bool[np.ndarray, "items"]] = field(default_factory=dict)
    uploaded: Float64[np.ndarray, "items"] | None = None
    """Seconds since 1970, UTC; NaN where unknown."""
    profiles: Mapping[str, Float[Tensor, "users _"]] = field(default_factory=dict)
    """Frozen vectors of users by name; users without one are zero."""
    profiles_read: Mapping[str, Int64[np.ndarray, "users"]] = field(default_factory=dict)
    """By the profile's name how many of a user's first interactions it was made from; a profile
    that is not named may have been made from all."""
    encoders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By `features.<name>` and `profiles.<name>` what made the vectors, where somebody says."""
    preferences: Preferences | None = None
    """Edges that were said and not watched; None where nobody said any."""
    exposures: Exposures | None = None
    """What was shown, liked or not; None unless `DatasetConfig.exposures` asks for it."""
    removed: Mapping[str, int] = field(default_factory=dict)
    """What the rules left out: `repeats` of the video just before it; `interactions`, `users`
    and `videos` that had fewer interactions than `DatasetConfig` asks for; as `features.<name>`
    and `profiles.<name>`, vectors with NaN or infinity, whose owners count as having none; and
    `preferences` that name a user or a video without an interaction."""

    @staticmethod
    def build(
        events: pl.DataFrame,
        features: Sequence[Features] | Mapping[str, Features] = (),
        min_portion: float = 0.5,
        positive: Sequence[str] = POSITIVE,
        videos: pl.DataFrame | Sequence[str] | None = None,
        least: tuple[int, int] = (0, 0),
    ) -> "Dataset":
        """Give every user and video a row and pack what counts as an interaction.

        Args:
            events: user_id, video_id, event and, where known, value, timestamp, split, order.
            features: vectors of videos; called by their own names, or by the keys of a mapping.
            min_portion: a watch counts from this share on.
            positive: kinds of event that count whatever their value.
            videos: the whole catalogue, so that videos nobody watched are items too; a table
                may bring uploaded_at. Without it the items are the videos of the log.
            least: interactions that a user and that a video must have; see `DatasetConfig`.

        Interactions are ordered by timestamp, then by `order`; if one has no timestamp, by
        `order` alone. The same video twice in a row for one user (a watch and its like) is one.

        Raises:
            BadData: an event without its ids, a split name that is not train, valid or test, a
                video that is listed twice, or two features of one name.
        """
        config = DatasetConfig(
            min_portion=min_portion,
            positive=tuple(positive),
            min_user=least[0],
            min_item=least[1],
        )
        return Dataset.of(pack([events], videos, config), features)

    @staticmethod
    def load(
        catalog: Catalog,
        features: Sequence[Features] | Mapping[str, Features] = (),
        config: DatasetConfig | None = None,
    ) -> "Dataset":
        """The dataset of a catalogue. Events on a duplicate file count for its first copy, and
        files that could not be used are items only if somebody watched them.

        The first call packs the log and keeps the arrays beside the catalogue; later ones map
        them into memory as they are.

        Raises:
            BadData: as `build` does.
        """
        return Dataset.of(stored.packed(catalog, config or DatasetConfig()), features)

    @staticmethod
    def of(packed: Packed, features: Sequence[Features] | Mapping[str, Features] = ()) -> "Dataset":
        """A packed log with the vectors of its videos.

        Raises:
            BadData: two features have one name, or one has no vector of any of the videos.
        """
        packed, shown = parted(packed) if packed.exposures else (packed, None)
        items = tuple(packed.items)
        vectors, has, broken = _aligned(features, items)
        _covering(features, has, items)
        return Dataset(
            users=tuple(packed.users),
            items=items,
            offsets=packed.offsets,
            item=packed.item,
            time=packed.time,
            value=packed.value,
            split=packed.split,
            features=vectors,
            has_feature=has,
            uploaded=packed.uploaded,
            encoders=_encoders("features", features),
            exposures=shown,
            removed=packed.removed | broken,
        )

    def with_preferences(self, edges: pl.DataFrame) -> "Dataset":
        """The same with edges of `data.preferences.SCHEMA`, in place of those it had.

        To be called on training data: edges of users and videos that have no interaction here are
        left out and counted in `removed`.

        Raises:
            BadData: a column is missing, or a weight is not a positive number.
        """
        said = Preferences.of(edges, self.users, self.items)
        kept = said.known(np.diff(self.offsets) > 0, self.counts > 0)
        left = {"preferences": int((~kept).sum())} if not kept.all() else {}
        removed = {k: v for k, v in self.removed.items() if k != "preferences"} | left
        return replace(self, preferences=said.take(kept), removed=removed)

    def with_profiles(self, features: Sequence[Features] | Mapping[str, Features]) -> "Dataset":
        """The same with vectors of users, whose ids they bear; those of others are not read.

        Raises:
            BadData: two of them have one name.
        """
        tables, _, broken = _aligned(features, ("", *self.users))
        left = {f"profiles.{name.partition('.')[2]}": count for name, count in broken.items()}
        profiles = {name: table[1:] for name, table in tables.items()}
        read = {
            name: self._read(f.ids, f.read) for name, f in _named(features) if f.read is not None
        }
        removed = {**self.removed, **left}
        encoders = {k: v for k, v in self.encoders.items() if not k.startswith("profiles.")}
        return replace(
            self,
            profiles=profiles,
            profiles_read=read,
            encoders=encoders | _encoders("profiles", features),
            removed=removed,
        )

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

    def profile(self, name: str, needed_by: str) -> Float[Tensor, "users dim"]:
        """One table of frozen user vectors.

        Raises:
            MissingInput: the dataset has none of this name; says how to give it.
        """
        if name not in self.profiles:
            raise MissingInput(needed_by, f"profiles.{name}", self.profiles, FIX_PROFILES)
        return self.profiles[name]

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
        told: list[Mapping[str, Any]] = [self.features, self.profiles]
        told += [self.has_feature, self.profiles_read]
        if self.uploaded is not None:
            told.append({"uploaded": self.uploaded})
        for tables in told:
            for name, table in sorted(tables.items()):
                seen.update(name.encode())
                seen.update(np.ascontiguousarray(table).data)
        if self.preferences is not None:
            seen.update(self.preferences.digest())
        if self.exposures is not None:
            seen.update(self.exposures.digest())
        return seen.hexdigest()[:12]

    def _read(
        self, ids: Sequence[str], read: Int64[np.ndarray, "ids"]
    ) -> Int64[np.ndarray, "users"]:
        """What was read of each user; 0 for those who are not named."""
        named = dict(zip(ids, read.tolist(), strict=True))
        return np.array([named.get(user, 0) for user in self.users], np.int64)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {user: row for row, user in enumerate(self.users)}


def _named(
    features: Sequence[Features] | Mapping[str, Features],
) -> Iterable[tuple[str, Features]]:
    """Each feature with the name that it is to be known by."""
    return features.items() if isinstance(features, Mapping) else ((f.name, f) for f in features)


def _encoders(
    kind: str, features: Sequence[Features] | Mapping[str, Features]
) -> dict[str, Mapping[str, Any]]:
    """What made each feature, by kind and name."""
    return {f"{kind}.{name}": made.encoder for name, made in _named(features) if made.encoder}


def _aligned(
    features: Sequence[Features] | Mapping[str, Features], items: tuple[str, ...]
) -> tuple[dict[str, Tensor], dict[str, np.ndarray], dict[str, int]]:
    """Each feature as [items, dim], with zeros where a video has none; who has one; and how many
    vectors were left out because they hold NaN or infinity."""
    place = {video: row for row, video in enumerate(items)}
    vectors, has, broken = {}, {}, {}
    for name, feature in _named(features):
        if name in vectors:
            raise BadData(f"two features are called {name!r}; give them different names.")
        whole = np.isfinite(feature.vectors).all(axis=1)
        rows = np.array([place.get(video, 0) for video in feature.ids], np.int64)[whole]
        kept = np.float16 if feature.vectors.dtype == np.float16 else np.float32
        table = np.zeros((len(items), feature.vectors.shape[1]), kept)
        table[rows] = feature.vectors[whole]
        table[0] = 0
        mask = np.zeros(len(items), bool)
        mask[rows] = True
        mask[0] = False
        vectors[name], has[name] = torch.from_numpy(table), mask
        if not whole.all():
            broken[f"features.{name}"] = int((~whole).sum())
    return vectors, has, broken


def _covering(
    features: Sequence[Features] | Mapping[str, Features],
    has: Mapping[str, Bool[np.ndarray, "items"]],
    items: tuple[str, ...],
) -> None:
    """
    Raises:
        BadData: a feature that has vectors has none of any of the videos.
    """
    for name, feature in _named(features):
        if len(items) > 1 and len(feature.ids) and not has[name].any():
            raise BadData(
                f"features.{name}: none of its {len(feature.ids)} vectors ({_few(feature.ids)}) is "
                f"of one of the {len(items) - 1} videos here ({_few(items[1:])}). It is of another "
                "catalogue: encode this one, and name the folder that `reelm encode` prints."
            )


def _few(ids: Sequence[str]) -> str:
    """The first ids, to be recognised by."""
    return ", ".join([*ids[:2], "…"]) if len(ids) > 2 else ", ".join(ids) or "no ids"
