"""The graph of users and items moves vectors between the two sides and nowhere else."""

import numpy as np
import polars as pl
import pytest
import torch

from reelm.data.dataset import Dataset
from reelm.models.blocks.graph import (
    Bipartite,
    ItemGraph,
    _Product,
    _Rounds,
    alike,
    light_propagate,
)
from reelm.models.blocks.neighbours import nearest


def graph(pairs, scale="symmetric", videos=("v0", "v1", "v2")):
    rows = [(user, video, "like") for user, video in pairs]
    events = pl.DataFrame(rows, schema=["user_id", "video_id", "event"], orient="row")
    data = Dataset.build(events, videos=list(videos))
    return Bipartite(data, scale), data


def test_one_edge_moves_mass_between_its_ends_only():
    """A user's row that is read as an item's, as in the released code of PromptMM, fails here."""
    edge, data = graph([("u0", "v1")])
    assert (len(data.users), len(data.items)) == (1, 4)
    items, users = torch.zeros(4, 2), torch.zeros(1, 2)
    items[2], users[0] = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    assert edge.to_users(items).tolist() == [[1.0, 2.0]]
    assert edge.to_users(torch.ones(4, 2) - items.sign()).tolist() == [[0.0, 0.0]]
    assert edge.to_items(users).tolist() == [[0, 0], [0, 0], [3.0, 4.0], [0, 0]]


def test_one_round_brings_the_other_side_and_two_bring_back_ones_own():
    edge, _ = graph([("u0", "v1")])
    user, item = torch.tensor([[1.0]]), torch.tensor([[0.0], [0.0], [0.0], [0.0]])
    users, items = light_propagate(edge, user, item, 1)
    assert (users.tolist(), items[:, 0].tolist()) == ([[0.5]], [0, 0, 0.5, 0])
    users, items = light_propagate(edge, user, item, 2)
    torch.testing.assert_close(users, torch.tensor([[2 / 3]]))
    torch.testing.assert_close(items[2], torch.tensor([1 / 3]))


@pytest.mark.parametrize(("scale", "told"), [("symmetric", 2**-0.5), ("mean", 0.5)])
def test_what_an_edge_counts(scale, told):
    edge, _ = graph([("u0", "v0"), ("u0", "v1"), ("u1", "v2")], scale)
    item = torch.zeros(4, 1)
    item[1] = 1
    assert edge.to_users(item)[0].item() == pytest.approx(told)


def test_the_gradient_flows_back_along_the_same_edges():
    edge, _ = graph([("u0", "v0"), ("u1", "v0"), ("u1", "v2")])
    items = torch.randn(4, 3, requires_grad=True)
    edge.to_users(items)[0].sum().backward()
    assert items.grad is not None
    assert items.grad.abs().sum(1).nonzero().flatten().tolist() == [1]


@pytest.fixture
def drawn():
    """Nine users with one to four of seven videos; v3 and v6 nobody chose."""
    rng = np.random.default_rng(3)
    rows = {(f"u{u}", f"v{v}") for u in range(9) for v in rng.choice([0, 1, 2, 4, 5], 1 + u % 4)}
    return sorted(rows)


VIDEOS = tuple(f"v{v}" for v in range(7))
SCALES = ["symmetric", "mean"]


def dense(data, scale):
    """The matrices users x items and items x users."""
    table = torch.zeros(len(data.users), len(data.items))
    table[torch.from_numpy(data.user), torch.from_numpy(data.item).long()] = 1
    by_user, by_item = table.sum(1, keepdim=True), table.sum(0, keepdim=True).clamp(1)
    if scale == "symmetric":
        forth = back = table / (by_user * by_item).sqrt()
    else:
        forth, back = table / by_user, table / by_item
    return forth, back.T


def doubled(edges):
    """The same graph for vectors of 64 bits, which only a check of gradients has."""
    forth, back = (
        tuple((starts, column, value.double()) for starts, column, value in both)
        for both in edges.directions()
    )
    edges._kept = (edges.edge_user, forth, back)
    return edges


