"""Verb: fit one recommender. This is the only training loop in the package."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from reelm import config, files, runs
from reelm.config import Config
from reelm.data.dataset import Dataset
from reelm.data.split import Questions, Split
from reelm.errors import BadData, ConfigError, NonFinite
from reelm.evaluate import evaluate
from reelm.models import find
from reelm.models.base import Recommender, Retriever
from reelm.runs import Run
from reelm.sources import Sources

VERSION = 1
CHECKPOINT = "checkpoint.safetensors"

Loss = Callable[[Any], Mapping[str, Tensor]]
Row = dict[str, float | int]


class TrainConfig(Config):
    """Section [train]."""

    epochs: PositiveInt = 50
    """Passes over the training users, at most."""
    batch_size: PositiveInt = 128
    """Users, or interactions, per step: whatever the model counts."""
    learning_rate: PositiveFloat = 2e-3
    """AdamW's step size."""
    weight_decay: NonNegativeFloat = 0.01
    """AdamW's pull of every weight towards zero."""
    clip: PositiveFloat = 1.0
    """Largest length of a step's gradient; longer ones are shortened to it."""
    seed: int = 0
    """Of the weights the model starts from, of the shuffling, and of what training draws."""
    patience: PositiveInt = 10
    """Validations without a better result after which training stops."""
    validate_every: PositiveInt = 1
    """Epochs between validations."""
    validate_on: PositiveInt = 2000
    """Validation questions that are asked, drawn once; all if there are fewer."""
    measure: str = Field(default="mixed/ndcg@10", pattern=r"^(mixed|warm|cold)/[a-z]+(@\d+)?$")
    """What validation goes by: pool/metric@k. The weights that were best by it are kept."""
    checkpoint_s: NonNegativeInt = 20
    """Seconds between checkpoints, from which a killed training goes on; 0 after every epoch."""
    device: str = "cpu"
    """Where torch computes, such as cpu or cuda."""


def train_run(
    split: Split,
    name: str,
    model_config: Config,
    train_config: TrainConfig,
    work: Path,
    sources: Sources | None = None,
) -> Path:
    """Train the model called `name` and write `work/runs/<name>-<key>/`.

    Args:
        sources: where the split came from, noted in the run for `evaluate` and `serve`.

    A second call with the same data and settings returns the folder at once; a killed one goes
    on from its checkpoint, and ends as if it had not been killed.

    Raises:
        MissingInput: the model needs features that the dataset was loaded without.
        NonFinite: the loss became NaN or infinite; says where.
    """
    sections: dict[str, Config] = {"model": model_config, "train": train_config}
    settings = {key: section.model_dump(mode="json") for key, section in sections.items()}
    for one in ("device", "checkpoint_s"):  # these do not change what comes out
        settings["train"].pop(one)
    inputs = {"split": split.fingerprint, "model": name}
    key = files.key("train", VERSION, settings, inputs)
    folder = work / "runs" / f"{name}-{key}"
    if sources is not None:
        sources.save(folder)
    if files.finished(folder):
        return folder
    begun = time.monotonic()
    model = build(name, model_config, split.train, train_config.seed)
    rows = train(model, split.train, train_config, split.valid, folder=folder)
    runs.save(
        Run.of(name, model, split.train),
        folder,
        sections,
        rows,
        stage="train",
        version=VERSION,
        key=key,
        settings=settings,
        inputs=inputs,
        features={k: v.shape[1] for k, v in split.train.features.items()},
        rows=len(split.train),
        failed=0,
        seed=train_config.seed,
        seconds=round(time.monotonic() - begun, 3),
    )
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return folder


def fit(
    split: Split | Dataset,
    name: str = "sasrec",
    model_config: Config | None = None,
    train_config: TrainConfig | None = None,
    loss: Loss | None = None,
) -> Run:
    """Train in memory and return a run that was not saved.

    With a dataset instead of a split there is nothing to choose by: all epochs are run.
    """
    data, valid = (split.train, split.valid) if isinstance(split, Split) else (split, None)
    train_config = train_config or TrainConfig()
    model = build(name, model_config, data, train_config.seed)
    train(model, data, train_config, valid, loss)
    return Run.of(name, model, data)


