"""Verb: train a tiny LLaVA on rendered clips, from nothing to a checkpoint folder.

The two stages of LLaVA (alignment of the projector, then instruction tuning) stand on two that a
model without a past needs first: a vision tower that sees and a language model that can write.

Source: Liu et al. 2023, "Visual Instruction Tuning", arXiv:2304.08485, section 4.2.
Departures: tower and language model are trained here, not taken from CLIP and Vicuna; movement
and sound are shown as pictures; stage 1 reads projected tokens with the word embeddings instead
of running the language model; a last short stage trains the tower too.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt

from reelm import files
from reelm.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

    from reelm.tune.language import LanguageConfig
    from reelm.tune.model import SizeConfig
    from reelm.tune.rendered import Rendered
    from reelm.tune.sheets import Sheets
    from reelm.tune.vision import VisionConfig

log = logging.getLogger(__name__)
VERSION = 2
READS: dict[str, tuple[str, ...]] = {
    "vision": (),
    "text": ("text_steps", "batch_size"),
    "align": ("align_steps", "batch_size"),
    "instruct": ("instruct_steps", "batch_size", "learning_rate"),
    "joint": ("joint_steps", "fresh", "batch_size", "learning_rate"),
}
"""The settings of [language] that each stage reads; vision reads all of its own section."""
UNSEEN = 1_000_003  # added to the seed: clips that are only looked at, never trained on


class TuneConfig(Config):
    """Section [tune]."""

    clips: PositiveInt = 6000
    """Clips rendered, encoded and decoded again for training."""
    sheets: PositiveInt = 12000
    """Grounding sheets drawn for the vision tower."""
    unseen: PositiveInt = 400
    """Clips kept aside to watch the vision tower's progress."""
    seed: int = 0
    """Of the clips, the sheets and the start weights."""
    workers: PositiveInt = 2
    """Processes that render."""
    threads: PositiveInt = 2
    """Threads of the training itself."""
    report_every: PositiveInt = Field(default=500)
    """Steps between two lines of log.jsonl."""


class Progress:
    """Writes one JSON line per stage event, with wall and processor seconds."""

    def __init__(self, folder: Path, every: int) -> None:
        self.path, self.every = folder / "log.jsonl", every
        self.started, self.stage, self.mean = time.process_time(), "", 0.0

    def begin(self, stage: str) -> None:
        """Name the stage that the next lines belong to."""
        self.stage, self.started, self.mean = stage, time.process_time(), 0.0

    def line(self, **facts: Any) -> None:
        """Append one line."""
        spent = round(time.process_time() - self.started, 1)
        row = {"stage": self.stage, "cpu_s": spent, "at": round(time.time(), 1), **facts}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        log.info("%s", row)

    def __call__(self, step: int, loss: float) -> None:
        """Once per update; the loss is smoothed over about fifty."""
        self.mean = loss if step == 0 else 0.98 * self.mean + 0.02 * loss
        if step % self.every == 0:
            self.line(step=step, loss=round(self.mean, 4))


@dataclass(frozen=True)
class Material:
    """What is trained on, and clips that are only looked at."""

    clips: Rendered
    unseen: Rendered
    sheets: Sheets


@dataclass(frozen=True)
class Settings:
    """The four sections of a tuning run."""

    tune: TuneConfig
    size: SizeConfig
    vision: VisionConfig
    language: LanguageConfig

    def plain(self) -> dict[str, dict[str, Any]]:
        """All values, by section."""
        return {field.name: getattr(self, field.name).model_dump() for field in fields(self)}


