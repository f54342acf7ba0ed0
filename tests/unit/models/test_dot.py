import pytest
import torch

from reelm.models.blocks.dot import BLOCK, dot


@pytest.mark.parametrize("items", [1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7])
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_all_scores_are_there(batch, items):
    torch.manual_seed(0)
    states, table = torch.randn(batch, 8), torch.randn(items, 8)
    with torch.no_grad():
        assert torch.allclose(dot(states, table), states @ table.T, atol=1e-5)


def test_equal_items_have_equal_scores_wherever_they_stand():
    """A tie that rounding undid would count for the model or against it by chance."""
    torch.manual_seed(0)
    states, row = torch.randn(7, 64), torch.randn(1, 64)
    with torch.inference_mode():
        found = dot(states, row.expand(5 * BLOCK + 13, -1).contiguous())
    assert torch.equal(found, found[:, :1].expand_as(found))


def test_where_something_is_learned_gradients_pass():
    states, table = torch.randn(3, 8), torch.randn(2 * BLOCK, 8, requires_grad=True)
    dot(states, table).sum().backward()
    assert table.grad is not None and table.grad.abs().sum() > 0
