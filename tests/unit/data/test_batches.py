import numpy as np
import polars as pl
import pytest
import torch

from reelm.data.batches import SequenceBatch, padded, sequences
from reelm.data.dataset import Dataset


def world(lengths):
    rows = [(f"u{u}", f"v{u}-{i}") for u, length in enumerate(lengths) for i in range(length)]
    return Dataset.build(pl.DataFrame(rows, schema=["user_id", "video_id"], orient="row"))


def epoch(data, size, length, seed=0):
    return list(sequences(data, size, length, torch.Generator().manual_seed(seed)))


def test_slices_are_cut_to_their_newest_items():
    item = np.arange(1, 10, dtype=np.int32)
    rows = padded(item, np.array([0, 5, 9]), np.array([5, 7, 9]), 3)
    assert rows.tolist() == [[3, 4, 5], [0, 6, 7], [0, 0, 0]]


def test_every_user_who_can_teach_something_comes_once():
    data = world([1, 2, 3, 9, 30, 4, 2])
    seen = [row for batch in epoch(data, 2, 50) for row in batch.next_item.amax(1).tolist()]
    newest = [int(data.history(u)[-1]) for u in range(7) if len(data.history(u)) > 1]
    assert sorted(seen) == sorted(newest)


def test_the_next_item_is_the_next_item():
    data = world([6, 4, 9])
    for batch in epoch(data, 2, 4):
        for history, following in zip(batch.history, batch.next_item, strict=True):
            shown, wanted = history[history != 0].tolist(), following[history != 0].tolist()
            assert shown[1:] == wanted[:-1]
            assert len(shown) <= 4
        assert (batch.next_item[batch.history == 0] == 0).all()


def test_a_batch_is_as_long_as_its_longest_history():
    assert all((b.history[:, 0] != 0).any() for b in epoch(world([2, 3, 9, 30, 4]), 2, 50))


def test_lengths_of_a_kind_share_a_batch():
    rng = np.random.default_rng(0)
    batches = epoch(world(rng.integers(2, 60, 200).tolist()), 8, 100)
    real = sum(int((b.history != 0).sum()) for b in batches)
    assert real / sum(b.history.numel() for b in batches) > 0.9


def test_a_seed_is_an_order():
    data = world([5] * 40)
    first, again, other = (epoch(data, 4, 50, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a.history, b.history) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a.history, b.history) for a, b in zip(first, other, strict=True))


def test_nobody_to_learn_from_is_no_batch():
    assert epoch(world([1, 1]), 4, 50) == []


@pytest.mark.parametrize("weigh", ["batch", "portion"])
def test_pieces_hold_every_row_once_and_no_empty_column(weigh):
    data = world([2, 3, 9, 30, 4, 12, 7])
    (batch,) = sequences(data, 7, 50, torch.Generator(), fill=("no", weigh))
    parts = batch.pieces(40)
    rows = [r[r != 0].tolist() for part in parts for r in part.next_item]
    assert len(parts) > 2 and rows == [r[r != 0].tolist() for r in batch.next_item]
    assert all((part.history[:, 0] != 0).any() for part in parts)
    assert sum(part.share for part in parts) == pytest.approx(batch.share)


def test_what_fits_stays_one_piece_and_one_that_counts_nothing_is_left_out():
    history = torch.tensor([[0, 1], [2, 3], [4, 5]])
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    batch = SequenceBatch(history, history, weight)
    assert batch.pieces(6) == [batch]
    assert [part.history.tolist() for part in batch.pieces(2)] == [[[2, 3]], [[4, 5]]]
    nothing = SequenceBatch(history, 0 * history)
    assert nothing.pieces(2) == [nothing]


@pytest.mark.parametrize("window", ["newest", "all"])
@pytest.mark.parametrize("weigh", ["batch", "user"])
def test_places_before_the_cut_are_read_and_never_targets(window, weigh):
    data, after = world([6, 4, 9, 30, 2]), np.array([2, 4, 8, 20, 0])
    rng = torch.Generator().manual_seed(0)
    found = {}
    for batch in sequences(data, 3, 5, rng, window, ("no", weigh), after):
        for user, following in zip(batch.user.tolist(), batch.next_item, strict=True):
            found.setdefault(user, []).extend(following[following != 0].tolist())
        assert (batch.next_item != 0).any(1).all(), "a row that teaches nothing"
        if batch.weight is not None:
            assert (batch.weight[batch.next_item == 0] == 0).all()
    for user, cut in enumerate(after):
        wanted = data.history(user)[max(cut, 1) :]
        wanted = wanted[-5:] if window == "newest" else wanted
        assert sorted(found.get(user, [])) == sorted(wanted.tolist())
