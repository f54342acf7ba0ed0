"""What is special about TRAWL: contrasts without false negatives, and an adapter for the unseen."""

import numpy as np
import polars as pl
import pytest
import torch

from reelm.data.dataset import Dataset
from reelm.data.pairs import Chosen, pairs, with_mates
from reelm.data.tables import Features
from reelm.errors import BadData, MissingInput
from reelm.models.trawl import TRAWL, TRAWLConfig
from reelm.train import build

KINDS, EACH = 4, 8


@pytest.fixture
def data():
    """Users who like one kind of video; texts tell the kind, in a space of their own."""
    rng = np.random.default_rng(0)
    ids = tuple(f"v{n}" for n in range(KINDS * EACH))
    rows = []
    for user in range(40):
        own = rng.permutation(EACH - 1)[:5]  # the last of each kind is never seen
        rows += [(f"u{user}", f"v{(user % KINDS) * EACH + one}") for one in own]
    log = pl.DataFrame(rows, schema=["user_id", "video_id"], orient="row")
    told = np.eye(KINDS).repeat(EACH, 0) @ rng.normal(size=(KINDS, 12))
    table = Features("text", ids, (told + 0.1 * rng.normal(size=told.shape)).astype(np.float32))
    return Dataset.build(log, [table], videos=ids)


def batches(data, size=32):
    rng = torch.Generator().manual_seed(0)
    chosen = Chosen.of(data)
    return chosen, [with_mates(b, chosen, 16, rng) for b in pairs(data, size, 1, rng)]


def test_a_mate_is_another_item_of_the_same_user(data):
    chosen, found = batches(data)
    for batch in found:
        user, count = batch.user[: len(batch.mate)].numpy(), len(batch.mate)
        assert chosen.holds(user, batch.mate.numpy()).all()
        assert (batch.mate != batch.item[:count]).all()


def test_no_negative_is_an_item_that_the_user_chose(data):
    chosen, found = batches(data)
    for batch in found:
        count = len(batch.mate)
        for likes, items in ((batch.likes, batch.item[:count]), (batch.likes_mate, batch.mate)):
            for row, user in enumerate(batch.user[:count].tolist()):
                own = chosen.holds(np.full(count, user), items.numpy())
                assert likes[row].numpy().tolist() == own.tolist()
        assert batch.likes.diagonal().all()


def test_who_chose_one_item_has_it_for_a_mate():
    log = pl.DataFrame({"user_id": ["a", "b", "b"], "video_id": ["x", "x", "y"]})
    found = batches(Dataset.build(log, videos=["x", "y"]), 3)[1]
    assert dict(zip(found[0].user.tolist(), found[0].mate.tolist(), strict=True))[0] == 1


def test_masking_changes_the_loss_and_so_does_the_placebo(data):
    made = {}
    _, found = batches(data)
    for name, change in {"": {}, "bare": {"mask": False}, "dealt": {"dealt": True}}.items():
        model = build("trawl", TRAWLConfig(**change), data, 0).eval()
        torch.manual_seed(0)
        made[name] = {k: v.item() for k, v in model.loss(found[0]).items()}
    assert made[""]["contrast_user"] < made["bare"]["contrast_user"]
    assert made[""]["contrast_item"] < made["bare"]["contrast_item"]
    assert made[""]["contrast_user"] != made["dealt"]["contrast_user"]
    assert made[""]["bpr"] == made["dealt"]["bpr"]


@pytest.mark.parametrize("name", ["contrast_user", "contrast_item", "align"])
def test_a_weight_of_0_takes_the_term_away(data, name):
    _, found = batches(data)
    terms = build("trawl", TRAWLConfig(**{name: 0.0}), data, 0).loss(found[0])
    assert name not in terms and len(terms) == 4


def test_the_alignment_moves_the_adapter_and_not_the_learned_vectors(data):
    _, found = batches(data)
    config = TRAWLConfig(contrast_user=0, contrast_item=0, decay=0.0)
    model = build("trawl", config, data, 0)
    model.loss(found[0])["align"].backward()
    assert model.item.grad is None or not model.item.grad.any()
    assert model.adapt_item[0].weight.grad.any()


def test_other_widths_cannot_be_aligned():
    with pytest.raises(ValueError, match="adapted must equal dim"):
        TRAWLConfig(adapted=32)
    assert TRAWLConfig(adapted=32, align=0.0).adapted == 32


