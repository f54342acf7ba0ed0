"""Stages 1 to 3: the language model learns the answers' form, the projector learns its words, and
then both learn to answer about pictures (LLaVA's alignment and instruction tuning)."""

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from reelm.config import Config
from reelm.media.views import motion_pictures
from reelm.tune import vision, wording
from reelm.tune.batches import IGNORED, Batch, padded
from reelm.tune.model import TOKENS, value_tokens
from reelm.tune.optimise import Optimiser, Report, schedule
from reelm.tune.rendered import OBJECTS, Rendered, sketched
from reelm.tune.vision import REVERSED, SOUND, normalise, see
from reelm.world.clips import Clip, sample_clip
from reelm.world.vocabulary import ATTRIBUTES

ORDERS = ((0, 2, 4), (1, 3, 5))  # moments that may be shown as frames


class LanguageConfig(Config):
    """Section [language]: everything after the vision tower."""

    text_steps: PositiveInt = 800
    """Updates on text alone: attribute words in any order become the answer."""
    align_steps: PositiveInt = 1000
    """Stage 1: updates of the projector alone."""
    instruct_steps: PositiveInt = 2200
    """Stage 2: updates of projector and language model on frozen vision features."""
    joint_steps: NonNegativeInt = 650
    """Last updates, of everything, at a fifth of the learning rate."""
    fresh: float = Field(default=0.75, ge=0, le=1)
    """Share of the last stage's samples whose pictures are drawn anew, never seen before."""
    batch_size: PositiveInt = 16
    """Samples per step; alignment and text use three and one and a half times as many."""
    learning_rate: PositiveFloat = 1.5e-3
    """Peak step size of stage 2."""