def build(name: str, model_config: Config | None, data: Dataset, seed: int) -> Any:
    """A model at its start, the same for the same seed.

    Raises:
        UnknownName: no model is called so.
        ConfigError: the settings are those of another model.
    """
    kind = find(name)
    model_config = model_config if model_config is not None else config.parse(kind.Config, {}, name)
    if not isinstance(model_config, kind.Config):
        raise ConfigError(f"{name} takes {kind.Config.__name__}, not {type(model_config).__name__}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(model_config, data)


def train(
    model: Recommender,
    data: Dataset,
    config: TrainConfig,
    valid: Questions | None = None,
    loss: Loss | None = None,
    folder: Path | None = None,
) -> list[Row]:
    """Fit `model` in place and return one row of measurements per epoch.

    A row holds the epoch, the mean of each loss term, seconds and, when validated, the measure;
    `kept` is 1 in the row of the weights that the model ends with.

    Args:
        valid: questions to choose by; without them the last weights are kept.
        loss: replaces `model.loss`; distillation and unlearning pass their own.
        folder: where checkpoints and metrics.jsonl go; training goes on from a checkpoint there.

    Raises:
        NonFinite: the loss became NaN or infinite.
    """
    model.to(config.device)
    if not any(p.requires_grad for p in model.parameters()):
        return []  # a baseline that was complete when it was built
    chosen = _chosen(valid, config) if isinstance(model, Retriever) else None
    devices = [] if config.device == "cpu" else [torch.device(config.device)]
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        state = _State(model, config)
        if folder is not None:
            state.resume(folder)
        with _bar(config.epochs, state.epoch) as tell:
            while state.epoch < config.epochs and state.waited < config.patience:
                row = _epoch(state, data, loss or model.loss)
                if chosen is not None and state.epoch % config.validate_every == 0:
                    row |= _validate(state, chosen)
                state.rows.append(row)
                tell(row)
                if folder is not None:
                    state.save(folder)
    return state.end()


class _State:
    """All that a training is at the end of an epoch; what a checkpoint holds."""

    def __init__(self, model: Recommender, config: TrainConfig) -> None:
        self.model, self.config = model, config
        weights = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            weights, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.rng = torch.Generator().manual_seed(config.seed)
        self.epoch, self.waited = 0, 0
        self.rows: list[Row] = []
        self.best, self.best_epoch = -math.inf, 0
        self.kept: dict[str, Tensor] = {}
        self._saved_at = time.monotonic()

    def better(self, measured: float) -> None:
        """Keep the weights if they are the best so far, else count how long none was."""
        if measured > self.best:
            self.best, self.best_epoch, self.waited = measured, self.epoch, 0
            self.kept = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        else:
            self.waited += 1

    def end(self) -> list[Row]:
        """Put the kept weights back and return the rows."""
        if self.kept:
            self.model.load_state_dict(self.kept)
        self.model.eval()
        for row in self.rows:
            if row["epoch"] == (self.best_epoch or self.epoch):
                row["kept"] = 1.0
        return self.rows

    def save(self, folder: Path) -> None:
        """Write metrics.jsonl, and a checkpoint if the last one is old enough."""
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        files.write_text(folder / "metrics.jsonl", lines)
        if time.monotonic() - self._saved_at < self.config.checkpoint_s:
            return
        tensors = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"kept/{k}": v for k, v in self.kept.items()}
        for number, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{k}": v for k, v in slots.items()}
        tensors |= {f"rng/{k}": v for k, v in self._generators().items()}
        facts = {"epoch": self.epoch, "waited": self.waited, "rows": self.rows}
        facts |= {"best": self.best, "best_epoch": self.best_epoch}
        with files.atomic(folder / CHECKPOINT) as tmp:
            whole = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
            safetensors.torch.save_file(whole, tmp, {"facts": json.dumps(facts)})
        self._saved_at = time.monotonic()

    def resume(self, folder: Path) -> None:
        """Go on from the checkpoint in `folder`, if there is one."""
        path = folder / CHECKPOINT
        if not path.is_file():
            return
        tensors: dict[str, dict[str, Tensor]] = {}
        try:
            with safetensors.safe_open(path, "pt") as file:
                facts = json.loads(file.metadata()["facts"])
                for name in file.keys():  # noqa: SIM118 - not a dict
                    group, _, rest = name.partition("/")
                    tensors.setdefault(group, {})[rest] = file.get_tensor(name)
        except (safetensors.SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise BadData(f"{path}: cannot be read: {error}. Delete it to start over.") from error
        self.model.load_state_dict(tensors["model"])
        self.kept = tensors.get("kept", {})
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.get("optimizer", {}).items():
            number, _, slot = name.partition("/")
            slots.setdefault(int(number), {})[slot] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.epoch, self.waited, self.rows = facts["epoch"], facts["waited"], facts["rows"]
        self.best, self.best_epoch = facts["best"], facts["best_epoch"]
        self.rng.set_state(tensors["rng"]["batches"])
        torch.set_rng_state(tensors["rng"]["torch"])
        if "cuda" in tensors["rng"]:
            torch.cuda.set_rng_state(tensors["rng"]["cuda"], self.config.device)

    def _generators(self) -> dict[str, Tensor]:
        states = {"batches": self.rng.get_state(), "torch": torch.get_rng_state()}
        if self.config.device.startswith("cuda"):
            states["cuda"] = torch.cuda.get_rng_state(self.config.device)
        return states


def _epoch(state: _State, data: Dataset, loss: Loss) -> Row:
    """One pass over the data; the mean of every loss term over its steps."""
    model, config = state.model.train(), state.config
    device = torch.device(config.device)
    weights = state.optimizer.param_groups[0]["params"]
    sums: dict[str, float] = {}
    steps, begun = 0, time.monotonic()
    for batch in model.batches(data, config.batch_size, state.rng):
        terms = loss(batch if device.type == "cpu" else batch.to(device))
        state.optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(weights, config.clip)
        state.optimizer.step()
        steps += 1
        for name, term in terms.items():
            value = term.item()
            if not math.isfinite(value):
                raise NonFinite(
                    f"{type(model).__name__}: loss term {name!r} became {value} in epoch "
                    f"{state.epoch + 1}, step {steps}. Lower train.learning_rate, or look for "
                    "NaN in the features."
                )
            sums[name] = sums.get(name, 0.0) + value
    state.epoch += 1
    means = {f"loss/{name}": total / steps for name, total in sums.items()}
    return {"epoch": state.epoch, **means, "seconds": round(time.monotonic() - begun, 3)}


def _chosen(valid: Questions | None, config: TrainConfig) -> Questions | None:
    """The validation questions that will be asked each time."""
    if valid is None or not len(valid):
        return None
    if len(valid) <= config.validate_on:
        return valid
    drawn = np.random.default_rng(config.seed).permutation(len(valid))[: config.validate_on]
    return valid.take(np.sort(drawn))


def _validate(state: _State, questions: Questions) -> Row:
    pool, _, metric = state.config.measure.partition("/")
    k = int(metric.partition("@")[2] or 10)
    assert isinstance(state.model, Retriever)
    report = evaluate(state.model, questions, pools=(pool,), ks=(k,))
    measured = report[state.config.measure]
    if math.isnan(measured):
        raise ConfigError(
            f"train.measure = {state.config.measure!r}: no validation question has a target in "
            f"the pool {pool!r}, or there is no such metric. Known: recall, ndcg, hit, mrr."
        )
    state.better(measured)
    return {state.config.measure: measured}


@contextmanager
def _bar(epochs: int, done: int) -> Iterator[Callable[[Row], None]]:
    """A progress bar where somebody may be watching; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda row: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("epoch", total=epochs, completed=done)

        def tell(row: Row) -> None:
            said = " ".join(f"{k} {v:.4f}" for k, v in row.items() if "/" in k)
            progress.update(task, advance=1, description=said)

        yield tell
