"""Stage 0: the vision tower learns to see before any language model looks through it.

LLaVA starts from a tower that CLIP trained; a tiny tower has no such past, so it is trained here on
attributes of single frames, sounds, motion composites and grounding sheets. The heads that ask
for them are thrown away.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from reelm.config import Config
from reelm.media.views import motion_pictures
from reelm.tune.model import GRID
from reelm.tune.optimise import Optimiser, Report
from reelm.tune.rendered import OBJECTS, Rendered
from reelm.tune.sheets import SPRITES, Sheets
from reelm.world.vocabulary import ATTRIBUTES, SEEN_IN

FRAME = tuple(name for name, where in SEEN_IN.items() if where == "frame")
SOUND = tuple(name for name, where in SEEN_IN.items() if where == "sound")
SCENERY = ("scene", "light", "effect")
HARD = {"count": 2.0, "effect": 2.0}  # slow to learn from pooled tokens, so weighted up
MOTIONS = ATTRIBUTES["motion"]
MIRRORED = {"left": "right", "right": "left"}
REVERSED = MIRRORED | {"up": "down", "down": "up"}


class VisionConfig(Config):
    """Section [vision]: stage 0."""

    steps: PositiveInt = 6500
    """Updates of the vision tower."""
    frames: PositiveInt = 20
    """Single frames per step."""
    sounds: PositiveInt = 6
    """Sound pictures per step."""
    motions: PositiveInt = 12
    """Clips per step whose two motion composites are shown."""
    sheets: PositiveInt = 14
    """Grounding sheets per step."""
    learning_rate: PositiveFloat = 1.5e-3
    """Peak step size; see `optimise`."""


def normalise(pixels: UInt8[np.ndarray, "n side side 3"]) -> Float[Tensor, "n 3 side side"]:
    """What SigLIP's processor does with pictures of the right size: -1..1, channels first."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    return tensor.float().div_(127.5).sub_(1.0)


def see(tower: nn.Module, pixels: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n tokens dim"]:
    """The features LLaVA reads: the last hidden states, before the tower's final norm."""
    return tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-1]


