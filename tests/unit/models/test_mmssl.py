from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from reelm import train
from reelm.data.pairs import pairs
from reelm.data.split import keep
from reelm.models import find

TWO = {"features": ("text", "text"), "heads": 2}


def built(data, **settings):
    return train.build("mmssl", find("mmssl").Config(**TWO | settings), data, seed=0).train()


def first_batch(data):
    return next(pairs(data, 24, 1, torch.Generator().manual_seed(0)))


def terms(data, **settings):
    torch.manual_seed(3)
    return built(data, dropout=0.0, **settings).loss(first_batch(data))


def test_graphs_are_built_at_the_first_step_and_hold_what_each_user_would_like(two_tastes):
    model = built(two_tastes, graph_items=3, dropout=0.0)
    assert not model.near.any()
    users, items = model._shown(0)
    scores = torch.nn.functional.normalize(users) @ torch.nn.functional.normalize(items).T
    wanted = scores[:, 1:].topk(3).indices + 1
    model.loss(first_batch(two_tastes))
    assert torch.equal(model.near[0].sort().values, wanted.sort().values.int())


def test_graphs_are_built_anew_when_it_is_time(two_tastes):
    model = built(two_tastes, graph_items=3, rebuild_every=2, dropout=0.0)
    batch = first_batch(two_tastes)
    model.loss(batch)
    first = model.near.clone()
    with torch.no_grad():
        for layer in model.project:
            layer.weight.normal_()
    model.loss(batch)
    assert torch.equal(model.near, first)
    model.loss(batch)
    assert not torch.equal(model.near, first)


def test_weights_put_back_bring_their_graphs(two_tastes):
    model = built(two_tastes, graph_items=3, rebuild_every=1, dropout=0.0)
    batch, user = first_batch(two_tastes), torch.arange(4)
    model.loss(batch)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        before = model.eval().score(user, user[:, None])
    with torch.no_grad():
        for layer in model.project:
            layer.weight.normal_()
    model.train().loss(batch)
    assert not torch.equal(model.near, kept["near"])
    model.load_state_dict(kept)
    with torch.inference_mode():
        assert torch.equal(model.eval().score(user, user[:, None]), before)


@pytest.mark.parametrize(
    "change",
    [{"graph_items": 0}, {"refine": 0.0}, {"content": 0.0}, {"layers": 0}],
    ids=lambda change: next(iter(change)),
)
def test_each_part_reaches_the_ranking_loss(change, two_tastes):
    assert terms(two_tastes)["bpr"] != terms(two_tastes, **change)["bpr"]


@pytest.mark.parametrize("part", ["critic", "contrast"])
def test_a_part_that_is_left_out_leaves_its_loss_out(part, two_tastes):
    whole, without = terms(two_tastes), terms(two_tastes, **{part: 0.0})
    gone = {"critic", "adversarial"} if part == "critic" else {"contrast"}
    assert set(whole) - set(without) == gone


def gradient(model, loss):
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def test_the_critic_learns_from_its_own_loss_alone(two_tastes):
    model = built(two_tastes)
    found = model.loss(first_batch(two_tastes))
    judging = {n for n, _ in model.named_parameters() if n.startswith("judge.")}
    assert gradient(model, found["critic"]) == judging
    assert gradient(model, found["adversarial"]).isdisjoint(judging)
    assert any(n.startswith("project.") for n in gradient(model, found["adversarial"]))


def test_contrast_teaches_through_the_kinds_graphs(two_tastes):
    model = built(two_tastes)
    found = gradient(model, model.loss(first_batch(two_tastes))["contrast"])
    assert {"item", "user"} <= found


def test_the_critic_learns_to_tell_true_rows(two_tastes):
    """Left alone with rows that stay as they are, it scores true ones above."""
    model = built(two_tastes, dropout=0.0)
    batch = first_batch(two_tastes)
    adam = torch.optim.Adam(model.judge.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = model.loss(batch)["critic"]
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[:5]) - 0.1


def test_a_model_that_is_saved_between_steps_goes_on_the_same(two_tastes):
    batch = first_batch(two_tastes)
    one = built(two_tastes, rebuild_every=3)
    for _ in range(2):
        one.loss(batch)
    other = built(two_tastes, rebuild_every=3)
    other.load_state_dict(one.state_dict())
    for _ in range(3):  # over a rebuilding
        found = []
        for model in (one, other):
            torch.manual_seed(0)
            found.append({k: v.item() for k, v in model.loss(batch).items()})
        assert found[0] == found[1]
    assert torch.equal(one.near, other.near)


def test_a_user_without_interactions_is_joined_to_nothing(two_tastes):
    """All items would be alike to him, and the same few would be given to all of his kind."""
    data = keep(two_tastes, two_tastes.user >= 3)  # the first three users come after the cut
    model = built(data, graph_items=3, dropout=0.0)
    model.loss(first_batch(data))
    assert not model.near[:, :3].any()
    assert model.near[:, 3:].all()


def test_a_user_of_videos_without_a_feature_is_joined_to_nothing_by_it(two_tastes):
    """A projection of nothing is its bias: all who chose such videos would be given the same."""
    mine = torch.from_numpy(two_tastes.history(0)).long()
    text = two_tastes.features["text"].clone()
    text[mine] = 0
    has = two_tastes.has_feature["text"].copy()
    has[mine] = False
    tables = {"text": two_tastes.features["text"], "lost": text}
    known = {"text": two_tastes.has_feature["text"], "lost": has}
    data = replace(two_tastes, features=tables, has_feature=known)
    model = built(data, features=("text", "lost"), graph_items=3, dropout=0.0)
    model.loss(first_batch(data))
    assert model.near[0, 0].all() and not model.near[1, 0].any()
    others = [u for u in range(24) if not set(data.history(u)) <= set(data.history(0))]
    assert others and model.near[1, others].all()


def test_true_rows_cannot_be_told_by_where_the_zeros_are(two_tastes):
    model = built(two_tastes, dropout=0.0)
    user, some = torch.arange(24), torch.arange(1, len(two_tastes.items))
    users, items = model.vectors()
    chosen = model.graph.rows(user, some) > 0
    rows = model._true_rows(user, some, users.detach(), items.detach())
    assert torch.allclose(rows.norm(dim=1), torch.ones(24), atol=1e-5)
    apart = rows[chosen].mean() / rows[~chosen].abs().mean()
    assert 1 < apart < 20, "what a user chose stands out, and does not stand alone"


def test_heads_that_do_not_divide_the_width_are_refused():
    kind = find("mmssl").Config
    with pytest.raises(ValidationError, match="heads = 4 must divide dim = 10"):
        kind(dim=10, features=("image", "sound"))
    assert kind(dim=10).heads == 4, "one kind has no attention"
