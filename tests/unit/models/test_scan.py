import os
from dataclasses import replace

import pytest
import torch

from reelm.errors import MissingPackage
from reelm.models.blocks import scan
from reelm.models.blocks.scan import ScanInputs, engine_for, loop, selective_scan

NAMES = ("y", "last", "u", "dt", "a", "b", "c", "d", "state")


def drawn(batch=3, length=37, channels=5, size=3, kind=torch.float32) -> ScanInputs:
    """Steps from .001 to 1, rates from 0 to -size."""
    dt = torch.empty(batch, length, channels).uniform_(-7, 0).exp()
    a = -torch.arange(1.0, size + 1).repeat(channels, 1) * torch.rand(channels, 1)
    b, c = torch.randn(2, batch, length, size)
    u, d = torch.randn(batch, length, channels), torch.randn(channels)
    state = torch.randn(batch, channels, size)
    reset = torch.zeros(batch, length, dtype=torch.bool)
    return ScanInputs(*(t.to(kind) for t in (u, dt, a, b, c, d, state)), reset)


def with_slopes(given: ScanInputs, engine, chunk=None) -> dict[str, torch.Tensor]:
    """Both outputs and the slopes of a random sum of them by every input."""
    leaves = [t.detach().clone().requires_grad_() for t in given.tensors()[:7]]
    y, last = selective_scan(ScanInputs(*leaves, reset=given.reset), engine, chunk)
    weigh = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=weigh) for t in (y, last)]
    ((y * weights[0]).sum() + (last * weights[1]).sum()).backward()
    slopes = (torch.zeros_like(t) if t.grad is None else t.grad for t in leaves)
    return dict(zip(NAMES, (y.detach(), last.detach(), *slopes), strict=True))


def furthest(found: torch.Tensor, right: torch.Tensor) -> float:
    """Greatest difference over the greatest right number."""
    return float((found.double() - right.double()).abs().max() / right.abs().max())


@pytest.fixture(params=["chunked", "compiled", "triton"])
def engine(request):
    if request.param == "compiled":
        pytest.importorskip("numba", reason="pip install 'reelm[fast]'")
    if request.param == "triton":
        pytest.importorskip("triton", reason="pip install 'reelm[gpu]'")
        if not os.environ.get("TRITON_INTERPRET"):
            pytest.skip("no GPU here; TRITON_INTERPRET=1 runs the kernels on a CPU")
    return request.param


@pytest.mark.parametrize("chunk", [1, 7, 16, 64])
@pytest.mark.parametrize("shape", [(3, 37, 5, 3), (2, 33, 130, 4), (1, 64, 16, 1)])
def test_all_engines_give_what_the_loop_gives(engine, chunk, shape):
    """130 channels are more than a block of any engine; odd sizes are padded by one of them."""
    given = drawn(*shape)
    given = replace(given, reset=torch.rand(shape[:2]) < 0.1)
    right = with_slopes(ScanInputs(*(t.double() for t in given.tensors()[:7]), given.reset), "loop")
    found = with_slopes(given, engine, chunk)
    for name, value in found.items():
        assert furthest(value, right[name]) < (1e-5 if name in ("y", "last") else 1e-4), name