def vectors(count, dim=3, like=torch.float32):
    return torch.randn(count, dim, dtype=like, requires_grad=True)


@pytest.mark.parametrize("scale", SCALES)
def test_products_and_gradients_are_those_of_dense_matrices(drawn, scale):
    edges, data = graph(drawn, scale, VIDEOS)
    for call, matrix in zip((edges.to_users, edges.to_items), dense(data, scale), strict=True):
        x, above = vectors(matrix.shape[1]), torch.randn(matrix.shape[0], 3)
        torch.testing.assert_close(call(x), matrix @ x)
        (own,) = torch.autograd.grad((call(x) * above).sum(), x)
        torch.testing.assert_close(own, matrix.T @ above)


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("scale", SCALES)
def test_rounds_are_those_of_dense_matrices(drawn, scale, layers):
    edges, data = graph(drawn, scale, VIDEOS)
    to_users, to_items = dense(data, scale)
    user, item = vectors(len(data.users)), vectors(len(data.items))
    kept = [(user, item)]
    for _ in range(layers):
        kept.append((to_users @ kept[-1][1], to_items @ kept[-1][0]))
    wanted = [torch.stack(side).mean(0) for side in zip(*kept, strict=True)]
    found = light_propagate(edges, user, item, layers)
    above = [torch.randn_like(side) for side in wanted]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(
        torch.autograd.grad(found, (user, item), above),
        torch.autograd.grad(wanted, (user, item), above),
    )


@pytest.mark.parametrize("scale", SCALES)
def test_gradients_are_those_of_finite_differences(drawn, scale):
    edges, data = graph(drawn, scale, VIDEOS)
    doubled(edges)
    user, item = (vectors(len(side), 2, torch.float64) for side in (data.users, data.items))
    assert torch.autograd.gradcheck(_product_of(edges), (item,))
    assert torch.autograd.gradcheck(lambda u, i: _rounds_of(edges, u, i), (user, item))


def _product_of(edges):
    (users, _), (_, items_back) = edges.directions()
    return lambda x: _Product.apply(x, users, items_back)


def _rounds_of(edges, user, item):
    return _Rounds.apply(user, item, *edges.directions(), 2)


def test_what_was_given_is_left_as_it_was(drawn):
    """Sums are made in place: in places of their own."""
    edges, data = graph(drawn, "symmetric", VIDEOS)
    user, item = torch.randn(len(data.users), 3), torch.randn(len(data.items), 3)
    before = user.clone(), item.clone()
    users, items = light_propagate(edges, user, item, 0)
    users += 1
    light_propagate(edges, user, item, 2)
    assert torch.equal(user, before[0])
    assert torch.equal(item, before[1])
    assert torch.equal(items, item)


def test_rows_say_who_chose_what(drawn):
    edges, data = graph(drawn, "symmetric", VIDEOS)
    whole = (dense(data, "mean")[0] > 0).float()
    users, items = torch.tensor([4, 0, 4, 8]), torch.tensor([1, 2, 4, 6, 7])
    assert torch.equal(edges.rows(users, items), whole[users][:, items])
    assert torch.equal(edges.rows(users, torch.tensor([4])), whole[users][:, [4]])


def test_a_graph_without_some_edges_is_scaled_by_those_that_are_left(drawn):
    edges, data = graph(drawn, "mean", VIDEOS)
    thin = edges.dropped(0.5)
    left = set(zip(thin.edge_user.tolist(), thin.edge_item.tolist(), strict=True))
    assert len(left) == len(thin.edge_user) == round(0.5 * len(edges.edge_user))
    assert left < set(zip(edges.edge_user.tolist(), edges.edge_item.tolist(), strict=True))
    joined = {user for user, _ in left}
    told = thin.to_users(torch.ones(len(data.items), 1))[:, 0]
    torch.testing.assert_close(told, torch.tensor([float(u in joined) for u in range(9)]))
    assert len(edges.dropped(0.0).edge_user) == len(edges.edge_user)
    assert len(edges.dropped(1.0).edge_user) == 1


