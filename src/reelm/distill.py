"""Verb: teach a small student the rankings and vectors of a trained teacher.

The student is an ordinary model of the table that learns from pairs; its run is an ordinary run,
loads without the teacher and is served as any other. Lists of the chosen item, drawn items and
the teacher's best ones are scored by both; the student's chances should be the teacher's.

Source: Wei et al. 2024, "PromptMM", arXiv:2402.17188; losses: see losses.list_distillation and
losses.decoupled_distillation.
Departures:
- the authors' code (70da100) lays a KL divergence over raw losses; here it is one of chances;
- the decoupled loss, which their code computes and does not use, can take the plain one's place;
- lists are taught from the teacher's fused scores; a list for each feature table, re-weighted, as
  the paper has, is not built, nor are single pairs taught beside the lists that hold them;
- the student begins as any other, not as a copy of the teacher's vectors, and is chosen on
  validation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from reelm import losses, train
from reelm.config import Config
from reelm.data.batches import padded
from reelm.data.dataset import Dataset
from reelm.data.pairs import Chosen, PairBatch
from reelm.data.split import Split
from reelm.errors import BadData, ConfigError
from reelm.models.base import Retriever
from reelm.models.pairwise import Pairwise
from reelm.runs import Run
from reelm.sources import Sources
from reelm.training import Row, resolved

VERSION = 1
TILE = 1 << 23  # scores held at once


class DistillConfig(Config):
    """Section [distill]."""

    temperature: PositiveFloat = 1.0
    """What scores of both are divided by before they become chances (T); the loss counts T²."""
    drawn: PositiveInt = 32
    """Items of a list that are drawn evenly, beside the one that was chosen."""
    best: NonNegativeInt = 16
    """Items of a list that are drawn from the teacher's best ones for this user."""
    best_of: PositiveInt = 100
    """How many of the teacher's best items, without those chosen, `best` are drawn from."""
    list_loss: NonNegativeFloat = 1.0
    """Weight of the divergence between the teacher's and the student's lists."""
    decoupled: bool = False
    """Whether the list is split into the chosen item and the others, with a weight each."""
    alpha: NonNegativeFloat = 1.0
    """Weight of how likely the chosen item is, where `decoupled`; PromptMM's code has 100."""
    beta: NonNegativeFloat = 1.0
    """Weight of how likely the others are among themselves, where `decoupled`."""
    feature_loss: NonNegativeFloat = 0.0
    """Weight of (1 - cosine)² between the teacher's vectors and the student's, these brought to
    the teacher's width by a learned linear layer that is thrown away afterwards."""
    from_scratch_loss: NonNegativeFloat = 0.0
    """Weight of the loss that the student would have without a teacher."""
    teacher_control: Literal["as_is", "random", "shuffled"] = "as_is"
    """random: the teacher's vectors are replaced by random ones whose scores have the same
    singular values; shuffled: the teacher's items are dealt out to other items. What a student
    gains from these is not knowledge."""
    control_seed: int = Field(default=0, ge=0)
    """Of the random vectors or the deal."""


@dataclass(frozen=True)
class ListBatch:
    """Pairs, and for each a list that begins with the chosen item."""

    pairs: PairBatch
    candidates: Int[Tensor, "batch candidates"]

    def to(self, device: torch.device) -> "ListBatch":
        """The same on another device."""
        return ListBatch(self.pairs.to(device), self.candidates.to(device))


@dataclass(frozen=True)
class Vectors:
    """A teacher that is two tables: what serving a trained model from a cache would be."""

    users: Float[Tensor, "users dim"]
    items: Float[Tensor, "items dim"]

    def __call__(self, user: Int[Tensor, "batch"]) -> Float[Tensor, "batch items"]:
        return self.users[user] @ self.items.T

    def lists(
        self, user: Int[Tensor, "batch"], candidates: Int[Tensor, "batch candidates"]
    ) -> Float[Tensor, "batch candidates"]:
        """Scores of each user's candidates."""
        return _dots(self.users[user], self.items, candidates)


@dataclass(frozen=True)
class Asked:
    """A teacher that is asked anew for every batch, with the users' training histories.

    Cost: one scoring of the catalogue for each pair of a batch.
    """

    model: Retriever
    data: Dataset
    deal: Int[Tensor, "items"]
    """Whose score each item gets; its own unless items are shuffled."""

    def __call__(self, user: Int[Tensor, "batch"]) -> Float[Tensor, "batch items"]:
        rows = user.cpu().numpy()
        shown = padded(self.data.item, self.data.offsets[rows], self.data.offsets[rows + 1])
        return self.model.score(user, shown.to(user.device))[:, self.deal]

    def lists(
        self, user: Int[Tensor, "batch"], candidates: Int[Tensor, "batch candidates"]
    ) -> Float[Tensor, "batch candidates"]:
        """Scores of each user's candidates."""
        return self(user).gather(1, candidates)


