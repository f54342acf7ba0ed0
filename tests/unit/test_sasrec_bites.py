"""What SASRec must not know, and what it must not make up."""

from dataclasses import replace

import pytest
import torch

from reelm.models.sasrec import BLOCKS, SASRec, SASRecConfig

SMALL = {"dim": 8, "layers": 2, "heads": 2, "feedforward": 8, "max_length": 8, "dropout": 0.0}


def built(data, **settings) -> SASRec:
    return SASRec(SASRecConfig(**(SMALL | settings)), data).eval()


@pytest.mark.parametrize("kind", BLOCKS)
def test_what_comes_later_changes_nothing_before(kind):
    block = BLOCKS[kind](SASRecConfig(dim=8, heads=2, feedforward=8, dropout=0)).eval()
    x = torch.randn(1, 6, 8)
    changed = x.clone()
    changed[:, 4:] = torch.randn(1, 2, 8)
    torch.testing.assert_close(block(x)[:, :4], block(changed)[:, :4])
    assert not torch.allclose(block(x)[:, 4:], block(changed)[:, 4:])


def test_a_short_history_reads_alike_alone_and_beside_a_long_one(two_tastes):
    model = built(two_tastes)
    user = torch.tensor([0])
    alone = model.score(user, torch.tensor([[3, 5]]))
    padded = model.score(user, torch.tensor([[0, 0, 0, 3, 5]]))
    torch.testing.assert_close(alone, padded)


@pytest.mark.parametrize(
    ("block", "alike"), [("pre_norm", True), ("gated", True), ("paper", False)]
)
def test_how_long_an_item_vector_is_says_nothing_to_the_first_block(two_tastes, block, alike):
    model = built(two_tastes, block=block)
    x, real = torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool)
    one, other = model.states(x, real), model.states(3 * x, real)
    assert torch.allclose(one, other, atol=1e-3) == alike


def test_the_loss_of_a_batch_counts_by_its_share(two_tastes):
    model = built(two_tastes, objective="softmax", weigh="place")
    batch = next(iter(model.batches(two_tastes, 8, torch.Generator().manual_seed(0))))
    whole, half = model.loss(replace(batch, share=1.0)), model.loss(replace(batch, share=0.5))
    torch.testing.assert_close(half["softmax"], whole["softmax"] / 2)


def test_the_order_of_a_history_matters(two_tastes):
    model = built(two_tastes, layers=1)  # a second one could tell order without places
    user = torch.tensor([0])
    with torch.no_grad():
        model.place.weight.mul_(50)
    one, other = (model.score(user, torch.tensor([h])) for h in ([1, 2, 3], [2, 1, 3]))
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("training", [True, False])
def test_the_learned_vector_of_a_video_never_seen_is_left_out(two_tastes, training):
    model = built(two_tastes, items="both", id_dropout=0.0)
    model.vectors.known[5] = False  # as for a video that came after training
    model.train(training).vectors.content.eval()
    with torch.no_grad():
        before = model.item_vectors().clone()
        model.vectors.id.weight += 1.0
        model.train(training).vectors.content.eval()  # lets go of vectors that were kept
        moved = (model.item_vectors() - before).abs().amax(1) > 0.5
    assert moved.tolist() == [training if row in (0, 5) else True for row in range(13)]


def test_some_videos_do_without_their_learned_vector_while_training(two_tastes):
    model = built(two_tastes, items="both", id_dropout=0.5).train()
    with torch.no_grad():
        model.vectors.content.eval()
        model.vectors.id.weight.fill_(9.0)
        kept = (model.vectors(torch.arange(1, 13).repeat(20)) > 4).all(1).view(20, 12)
        shares = [(model.vectors(torch.arange(1, 13)) > 4).all(1).float().mean() for _ in range(50)]
    assert (kept == kept[0]).all()  # one draw per video and step, not one per place
    assert 0.35 < torch.stack(shares).mean() < 0.65


def test_the_target_is_not_among_what_it_is_set_against(two_tastes):
    from reelm import losses

    one, items = torch.zeros(2, 1), (torch.tensor([1, 2]), torch.tensor([1, 3, 4]))
    found = losses.shared_softmax(one, one, torch.zeros(3, 1), items)
    torch.testing.assert_close(found, torch.tensor([3.0, 4.0]).log().mean())