def test_the_never_seen_are_found_by_what_is_told_of_them(data):
    torch.manual_seed(0)
    model = build("trawl", TRAWLConfig(contrast_user=1.0), data, 0)
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    rng = torch.Generator().manual_seed(0)
    for _ in range(15):
        for batch in model.batches(data, 64, rng):
            adam.zero_grad()
            torch.stack(list(model.loss(batch).values())).sum().backward()
            adam.step()
    unseen = [list(data.items).index(f"v{kind * EACH + EACH - 1}") for kind in range(KINDS)]
    with torch.no_grad():
        users = torch.arange(KINDS)
        scores = model.eval().score(users, torch.zeros(KINDS, 1, dtype=torch.long))[:, unseen]
    assert (scores.argmax(1) == torch.arange(KINDS)).all()


def aligned(data, **change):
    """How well contrasts alone tell what users like among what they never met: mean share of
    pairs of a liked and another such item that come in the right order. .5 is chance."""
    torch.manual_seed(0)
    model = build("trawl", TRAWLConfig(contrast_user=1.0, contrast_item=1.0, **change), data, 0)
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    rng = torch.Generator().manual_seed(0)
    for _ in range(15):
        for batch in model.batches(data, 64, rng):
            adam.zero_grad()
            terms = model.loss(batch)
            torch.stack([v for k, v in terms.items() if k in CONTRASTS]).sum().backward()
            adam.step()
    with torch.no_grad():
        scores = model.eval().score(
            torch.arange(len(data.users)), torch.zeros(len(data.users), 1, dtype=torch.long)
        )
    kind = np.array([(int(name[1:]) // EACH) if name else -1 for name in data.items])
    shares = []
    for user, name in enumerate(data.users):
        unmet = ~Chosen.of(data).holds(np.full(len(kind), user), np.arange(len(kind)))
        own = kind == int(name[1:]) % KINDS
        good, bad = scores[user][own & unmet], scores[user][~own & unmet & (kind >= 0)]
        shares.append((good[:, None] > bad).float().mean())
    return float(torch.stack(shares).mean())


CONTRASTS = ("contrast_user", "contrast_item", "align")


def test_contrasts_tell_who_likes_what_and_the_placebo_does_not(data):
    assert aligned(data) > 0.9
    assert 0.35 < aligned(data, dealt=True) < 0.65, "partners of others teach it too"


def test_a_user_is_contrasted_with_an_item_without_that_item_in_his_mean(data):
    model = build("trawl", TRAWLConfig(), data, 0)
    features = torch.cat(model.tables.whole, dim=1)
    row = data.item[data.user == 3]
    found = model._told_but(torch.tensor([3]), torch.tensor([int(row[1])]))
    others = [int(item) for item in row if item != row[1]]
    assert torch.allclose(found[0], features[others].mean(0), atol=1e-5)


def test_one_item_alone_leaves_nothing_in_the_mean():
    log = pl.DataFrame({"user_id": ["a", "b", "b"], "video_id": ["x", "x", "y"]})
    table = Features("text", ("x", "y"), np.eye(2, dtype=np.float32))
    data = Dataset.build(log, [table], videos=["x", "y"])
    model = build("trawl", TRAWLConfig(), data, 0)
    alone = torch.tensor([int(data.item[data.user == 0][0])])
    assert not model._told_but(torch.tensor([0]), alone).any()


def test_what_a_profile_was_made_from_is_not_contrasted(data):
    vectors = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
    read = np.full(40, 4)
    said = Features("said", tuple(data.users), vectors, read)
    told = data.with_profiles([said])
    model = build("trawl", TRAWLConfig(profiles=("said",)), told, 0)
    met = []
    for batch in model.batches(told, 64, torch.Generator().manual_seed(0)):
        met += zip(batch.user[: len(batch.mate)].tolist(), batch.item.tolist(), strict=False)
        assert model.loss(batch)
    last = {(u, int(data.item[data.user == u][-1])) for u in range(40)}
    assert set(met) == last
    all_read = data.with_profiles([Features("said", tuple(data.users), vectors, np.full(40, 5))])
    with pytest.raises(BadData, match="nothing is left"):
        next(model.batches(all_read, 64, torch.Generator()))


def test_profiles_stand_for_users_where_they_are_given(data):
    vectors = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
    said = Features("said", tuple(data.users), vectors)
    model = TRAWL(TRAWLConfig(profiles=("said",)), data.with_profiles([said]))
    assert model.adapt_user[0].in_features == 5
    assert TRAWL.needs(model.config) == ("features.text", "profiles.said")


def test_a_table_that_is_missing_is_named(data):
    with pytest.raises(MissingInput, match=r"profiles\.other"):
        TRAWL(TRAWLConfig(profiles=("other",)), data)