class Student(Retriever):
    """A model and what helps only while it is taught; `model` is what is kept."""

    Config = DistillConfig
    uses_user = True

    def __init__(
        self, config: DistillConfig, data: Dataset, model: Pairwise, teacher: "Vectors | Asked"
    ) -> None:
        super().__init__(config, data)
        self.config, self.model, self.teacher = config, model, teacher
        self.best = _best(teacher, data, config.best_of) if config.best else None
        self.to_teacher = nn.ModuleList()
        if config.feature_loss:
            if not isinstance(teacher, Vectors):
                raise ConfigError("distill.feature_loss: this teacher has no vectors; set it to 0.")
            width = model.item_vectors().shape[1], teacher.items.shape[1]
            self.to_teacher.extend(nn.Linear(*width, bias=False) for _ in ("user", "item"))

    def batches(self, data: Dataset, size: int, rng: torch.Generator) -> Iterator[ListBatch]:
        seen = torch.from_numpy(data.counts).nonzero()[:, 0]
        drawn, best = self.config.drawn, self.config.best
        for batch in self.model.batches(data, size, rng):
            place = torch.randint(len(seen), (len(batch.user), drawn), generator=rng)
            parts = [batch.item[:, None], seen[place]]
            if self.best is not None:
                shape = len(batch.user), best
                place = torch.randint(self.best.shape[1], shape, generator=rng)
                parts.append(self.best[batch.user].gather(1, place).long())
            yield ListBatch(batch, torch.cat(parts, dim=1))

    def loss(self, batch: ListBatch) -> dict[str, Float[Tensor, ""]]:
        weight, model = self.config.from_scratch_loss, self.model
        if not weight:  # by the model's own way, which may count steps and have terms of its own
            return model.loss_by(batch.pairs, partial(self._taught, batch))
        own = model.loss(batch.pairs)
        taught = self._taught(batch, *model.vectors())
        return taught | {name: weight * term for name, term in own.items()}

    def score(
        self, user: Int[Tensor, "batch"], history: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch items"]:
        return self.model.score(user, history)

    def _taught(self, batch: ListBatch, users: Tensor, items: Tensor) -> dict[str, Tensor]:
        """What the teacher has to say of the student's vectors."""
        users, items = self.model.as_served(users, items)
        terms = {"list": self.config.list_loss * self._list(batch, users, items)}
        if self.config.feature_loss:
            feature = self._feature(batch.pairs, users, items)
            terms["feature"] = self.config.feature_loss * feature
        return terms

    def _list(self, batch: ListBatch, users: Tensor, items: Tensor) -> Float[Tensor, ""]:
        config, user, candidates = self.config, batch.pairs.user, batch.candidates
        with torch.no_grad():
            told = self.teacher.lists(user, candidates)
        said = _dots(F.embedding(user, users), items, candidates)
        twice = candidates == candidates[:, :1]
        twice[:, 0] = False
        told, said = (scores.masked_fill(twice, losses.NEVER) for scores in (told, said))
        if not config.decoupled:
            return losses.list_distillation(told, said, config.temperature)
        weights = config.alpha, config.beta
        return losses.decoupled_distillation(told, said, config.temperature, *weights)

    def _feature(self, batch: PairBatch, users: Tensor, items: Tensor) -> Float[Tensor, ""]:
        """How far the vectors of the batch's users and items are from the teacher's."""
        assert isinstance(self.teacher, Vectors)
        sides = (users, self.teacher.users, batch.user), (items, self.teacher.items, batch.item)
        apart = [
            losses.alignment(project(F.embedding(rows, own)), theirs[rows])
            for project, (own, theirs, rows) in zip(self.to_teacher, sides, strict=True)
        ]
        return torch.stack(apart).sum()


def distill_run(  # noqa: PLR0913 - a student's run is made of this many things
    split: Split,
    teacher: Run,
    name: str,
    model_config: Config,
    config: DistillConfig,
    train_config: train.TrainConfig,
    work: Path,
    sources: Sources | None = None,
) -> Path:
    """Teach the model called `name` and write `work/runs/<name>-<key>/`, an ordinary run.

    Args:
        teacher: its identity is noted in the manifest.
        sources: where the split came from, noted in the run for `evaluate` and `serve`.

    A second call with the same teacher, data and settings returns the folder at once; a killed
    one goes on from its checkpoint.

    Raises:
        BadData: the teacher did not learn from the split's training part.
        ConfigError: the student does not learn from pairs, or the teacher lacks vectors that the
            settings ask for.
    """
    train_config = resolved(train_config)
    sections = {"model": model_config, "train": train_config, "distill": config}
    inputs = {"split": split.fingerprint, "model": name, "teacher": teacher.identity}
    plan = train.Plan("distill", VERSION, name, sections, inputs)

    def learn(folder: Path) -> tuple[Retriever, list[Row]]:
        student = taught(split.train, teacher, name, sections)
        rows = train.train(student, split.train, train_config, split.valid, folder=folder)
        return student.model, rows

    return train.carry_out(plan, split, work, learn, sources)


def taught(data: Dataset, teacher: Run, name: str, sections: Mapping[str, Config]) -> Student:
    """A student at its start; sections: model, train and distill."""
    if not teacher.learned_from(data):
        raise BadData(
            f"{teacher.folder}: this teacher did not learn from the student's training data: it "
            "knows other users or videos, or may have seen what is held out. Train it on the same "
            "split."
        )
    config, training = sections["distill"], sections["train"]
    assert isinstance(config, DistillConfig)
    assert isinstance(training, train.TrainConfig)
    model = train.build(name, sections["model"], data, training.seed)
    if not isinstance(model, Pairwise):
        raise ConfigError(f"{name} cannot be a student: it does not learn from pairs, as mf does.")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(training.seed)
        found = _teacher(teacher.retriever.eval().to(training.device), data, config)
        return Student(config, data, model, found)


def _teacher(model: Retriever, data: Dataset, config: DistillConfig) -> Vectors | Asked:
    """The teacher, or the control that takes its place."""
    rng = torch.Generator().manual_seed(config.control_seed)
    deal = torch.arange(len(data.items))
    if config.teacher_control == "shuffled":
        seen = torch.from_numpy(data.counts).nonzero()[:, 0]
        deal[seen] = seen[torch.randperm(len(seen), generator=rng)]
    deal = deal.to(model.counts.device)
    if isinstance(model, Pairwise):
        users, items = model.served()
        if model.config.objective == "softmax":  # its chances, not those of longer vectors
            users = F.normalize(users, dim=1) / model.config.temperature
        if config.teacher_control == "random":
            users, items = (_alike(side, rng) for side in (users, items))
        return Vectors(users.clone(), items[deal])
    if config.teacher_control == "random":
        raise ConfigError("distill.teacher_control: random needs a teacher that has vectors.")
    return Asked(model, data, deal)


def _alike(rows: Float[Tensor, "rows dim"], rng: torch.Generator) -> Float[Tensor, "rows dim"]:
    """Random rows whose products of columns are those of `rows`: nothing of who is who is left,
    but two such tables score with the singular values that the two they stand for have."""
    drawn = torch.randn(rows.shape, generator=rng).to(rows.device)
    basis = torch.linalg.qr(drawn)[0]
    _, values, right = torch.linalg.svd(rows, full_matrices=False)
    return (basis[:, : len(values)] * values) @ right


def _best(teacher: Vectors | Asked, data: Dataset, count: int) -> Int[Tensor, "users best"]:
    """Each user's best items by the teacher among those that training saw, the chosen ones last.

    Cost: one scoring of the catalogue for each user, once.
    """
    chosen, seen = Chosen.of(data), torch.from_numpy(data.counts > 0)
    count = min(count, int(seen.sum()))
    ends = torch.from_numpy(chosen.user).bincount(minlength=chosen.users).cumsum(0)
    found = torch.zeros(chosen.users, count, dtype=torch.int32)
    size = max(1, TILE // chosen.items)
    for at in range(0, chosen.users, size):
        users = torch.arange(at, min(at + size, chosen.users))
        scores = teacher(_there(users, teacher)).float().cpu().clone()
        low = scores.amin(1, keepdim=True) - 1
        first, last = (int(ends[at - 1]) if at else 0), int(ends[users[-1]])
        row, item = (torch.from_numpy(a[first:last]).long() for a in (chosen.user, chosen.item))
        scores[row - at, item] = low[row - at, 0]
        scores = torch.where(seen, scores, low - 1)
        found[at : at + size] = scores.topk(count, dim=1).indices.int()
    return found


def _there(users: Tensor, teacher: Vectors | Asked) -> Tensor:
    """Rows of users on the teacher's device."""
    return users.to(teacher.items.device if isinstance(teacher, Vectors) else teacher.deal.device)


def _dots(
    states: Float[Tensor, "batch dim"],
    items: Float[Tensor, "items dim"],
    candidates: Int[Tensor, "batch candidates"],
) -> Float[Tensor, "batch candidates"]:
    """Each row's dot products with its own candidates."""
    # embedding, not indexing: its gradient is several times as quick on a processor
    return (F.embedding(candidates, items) @ states[:, :, None])[:, :, 0]
