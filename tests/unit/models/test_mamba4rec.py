import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from reelm import train
from reelm.data.batches import SequenceBatch
from reelm.data.dataset import Dataset
from reelm.data.split import leave_last_two
from reelm.errors import ConfigError
from reelm.evaluate import evaluate
from reelm.models.blocks.mamba import Mamba, MambaShape
from reelm.models.mamba4rec import Mamba4Rec, Mamba4RecConfig
from reelm.training import State


@pytest.fixture(params=["mamba", "blanket"])
def block(request) -> Mamba:
    return Mamba(MambaShape(dim=20, state=5, conv=4, dt_start=request.param))


def by_hand(block: Mamba, x: torch.Tensor) -> torch.Tensor:
    """The block in float64, from the paper's equations, with torch's convolution and a loop."""
    block, x = block.double(), x.double()
    both = x @ block.enter.weight.T
    u, gate = both[..., :40], both[..., 40:]
    padded = torch.nn.functional.pad(u.transpose(1, 2), (3, 0))
    u = torch.nn.functional.silu(block.conv(padded).transpose(1, 2))
    low, b, c = (u @ block.select.weight.T).split([2, 5, 5], dim=-1)
    dt = torch.nn.functional.softplus(block.step_length(low))
    h, out = torch.zeros(len(x), 40, 5, dtype=torch.double), []
    for t in range(x.shape[1]):
        decay = torch.exp(-dt[:, t, :, None] * block.log_rate.exp())
        h = decay * h + dt[:, t, :, None] * b[:, t, None] * u[:, t, :, None]
        out.append((h * c[:, t, None]).sum(-1) + block.skip * u[:, t])
    return (torch.stack(out, 1) * torch.nn.functional.silu(gate)) @ block.leave.weight.T


@torch.no_grad()
def test_the_block_is_that_of_the_paper(block):
    with torch.no_grad():
        for p in block.parameters():
            p.add_(0.1 * torch.randn_like(p))  # no value is special
    x = torch.randn(3, 11, 20)
    found = block(x)
    torch.testing.assert_close(found.double(), by_hand(block, x), rtol=1e-4, atol=1e-5)


def test_how_it_starts():
    torch.manual_seed(0)
    block = Mamba(MambaShape(dim=64, state=32))
    steps = torch.nn.functional.softplus(block.step_length.bias)
    assert steps.min() > 0.99e-3 and steps.max() < 1.01e-1
    assert steps.log().mean().item() == pytest.approx(math.log(1e-2), abs=0.4)
    torch.testing.assert_close(block.log_rate.exp(), torch.arange(1.0, 33).repeat(128, 1))
    assert (block.skip == 1).all()
    blanket = Mamba(MambaShape(dim=64, state=32, dt_start="blanket"))
    assert not blanket.step_length.bias.any()
    assert blanket.step_length.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert blanket.enter.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.enter.weight.std().item() == pytest.approx((3 * 64) ** -0.5, rel=0.05)


def test_the_paper_s_number_of_weights(two_tastes):
    """38,784 in the block and 33,088 in the feed-forward network, with dim 64, norms apart."""
    layer = Mamba4Rec(Mamba4RecConfig(), two_tastes).layers[0]
    assert sum(p.numel() for p in layer.mamba.parameters()) == 38_784
    forward = [*layer.wide.parameters(), *layer.narrow.parameters()]
    assert sum(p.numel() for p in forward) == 33_088


@torch.no_grad()
def test_a_place_sees_nothing_of_what_comes_after(block):
    x = torch.randn(2, 12, 20)
    changed = x.clone()
    changed[:, 7:] = torch.randn(2, 5, 20)
    torch.testing.assert_close(block(x)[:, :7], block(changed)[:, :7])
    assert not torch.allclose(block(x)[:, 7:], block(changed)[:, 7:])


@torch.no_grad()
def test_parts_of_a_row_do_not_see_each_other(block):
    """Neither through the state nor through the convolution's window."""
    x = torch.randn(2, 12, 20)
    part = torch.tensor([[0] * 5 + [1] * 7, [0] * 1 + [1] * 2 + [0] * 9])
    found = block(x, part)
    torch.testing.assert_close(found[:1, 5:], block(x[:1, 5:]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1:, 1:3], block(x[1:, 1:3]), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found[:1, 5:], block(x)[:1, 5:])


