"""A training between two steps: its settings, and all that a checkpoint of it holds."""

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)
from torch import Tensor

from reelm import files
from reelm.config import Config
from reelm.errors import BadData, ConfigError
from reelm.models.base import Recommender

CHECKPOINT = "checkpoint.safetensors"
FACTS = ("epoch", "step", "steps", "waited", "spent", "sums", "rows", "best", "best_epoch")
MEASURE = re.compile(
    r"(mixed|warm|cold)/((recall|ndcg|hit)@[1-9][0-9]*|mrr)|places/(auc|gauc|uauc|logloss)"
)

Row = dict[str, float | int]


class TrainConfig(Config):
    """Section [train]."""

    epochs: PositiveInt = 50
    """Passes over the training users, at most."""
    batch_size: PositiveInt = 128
    """Users, or interactions, per step: whatever the model counts."""
    learning_rate: PositiveFloat = 2e-3
    """AdamW's step size, in the first epoch."""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine: the step size falls from epoch to epoch along half a cosine, so that after `epochs`
    it would be 0."""
    weight_decay: NonNegativeFloat = 0.01
    """AdamW's pull of every weight towards zero."""
    clip: PositiveFloat = 1.0
    """Largest length of a step's gradient; longer ones are shortened to it."""
    beta2: float = Field(default=0.999, gt=0, lt=1)
    """How slowly AdamW forgets the size of past gradients; SASRec has 0.98."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Validation, and the run, take a running mean of the weights that keeps this share of itself
    at each step, such as 0.999; 0 takes the weights as they are."""
    precision: Literal["float32", "bfloat16", "fastest"] = "float32"
    """Of matrix products while training; weights, sums and scores are float32 in any case. With
    bfloat16 a processor that has it (AVX512-BF16, AMX, any recent GPU) trains up to twice as fast,
    and one that has not takes six times as long. fastest: bfloat16 where the device has it."""
    seed: int = 0
    """Of the weights the model starts from, of the shuffling, and of what training draws (dropout,
    negatives): three streams that begin with the same numbers of one generator and put them to
    different uses; no dropout mask was found to follow the start weights."""
    patience: PositiveInt = 10
    """Validations without a better result after which training stops."""
    validate_every: PositiveInt = 1
    """Epochs between validations."""
    validate_on: PositiveInt = 2000
    """Validation questions that are asked, drawn once; all if there are fewer. Of models that
    rate single places every validation place is asked."""
    measure: str = "mixed/ndcg@10"
    """What validation goes by: pool/metric@k, of recall, ndcg and hit, or pool/mrr; places/auc,
    gauc, uauc or logloss for models that rate single places, which go by places/auc where a pool is
    named. The weights that were best by it are kept."""
    checkpoint_s: NonNegativeInt = 20
    """Seconds between checkpoints, from which a killed training goes on; 0 after every step."""
    device: str = "cpu"
    """Where torch computes, such as cpu or cuda."""

    @field_validator("measure")
    @classmethod
    def _known(cls, measure: str) -> str:
        if not MEASURE.fullmatch(measure):
            raise ConfigError(
                f"train.measure = {measure!r}: write it as pool/metric@k, such as mixed/ndcg@10: "
                "mixed, warm or cold; recall, ndcg or hit with k from 1 on, or mrr alone. Models "
                "that rate single places go by places/auc, gauc, uauc or logloss."
            )
        return measure


def resolved(config: TrainConfig) -> TrainConfig:
    """The settings with `precision = "fastest"` replaced by what that is on this machine.

    Raises:
        ConfigError: this machine, or this build of torch, has no such device.
    """
    try:
        torch.empty(0, device=config.device)
    except (AssertionError, RuntimeError) as error:
        said = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"train.device = {config.device!r}: {said}. Use cpu, or cuda where torch finds it."
        ) from error
    if config.precision != "fastest":
        return config
    has = torch.cuda.is_bf16_supported() if config.device != "cpu" else _has_bfloat16()
    return config.model_copy(update={"precision": "bfloat16" if has else "float32"})


def _has_bfloat16() -> bool:
    """Whether this processor multiplies matrices of bfloat16 itself."""
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in asked)


