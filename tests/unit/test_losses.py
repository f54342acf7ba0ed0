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
    same = item == target[:, None]
    plain = losses.sampled_softmax((states * chosen).sum(1), states @ drawn.T, same)
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
    none = torch.zeros(2, 3, dtype=torch.bool)
    found = losses.sampled_softmax(torch.ones(2), torch.ones(2, 3), none)
    assert found.item() == pytest.approx(math.log(4))
    assert losses.binary(torch.zeros(2), torch.zeros(2)).item() == pytest.approx(2 * math.log(2))