@torch.no_grad()
def test_step_by_step_it_gives_what_it_gives_at_once(block):
    x = torch.randn(2, 12, 20)
    whole, state = block(x), block.begin(2)
    for t in range(12):
        y, state = block.step(x[:, t], state)
        torch.testing.assert_close(y, whole[:, t], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_user_read_item_by_item_scores_as_one_read_at_once(two_tastes, layers):
    model = Mamba4Rec(Mamba4RecConfig(layers=layers, dim=16, state=4), two_tastes).eval()
    history = torch.randint(1, 13, (3, 9))
    history[1, :4] = 0  # somebody who came later
    state = model.begin(3)
    with torch.inference_mode():
        for t in range(9):
            state, scores = model.advance(state, history[:, t])
            right = model.score(torch.arange(3), history[:, : t + 1])
            here = history[:, t] != 0
            torch.testing.assert_close(scores[here], right[here], rtol=1e-4, atol=1e-6)


def test_item_by_item_too_what_training_never_saw_comes_last(two_tastes):
    rows = [(u, v) for u in two_tastes.users for v in two_tastes.items[1:6]]
    events = pl.DataFrame(rows, ["user_id", "video_id"], orient="row")
    data = Dataset.build(events, videos=two_tastes.items[1:])
    model = Mamba4Rec(Mamba4RecConfig(dim=16, state=4), data).eval()
    _, scores = model.advance(model.begin(2), torch.tensor([1, 2]))
    torch.testing.assert_close(scores, model.score(torch.arange(2), torch.tensor([[1], [2]])))
    assert scores[:, 6:].max() < scores[:, 1:6].min()


def test_a_model_that_reads_more_than_a_state_holds_says_so(two_tastes):
    table = {"notes": torch.randn(len(two_tastes.items), 4)}
    config = Mamba4RecConfig(dim=16, state=4, taste=("notes",))
    model = Mamba4Rec(config, replace(two_tastes, features=table)).eval()
    with pytest.raises(ConfigError, match=r"model\.taste"):
        model.begin(2)


def test_an_item_that_is_none_leaves_a_user_as_before(two_tastes):
    model = Mamba4Rec(Mamba4RecConfig(dim=16, state=4), two_tastes).eval()
    state, before = model.advance(model.begin(2), torch.tensor([3, 4]))
    state, after = model.advance(state, torch.tensor([0, 5]))
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])


def test_low_precision_hardly_changes_it(two_tastes):
    model = Mamba4Rec(Mamba4RecConfig(dim=16, state=4), two_tastes).eval()
    history = torch.randint(1, 13, (3, 9))
    right = model.score(torch.arange(3), history)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.score(torch.arange(3), history)
    torch.testing.assert_close(found.float(), right, rtol=0.1, atol=0.02)


def test_learns_the_circle(two_tastes):
    split = leave_last_two(two_tastes)
    settings = Mamba4RecConfig(dim=32, state=8)
    learn = train.TrainConfig(epochs=60, batch_size=24, learning_rate=0.01, patience=60)
    run = train.fit(split, "mamba4rec", settings, learn)
    assert evaluate(run, split.test, ("mixed",), (1,))["recall@1"] > 0.8


KINDS = 8


def memory(batch: int, most: int, least: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Histories twice as long as `most`: an item 1..8, `least` to `most` places before the end,
    says which of 9..16 comes next; item 17 ends all of them and 18..37 say nothing."""
    decides = torch.randint(1, KINDS + 1, (batch,))
    items = torch.randint(2 * KINDS + 2, 38, (batch, 2 * most))
    lag = torch.randint(least, most + 1, (batch, 1))
    items.scatter_(1, 2 * most - lag, decides[:, None])
    items[:, -1] = 2 * KINDS + 1
    return items, decides + KINDS


@pytest.mark.slow
def test_remembers_one_item_among_noise_for_fifty_places():
    """Popularity and the newest item are at chance, 1 in 8."""
    ids = [f"v{v:02d}" for v in range(1, 38)]
    watched = {"user_id": "u", "event": "watch", "value": 1.0}
    events = pl.DataFrame({"video_id": ids, "timestamp": np.arange(37.0)})
    whole = Dataset.build(events.with_columns(**{n: pl.lit(v) for n, v in watched.items()}))
    model = Mamba4Rec(Mamba4RecConfig(dropout=0, state=16), whole)
    adam = torch.optim.Adam(model.parameters(), lr=4e-3)
    for step in range(150):
        items, answer = memory(64, 2 + min(48, step // 2))
        target = torch.zeros_like(items)
        target[:, -1] = answer
        loss = model.loss(SequenceBatch(items, target))["softmax"]
        adam.zero_grad()
        loss.backward()
        adam.step()
    items, answer = memory(256, 50, 50)
    with torch.inference_mode():
        best = model.eval().score(torch.arange(256), items)[:, 1:].argmax(1) + 1
    assert (best == answer).float().mean() > 0.9


def test_weight_decay_leaves_the_rates_of_the_scan_alone(two_tastes):
    model = train.build("mamba4rec", Mamba4RecConfig(dim=8), two_tastes, 0)
    still = {"log_rate", "skip"}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    state = State(model, train.TrainConfig(weight_decay=0.5, learning_rate=0.1))
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    state.optimizer.step()
    stood = {n for n, p in model.named_parameters() if torch.equal(p, before[n]) and p.any()}
    assert stood and {name.rpartition(".")[2] for name in stood} == still