def test_the_loop_is_the_recurrence():
    """One channel, two numbers of state, three places, by hand."""
    given = ScanInputs(
        u=torch.tensor([[[1.0], [2.0], [-1.0]]]),
        dt=torch.full((1, 3, 1), 0.5),
        a=torch.tensor([[-2.0, 0.0]]) * torch.tensor(2.0).log(),  # halves, and keeps
        b=torch.tensor([[[1.0, 2.0], [0.0, 1.0], [2.0, 0.0]]]),
        c=torch.tensor([[[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]]),
        d=torch.tensor([10.0]),
    )
    y, last = loop.scan(given)
    torch.testing.assert_close(y, torch.tensor([[[10.5], [22.25], [-8.0]]]))
    torch.testing.assert_close(last, torch.tensor([[[0.125 - 1.0, 2.0]]]))


def test_slopes_of_plain_torch_are_those_of_small_differences():
    given = drawn(2, 9, 3, 2, torch.float64)

    def run(*tensors):
        return selective_scan(ScanInputs(*tensors), "chunked", 4)

    leaves = [t.clone().requires_grad_() for t in given.tensors()[:7]]
    assert torch.autograd.gradcheck(run, leaves, eps=1e-6, atol=1e-6, rtol=1e-4)


def test_a_sequence_in_pieces_ends_where_it_does_in_one(engine):
    given = drawn(2, 21, 6, 4)
    whole, end = selective_scan(given, engine)
    state, out = given.state, []
    for part in (slice(0, 1), slice(1, 9), slice(9, 21)):
        cut = {k: getattr(given, k)[:, part] for k in ("u", "dt", "b", "c", "reset")}
        y, state = selective_scan(replace(given, **cut, state=state), engine, 4)
        out.append(y)
    torch.testing.assert_close(torch.cat(out, 1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, end, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_place_by_place_equals_the_whole():
    given = drawn(2, 21, 6, 4)
    whole, end = selective_scan(given)
    state, out = given.state, []
    for t in range(21):
        cut = {k: getattr(given, k)[:, t : t + 1] for k in ("u", "dt", "b", "c", "reset")}
        now = replace(given, **cut, state=state)
        assert engine_for(now) == "loop"
        y, state = selective_scan(now)
        out.append(y)
    torch.testing.assert_close(torch.cat(out, 1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, end, rtol=1e-5, atol=1e-5)


def test_packed_sequences_do_not_see_each_other(engine):
    """Two sequences in one row, the second marked as new, give what each gives by itself."""
    given = replace(drawn(1, 20, 4, 2), state=None)
    reset = torch.zeros(1, 20, dtype=torch.bool)
    reset[0, 12] = True
    packed, _ = selective_scan(replace(given, reset=reset), engine, 8)
    for part in (slice(0, 12), slice(12, 20)):
        cut = {k: getattr(given, k)[:, part] for k in ("u", "dt", "b", "c")}
        alone, _ = selective_scan(replace(given, **cut, reset=None), engine, 8)
        torch.testing.assert_close(packed[:, part], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [0, 1])
def test_sequences_of_no_and_one_place(engine, length):
    given = drawn(2, length, 3, 2)
    found, right = (with_slopes(given, e) for e in (engine, "loop"))
    assert found["y"].shape == (2, length, 3)
    for name in NAMES:
        torch.testing.assert_close(found[name], right[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e3, 1e30])
def test_steps_of_any_length_stay_finite(engine, scale):
    given = drawn(2, 20, 3, 2)
    given = replace(given, dt=given.dt * scale, u=given.u / max(scale, 1))
    found, right = (with_slopes(given, e) for e in (engine, "loop"))
    for name in ("y", "last", "u", "b", "c", "d", "state"):
        assert found[name].isfinite().all(), name
        torch.testing.assert_close(found[name], right[name], rtol=1e-4, atol=1e-5)


def test_it_remembers_as_long_as_its_decay_says(engine):
    """A step of .001 at rate -1 leaves 1/e after 1000 places; rounding must not add up."""
    length = 3000
    u = torch.zeros(1, length, 1)
    u[0, 0] = 1000
    ones = torch.ones(1, length, 1)
    given = ScanInputs(u, ones * 1e-3, -torch.ones(1, 1), ones, ones, torch.zeros(1))
    y, _ = selective_scan(given, engine)
    right = torch.exp(-1e-3 * torch.arange(length, dtype=torch.float64))
    assert furthest(y[0, :, 0], right) < 2e-4


def test_low_precision_comes_in_and_goes_out_but_is_not_computed_in(engine):
    given = drawn(2, 40, 4, 4)
    low = replace(given, **{k: getattr(given, k).bfloat16() for k in ("u", "dt", "b", "c")})
    same = replace(given, **{k: getattr(low, k).float() for k in ("u", "dt", "b", "c")})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, last = selective_scan(low, engine)
    right, right_last = selective_scan(same, engine)
    assert y.dtype == torch.bfloat16
    assert last.dtype == torch.float32
    torch.testing.assert_close(y, right.bfloat16())
    torch.testing.assert_close(last, right_last, rtol=1e-6, atol=1e-6)


def test_a_number_that_is_none_shows(engine):
    """NaN must reach the outputs after it, and no others, so that training can stop."""
    for name in ("u", "dt", "b"):
        given = drawn(2, 20, 3, 2)
        getattr(given, name)[0, 10, 0] = torch.nan
        y, _ = selective_scan(given, engine)
        assert y[0, 10:, 0].isnan().all()
        assert y[0, :10].isfinite().all() and y[1].isfinite().all()


def test_threads_change_nothing():
    pytest.importorskip("numba", reason="pip install 'reelm[fast]'")
    given = drawn(3, 20, 130, 4)
    one = with_slopes(given, "compiled")
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        three = with_slopes(given, "compiled")
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(three[name], one[name]) for name in NAMES)


def test_tensors_that_do_not_lie_in_order_are_read_right(engine):
    given = replace(drawn(3, 12, 5, 4), reset=torch.rand(3, 12) < 0.2)
    turned = [t.transpose(0, -1).contiguous().transpose(0, -1) for t in given.tensors()]
    found, _ = selective_scan(ScanInputs(*turned), engine)
    torch.testing.assert_close(found, selective_scan(given, engine)[0])


def test_states_that_would_grow_are_refused(engine):
    given = drawn(1, 4, 2, 2)
    with pytest.raises(ValueError, match="a must not be positive, nor dt negative"):
        selective_scan(replace(given, a=-given.a), engine)
    with pytest.raises(ValueError, match="nor dt negative"):
        selective_scan(replace(given, dt=-given.dt), engine)


def test_without_numba_plain_torch_does_it(monkeypatch):
    given = drawn(2, 20, 3, 2)
    monkeypatch.setattr(scan, "find_spec", lambda name: None if name == "numba" else object())
    assert engine_for(given) == "chunked"
    with pytest.raises(MissingPackage, match=r"numba.*reelm\[fast\]"):
        selective_scan(given, "compiled")


def test_doubles_stay_doubles():
    y, last = selective_scan(drawn(1, 5, 2, 2, torch.float64))
    assert y.dtype == last.dtype == torch.float64


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_what_the_loop_gives():
    for shape in ((3, 37, 5, 3), (2, 200, 128, 32)):
        given = drawn(*shape)
        given = replace(given, reset=torch.rand(shape[:2]) < 0.1)
        right = with_slopes(given, "loop")
        leaves = [t.detach().cuda().requires_grad_() for t in given.tensors()[:7]]
        moved = ScanInputs(*leaves, reset=given.reset.cuda())
        assert engine_for(moved) == "triton"
        y, last = selective_scan(moved)
        weigh = torch.Generator().manual_seed(1)
        weights = [torch.randn(t.shape, generator=weigh).cuda() for t in (y, last)]
        ((y * weights[0]).sum() + (last * weights[1]).sum()).backward()
        for name, value in zip(NAMES, (y, last, *(t.grad for t in leaves)), strict=True):
            assert furthest(value.detach().cpu(), right[name]) < 1e-4, name
