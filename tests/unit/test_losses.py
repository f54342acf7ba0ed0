import math

import pytest
import torch
import torch.nn.functional as F

from reelm import losses


@pytest.fixture
def rows():
    """300 rows, more than one tile, in double precision."""
    states = torch.randn(300, 8, dtype=torch.double, requires_grad=True)
    items = torch.randn(40, 8, dtype=torch.double, requires_grad=True)
    return states, items, torch.randint(40, (300,))


def gradients(loss, *tensors):
    return torch.autograd.grad(3 * loss, tensors, retain_graph=True)


def test_softmax_in_tiles_is_plain_cross_entropy(rows):
    states, items, target = rows
    plain, tiled = F.cross_entropy(states @ items.T, target), losses.softmax(states, items, target)
    torch.testing.assert_close(tiled, plain)
    for one, other in zip(
        gradients(tiled, states, items), gradients(plain, states, items), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_shared_softmax_in_tiles_is_sampled_softmax(rows):
    states, items, target = rows
    item = torch.arange(0, 40, 2)
    chosen, drawn = items[target], items[item]
    tiled = losses.shared_softmax(states, chosen, drawn, (target, item))
    own, others = (states * chosen).sum(1), states @ drawn.T
    others = others.masked_fill(item == target[:, None], -torch.inf)
    plain = (torch.cat([own[:, None], others], dim=1).logsumexp(1) - own).mean()
    torch.testing.assert_close(tiled, plain)
    for one, other in zip(
        gradients(tiled, states, items), gradients(plain, states, items), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_all_items_drawn_is_the_softmax(rows):
    states, items, target = rows
    every = losses.shared_softmax(states, items[target], items, (target, torch.arange(40)))
    torch.testing.assert_close(every, losses.softmax(states, items, target))


def test_equal_scores():
    one, items = torch.ones(2, 1), (torch.tensor([1, 2]), torch.tensor([3, 4, 5]))
    found = losses.shared_softmax(one, one, torch.ones(3, 1), items)
    assert found.item() == pytest.approx(math.log(4))
    assert losses.binary(torch.zeros(2), torch.zeros(2)).item() == pytest.approx(2 * math.log(2))


def made(n=70, k=40, dim=6):
    """States, vectors of chosen and drawn items, and which items these are."""
    rng = torch.Generator().manual_seed(0)
    states, chosen = torch.randn(2, n, dim, generator=rng).unbind()
    drawn = torch.randn(k, dim, generator=rng)
    goal = torch.randint(100, (n,), generator=rng)
    item = torch.cat([torch.randint(100, (k - 1,), generator=rng), goal[:1]])
    return [t.requires_grad_() for t in (states, chosen, drawn)], (goal, item)


def plain(kind, vectors, items, chance=None, power=1.0, weight=None):
    """The losses written down, with all logits at once."""
    states, chosen, drawn = vectors
    own, others = (states * chosen).sum(1), states @ drawn.T
    if chance is not None:
        own, others = own - chance[0], others - chance[1]
    others = others.masked_fill(items[0][:, None] == items[1], -torch.inf)
    if kind == "softmax":
        loss = torch.cat([own[:, None], others], 1).logsumexp(1) - own
    else:
        loss = (power * F.softplus(-own) + F.softplus(others).sum(1)) / (others.shape[1] + 1)
    weight = torch.ones(len(own)) if weight is None else weight
    return (loss * weight).sum() / weight.sum()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "uneven", "gbce"])
def test_shared_losses_and_their_gradients(monkeypatch, kind, weighted):
    monkeypatch.setattr(losses, "TILE", 32)
    vectors, items = made()
    weight = torch.rand(70) if weighted else None
    if kind == "gbce":
        wanted = plain("binary", vectors, items, power=0.3, weight=weight)
        found = losses.shared_binary(*vectors, items, 0.3, weight)
    else:
        chance = (-3 * torch.rand(70), -3 * torch.rand(40)) if kind == "uneven" else None
        wanted = plain("softmax", vectors, items, chance, weight=weight)
        found = losses.shared_softmax(*vectors, items, chance, weight)
    torch.testing.assert_close(found, wanted)
    pairs = zip(*(torch.autograd.grad(loss, vectors) for loss in (found, wanted)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other)


def test_weighted_softmax_and_its_gradient(monkeypatch):
    monkeypatch.setattr(losses, "TILE", 32)
    (states, _, items), _ = made()
    target, weight = torch.randint(40, (70,)), torch.rand(70)
    wanted = F.cross_entropy(states @ items.T, target, reduction="none") @ weight / weight.sum()
    found = losses.softmax(states, items, target, weight)
    torch.testing.assert_close(found, wanted)
    pairs = (torch.autograd.grad(loss, (states, items)) for loss in (found, wanted))
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other)


def test_a_target_that_is_next_to_impossible_has_a_finite_loss():
    states, items = torch.tensor([[1.0]]), torch.tensor([[500.0], [-500.0]])
    assert losses.softmax(states, items, torch.tensor([1])).item() == pytest.approx(1000)


def test_low_precision_stays_near():
    vectors, items = made()
    target = torch.randint(40, (70,))
    for call in (
        lambda: losses.shared_softmax(*vectors, items),
        lambda: losses.shared_binary(*vectors, items, 0.3),
        lambda: losses.softmax(vectors[0], vectors[2], target),
    ):
        exact = call()
        with torch.autocast("cpu", torch.bfloat16):
            low = call()
        assert low.item() == pytest.approx(exact.item(), rel=0.01)
        pairs = (torch.autograd.grad(loss, (vectors[0], vectors[2])) for loss in (low, exact))
        for one, other in zip(*pairs, strict=True):
            assert (one - other).norm() < 0.02 * other.norm()


def test_only_drawn_items_that_are_the_target_leave_its_certainty():
    states, chosen = torch.ones(2, 1), torch.ones(2, 1)
    items = (torch.tensor([3, 3]), torch.tensor([3]))
    assert losses.shared_softmax(states, chosen, torch.ones(1, 1), items).item() == 0


@pytest.mark.parametrize(
    ("calibration", "power"), [(0.0, 1.0), (1.0, 255 / 3415), (0.75, 0.25 + 0.75 * 255 / 3415)]
)
def test_power_of_gbce(calibration, power):
    found = losses.calibrated_power(255, 3416, calibration)
    assert found == pytest.approx(power)


def test_rows_that_all_count_nothing_lose_nothing():
    """As portions of a batch of videos that were all left at once."""
    states, items = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    loss = losses.softmax(states, items, torch.tensor([0, 1, 2]), torch.zeros(3))
    loss.backward()
    assert loss.item() == 0 and not states.grad.any()