class Writer:
    """Questions and answers as token ids, `<image>` repeated once per picture token."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.prompts: dict[str, list[int]] = {}

    def batch(self, pairs: list[wording.Pair]) -> Batch:
        """Right-padded; only answers are targets."""
        asked = [self._prompt(pair.question) for pair in pairs]
        said = [[*self._ids(pair.answer), self.tokenizer.eos_token_id] for pair in pairs]
        rows = [(q + a, [IGNORED] * len(q) + a) for q, a in zip(asked, said, strict=True)]
        return padded(rows, self.tokenizer.pad_token_id)

    def text_batch(self, lines: list[str]) -> Batch:
        """Right-padded; every token is a target."""
        rows = [(ids, ids) for ids in map(self._ids, lines)]
        return padded(rows, self.tokenizer.pad_token_id)

    def _prompt(self, question: str) -> list[int]:
        if question not in self.prompts:
            text = wording.prompt_text(question).replace("<image>", "<image>" * TOKENS)
            self.prompts[question] = self._ids(text)
        return self.prompts[question]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def answer_loss(
    model: Any, batch: Batch, features: Float[Tensor, "batch tokens dim"] | None
) -> Float[Tensor, ""]:
    """Cross-entropy of each target token, logits computed only where there is a target."""
    embedded = model.get_input_embeddings()(batch.ids)
    if features is not None:
        words = model.model.multi_modal_projector(features)
        here = (batch.ids == model.config.image_token_id)[..., None].expand_as(embedded)
        embedded = embedded.masked_scatter(here, words.reshape(-1, words.shape[-1]))
    hidden = model.model.language_model(inputs_embeds=embedded, attention_mask=batch.real)
    learned = batch.target[:, 1:] != IGNORED
    logits = model.lm_head(hidden.last_hidden_state[:, :-1][learned])
    return F.cross_entropy(logits, batch.target[:, 1:][learned])


def train_text(model: Any, writer: Writer, config: LanguageConfig, report: Report) -> None:
    """The language model alone, on words: it learns the form of answers and to copy values."""
    rng = random.Random(3)
    optimiser = Optimiser([model.model.language_model], 2e-3)
    for step in range(config.text_steps):
        lines = []
        for _ in range(config.batch_size * 3 // 2):
            clip = sample_clip(rng)
            lines.append(wording.reminder_text(clip, wording.sample_pair(clip, rng), rng))
        loss = answer_loss(model, writer.text_batch(lines), None)
        optimiser.step(loss, step, config.text_steps)
        report(step, float(loss.detach()))


@dataclass(frozen=True)
class Seen:
    """Vision features of clips: six moments, the sound, two composites forwards, two backwards."""

    features: Float[Tensor, "clips pictures tokens dim"]
    clips: list[Clip]

    def choose(self, row: int, rng: random.Random) -> tuple[Clip, Float[Tensor, "tokens dim"]]:
        """One clip forwards or backwards, its frames from one of two sets of moments."""
        order, clip = rng.choice(ORDERS), self.clips[row]
        moving = (7, 8)
        if rng.random() < 0.5:
            order, moving = order[::-1], (9, 10)
            clip = replace(clip, motion=REVERSED.get(clip.motion, clip.motion))
        return clip, self.features[row, [*order, 6, *moving]].flatten(0, 1).float()


@torch.no_grad()
def look(tower: nn.Module, rendered: Rendered, batch: int = 25) -> Seen:
    """Run the frozen tower once over every picture of every clip; kept as bfloat16."""
    kept = []
    for start in range(0, len(rendered), batch):
        pixels = np.concatenate([_pictures(rendered, row) for row in
                                 range(start, min(start + batch, len(rendered)))])  # fmt: skip
        seen = see(tower, normalise(pixels)).bfloat16()
        kept.append(seen.unflatten(0, (-1, 11)))
    return Seen(torch.cat(kept), rendered.clips)


def _pictures(rendered: Rendered, row: int) -> np.ndarray:
    frames = rendered.frames[row]
    sound = np.repeat(rendered.sound[row][..., None], 3, -1)
    moving = motion_pictures(frames) + motion_pictures(frames[::-1])
    return np.stack([*frames, sound, *moving])


def train_align(
    model: Any,
    writer: Writer,
    seen: Seen,
    rendered: Rendered,
    config: LanguageConfig,
    report: Report,
) -> None:
    """Stage 1: only the projector learns, until a projected token reads as the word it shows.

    Scores are dot products with the language model's own (tied) word embeddings, so the language
    model itself need not run.
    """
    projector = model.model.multi_modal_projector
    words = model.get_input_embeddings().weight.detach()
    values = value_tokens(writer.tokenizer)
    sharpness = nn.ParameterDict({name: nn.Parameter(torch.tensor(3.0)) for name in ATTRIBUTES})
    weights = [*projector.parameters(), *sharpness.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=3e-3, betas=(0.9, 0.98))
    draw = torch.Generator().manual_seed(0)
    for step in range(config.align_steps):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * schedule(step, config.align_steps)
        rows = torch.randint(len(rendered), (3 * config.batch_size,), generator=draw)
        loss = torch.zeros(())
        for name, at, target in _showing(seen, rendered, rows, draw):
            scores = projector(at) @ words[values[name]].T * sharpness[name].exp()
            loss = loss + F.cross_entropy(scores, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        report(step, float(loss.detach()))


def _showing(
    seen: Seen, rendered: Rendered, rows: Int[Tensor, "batch"], draw: torch.Generator
) -> list[tuple[str, Float[Tensor, "n dim"], Int[Tensor, "n"]]]:
    """(attribute, features of tokens that show it, its value) for a batch of clips."""
    count = len(rows)
    moment = torch.randint(6, (count,), generator=draw)
    anywhere = torch.randint(TOKENS, (count, 4), generator=draw)
    each = torch.arange(count)
    labels = {name: label[rows] for name, label in rendered.labels.items()}
    frame, sound = seen.features[rows, moment].float(), seen.features[rows, 6].float()
    out = []
    for name in vision.SCENERY + SOUND:
        source = sound if name in SOUND else frame
        at = source[each[:, None], anywhere].flatten(0, 1)
        out.append((name, at, labels[name].repeat_interleave(4)))
    places = rendered.places[rows, moment]
    row, slot = (places[:, :OBJECTS] >= 0).nonzero(as_tuple=True)
    at = frame[row, places[row, slot]]
    out += [(name, at, labels[name][row]) for name in ("subject", "colour")]
    row = (places[:, OBJECTS] >= 0).nonzero()[:, 0]
    out.append(("word", frame[row, places[row, OBJECTS]], labels["word"][row]))
    for picture, middle in ((7, 2), (8, 3)):
        places = rendered.places[rows, middle]
        row, slot = (places[:, :OBJECTS] >= 0).nonzero(as_tuple=True)
        at = seen.features[rows[row], picture].float()[torch.arange(len(row)), places[row, slot]]
        out.append(("motion", at, labels["motion"][row]))
    return out


def train_instruct(
    model: Any, writer: Writer, seen: Seen, config: LanguageConfig, report: Report
) -> None:
    """Stage 2: projector and language model answer questions about frozen vision features."""
    rng = random.Random(1)
    optimiser = Optimiser(
        [model.model.multi_modal_projector, model.model.language_model], config.learning_rate
    )
    for step in range(config.instruct_steps):
        rows = [rng.randrange(len(seen.clips)) for _ in range(config.batch_size)]
        chosen = [seen.choose(row, rng) for row in rows]
        pairs = [wording.sample_pair(clip, rng) for clip, _ in chosen]
        features = torch.stack([feature for _, feature in chosen])
        loss = answer_loss(model, writer.batch(pairs), features)
        optimiser.step(loss, step, config.instruct_steps)
        report(step, float(loss.detach()))


def train_joint(
    model: Any, writer: Writer, rendered: Rendered, config: LanguageConfig, report: Report
) -> None:
    """Everything together, gently: what the answers need reaches the vision tower too.

    By now the model knows its training clips by heart, so most samples are new ones.
    """
    rng = random.Random(2)
    parts = model.model
    optimiser = Optimiser(
        [parts.vision_tower, parts.multi_modal_projector, parts.language_model],
        config.learning_rate / 5,
    )
    for step in range(config.joint_steps):
        chosen = [
            _choose_pixels(rendered, rng.randrange(len(rendered)), rng.random() < config.fresh, rng)
            for _ in range(config.batch_size)
        ]
        pairs = [wording.sample_pair(clip, rng) for clip, _ in chosen]
        pixels = normalise(np.concatenate([pictures for _, pictures in chosen]))
        features = see(parts.vision_tower, pixels)
        features = features.reshape(len(chosen), -1, features.shape[-1])
        loss = answer_loss(model, writer.batch(pairs), features)
        optimiser.step(loss, step, config.joint_steps)
        report(step, float(loss.detach()))


def _choose_pixels(
    rendered: Rendered, row: int, fresh: bool, rng: random.Random
) -> tuple[Clip, np.ndarray]:
    """Six pictures of one clip, forwards or backwards; a fresh one borrows the clip's sound."""
    clip, frames = rendered.clips[row], rendered.frames[row]
    if fresh:
        heard = {name: getattr(clip, name) for name in SOUND}
        clip = replace(sample_clip(rng), **heard)
        frames = sketched(clip, rng)
    if rng.random() < 0.5:
        frames = frames[::-1]
        clip = replace(clip, motion=REVERSED.get(clip.motion, clip.motion))
    sound = np.repeat(rendered.sound[row][..., None], 3, -1)
    shown = [frames[moment] for moment in rng.choice(ORDERS)]
    return clip, np.stack([*shown, sound, *motion_pictures(frames)])