class State:
    """All that a training is between two steps; what a checkpoint holds."""

    def __init__(self, model: Recommender, config: TrainConfig) -> None:
        self.model, self.config = model, config
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self._groups(),
            lr=config.learning_rate,
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.rng = torch.Generator().manual_seed(config.seed)
        self.at_start = self.rng.get_state()  # of the epoch that runs
        self.epoch, self.step, self.steps, self.waited = 0, 0, 0, 0
        self.spent = 0.0  # seconds of the epoch that runs
        self.sums: dict[str, float] = {}
        self.rows: list[Row] = []
        self.best, self.best_epoch = -math.inf, 0
        self.kept: dict[str, Tensor] = {}
        self.mean = [p.detach().clone() for p in self.weights] if config.average else []
        self._saved_at = time.monotonic()

    def _groups(self) -> list[dict[str, Any]]:
        """Weights that decay, then those that a module names as `undecayed`."""
        modules = self.model.modules()
        spared = {id(getattr(m, name)) for m in modules for name in getattr(m, "undecayed", ())}
        kinds = ([p for p in self.weights if (id(p) in spared) == one] for one in (False, True))
        rules = ({}, {"weight_decay": 0.0})
        groups = zip(kinds, rules, strict=True)
        return [{"params": weights, **rule} for weights, rule in groups if weights]

    def paced(self) -> None:
        """Set the step size of the epoch that begins."""
        share = 1.0
        if self.config.schedule == "cosine":
            share = (1 + math.cos(math.pi * self.epoch / self.config.epochs)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * share

    def stepped(self) -> None:
        """Count a step and let the mean of the weights follow them; early on it follows fast."""
        self.step, self.steps = self.step + 1, self.steps + 1
        if self.mean:
            share = min(self.config.average, self.steps / (self.steps + 10))
            own = [p.detach() for p in self.weights]
            torch._foreach_lerp_(self.mean, own, 1 - share)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has the mean of the weights."""
        own = [p.detach().clone() for p in self.weights] if self.mean else []
        self._put(self.mean)
        yield
        self._put(own)

    def better(self, measured: float) -> None:
        """Keep the weights if they are the best so far, else count how long none was."""
        if measured > self.best:
            self.best, self.best_epoch, self.waited = measured, self.epoch, 0
            self.kept = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        else:
            self.waited += 1

    def end(self) -> list[Row]:
        """Put the kept weights back and return the rows."""
        self._put(self.mean)
        if self.kept:
            self.model.load_state_dict(self.kept)
        self.model.eval()
        for row in self.rows:
            if row["epoch"] == (self.best_epoch or self.epoch):
                row["kept"] = 1.0
        return self.rows

    def write(self, folder: Path) -> None:
        """Write metrics.jsonl."""
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        files.write_text(folder / "metrics.jsonl", lines)

    def save(self, folder: Path) -> None:
        """Write a checkpoint if the last one is old enough."""
        if time.monotonic() - self._saved_at < self.config.checkpoint_s:
            return
        tensors = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"kept/{k}": v for k, v in self.kept.items()}
        tensors |= {f"mean/{k}": v for k, v in enumerate(self.mean)}
        for number, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{k}": v for k, v in slots.items()}
        tensors |= {f"rng/{k}": v for k, v in self._generators().items()}
        facts = {name: getattr(self, name) for name in FACTS}
        with files.atomic(folder / CHECKPOINT) as tmp:
            whole = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
            safetensors.torch.save_file(whole, tmp, {"facts": json.dumps(facts)})
        self._saved_at = time.monotonic()

    def resume(self, folder: Path) -> None:
        """Go on from the checkpoint in `folder`, if there is one."""
        path = folder / CHECKPOINT
        if not path.is_file():
            return
        files.readable(path)
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
        for mean, saved in zip(self.mean, _numbered(tensors.get("mean", {})), strict=True):
            mean.copy_(saved)
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.get("optimizer", {}).items():
            number, _, slot = name.partition("/")
            slots.setdefault(int(number), {})[slot] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        for name in FACTS:
            setattr(self, name, facts[name])
        self.rng.set_state(tensors["rng"]["batches"])
        torch.set_rng_state(tensors["rng"]["torch"])
        if "cuda" in tensors["rng"]:
            torch.cuda.set_rng_state(tensors["rng"]["cuda"], self.config.device)

    def _put(self, weights: list[Tensor]) -> None:
        with torch.no_grad():
            for own, other in zip(self.weights, weights, strict=False):
                own.copy_(other)

    def _generators(self) -> dict[str, Tensor]:
        """The batches' is that of the epoch's start: a resumed epoch draws them all again and
        skips those it had."""
        states = {"batches": self.at_start, "torch": torch.get_rng_state()}
        if self.config.device.startswith("cuda"):
            states["cuda"] = torch.cuda.get_rng_state(self.config.device)
        return states


def _numbered(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    return [tensors[name] for name in sorted(tensors, key=int)]