def tune(settings: Settings, out: Path) -> Path:
    """Render, train and write `out/model`, a checkpoint folder; run it again to resume by stage.

    Rendered material and the weights after each stage stay in `out`, named by everything that
    could change them. Returns `out`.
    """
    import torch

    from reelm.tune import model as tiny

    torch.set_num_threads(settings.tune.threads)
    out.mkdir(parents=True, exist_ok=True)
    progress = Progress(out, settings.tune.report_every)
    started = time.time()
    progress.begin("render")
    material = prepare(settings.tune, out / "material")
    progress.line(clips=len(material.clips), sheets=len(material.sheets))
    model, processor = tiny.build(settings.size, settings.tune.seed)
    progress.line(weights=sum(p.numel() for p in model.parameters()))
    plain = settings.plain()
    keys = stage_keys(settings)
    stages = _stages(model, processor, material, settings, progress)
    for number, (name, stage) in enumerate(stages):
        path = out / f"stage-{number}-{name}-{keys[name]}.safetensors"
        _stage(path, name, stage, model, progress)
    key = keys[stages[-1][0]]
    facts = {"settings": plain, "seconds": round(time.time() - started)}
    tiny.save(out / "model", model, processor, facts)
    return files.finish(out, stage="tune", version=VERSION, key=key, **facts)


def stage_keys(settings: Settings) -> dict[str, str]:
    """A key for each stage, in order: it changes with what this stage or one before it reads."""
    plain = settings.plain()
    same = {name: plain["tune"][name] for name in ("clips", "sheets", "seed")}
    key = files.key("tune", VERSION, {"material": same, "size": plain["size"]}, {})
    keys = {}
    for name, read in READS.items():
        values = plain["vision"] if name == "vision" else {n: plain["language"][n] for n in read}
        keys[name] = key = files.key(name, VERSION, values, {"on": key})
    return keys


def prepare(config: TuneConfig, folder: Path) -> Material:
    """Render clips and sheets into `folder`, or load what is there."""
    from reelm.tune import rendered, sheets

    return Material(
        rendered.prepare(folder, config.seed, config.clips, config.workers),
        rendered.prepare(folder, config.seed + UNSEEN, config.unseen, config.workers),
        sheets.prepare(folder, config.seed, config.sheets, config.workers),
    )


def _stage(
    path: Path, name: str, stage: Callable[[], None], model: Any, progress: Progress
) -> None:
    """Run one stage, or load what it left; each starts from its own seed so that both agree."""
    import torch
    from safetensors.torch import load_model, save_model

    progress.begin(name)
    if path.exists():
        load_model(model, path)
        progress.line(resumed=path.name)
        return
    torch.manual_seed(1)
    model.train()
    stage()
    with files.atomic(path) as tmp:
        save_model(model, str(tmp))
    progress.line(done=path.name)


def _stages(
    model: Any, processor: Any, material: Material, settings: Settings, progress: Progress
) -> list[tuple[str, Callable[[], None]]]:
    """The five stages in order, as calls without arguments."""
    from reelm.tune import language as words
    from reelm.tune import vision as sight

    writer = words.Writer(processor.tokenizer)
    tower, config = model.model.vision_tower, settings.language
    kept: list[Any] = []

    def seen() -> Any:  # looked at once, when the first stage that needs it runs
        if not kept:
            kept.append(words.look(tower, material.clips))
        return kept[0]

    def see() -> None:
        def report(step: int, loss: float) -> None:
            progress(step, loss)
            if step % (4 * progress.every) == 0 and step:
                progress.line(step=step, **sight.accuracy(teacher, material.unseen))

        teacher = sight.Teacher.of(tower)
        sight.train_vision(teacher, material.clips, material.sheets, settings.vision, report)
        unseen = material.unseen
        progress.line(unseen=len(unseen), **sight.accuracy(teacher, unseen))

    def align() -> None:
        words.train_align(model, writer, seen(), material.clips, config, progress)

    return [
        ("vision", see),
        ("text", lambda: words.train_text(model, writer, config, progress)),
        ("align", align),
        ("instruct", lambda: words.train_instruct(model, writer, seen(), config, progress)),
        ("joint", lambda: words.train_joint(model, writer, material.clips, config, progress)),
    ]