class Probes(nn.Module):
    """One learned query per attribute pools the tokens; a linear layer names the value."""

    def __init__(self, dim: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Parameter(torch.randn(len(names), dim) * dim**-0.5)
        self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.out = nn.ModuleDict({name: nn.Linear(dim, len(ATTRIBUTES[name])) for name in names})

    def forward(self, seen: Float[Tensor, "n tokens dim"]) -> dict[str, Float[Tensor, "n values"]]:
        seen = self.norm(seen)
        weight = self.query @ self.key(seen).transpose(1, 2) * seen.shape[-1] ** -0.5
        pooled = weight.softmax(-1) @ self.value(seen)
        return {name: self.out[name](pooled[:, i]) for i, name in enumerate(self.names)}


class Grounding(nn.Module):
    """What stands at a token: subject, colour, word, its movement, its exact place and turn."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.subject = nn.Linear(dim, len(ATTRIBUTES["subject"]))
        self.colour = nn.Linear(dim, len(ATTRIBUTES["colour"]))
        self.word = nn.Linear(dim, len(ATTRIBUTES["word"]))
        self.motion = nn.Linear(dim, len(ATTRIBUTES["motion"]))
        self.present, self.pose = nn.Linear(dim, 2), nn.Linear(dim, 5)

    def occupied(
        self, seen: Float[Tensor, "n tokens dim"], places: Int[Tensor, "n slots"], words: int
    ) -> Float[Tensor, ""]:
        """Which tokens hold a subject, and which a word; the last `words` slots are words."""
        target = torch.zeros(*seen.shape[:2], 2)
        for slot in range(places.shape[1]):
            rows = (places[:, slot] >= 0).nonzero()[:, 0]
            target[rows, places[rows, slot], int(slot >= places.shape[1] - words)] = 1
        return F.binary_cross_entropy_with_logits(self.present(seen), target)


@dataclass(frozen=True)
class Teacher:
    """The tower and its heads, as one thing to train."""

    tower: nn.Module
    probes: Probes
    motion: Probes
    grounding: Grounding

    @staticmethod
    def of(tower: Any) -> "Teacher":
        dim = tower.config.hidden_size
        scene = Probes(dim, FRAME + SOUND)
        return Teacher(tower, scene, Probes(dim, ("motion",)), Grounding(dim))

    def modules(self) -> list[nn.Module]:
        """Everything with weights."""
        return [self.tower, self.probes, self.motion, self.grounding]


def train_vision(
    teacher: Teacher, clips: Rendered, sheets: Sheets, config: VisionConfig, report: Report
) -> None:
    """Train the tower and its heads in place for `config.steps` updates."""
    whiten(teacher.tower, clips)
    optimiser = Optimiser(teacher.modules(), config.learning_rate)
    rng = np.random.default_rng(0)
    for step in range(config.steps):
        loss = _loss(teacher, clips, sheets, config, rng)
        optimiser.step(loss, step, config.steps)
        report(step, float(loss.detach()))


@torch.no_grad()
def whiten(tower: Any, clips: Rendered, sample: int = 500) -> None:
    """Start the patch embedding from the principal directions of patches, each scaled to one.

    Raw patches differ mostly in flat background colour; whitening lifts edges and letters.
    """
    conv = next(m for m in tower.modules() if isinstance(m, nn.Conv2d))
    side, width = conv.kernel_size[0], conv.out_channels
    rng = np.random.default_rng(0)
    rows = rng.choice(len(clips), min(sample, len(clips)), replace=False)
    pixels = normalise(clips.frames[rows, rng.integers(0, clips.frames.shape[1], len(rows))])
    patches = F.unfold(pixels, side, stride=side).transpose(1, 2).reshape(-1, 3 * side * side)
    patches = patches.double()
    mean = patches.mean(0)
    spread, axes = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    spread, axes = spread.flip(0)[:width], axes.flip(1)[:, :width]
    kernel = 0.6 * (axes / torch.sqrt(spread + 0.01 * spread.mean())).T
    conv.weight[: len(kernel)].copy_(kernel.reshape(-1, 3, side, side).float())
    if conv.bias is not None:
        conv.bias[: len(kernel)].copy_(-(kernel @ mean).float())


def _loss(
    teacher: Teacher, clips: Rendered, sheets: Sheets, config: VisionConfig, rng: Any
) -> Float[Tensor, ""]:
    """One batch of all four kinds through the tower at once."""
    rows, moments = _draw(rng, len(clips), config.frames), _draw(rng, 6, config.frames)
    heard = _draw(rng, len(clips), config.sounds)
    drawn = _draw(rng, len(sheets), config.sheets)
    moved = composites(clips, _draw(rng, len(clips), config.motions), rng)
    grey = np.repeat(clips.sound[heard][..., None], 3, -1)
    pixels = [clips.frames[rows, moments], grey, moved.pixels, sheets.pixels[drawn]]
    x = normalise(np.concatenate(pixels))
    x = x * (1 + 0.1 * torch.randn(len(x), 1, 1, 1)) + 0.05 * torch.randn(len(x), 1, 1, 1)
    seen = see(teacher.tower, x)
    framed, sounded, moving, sheeted = seen.split([len(part) for part in pixels])
    index, moment = torch.from_numpy(rows), torch.from_numpy(moments)
    named = {name: label[index] for name, label in clips.labels.items()}
    spoken = {name: label[torch.from_numpy(heard)] for name, label in clips.labels.items()}
    return (
        _named(teacher.probes(framed), named, FRAME)
        + _named(teacher.probes(sounded), spoken, SOUND)
        + _grounded(teacher.grounding, framed, clips, index, moment)
        + _moving(teacher, moving, moved)
        + _on_sheet(teacher, sheeted, sheets, torch.from_numpy(drawn))
    )


def _draw(rng: np.random.Generator, high: int, count: int) -> Int[np.ndarray, "count"]:
    return rng.integers(0, high, count)


def _named(
    scores: dict[str, Tensor], labels: dict[str, Tensor], names: tuple[str, ...]
) -> Float[Tensor, ""]:
    terms = [HARD.get(name, 1.0) * F.cross_entropy(scores[name], labels[name]) for name in names]
    return torch.stack(terms).sum()


def _grounded(
    heads: Grounding, seen: Tensor, clips: Rendered, rows: Tensor, moments: Tensor
) -> Float[Tensor, ""]:
    """Subject, colour and pose at each subject's token; the word at the word's."""
    places, poses = clips.places[rows, moments], clips.poses[rows, moments]
    hidden = heads.norm(seen)
    loss = 3 * heads.occupied(hidden, places, words=1)
    for slot in range(OBJECTS):
        here = (places[:, slot] >= 0).nonzero()[:, 0]
        if len(here):
            at = hidden[here, places[here, slot]]
            known = rows[here]
            named = F.cross_entropy(heads.subject(at), clips.labels["subject"][known])
            named = named + F.cross_entropy(heads.colour(at), clips.labels["colour"][known])
            turned = F.smooth_l1_loss(heads.pose(at), poses[here, slot])
            loss = loss + (named + 2 * turned) * (len(here) / len(rows))
    here = (places[:, OBJECTS] >= 0).nonzero()[:, 0]
    if len(here):
        at = hidden[here, places[here, OBJECTS]]
        loss = loss + F.cross_entropy(heads.word(at), clips.labels["word"][rows[here]])
    return loss


@dataclass(frozen=True)
class Composites:
    """Motion composites of some clips, the first of all clips and then the second of all."""

    pixels: UInt8[np.ndarray, "twice_clips side side 3"]
    motion: Int[Tensor, "clips"]
    places: Int[Tensor, "twice_clips 3"]


def composites(clips: Rendered, rows: Int[np.ndarray, "rows"], rng: Any) -> Composites:
    """Composites of the chosen clips, half of them played backwards and a quarter mirrored."""
    pairs, motions, places = [], [], []
    for row in rows:
        frames, motion = clips.frames[row], MOTIONS[int(clips.labels["motion"][row])]
        at = clips.places[row, 2:4, :OBJECTS]
        if rng.random() < 0.5:
            frames, motion, at = frames[::-1], REVERSED.get(motion, motion), at.flip(0)
        if rng.random() < 0.25:
            frames, motion = frames[:, :, ::-1], MIRRORED.get(motion, motion)
            across = at % GRID
            at = torch.where(at >= 0, at - across + (GRID - 1 - across), at)
        pairs.append(motion_pictures(frames))
        motions.append(MOTIONS.index(motion))
        places.append(at)
    pixels = np.stack([pair[i] for i in (0, 1) for pair in pairs])
    return Composites(pixels, torch.tensor(motions), torch.stack(places, 1).flatten(0, 1))


def _moving(teacher: Teacher, seen: Tensor, moved: Composites) -> Float[Tensor, ""]:
    """Motion from both composites together, and at the subject's token in each."""
    both = torch.cat(seen.chunk(2), 1)
    loss = 3 * F.cross_entropy(teacher.motion(both)["motion"], moved.motion)
    hidden = teacher.grounding.norm(seen)
    rows, slots = (moved.places >= 0).nonzero(as_tuple=True)
    at = hidden[rows, moved.places[rows, slots]]
    target = moved.motion.repeat(2)[rows]
    return loss + F.cross_entropy(teacher.grounding.motion(at), target)


def _on_sheet(teacher: Teacher, seen: Tensor, sheets: Sheets, rows: Tensor) -> Float[Tensor, ""]:
    """Every sprite and word of a sheet at its token, and the scenery as a whole."""
    heads, places, kinds = teacher.grounding, sheets.places[rows], sheets.kinds[rows]
    hidden = heads.norm(seen)
    loss = 3 * heads.occupied(hidden, places, words=places.shape[1] - SPRITES)
    row, slot = (places >= 0).nonzero(as_tuple=True)
    at, kind, word = hidden[row, places[row, slot]], kinds[row, slot], slot >= SPRITES
    loss = loss + 2 * F.cross_entropy(heads.subject(at[~word]), kind[~word, 0])
    loss = loss + 2 * F.cross_entropy(heads.colour(at[~word]), kind[~word, 1])
    loss = loss + 2 * F.cross_entropy(heads.word(at[word]), kind[word, 0])
    scenery = {name: sheets.scenery[rows, i] for i, name in enumerate(SCENERY)}
    return loss + _named(teacher.probes(seen), scenery, SCENERY)


@torch.no_grad()
def accuracy(teacher: Teacher, clips: Rendered, count: int = 400) -> dict[str, float]:
    """How often the heads are right on clips they were not trained on: a look at the tower only."""
    count = min(count, len(clips))
    rows = np.arange(count)
    framed = see(teacher.tower, normalise(clips.frames[rows, rows % 6]))
    sounded = see(teacher.tower, normalise(np.repeat(clips.sound[rows][..., None], 3, -1)))
    pairs = [motion_pictures(clips.frames[row]) for row in rows]
    moving = [see(teacher.tower, normalise(np.stack([p[i] for p in pairs]))) for i in (0, 1)]
    said = {name: scores for name, scores in teacher.probes(framed).items() if name in FRAME}
    said |= {name: s for name, s in teacher.probes(sounded).items() if name in SOUND}
    said |= teacher.motion(torch.cat(moving, 1))
    return {
        name: round(float((scores.argmax(1) == clips.labels[name][:count]).float().mean()), 3)
        for name, scores in said.items()
    }
