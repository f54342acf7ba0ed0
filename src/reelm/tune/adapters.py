"""A language model with low-rank adapters, and the loop that trains them on conversations.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685.
Departures: every linear layer of the language model is adapted, not attention alone; the weights
are chosen on conversations held out.
"""

import inspect
import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from reelm import files
from reelm.backends.blocks.checkpoint import ABOUT
from reelm.backends.transformers import ends, load_model, load_reader
from reelm.config import Config
from reelm.errors import BadData, ConfigError, MissingPackage, NonFinite
from reelm.halves import quiet
from reelm.tune import conversations
from reelm.tune.batches import IGNORED
from reelm.tune.conversations import Conversation, Sample, Tokens
from reelm.tune.optimise import schedule
from reelm.tune.processes import Here

CHECKPOINT = "checkpoint.safetensors"
UNREACHED = "the first step gave no adapter a gradient: nothing would be learned."
ASIDE = ("vision", "visual", "image", "projector", "audio", "merger")
"""Parts of models whose linear layers are no part of the language model, by their names."""


class LoraConfig(Config):
    """Section [lora]: fine-tuning by low-rank adapters."""

    rank: PositiveInt = 8
    """Width of the adapters."""
    alpha: PositiveInt = 16
    """Their strength; what they add is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of what an adapter reads that is dropped while training."""
    epochs: PositiveInt = 3
    """Passes over the conversations, at most."""
    batch_size: PositiveInt = 16
    """Conversations per step, over all processes together."""
    piece_tokens: PositiveInt = 8192
    """Tokens that are learned from at once, padding counted; a step is made of such pieces."""
    learning_rate: PositiveFloat = 2e-4
    """AdamW's peak step size; it warms up over the first 4 % and falls along half a cosine."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW's pull of every adapter towards zero."""
    clip: PositiveFloat = 1.0
    """Largest length of a step's gradient."""
    max_length: PositiveInt = 4096
    """Tokens of a conversation; longer ones are left out and counted, not cut."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the subjects (videos, users or lines) that are measured on and not learned from;
    the adapters that were best on them are kept. 0 learns from all and keeps the last."""
    patience: PositiveInt = 2
    """Epochs without a better result after which training stops."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the frozen weights and the matrix products; adapters are float32."""
    checkpointing: bool = False
    """Recompute activations backwards: a third more time, a fraction of the memory."""
    merge: bool = False
    """Also write a whole checkpoint, adapters added to the weights."""
    seed: int = 0
    """Of the adapters, the order and the dropout."""
    device: str = "auto"
    """cpu or cuda; auto takes an accelerator. Several are used by `accelerate launch -m reelm`."""
    checkpoint_s: NonNegativeInt = 300
    """Seconds between checkpoints, from which a killed training goes on; 0 after every step."""


@dataclass
class Progress:
    """Where a training is; all of a checkpoint but the tensors."""

    epoch: int = 0
    step: int = 0
    """Steps of the epoch that runs."""
    lost: float = 0.0
    """Sum of the losses of these steps."""
    tokens: int = 0
    """Learned from in them."""
    waited: int = 0
    best: float = math.inf
    rows: list[dict[str, float | int]] = field(default_factory=list)