def test_busy_ends_lose_their_edges_first():
    """One user chose all of 50 videos, 50 others one each of their own."""
    pairs = [("u0", f"v{v}") for v in range(50)] + [(f"x{v}", f"w{v}") for v in range(50)]
    edges, data = graph(pairs, "symmetric", tuple(f"{k}{v}" for k in "vw" for v in range(50)))
    busy = sum(int((edges.dropped(0.5).edge_user == data.row("u0")).sum()) for _ in range(20))
    assert busy / 20 < 20  # of 50 that are kept; evenly it would be 25


def test_other_edges_make_other_matrices(drawn):
    edges, data = graph(drawn, "symmetric", VIDEOS)
    other, _ = graph(drawn[:5], "symmetric", VIDEOS)
    x = torch.randn(len(data.items), 2)
    before = edges.to_users(x)
    edges.edge_user, edges.edge_item = other.edge_user, other.edge_item
    assert not torch.equal(before, edges.to_users(x))


def test_a_graph_without_edges_moves_nothing():
    edges, _ = graph([("u0", "v0"), ("u1", "v1")])
    edges.edge_user, edges.edge_item = edges.edge_user[:0], edges.edge_item[:0]
    user, item = vectors(2), vectors(4)
    assert not edges.to_users(item).any()
    assert not edges.to_items(user).any()
    assert not edges.rows(torch.tensor([0, 1]), torch.tensor([1])).any()
    users, items = light_propagate(edges, user, item, 3)
    (users.sum() + items.sum()).backward()
    torch.testing.assert_close(users, user / 4)
    torch.testing.assert_close(item.grad, torch.full((4, 3), 0.25))


FEATURES = torch.tensor(
    [[0, 0], [1, 0], [1, 0.1], [0, 0], [0, 1], [0.2, 1], [-1, 0.0]]
)  # rows 0 and 3 have none


def test_alike_items_are_joined_by_the_symmetric_scale():
    joined = alike(FEATURES, 2)
    table = torch.zeros(7, 7)
    for item, near in {1: (2, 5), 2: (1, 5), 4: (5, 2), 5: (4, 2), 6: (4, 5)}.items():
        table[item, list(near)] = 1
    total = table.sum(1).clamp(min=1e-6)
    matrix = table / (total[:, None] * total).sqrt()
    assert not matrix.diagonal().any()
    assert not matrix[:, [0, 3]].any()
    assert not matrix[[0, 3]].any()
    x, above = vectors(7), torch.randn(7, 3)
    torch.testing.assert_close(joined(x), matrix @ x)
    (own,) = torch.autograd.grad((joined(x) * above).sum(), x)
    torch.testing.assert_close(own, matrix.T @ above)


def test_an_item_graph_leaves_out_what_counts_nothing_and_adds_up_what_is_there_twice():
    near = torch.tensor([[0, 0], [2, 2], [1, 0], [3, 1]], dtype=torch.int32)
    value = torch.tensor([[0.0, 0.0], [0.5, 0.25], [1.0, 0.0], [-2.0, 1.0]])
    matrix = torch.zeros(4, 4).index_put(
        (torch.arange(4).repeat_interleave(2), near.flatten().long()), value.flatten(), True
    )
    x = vectors(4)
    torch.testing.assert_close(ItemGraph(near, value)(x), matrix @ x)


def test_items_without_features_are_nobodys_over_several_tiles():
    table = torch.randn(2500, 4)
    table[::3] = 0
    has = table.any(1)
    near, cosine = nearest(table, 5)
    assert (cosine[~has] == -2).all()
    assert (cosine[has] > -2).all()
    assert has[near[has].long()].all()
    assert not (near[has] == has.nonzero()).any()
    joined = alike(table, 5)
    assert not joined(torch.randn(2500, 2))[~has].any()
    assert not joined((~has).float()[:, None]).any()


def test_a_table_without_any_feature_joins_nobody():
    assert not alike(torch.zeros(4, 3), 2)(torch.randn(4, 2)).any()
