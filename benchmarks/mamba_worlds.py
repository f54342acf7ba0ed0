"""Two worlds that need memory, and what the selective scan makes of them; JSON lines.

    python benchmarks/mamba_worlds.py [--seeds 3] [--world copying|long_range] [--arm NAME]

copying: a few tokens stand among noise at places drawn anew for each sequence; then they are asked
for in order. `selective` is two Mamba blocks, `constant` the same blocks with dt, b and c learned
but the same at all places.
long_range: one item of 200 says which item comes next, from `lag` places before it; all others are
noise, and all histories end with the same item, so that neither popularity nor the newest item
says anything. Training begins with short histories; for the figure it is exactly `lag`. `mamba` and
`blanket` are Mamba4Rec with the two starts of its step lengths.

Nothing is tuned on what is reported: data are drawn anew at each step, and for the figure again.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import polars as pl
import torch
import torch.nn.functional as F
from harness import report
from torch import Tensor, nn

from reelm.data.batches import SequenceBatch
from reelm.data.dataset import Dataset
from reelm.models.blocks.mamba import Mamba, MambaShape
from reelm.models.blocks.scan import ScanInputs
from reelm.models.mamba4rec import Mamba4Rec, Mamba4RecConfig

KINDS = 16  # of tokens to copy; of items that decide
NOISE = 40  # items that say nothing


class Constant(Mamba):
    """The block without selection: dt, b and c are learned, and the same at all places."""

    def __init__(self, shape: MambaShape) -> None:
        super().__init__(shape)
        self.both = nn.Parameter(torch.randn(2, shape.state))

    def _inputs(self, u: Tensor, state: Tensor | None, reset: Tensor | None) -> ScanInputs:
        batch, length, channels = u.shape
        dt = F.softplus(self.step_length.bias).expand(batch, length, channels)
        b, c = (one.expand(batch, length, -1) for one in self.both)
        return ScanInputs(u, dt, -self.log_rate.exp(), b, c, self.skip, state, reset)


class Copier(nn.Module):
    """Blocks that add to what they are given, between an embedding and a choice of token."""

    def __init__(self, kind: type[Mamba], dim: int, layers: int) -> None:
        super().__init__()
        self.token = nn.Embedding(KINDS + 2, dim)
        self.blocks = nn.ModuleList(kind(MambaShape(dim)) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers + 1))
        self.choose = nn.Linear(dim, KINDS)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens)
        for block, norm in zip(self.blocks, self.norms, strict=False):
            x = x + block(norm(x))
        return self.choose(self.norms[-1](x))


def copying(batch: int, length: int, wanted: int) -> tuple[Tensor, Tensor]:
    """Tokens [batch, length + wanted], and the tokens asked for [batch, wanted]."""
    asked = torch.randint(KINDS, (batch, wanted))
    place = torch.rand(batch, length).argsort(1)[:, :wanted].sort(1).values
    tokens = torch.full((batch, length + wanted), KINDS)  # noise
    tokens.scatter_(1, place, asked)
    tokens[:, length:] = KINDS + 1  # "which was it?"
    return tokens, asked


def learn_copying(arm: str, settings: argparse.Namespace) -> Iterator[dict[str, float]]:
    """Share of tokens right, after more and more steps."""
    model = Copier({"selective": Mamba, "constant": Constant}[arm], 64, 2)
    adam = torch.optim.Adam(model.parameters(), lr=settings.copy_rate, betas=(0.9, 0.98))
    wanted, steps = settings.wanted, settings.copy_steps
    count, length = 2, 2.0  # tokens that are asked for, and places they stand among
    spent = time.process_time()
    for step in range(1, steps + 1):
        tokens, asked = copying(settings.batch, int(length), count)
        said = model(tokens)[:, -count:]
        loss = F.cross_entropy(said.flatten(0, 1), asked.flatten())
        _move(model, adam, loss, step, steps)
        # more tokens as soon as fewer are right, then more noise: order is learned on few
        if (said.argmax(-1) == asked).float().mean() > settings.enough:
            if count < wanted:
                count, length = count + 1, max(length, count + 1.0)
            else:
                length = min(settings.length, 1.03 * length + 0.1)
        if step % settings.every == 0 or step == steps:
            with torch.no_grad():
                tokens, asked = copying(512, settings.length, wanted)
                right = (model(tokens)[:, -wanted:].argmax(-1) == asked).float().mean().item()
            yield {"step": step, "accuracy": right, "loss": loss.item(), "asked": count,
                   "reached": int(length), "cpu_s": time.process_time() - spent}  # fmt: skip


def _move(model: nn.Module, adam: torch.optim.Adam, loss: Tensor, step: int, steps: int) -> None:
    """One step; the rate rises over a twentieth of them and falls to zero at the end."""
    for group in adam.param_groups:
        group.setdefault("most", group["lr"])
        group["lr"] = group["most"] * min(1.0, 20 * step / steps) * max(0.02, 1 - step / steps)
    adam.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()


def histories(batch: int, length: int, least: int, most: int) -> tuple[Tensor, Tensor]:
    """Items [batch, length], and the item that comes next [batch]; 1..16 decide, 17..32 answer.

    The one that decides stands `least` to `most` places before the one that comes next.
    """
    decides = torch.randint(1, KINDS + 1, (batch,))
    lag = torch.randint(least, most + 1, (batch, 1))
    items = torch.randint(2 * KINDS + 2, 2 * KINDS + 2 + NOISE, (batch, length))
    items.scatter_(1, length - lag, decides[:, None])
    items[:, -1] = 2 * KINDS + 1  # the same for all
    return items, decides + KINDS


def catalogue(length: int, lag: int) -> Dataset:
    """Some such histories as a log, so that training has seen every item."""
    items, answer = histories(20 * KINDS, length, 2, lag)
    rows = torch.cat([items, answer[:, None]], 1)
    table = pl.DataFrame(
        {
            "user_id": [f"u{u:04d}" for u in range(len(rows)) for _ in range(length + 1)],
            "video_id": [f"v{v:03d}" for v in rows.flatten().tolist()],
            "timestamp": [float(t) for _ in range(len(rows)) for t in range(length + 1)],
        }
    )
    return Dataset.build(table.with_columns(event=pl.lit("watch"), value=pl.lit(1.0)))


def learn_long_range(arm: str, settings: argparse.Namespace) -> Iterator[dict[str, float]]:
    """Share of histories whose next item scores highest, after more and more steps."""
    length, lag, steps = 200, settings.lag, settings.range_steps
    data = catalogue(length, lag)
    rows = {name: row for row, name in enumerate(data.items)}
    numbers = range(1, 2 * KINDS + 2 + NOISE)
    row = torch.tensor([0] + [rows[f"v{v:03d}"] for v in numbers])
    model = Mamba4Rec(Mamba4RecConfig(dt_start=arm, dropout=0.0), data)
    adam = torch.optim.Adam(model.parameters(), lr=settings.range_rate)
    spent = time.process_time()
    for step in range(1, steps + 1):
        # at first it is near and histories are short: to keep it longer is then a small step
        most = int(2 + (lag - 2) * min(1.0, 1.5 * step / steps))
        items, answer = histories(64, 2 * most, 2, most)
        target = torch.zeros_like(items)
        target[:, -1] = row[answer]
        loss = model.train().loss(SequenceBatch(row[items], target))["softmax"]
        _move(model, adam, loss, step, steps)
        if step % settings.every == 0 or step == steps:
            with torch.inference_mode():
                items, answer = histories(512, length, lag, lag)
                best = model.eval().score(torch.arange(512), row[items])[:, 1:].argmax(1) + 1
            common = row[answer].mode().values  # of the answers themselves: popularity's best
            yield {"step": step, "accuracy": (best == row[answer]).float().mean().item(),
                   "popularity": (row[answer] == common).float().mean().item(),
                   "loss": loss.item(), "cpu_s": time.process_time() - spent}  # fmt: skip


WORLDS: dict[str, tuple[Callable[..., Iterator[dict[str, float]]], tuple[str, ...]]] = {
    "copying": (learn_copying, ("selective", "constant")),
    "long_range": (learn_long_range, ("mamba", "blanket")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--world", choices=sorted(WORLDS))
    parser.add_argument("--arm")
    parser.add_argument("--wanted", type=int, default=16, help="tokens to copy")
    parser.add_argument("--length", type=int, default=256, help="places they stand among")
    parser.add_argument("--batch", type=int, default=64, help="sequences to copy from at a time")
    parser.add_argument("--enough", type=float, default=0.9, help="share right to go on to longer")
    parser.add_argument("--copy_steps", type=int, default=1500)
    parser.add_argument("--copy_rate", type=float, default=3e-3)
    parser.add_argument("--lag", type=int, default=100, help="places from the end")
    parser.add_argument("--range_steps", type=int, default=300)
    parser.add_argument("--range_rate", type=float, default=3e-3)
    parser.add_argument("--every", type=int, default=10**9, help="steps between two lines")
    settings = parser.parse_args()
    for world, (learn, arms) in WORLDS.items():
        for arm in arms:
            if settings.world not in (None, world) or settings.arm not in (None, arm):
                continue
            for seed in range(settings.seeds):
                torch.manual_seed(seed)
                for found in learn(arm, settings):
                    report(f"world_{world}", {"arm": arm, "seed": seed}, found)


if __name__ == "__main__":
    main()
