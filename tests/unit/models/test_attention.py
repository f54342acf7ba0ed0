import pytest
import torch
import torch.nn.functional as F

from reelm.models.blocks import attention
from reelm.models.blocks.attention import causal_attention


def made(length=13, batch=5, heads=2, dim=8):
    generator = torch.Generator().manual_seed(0)
    shape = (3, batch, heads, length, dim)
    return [t.requires_grad_() for t in torch.randn(*shape, generator=generator).unbind()]


@pytest.mark.parametrize("numbers", [1, 600, 1 << 19])
def test_tiles_give_what_torch_gives_and_its_gradient(monkeypatch, numbers):
    monkeypatch.setattr(attention, "NUMBERS", numbers)
    query, key, value = made()
    slope = torch.randn_like(value)
    for part in (None, torch.tensor([[0] * 4 + [1] * 9] * 5)):
        allowed = torch.ones(13, 13, dtype=torch.bool).tril()
        if part is not None:
            allowed = allowed & (part[0][:, None] == part[0][None, :])
        plain = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        tiled = causal_attention(query, key, value, part)
        torch.testing.assert_close(tiled, plain)
        wanted = torch.autograd.grad(plain, (query, key, value), slope)
        found = torch.autograd.grad(tiled, (query, key, value), slope)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_long_histories_take_torchs_way(monkeypatch):
    query, key, value = made()
    part = torch.tensor([[0] * 4 + [1] * 9] * 5)
    short = causal_attention(query, key, value), causal_attention(query, key, value, part)
    monkeypatch.setattr(attention, "LONGEST", 5)
    torch.testing.assert_close(causal_attention(query, key, value), short[0])
    torch.testing.assert_close(causal_attention(query, key, value, part), short[1])


@pytest.mark.parametrize("part", [None, torch.tensor([[0] * 40 + [1] * 24] * 5)])
def test_dropout_drops_weights_and_makes_the_rest_larger(part):
    query, key, _ = made(64, dim=64)
    torch.manual_seed(0)
    weights = torch.eye(64).expand(5, 2, 64, 64)  # what is gathered then is the weights themselves
    whole = causal_attention(query, key, weights, part)
    dropped = causal_attention(query, key, weights, part, 0.25)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75)
    assert kept.sum() / (whole != 0).sum() == pytest.approx(0.75, abs=0.02)


def test_bfloat16_stays_near():
    query, key, value = made()
    low = causal_attention(*(t.bfloat16() for t in (query, key, value)))
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), causal_attention(query, key, value), rtol=0, atol=0.03)
