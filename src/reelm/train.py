"""Verb: fit one recommender. This is the only training loop in the package."""

import itertools
import math
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelm import config, files, runs
from reelm.config import Config
from reelm.cost import doing
from reelm.data.batches import SequenceBatch
from reelm.data.dataset import Dataset
from reelm.data.exposures import Exposures
from reelm.data.split import Questions, Split
from reelm.errors import ConfigError, NonFinite
from reelm.evaluate import calibrate, evaluate, places
from reelm.models import find
from reelm.models.base import Ranker, Recommender, Retriever
from reelm.runs import Run
from reelm.sources import Sources
from reelm.training import CHECKPOINT, Row, State, TrainConfig, resolved

VERSION = 4

Loss = Callable[[Any], Mapping[str, Tensor]]
Judged = Questions | Exposures
"""What a model is chosen by: questions for a retriever, places for a ranker."""


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
    train_config = resolved(train_config)
    sections: dict[str, Config] = {"model": model_config, "train": train_config}
    plan = Plan("train", VERSION, name, sections, {"split": split.fingerprint, "model": name})

    def learn(folder: Path) -> tuple[Retriever | Ranker, list[Row]]:
        model = build(name, model_config, split.train, train_config.seed)
        return model, train(model, split.train, train_config, judged(split, model), folder=folder)

    return carry_out(plan, split, work, learn, sources)


def coverage(data: Dataset, needs: Collection[str]) -> list[str]:
    """A line for each feature that not all videos have a vector of: how many have one; and for
    each table that was loaded and is not among what the model `needs`."""
    videos = len(data.items) - 1
    held = {name: int(has.sum()) for name, has in data.has_feature.items()}
    lines = [f"{name}: vectors of {n} of {videos} videos" for name, n in held.items() if n < videos]
    loaded = [f"features.{name}" for name in data.features]
    loaded += [f"profiles.{name}" for name in data.profiles]
    unread = [name for name in loaded if name not in needs]
    return lines + [f"{name}: this model, set as it is, does not read it" for name in unread]


@dataclass(frozen=True)
class Plan:
    """What a run is made of; its key hashes all of this."""

    stage: str
    version: int
    name: str
    """Of the model."""
    sections: Mapping[str, Config]
    """Settings by section; "model" and "train" are among them."""
    inputs: Mapping[str, str]


