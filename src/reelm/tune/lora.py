"""Verb, `reelm tune --on`: fine-tune a language model on conversations by low-rank adapters."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from reelm import files
from reelm.errors import BadData
from reelm.tune import conversations
from reelm.tune.adapters import CHECKPOINT, Learner, LoraConfig
from reelm.tune.conversations import Conversation, Refused, Tokens

VERSION = 1


def tune(path: Path, model: str, config: LoraConfig, work: Path) -> Path:
    """Learn conversations and fill `work/tuned/<model>-<key>/`; call it again to resume.

    The folder gets `adapter/`, with `lora.merge` also `model/`, one line of metrics.jsonl per
    epoch, and refused.jsonl with every line that nothing was learned from, and why.

    Args:
        path: JSON lines, see `reelm.tune.conversations`.
        model: folder of a checkpoint of transformers, or a hub id.

    Raises:
        BadData: no line can be learned from.
        BackendError: the model cannot be loaded.
        ConfigError: the adapters would learn nothing.
        NonFinite: the loss became NaN or infinite.
        MissingPackage: peft is not installed.
    """
    found, refused = conversations.read(path)
    settings = config.model_dump(mode="json", exclude={"device", "checkpoint_s"})
    inputs = {"model": _named(model), "conversations": conversations.fingerprint(path, found)}
    key = files.key("tune", VERSION, settings, inputs)
    folder = work / "tuned" / f"{Path(model).name}-{key}"
    if files.finished(folder):
        return folder
    begun, learner = time.monotonic(), Learner.of(model, config)
    good, more = _sorted_out(found, learner.tokens)
    refused = sorted([*refused, *more], key=lambda one: one.number)
    if not good:
        first = f"; line {refused[0].number}: {refused[0].reason}" if refused else ""
        raise BadData(f"{path}: none of its lines can be learned from{first}.")
    with torch.random.fork_rng():
        facts = learner.learn(good, folder)
    if learner.here.first:
        conversations.write(folder / "refused.jsonl", refused)
        learner.save(folder, model)
        (folder / CHECKPOINT).unlink(missing_ok=True)
        files.finish(
            folder, stage="tune", version=VERSION, key=key, settings=settings, inputs=inputs,
            base=model, rows=len(good), failed=len(refused), seed=config.seed,
            seconds=round(time.monotonic() - begun, 1), **facts,
        )  # fmt: skip
    learner.here.wait()
    return folder


def _named(model: str) -> str:
    """What a model is told apart by: the hash of a folder's weights, or its hub id."""
    return files.weights_hash(model) or model


def _sorted_out(
    found: Sequence[Conversation], tokens: Tokens
) -> tuple[list[Conversation], list[Refused]]:
    good, refused = [], []
    for one in found:
        try:
            tokens.sample(one)
        except BadData as error:
            refused.append(Refused(one.number, str(error)))
        else:
            good.append(one)
    return good, refused