class Learner:
    """A model with adapters, and the loop that trains them."""

    def __init__(self, model: Any, tokens: Tokens, config: LoraConfig, here: Here) -> None:
        self.model, self.tokens, self.config, self.here = model, tokens, config, here
        self.named = {n: w for n, w in model.named_parameters() if w.requires_grad}
        weights = list(self.named.values())
        self.optimizer = torch.optim.AdamW(
            weights, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.together = (
            nn.parallel.DistributedDataParallel(model) if here.count > 1 else model
        )  # averages gradients over processes
        self._takes = set(inspect.signature(model.get_base_model().forward).parameters)
        self.progress = Progress()
        self.kept: dict[str, Tensor] = {}
        self._saved_at = time.monotonic()

    @classmethod
    def of(cls, name: str, config: LoraConfig) -> "Learner":
        """The model called `name` with adapters that change nothing yet.

        Raises:
            BackendError: it cannot be loaded.
            ConfigError: it has no linear layers to adapt.
            MissingPackage: peft is not installed.
        """
        try:
            import peft
        except ImportError as error:
            raise MissingPackage("peft", "lora", "reelm tune --on") from error
        reader = load_reader(name)
        with quiet():
            base = load_model(name, dtype=config.precision)
        adapted = linear_layers(base)
        if not adapted:
            raise ConfigError(f"{name}: no linear layers of a language model were found in it.")
        lora = peft.LoraConfig(
            r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout,
            target_modules=adapted,
        )  # fmt: skip
        base.config.use_cache = False
        if config.checkpointing:
            with quiet():
                base.gradient_checkpointing_enable({"use_reentrant": False})
            base.enable_input_require_grads()
        here, tokens = Here(config.device), Tokens(reader, ends(base, reader), config.max_length)
        with torch.random.fork_rng(), quiet():
            torch.manual_seed(config.seed)
            model = peft.get_peft_model(base, lora, autocast_adapter_dtype=True)
        return cls(model.to(here.device), tokens, config, here)

    def learn(self, found: Sequence[Conversation], folder: Path) -> dict[str, Any]:
        """Train, keep the adapters that are best on what is held out, and tell what it took."""
        config, progress = self.config, self.progress
        kept_apart = [one for one in found if one.held_out(config.held_out)]
        learned = [one for one in found if not one.held_out(config.held_out)]
        if len(learned) < self.here.count:
            raise BadData(
                f"{len(learned)} conversations are left to learn from, {len(kept_apart)} are held "
                "out. Lower lora.held_out or write more."
            )
        self._resume(folder)
        if kept_apart and not progress.rows:
            self._told({"epoch": 0, "held_out": self._measured(kept_apart)}, folder)
        while progress.epoch < config.epochs and progress.waited < config.patience:
            row = self._epoch(learned, folder)
            if kept_apart:
                row["held_out"] = self._measured(kept_apart)
                self._better(row["held_out"])
            self._told(row, folder)
            self._save(folder)
        if self.kept:
            self._put(self.kept)
        adapters = sum(weight.numel() for weight in self.named.values())
        counts = {"learned": len(learned), "held_out": len(kept_apart), "adapters": adapters}
        return counts | {"metrics": progress.rows}

    def _epoch(self, learned: Sequence[Conversation], folder: Path) -> dict[str, float | int]:
        """The rest of an epoch; what each process does follows from seed and step alone. The row's
        loss and tokens are of the whole epoch, its seconds of the rest."""
        config, progress = self.config, self.progress
        steps = _steps(learned, config, progress.epoch, self.here.count)
        begun = time.monotonic()
        self.model.train()
        for step in range(progress.step, len(steps)):
            at = progress.epoch * len(steps) + step
            torch.manual_seed((config.seed * 1_000_003 + at) * 1009 + self.here.rank)
            loss, count = self._step(steps[step], schedule(at, config.epochs * len(steps)))
            progress.lost, progress.tokens = progress.lost + loss, progress.tokens + count
            progress.step = step + 1
            self._save(folder)
        row = {"epoch": progress.epoch + 1, "loss": progress.lost / progress.tokens}
        row |= {"tokens": progress.tokens, "seconds": round(time.monotonic() - begun, 2)}
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.lost, progress.tokens = 0.0, 0
        return row

    def _step(self, some: Sequence[Conversation], rate: float) -> tuple[float, int]:
        """One update; the sum of losses and the number of learned tokens over all processes.

        `rate` is the share of the peak learning rate.
        """
        here = self.here
        own = [self.tokens.sample(one) for one in some[here.rank :: here.count]]
        mine = sum(sample.learned for sample in own)
        everyone = here.summed(mine)[0]
        pieces = list(_pieces(own, self.config.piece_tokens))
        lost = 0.0
        for number, piece in enumerate(pieces, start=1):
            quiet_now = number < len(pieces) and here.count > 1
            with self.together.no_sync() if quiet_now else nullcontext():
                loss = self._loss(piece, self.together)
                if not loss.requires_grad:
                    raise ConfigError(UNREACHED)
                # gradients are averaged over processes, so each gives its share times their number
                (loss * (here.count / everyone)).backward()
            lost += float(loss.detach())
        if not math.isfinite(lost):
            raise NonFinite(
                f"the loss became {lost} in epoch {self.progress.epoch + 1}, step "
                f"{self.progress.step + 1}. Lower lora.learning_rate or use float32."
            )
        if not (self.progress.epoch or self.progress.step):
            self._check_reach()
        nn.utils.clip_grad_norm_(self.named.values(), self.config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return here.summed(lost)[0], int(everyone)

    def _check_reach(self) -> None:
        """See that the first step reached the adapters.

        Raises:
            ConfigError: it did not, so all steps would be in vain.
        """
        if not any(w.grad is not None and bool(w.grad.any()) for w in self.named.values()):
            raise ConfigError(UNREACHED)

    def _loss(self, samples: Sequence[Sample], model: nn.Module) -> Tensor:
        """Sum of the losses of the learned tokens of some samples."""
        read, target = conversations.batch(samples, self.tokens.pad)
        device, low = self.here.device, self.config.precision == "bfloat16"
        read = {name: value.to(device) for name, value in read.items() if name in self._takes}
        following = target[:, 1:].to(device)
        places = (following != IGNORED).any(0).nonzero()[:, 0]
        # words are scored only where one is learned: all of them would fill the memory
        some = {"logits_to_keep": places} if "logits_to_keep" in self._takes else {}
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            logits = model(**read, **some, use_cache=False).logits
        logits = logits if some else logits[:, places]
        wanted = following[:, places].flatten()
        return F.cross_entropy(
            logits.float().flatten(0, 1), wanted, ignore_index=IGNORED, reduction="sum"
        )

    @torch.no_grad()
    def _measured(self, found: Sequence[Conversation]) -> float:
        """Mean loss of the learned tokens, in nats."""
        self.model.eval()
        here, lost, tokens = self.here, 0.0, 0
        own = found[here.rank :: here.count]
        for start in range(0, len(own), self.config.batch_size):
            some = [self.tokens.sample(one) for one in own[start : start + self.config.batch_size]]
            for piece in _pieces(some, self.config.piece_tokens):
                lost += float(self._loss(piece, self.model))
                tokens += sum(sample.learned for sample in piece)
        lost, count = here.summed(lost, tokens)
        return lost / count

    def _better(self, measured: float) -> None:
        if measured < self.progress.best:
            self.progress.best, self.progress.waited = measured, 0
            self.kept = {name: w.detach().cpu().clone() for name, w in self.named.items()}
        else:
            self.progress.waited += 1

    def _told(self, row: dict[str, float | int], folder: Path) -> None:
        self.progress.rows.append(row)
        if self.here.first:
            lines = "".join(json.dumps(one) + "\n" for one in self.progress.rows)
            files.write_text(folder / "metrics.jsonl", lines)

    def _save(self, folder: Path) -> None:
        """Write a checkpoint if the last one is old enough."""
        due = time.monotonic() - self._saved_at >= self.config.checkpoint_s
        if not (due and self.here.first):
            return
        tensors = {f"now/{name}": weight for name, weight in self.named.items()}
        tensors |= {f"kept/{name}": weight for name, weight in self.kept.items()}
        for number, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": value for name, value in slots.items()}
        whole = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        with files.atomic(folder / CHECKPOINT) as tmp:
            safetensors.torch.save_file(whole, tmp, {"facts": json.dumps(vars(self.progress))})
        self._saved_at = time.monotonic()

    def _resume(self, folder: Path) -> None:
        """Go on from the checkpoint in `folder`, if there is one."""
        path = folder / CHECKPOINT
        if not path.is_file():
            return
        files.readable(path)
        tensors: dict[str, dict[str, Tensor]] = {"now": {}, "kept": {}, "optimizer": {}}
        try:
            with safetensors.safe_open(path, "pt") as file:
                facts = json.loads(file.metadata()["facts"])
                for name in file.keys():  # noqa: SIM118 - not a dict
                    group, _, rest = name.partition("/")
                    tensors[group][rest] = file.get_tensor(name)
        except (safetensors.SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise BadData(f"{path}: cannot be read: {error}. Delete it to start over.") from error
        self._put(tensors["now"])
        self.kept = tensors["kept"]
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors["optimizer"].items():
            number, _, slot = name.partition("/")
            slots.setdefault(int(number), {})[slot] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        vars(self.progress).update(facts)

    def _put(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self.named.items():
                weight.copy_(weights[name])

    def save(self, folder: Path, base: str) -> None:
        """Write the adapters, and the whole checkpoint if it is wanted."""
        self.model.save_pretrained(folder / "adapter")
        about = Path(base) / ABOUT
        if about.is_file():
            shutil.copy(about, folder / "adapter")
        files.shared(folder / "adapter")
        if not self.config.merge:
            return
        whole = self.model.merge_and_unload()
        whole.config.use_cache = True
        whole.save_pretrained(folder / "model")
        self.tokens.save(folder / "model")
        if about.is_file():
            shutil.copy(about, folder / "model")
        files.shared(folder / "model")


def linear_layers(model: nn.Module) -> list[str]:
    """Names of the linear layers of a model's language model, without the one that scores words."""
    head = model.get_output_embeddings()  # pyright: ignore[reportCallIssue]
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module is not head
        and not any(part in name.lower() for part in ASIDE)
    ]


def _steps(
    learned: Sequence[Conversation], config: LoraConfig, epoch: int, least: int
) -> list[list[Conversation]]:
    """The conversations of each step of an epoch, `least` at least; the same for one seed."""
    rng = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(learned), generator=rng).tolist()
    size = max(config.batch_size, least)
    steps = [order[start : start + size] for start in range(0, len(order), size)]
    if len(steps) > 1 and len(steps[-1]) < least:  # a process without work would wait for ever
        steps[-2:] = [steps[-2] + steps[-1]]
    return [[learned[n] for n in step] for step in steps]


def _pieces(samples: Sequence[Sample], most: int) -> Iterator[list[Sample]]:
    """Samples of like length, together at most `most` tokens with padding; one at least."""
    waiting: list[Sample] = []
    for sample in sorted(samples, key=lambda one: len(one.ids)):
        if waiting and (len(waiting) + 1) * len(sample.ids) > most:
            yield waiting
            waiting = []
        waiting.append(sample)
    if waiting:
        yield waiting
