"""The loader of pairs: each once an epoch, beside items that training saw and the user did not."""

import numpy as np
import polars as pl
import pytest
import torch

from reelm.data.dataset import Dataset
from reelm.data.pairs import Chosen, pairs


def build(rows, videos):
    table = pl.DataFrame(rows, schema=["user_id", "video_id"], orient="row")
    return Dataset.build(table.with_columns(event=pl.lit("like")), videos=videos)


@pytest.fixture
def some() -> Dataset:
    """30 users with 1 to 8 of 20 videos; v18 and v19 nobody chose, v0 everybody did."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", "v0") for u in range(30)]
    for u in range(30):
        rows += [(f"u{u}", f"v{v}") for v in rng.choice(np.arange(1, 18), u % 8, replace=False)]
    return build(rows, [f"v{v}" for v in range(20)])


def epoch(data, size=7, negatives=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return list(pairs(data, size, negatives, rng))


def told(batches):
    return [pair for b in batches for pair in zip(b.user.tolist(), b.item.tolist(), strict=True)]


def test_an_epoch_has_every_pair_once_in_another_order_each_time(some):
    own = set(zip(some.user.tolist(), some.item.tolist(), strict=True))
    one, other = told(epoch(some, seed=0)), told(epoch(some, seed=1))
    assert len(one) == len(own) == len(other)
    assert set(one) == own == set(other)
    assert one != other
    assert one != sorted(one)


def test_batches_are_full_but_for_the_last(some):
    sizes = [len(b.user) for b in epoch(some)]
    assert set(sizes[:-1]) == {7}
    assert 0 < sizes[-1] <= 7
    assert all(b.negatives.shape == (len(b.user), 3) for b in epoch(some))


def test_an_item_chosen_twice_is_one_pair():
    data = build([("u0", "v0"), ("u0", "v1"), ("u0", "v0")], ["v0", "v1", "v2"])
    assert len(data) == 3
    assert sorted(told(epoch(data))) == [(0, 1), (0, 2)]


def test_negatives_were_seen_by_training_and_not_chosen_by_the_user(some):
    own = set(zip(some.user.tolist(), some.item.tolist(), strict=True))
    met = set()
    for batch in (b for seed in range(20) for b in epoch(some, seed=seed)):
        for user, row in zip(batch.user.tolist(), batch.negatives.tolist(), strict=True):
            assert all((user, item) not in own for item in row)
            met |= set(row)
    assert met == set(range(2, 19))  # not padding, not v0, which all chose, not v18 and v19


def test_the_generator_alone_decides(some):
    torch.manual_seed(1)
    one = epoch(some, seed=5)
    torch.manual_seed(2)
    for a, b in zip(one, epoch(some, seed=5), strict=True):
        assert torch.equal(a.user, b.user)
        assert torch.equal(a.item, b.item)
        assert torch.equal(a.negatives, b.negatives)


def test_a_user_who_chose_all_meets_his_own():
    data = build([("u0", f"v{v}") for v in range(3)] + [("u1", "v0")], ["v0", "v1", "v2"])
    batches = epoch(data, size=4, negatives=2)
    assert sorted(told(batches)) == [(0, 1), (0, 2), (0, 3), (1, 1)]
    (batch,) = batches
    assert set(batch.negatives[batch.user == 1].flatten().tolist()) <= {2, 3}
    assert set(batch.negatives[batch.user == 0].flatten().tolist()) <= {1, 2, 3}


def test_holds_knows_first_last_and_none(some):
    chosen = Chosen.of(some)
    dense = np.zeros((chosen.users, chosen.items), bool)
    dense[some.user, some.item] = True
    user, item = np.meshgrid(np.arange(chosen.users), np.arange(chosen.items), indexing="ij")
    assert np.array_equal(chosen.holds(user, item), dense)
