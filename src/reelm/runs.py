"""A run: a trained model and what it needs to answer, as a folder that loads without its data.

model.safetensors   weights and buffers, never pickle
config.toml         the model's name, its settings, those of training, and sizes of features
ids.parquet         video_id and training interactions of every item row
histories.parquet   user_id and item rows of every user row, oldest first
metrics.jsonl       one line per epoch
card.md             what this is, for people
manifest.json       written last
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import safetensors.torch
import torch
from jaxtyping import Bool, Float, Int, Int32, Int64
from torch import Tensor

from reelm import config, files
from reelm.data.batches import padded
from reelm.data.dataset import Dataset
from reelm.errors import BadData, ConfigError
from reelm.models import find
from reelm.models.base import Ranker, Retriever

VERSION = 1
TORN = (OSError, UnicodeError, json.JSONDecodeError, tomllib.TOMLDecodeError,
        pl.exceptions.PolarsError, safetensors.SafetensorError)  # fmt: skip
TILE = 1 << 23  # scores held at once
ANSWER = {
    "user_id": pl.String, "item_id": pl.String, "score": pl.Float64, "rank": pl.Int64,
    "source": pl.String,
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A model that knows the ids of its users and videos, and what each user had watched."""

    name: str
    """The model's name in the table of models."""
    model: Retriever | Ranker
    items: tuple[str, ...]
    """Video id of every item row; row 0 is padding and has the empty id."""
    users: tuple[str, ...]
    offsets: Int64[np.ndarray, "ends"]
    item: Int32[np.ndarray, "interactions"]
    """The history of user row u, as training knew it, is item[offsets[u]:offsets[u + 1]]."""
    folder: Path | None = None
    """Where it was loaded from; None for a run that was not saved."""
    key: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Its manifest."""

    @staticmethod
    def of(name: str, model: Retriever | Ranker, data: Dataset) -> "Run":
        """A run that lives in memory only."""
        return Run(name, model.eval(), data.items, data.users, data.offsets, data.item)

    @property
    def retriever(self) -> Retriever:
        """The model, for those who need scores of the whole catalogue.

        Raises:
            ConfigError: it rates single places.
        """
        if isinstance(self.model, Ranker):
            raise ConfigError(
                f"{self.name} rates single places, and this needs a model that scores the whole "
                "catalogue at once, such as sasrec. Name a run of one."
            )
        return self.model

    @cached_property
    def counts(self) -> Int64[np.ndarray, "items"]:
        """Training interactions per item; 0 for videos that training never saw."""
        return self.model.counts.cpu().numpy()

    @cached_property
    def user_rows(self) -> dict[str, int]:
        """The row of each user id."""
        return {user: row for row, user in enumerate(self.users)}

    @cached_property
    def item_rows(self) -> dict[str, int]:
        """The row of each video id."""
        return {video: row for row, video in enumerate(self.items) if row}

    @cached_property
    def identity(self) -> str:
        """What tells it apart from every other: its key or, where it was not saved, a digest of its
        settings and weights."""
        if self.key:
            return self.key
        settings = f"{self.name} {getattr(self.model, 'config', '')!r}"
        return files.digest(settings.encode() + safetensors.torch.save(_tensors(self.model)))

    def learned_from(self, data: Dataset) -> bool:
        """Whether these are the users, the videos and the interactions that it was trained on."""
        if (self.users, self.items) != (data.users, data.items):
            return False
        return np.array_equal(self.offsets, data.offsets) and np.array_equal(self.item, data.item)

    def may_be_asked(self, train: Dataset) -> None:
        """Raises BadData if it learned from anything else than this training part of a split."""
        if not self.learned_from(train):
            raise BadData(
                f"{self.folder}: this run knows other videos, users or interactions than this "
                "split trains on, so it may have seen what is asked. Cut the data as they were cut "
                "for it, or train it again."
            )

    def history(self, user_id: str) -> list[int]:
        """Item rows of a user, oldest first; empty for one that training did not know."""
        row = self.user_rows.get(user_id)
        if row is None:
            return []
        return self.item[self.offsets[row] : self.offsets[row + 1]].tolist()

    def score(
        self, histories: Sequence[Sequence[int]], users: Sequence[str] | None = None
    ) -> Float[Tensor, "batch items"]:
        """The model's scores for histories of item rows, oldest first, each perhaps empty.

        `users` matters only to models that know users by more than their histories; there a user
        that training did not know counts as `model.stranger`: where that is 0, which is the first
        user, ask for no score. Rankers rate every video for every user, which takes its time.
        """
        with torch.inference_mode():
            shown = self._shown(histories, users)
            if isinstance(self.model, Ranker):
                return self.model.score_all(*shown)
            return self.model.score(*shown)

    def asking(
        self, histories: Sequence[Sequence[int]], users: Sequence[str] | None = None
    ) -> Float[Tensor, "batch dim"]:
        """What the model's `factors` are multiplied with to give `score`."""
        with torch.inference_mode():
            return self.retriever.asking(*self._shown(histories, users))

    def _shown(
        self, histories: Sequence[Sequence[int]], users: Sequence[str] | None
    ) -> tuple[Int[Tensor, "batch"], Int[Tensor, "batch length"]]:
        """Users and histories as a model reads them."""
        offsets = np.cumsum([0, *map(len, histories)])
        packed = np.array([item for history in histories for item in history], np.int32)
        stranger = self.model.stranger
        rows = [self.user_rows.get(user, stranger) for user in users or [""] * len(histories)]
        device, shown = self.model.counts.device, padded(packed, offsets[:-1], offsets[1:])
        return torch.tensor(rows, device=device), shown.to(device)

    def recommend(
        self, users: Sequence[str], k: int = 10, filter_viewed: bool = True
    ) -> pl.DataFrame:
        """The best `k` videos for each user: user_id, item_id, score, rank, source.

        A user without a history, or one about whom the model has nothing to say, gets popular
        videos in an order drawn for this user, with source "fallback" instead of "model".

        Args:
            filter_viewed: leave out what the user had watched when the model was trained.
        """
        users, parts = _ids(users), []
        step = max(1, min(1024, TILE // len(self.items)))
        for at in range(0, len(users), step):
            some = users[at : at + step]
            histories = [self.history(user) for user in some]
            scores = self.score(histories, some).float().cpu().clone()  # to be changed
            allowed = torch.ones_like(scores, dtype=torch.bool)
            allowed[:, 0] = False
            for row, history in enumerate(histories if filter_viewed else []):
                allowed[row, history] = False
            known = torch.tensor([*map(bool, histories)]) & _says_something(scores, allowed)
            for row in (~known).nonzero()[:, 0].tolist():
                scores[row] = self.fallback(some[row])
            parts.append(self._table(some, scores, allowed, known, k))
        return pl.concat(parts) if parts else pl.DataFrame(schema=ANSWER)

    def fallback(self, user_id: str) -> Float[Tensor, "items"]:
        """Scores for a user about whom nothing is known: popular videos, in an order that is
        this user's own and stays the same from call to call.

        The order is a draw without replacement, each video weighted by the square of its
        interactions + 1.
        """
        seed = int.from_bytes(hashlib.sha256(user_id.encode()).digest()[:8], "big")
        drawn = np.random.default_rng(seed).gumbel(size=len(self.items))
        return torch.from_numpy(2 * np.log(self.counts + 1.0) + drawn).float()

    def similar(self, videos: Sequence[str], k: int = 10) -> pl.DataFrame:
        """The `k` videos most like each of these (or this one): video_id, item_id, score, rank,
        source.

        A video that training did not know gets popular ones, with source "fallback".
        """
        videos = _ids(videos)
        rows = torch.tensor([self.item_rows.get(video, 0) for video in videos], dtype=torch.long)
        with torch.inference_mode():
            scores = self.model.similar(rows.to(self.model.counts.device)).float().cpu()
        scores = scores.clone()  # outside, so that it may be changed
        allowed = torch.ones_like(scores, dtype=torch.bool)
        allowed[:, 0] = False
        allowed[torch.arange(len(rows)), rows] = False
        known = (rows != 0) & _says_something(scores, allowed)
        for row in (~known).nonzero()[:, 0].tolist():
            scores[row] = self.fallback(videos[row])
        return self._table(videos, scores, allowed, known, k).rename({"user_id": "video_id"})

    def _table(
        self,
        asked: list[str],
        scores: Float[Tensor, "batch items"],
        allowed: Bool[Tensor, "batch items"],
        known: Bool[Tensor, "batch"],
        k: int,
    ) -> pl.DataFrame:
        """The first `k` allowed items of every row as a table."""
        k = min(k, scores.shape[1])
        best = scores.masked_fill(~allowed, -torch.inf).topk(k, dim=1)
        real = best.values.isfinite()
        row, place = real.nonzero(as_tuple=True)
        ids, names = pl.Series(asked, dtype=pl.String), pl.Series(self.items, dtype=pl.String)
        sources = pl.Series(["fallback", "model"])
        return pl.DataFrame(
            {
                "user_id": ids.gather(row.numpy()),
                "item_id": names.gather(best.indices[real].numpy()),
                "score": best.values[real].double().numpy(),
                "rank": (place + 1).numpy(),
                "source": sources.gather(known[row].long().numpy()),
            },
            schema=ANSWER,
        )


def save(
    run: Run,
    folder: Path,
    sections: Mapping[str, config.Config],
    epochs: Sequence[Mapping[str, float | int]],
    **facts: Any,
) -> Path:
    """Write a run's folder, its manifest last.

    Args:
        sections: settings by section; "model" must be among them.
        epochs: what each epoch of training measured.
        facts: for the manifest, as `files.finish` wants them.
    """
    with files.atomic(folder / "model.safetensors") as tmp:
        safetensors.torch.save_file(_tensors(run.model), tmp)
    values: dict[str, Mapping[str, Any]] = {"run": {"model": run.name, "version": VERSION}}
    values |= {name: section.model_dump(mode="json") for name, section in sections.items()}
    values |= {sizes: facts.pop(sizes, {}) for sizes in ("features", "profiles")}
    files.write_text(folder / "config.toml", _toml(values))
    ids = pl.DataFrame({"video_id": pl.Series(run.items, dtype=pl.String), "count": run.counts})
    for name, table in (("ids", ids), ("histories", _histories(run))):
        with files.atomic(folder / f"{name}.parquet") as tmp:
            table.write_parquet(tmp)
    lines = "".join(json.dumps(dict(row)) + "\n" for row in epochs)
    files.write_text(folder / "metrics.jsonl", lines)
    files.write_text(folder / "card.md", _card(run, values, epochs, facts))
    return files.finish(folder, **facts)


def load(folder: Path | str) -> Run:
    """The run in `folder`, ready to answer; its training data is not needed.

    Raises:
        BadData: it is no finished run; a part is torn, closed to this user, or unlike the others.
        UnknownName: the model comes from a package that is not installed.
    """
    try:
        return _load(Path(folder))
    except TORN as error:
        where = files.readable(Path(folder))
        raise BadData(f"{where}: a part is missing or torn: {error}. Train it again.") from error


def _load(folder: Path) -> Run:
    facts = files.manifest(files.of(folder, "a run"))
    values = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    ids = pl.read_parquet(folder / "ids.parquet")
    histories = pl.read_parquet(folder / "histories.parquet")
    packed = histories["items"].explode(empty_as_null=False).cast(pl.Int32).to_numpy()
    sizes = histories["items"].list.len().to_numpy()
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    items, users = tuple(ids["video_id"].to_list()), tuple(histories["user_id"].to_list())
    model = _model(name := values["run"]["model"], values, _hollow(users, items, values), folder)
    return Run(name, model, items, users, offsets, packed, folder, facts.get("key", ""), facts)


def _model(name: str, values: Mapping[str, Any], hollow: Dataset, folder: Path) -> Any:
    """The model with its saved weights; buffers take the size they were saved with."""
    kind = find(name)
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    with torch.random.fork_rng(devices=[]):  # the start it draws is thrown away
        model = kind(config.parse(kind.Config, values.get("model", {}), "model"), hollow)
    for path, buffer in list(model.named_buffers()):
        if path in tensors and tensors[path].shape != buffer.shape:
            owner, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(owner), leaf, torch.empty_like(tensors[path]))
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise BadData(f"{folder}: the weights do not fit {name}: {error}") from error
    return model.eval()


def _hollow(users: tuple[str, ...], items: tuple[str, ...], values: Mapping[str, Any]) -> Dataset:
    """A dataset of the right sizes without a single interaction, to build a model on."""
    features, profiles = values.get("features", {}), values.get("profiles", {})
    return Dataset(
        users,
        items,
        offsets=np.zeros(len(users) + 1, np.int64),
        item=np.zeros(0, np.int32),
        time=np.zeros(0),
        value=np.zeros(0, np.float32),
        features={name: torch.zeros(1).expand(len(items), dim) for name, dim in features.items()},
        has_feature={name: np.zeros(len(items), bool) for name in features},
        profiles={name: torch.zeros(1).expand(len(users), dim) for name, dim in profiles.items()},
    )


def _tensors(model: Retriever | Ranker) -> dict[str, Tensor]:
    """Weights and buffers as they are kept."""
    return {n: t.detach().cpu().contiguous() for n, t in model.state_dict().items()}


def _ids(asked: Sequence[str]) -> list[str]:
    """One id or several as a list: a text is a sequence too, and letters would be strangers."""
    return [asked] if isinstance(asked, str) else list(asked)


def _says_something(
    scores: Float[Tensor, "batch items"], allowed: Bool[Tensor, "batch items"]
) -> Bool[Tensor, "batch"]:
    """Whether the allowed scores of each row differ at all."""
    high = scores.masked_fill(~allowed, -torch.inf).amax(1)
    low = scores.masked_fill(~allowed, torch.inf).amin(1)
    return high > low


def _histories(run: Run) -> pl.DataFrame:
    """user_id and item rows; the lists are cut from the packed array without a copy."""
    lists = pa.LargeListArray.from_arrays(pa.array(run.offsets), pa.array(run.item))
    items = pl.Series("items", pl.from_arrow(lists))
    return pl.DataFrame({"user_id": pl.Series(run.users, dtype=pl.String), "items": items})


def _toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Sections of plain values; what is unset is left out. JSON's scalars and lists are TOML's."""
    lines = []
    for name, values in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{json.dumps(k)} = {json.dumps(v)}" for k, v in values.items() if v is not None]
        lines.append("")
    return "\n".join(lines)


def _card(
    run: Run, values: Mapping[str, Any], rows: Sequence[Mapping[str, float | int]], facts: Mapping
) -> str:
    """The run in words."""
    last = max(rows, key=lambda row: row.get("kept", 0), default={})
    figures = {k: v for k, v in last.items() if "/" in k and not k.startswith("loss/")}
    measured = ", ".join(f"{k} {v:.4f}" for k, v in figures.items()) or "nothing measured"
    settings = "\n".join(f"- {k}: {v}" for k, v in values.get("model", {}).items()) or "- none"
    left = ", ".join(f"{count} {name}" for name, count in facts.get("removed", {}).items())
    return f"""# {run.name}

A recommender of short videos, trained by reelm {files.__version__}.

- users: {len(run.users)}, videos: {len(run.items) - 1} ({int((run.counts > 0).sum())} of them
  in the training interactions), interactions: {len(run.item)}
- left out: {left or "nothing"}
- split: {facts.get("inputs", {}).get("split", "unknown")}
- validation, at the weights that were kept: {measured}
- epochs: {len(rows)}, seconds: {facts.get("seconds", "unknown")}

Settings:

{settings}

The folder holds the ids of users and what they watched; share it only where that may be shared.
Load it with `reelm.load(folder)`. It answers for videos and users that were there when it was
trained; for others it falls back to popular videos and says so.
"""