def carry_out(
    plan: Plan,
    split: Split,
    work: Path,
    learn: Callable[[Path], tuple[Retriever | Ranker, list[Row]]],
    sources: Sources | None = None,
) -> Path:
    """Make the run of a plan in `work/runs/<name>-<key>/`, or return it if it is there.

    Args:
        learn: given the folder, where it may keep checkpoints, makes the model and its rows.
    """
    settings = {key: section.model_dump(mode="json") for key, section in plan.sections.items()}
    for one in ("device", "checkpoint_s"):  # these do not change what comes out
        settings["train"].pop(one)
    key = files.key(plan.stage, plan.version, settings, plan.inputs)
    folder = work / "runs" / f"{plan.name}-{key}"
    if sources is not None:
        sources.save(folder)
    if files.finished(folder):
        return folder
    begun = time.monotonic()
    model, rows = learn(folder)
    runs.save(
        Run.of(plan.name, model, split.train),
        folder,
        plan.sections,
        rows,
        stage=plan.stage,
        version=plan.version,
        key=key,
        settings=settings,
        inputs=plan.inputs,
        features={k: v.shape[1] for k, v in split.train.features.items()},
        profiles={k: v.shape[1] for k, v in split.train.profiles.items()},
        rows=len(split.train),
        failed=0,
        removed=dict(split.train.removed),
        seed=settings["train"]["seed"],
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
    data = split.train if isinstance(split, Split) else split
    train_config = train_config or TrainConfig()
    model = build(name, model_config, data, train_config.seed)
    valid = judged(split, model) if isinstance(split, Split) else None
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
    told = doing(f"{name}: {len(data.items) - 1:,} items", kind.operations(model_config, data))
    with told, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(model_config, data)


def train(
    model: Recommender,
    data: Dataset,
    config: TrainConfig,
    valid: Judged | None = None,
    loss: Loss | None = None,
    folder: Path | None = None,
) -> list[Row]:
    """Fit `model` in place and return one row of measurements per epoch.

    A row holds the epoch, the mean of each loss term, seconds of training, processor seconds of
    training and validation together and, when validated, the measure; `kept` is 1 in the row of
    the weights that the model ends with.

    Args:
        valid: questions, or for a ranker places, to choose by; without them the last weights are
            kept. A ranker is calibrated on them in the end.
        loss: replaces `model.loss`; distillation and unlearning pass their own.
        folder: where checkpoints and metrics.jsonl go; training goes on from a checkpoint there.

    Raises:
        NonFinite: the loss became NaN or infinite.
    """
    config = resolved(config)
    model.to(config.device)
    if not any(p.requires_grad for p in model.parameters()):
        return []  # a baseline that was complete when it was built
    chosen = drawn(valid, config)
    devices = [] if config.device == "cpu" else [torch.device(config.device)]
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        state = State(model, config)
        if folder is not None:
            state.resume(folder)
        with _bar(config.epochs, state.epoch) as tell:
            while state.epoch < config.epochs and state.waited < config.patience:
                begun = time.process_time()
                row = _epoch(state, data, loss or model.loss, folder)
                if chosen is not None and state.epoch % config.validate_every == 0:
                    row |= _validate(state, chosen)
                row["cpu_s"] = round(time.process_time() - begun, 3)
                state.rows.append(row)
                tell(row)
                if folder is not None:
                    state.write(folder)
                    state.save(folder)
    rows = state.end()
    if isinstance(model, Ranker) and isinstance(chosen, Exposures):
        calibrate(model, chosen)
    return rows


def judged(split: Split, model: Recommender) -> Judged | None:
    """What of a split's validation a model is chosen by."""
    return split.valid_shown if isinstance(model, Ranker) else split.valid


def goes_by(kind: type[Recommender], config: TrainConfig) -> str:
    """The measure of models of this kind under these settings.

    Raises:
        ConfigError: it is of models that rate single places, and these rank the catalogue.
    """
    of_places = config.measure.startswith("places/")
    if issubclass(kind, Ranker):
        return config.measure if of_places else "places/auc"
    if of_places:
        raise ConfigError(
            f"train.measure = {config.measure!r} is of models that rate single places, and "
            f"{kind.__name__} ranks the catalogue. Use pool/metric@k, such as mixed/ndcg@10."
        )
    return config.measure


def _epoch(state: State, data: Dataset, loss: Loss, folder: Path | None) -> Row:
    """One pass over the data, or the rest of one; the mean of every loss term over its steps."""
    model, config = state.model.train(), state.config
    state.at_start = state.rng.get_state()
    state.paced()
    begun, before, done = time.monotonic(), state.spent, state.step
    for batch in itertools.islice(model.batches(data, config.batch_size, state.rng), done, None):
        state.optimizer.zero_grad()
        terms = _gradient(batch, loss, config)
        torch.nn.utils.clip_grad_norm_(state.weights, config.clip)
        state.optimizer.step()
        state.stepped()
        _add(state, terms)
        state.spent = before + time.monotonic() - begun
        if folder is not None:
            state.save(folder)
    row = {name: total / state.step for name, total in state.sums.items()}
    state.epoch, seconds = state.epoch + 1, before + time.monotonic() - begun
    state.step, state.spent, state.sums = 0, 0.0, {}
    state.at_start = state.rng.get_state()
    return {"epoch": state.epoch, **row, "seconds": round(seconds, 3)}


def _gradient(batch: Any, loss: Loss, config: TrainConfig) -> dict[str, Tensor]:
    """Add the gradient of a batch to the weights' and return its loss terms.

    On a processor a long batch is learned from piece by piece, so that the activations of one piece
    at a time are in memory.
    """
    device, terms = torch.device(config.device), {}
    low = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")
    whole = device.type != "cpu" or not isinstance(batch, SequenceBatch)
    for piece in [batch] if whole else batch.pieces():
        with low:
            found = loss(piece if device.type == "cpu" else piece.to(device))
        torch.stack(list(found.values())).sum().backward()
        for name, term in found.items():
            terms[name] = terms.get(name, 0) + term.detach()
    return terms


def _add(state: State, terms: Mapping[str, Tensor]) -> None:
    """Add the terms of a step to the epoch's sums.

    Raises:
        NonFinite: one of them is NaN or infinite.
    """
    for name, term in terms.items():
        value = term.item()
        if not math.isfinite(value):
            raise NonFinite(
                f"{type(state.model).__name__}: loss term {name!r} became {value} in epoch "
                f"{state.epoch + 1}, step {state.step}. Lower train.learning_rate, or look for "
                "NaN in the features."
            )
        state.sums[f"loss/{name}"] = state.sums.get(f"loss/{name}", 0.0) + value


def drawn(valid: Judged | None, config: TrainConfig) -> Judged | None:
    """The validation questions that training asks, the same each time; None if there are none.
    Places are all asked: each says little, and none costs a scoring of the catalogue."""
    if valid is None or not len(valid):
        return None
    if isinstance(valid, Exposures) or len(valid) <= config.validate_on:
        return valid
    some = np.random.default_rng(config.seed).permutation(len(valid))[: config.validate_on]
    return valid.take(np.sort(some))


def _validate(state: State, asked: Judged) -> Row:
    measure = goes_by(type(state.model), state.config)
    with state.averaged():
        measured = validated(state.model, asked, state.config)
        state.better(-measured if measure.endswith("loss") else measured)
    return {measure: measured}


def validated(model: Recommender, asked: Judged, config: TrainConfig) -> float:
    """The measure of a model on validation questions or places.

    Raises:
        ConfigError: no question has a target in the measure's pool, or no place has what the
            measure needs.
    """
    pool, _, metric = goes_by(type(model), config).partition("/")
    if isinstance(asked, Exposures):
        assert isinstance(model, Ranker)
        measured = places(model, asked).metrics[metric]
    else:
        assert isinstance(model, Retriever)
        k = int(metric.partition("@")[2] or 10)
        measured = evaluate(model, asked, pools=(pool,), ks=(k,))[f"{pool}/{metric}"]
    if math.isnan(measured):
        lacks = f"no validation question has a target in the pool {pool!r}"
        if isinstance(asked, Exposures):
            lacks = f"of {len(asked)} validation places all were liked, or none was"
        raise ConfigError(
            f"{goes_by(type(model), config)} cannot be measured: {lacks}. Hold out more for "
            "validation ([split]), or set train.measure to what is there."
        )
    return measured


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
