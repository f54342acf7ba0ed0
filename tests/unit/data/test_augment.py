"""RepPad's rows: every label is what really came next, whatever is put in front."""

from typing import get_args

import numpy as np
import pytest
import torch

from reelm.data import augment
from reelm.data.augment import Repeat
from reelm.data.batches import sequences
from reelm.data.dataset import Dataset

KINDS = ["random", "delimited", "fill", "isolated", "foreign"]


@pytest.fixture
def data() -> Dataset:
    """Users with 2 to 13 interactions, no item twice, so that an item tells what must follow."""
    sizes = np.arange(2, 14)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    item = np.arange(1, ends[-1] + 1, dtype=np.int32)
    return Dataset(
        tuple(f"u{n}" for n in range(12)),
        ("", *(f"v{n}" for n in range(len(item)))),
        ends, item, np.zeros(len(item)), np.ones(len(item), np.float32),
    )  # fmt: skip


def epoch(data, repeat, max_length=10, size=4, weigh="batch"):
    rng = torch.Generator().manual_seed(3)
    return list(sequences(data, size, max_length, rng, "newest", (repeat, weigh)))


@pytest.mark.parametrize("repeat", ["no", *KINDS])
def test_every_target_is_what_came_next(data, repeat):
    for batch in epoch(data, repeat):
        real = batch.history != 0
        assert torch.equal(batch.next_item[real], batch.history[real] + 1)
        assert not batch.next_item[~real].any()


@pytest.mark.parametrize("repeat", ["random", "delimited", "fill", "isolated"])
def test_a_row_is_copies_of_one_history(data, repeat):
    for batch in epoch(data, repeat):
        for row in batch.history.tolist():
            items = [i for i in row if i]
            distinct = sorted(set(items))
            newest_first = [distinct[-1 - i % len(distinct)] for i in range(len(items))]
            assert items[::-1] == newest_first


def test_as_many_copies_as_drawn(data):
    rng = torch.Generator().manual_seed(0)
    size = np.full(3000, 3)
    taken = augment.filled(size, 10, "random", rng)
    found = dict(zip(*np.unique(taken, return_counts=True), strict=True))
    assert set(found) == {6, 9, 10}  # 1, 2 or 3 copies more; of the fourth copy one item fits
    assert min(found.values()) > 850
    assert (augment.filled(size, 10, "fill", rng) == 10).all()
    assert (augment.filled(np.array([10, 14]), 10, "random", rng) == 10).all()
    assert (augment.filled(size, 10, "no", rng) == 3).all()


def test_a_delimiter_stands_between_copies(data):
    rows = [row for batch in epoch(data, "delimited") for row in batch.history.tolist()]
    for row in rows:
        first = next(i for i, item in enumerate(row) if item)
        seams = [i for i in range(first, len(row)) if row[i] == 0]
        period = len(set(row) - {0}) + 1
        assert all((len(row) - i) % period == 0 for i in seams)
    assert any(0 in row[next(i for i, x in enumerate(row) if x) :] for row in rows)


def test_isolated_copies_are_told_apart(data):
    for batch in epoch(data, "isolated"):
        for items, parts in zip(batch.history.tolist(), batch.part.tolist(), strict=True):
            pairs = [(i, p) for i, p in zip(items, parts, strict=True) if i]
            assert len(set(pairs)) == len(pairs)  # no item twice in one part
            assert pairs[-1][1] == 0
    assert all(batch.part is None for batch in epoch(data, "random"))


def test_foreign_filling_is_of_another_user(data):
    mixed = 0
    owner = np.repeat(np.arange(12), np.diff(data.offsets))
    for batch in epoch(data, "foreign"):
        for row in batch.history.tolist():
            users = {int(owner[i - 1]) for i in row if i}
            mixed += len(users) == 2
            assert len(users) <= 2
    assert mixed >= 8


def test_weights_of_users_and_portions(data):
    for repeat in ("no", "random", "isolated"):
        for batch in epoch(data, repeat, weigh="user"):
            torch.testing.assert_close(batch.weight.sum(1), torch.ones(len(batch.history)))
            assert not batch.weight[batch.history == 0].any()
    data.value[:] = np.linspace(0, 2, len(data.value), dtype=np.float32)
    for batch in epoch(data, "random", weigh="portion"):
        real = batch.history != 0
        watched = torch.from_numpy(data.value).clamp(max=1)[batch.next_item[real] - 1]
        torch.testing.assert_close(batch.weight[real], watched)


def test_batches_count_alike_or_by_their_places(data):
    assert {batch.share for batch in epoch(data, "no")} == {1.0}
    batches = epoch(data, "no", weigh="place")
    sizes = [int((batch.history != 0).sum()) for batch in batches]
    assert len(set(sizes)) > 1
    mean = sum(sizes) / len(sizes)
    assert [batch.share for batch in batches] == pytest.approx([size / mean for size in sizes])


@pytest.mark.parametrize("repeat", get_args(Repeat))
@pytest.mark.parametrize("read", [0, 3])
@pytest.mark.parametrize("window", ["newest", "all"])
def test_only_places_that_are_learned_from_count(data, repeat, read, window):
    """Neither those between copies nor those before a cut."""
    cut = np.minimum(np.diff(data.offsets) - 1, read) if read else None
    rng = torch.Generator().manual_seed(0)
    batches = [*sequences(data, 3, 10, rng, window, (repeat, "place"), cut)]
    learned = [int((batch.next_item != 0).sum()) for batch in batches]
    assert [batch.share for batch in batches] == pytest.approx(learned / np.mean(learned))


def test_each_batch_is_placed_once(data, monkeypatch):
    placed, asked = augment.places, []
    monkeypatch.setattr(augment, "places", lambda *rows: asked.append(1) or placed(*rows))
    assert len(epoch(data, "random", weigh="place")) == len(asked)


def test_pieces_of_long_histories_cover_all_of_them(data):
    seams = set()
    for seed in range(20):
        rng = torch.Generator().manual_seed(seed)
        pairs = []
        for batch in sequences(data, 4, 5, rng, "all"):
            assert batch.history.shape[1] <= 5
            real = batch.history != 0
            assert torch.equal(batch.next_item[real], batch.history[real] + 1)
            pairs += batch.history[real].tolist()
            seams |= set(batch.history[torch.arange(len(real)), real.int().argmax(1)].tolist())
        last = set((data.offsets[1:]).tolist())  # the newest item of a user, which nothing follows
        assert sorted(pairs) == [i for i in range(1, len(data.item) + 1) if i not in last]
    assert len(seams) > 40  # cut at other places in each epoch
