"""Edges that were said, and vectors of users, beside a dataset."""

import numpy as np
import polars as pl
import pytest

from circle import circle_edges, circle_events, circle_profiles
from reelm.data.dataset import Dataset
from reelm.data.preferences import SCHEMA
from reelm.data.tables import Features
from reelm.errors import BadData, MissingInput


@pytest.fixture
def data():
    return Dataset.build(circle_events())


def edges(*rows):
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_edges_become_rows_sorted_by_user(data):
    said = data.with_preferences(circle_edges()[::-1]).preferences
    assert (np.diff(said.user) >= 0).all() and len(said) == 24
    found = {data.users[u]: data.items[i] for u, i in zip(said.user, said.liked, strict=True)}
    assert found == dict(circle_edges().select("user_id", "liked").rows())


def test_edges_with_unknown_ends_are_left_out_and_counted(data):
    given = edges(
        ("u0", "v1", "v2", 1.0),
        ("nobody", "v1", "v2", 1.0),
        ("u0", "never", "v2", 1.0),
        ("u0", "v1", "never", 1.0),
        ("u0", "v1", "v1", 1.0),
        ("u0", "", "v1", 1.0),
    )
    told = data.with_preferences(given)
    assert len(told.preferences) == 1 and told.removed["preferences"] == 5
    assert "preferences" not in told.with_preferences(given.head(1)).removed


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), None])
def test_weights_must_be_positive_numbers(data, weight):
    with pytest.raises(BadData, match="row 1"):
        data.with_preferences(edges(("u0", "v1", "v2", 1.0), ("u1", "v1", "v2", weight)))


def test_a_missing_column_is_named(data):
    with pytest.raises(BadData, match="no column disliked"):
        data.with_preferences(circle_edges().drop("disliked"))


def test_profiles_lie_in_the_order_of_the_users(data):
    given = circle_profiles()
    turned = Features(
        "profile", (*given.ids[::-1], "nobody"), np.vstack([given.vectors[::-1], given.vectors[:1]])
    )
    table = data.with_profiles([turned]).profile("profile", "a test").numpy()
    expected = dict(zip(given.ids, given.vectors, strict=True))
    np.testing.assert_array_equal(table, [expected[user] for user in data.users])


def test_broken_and_missing_profiles(data):
    given = circle_profiles()
    given.vectors[3] = np.nan
    told = data.with_profiles({"taste": given})
    assert told.removed["profiles.taste"] == 1
    assert not told.profiles["taste"][data.row(given.ids[3])].any()
    with pytest.raises(MissingInput, match=r"profiles\.other.*with_profiles"):
        told.profile("other", "a test")


def test_what_is_said_changes_the_fingerprint(data):
    told = data.with_preferences(circle_edges())
    other = data.with_preferences(circle_edges().with_columns(weight=pl.lit(0.5)))
    known = data.with_profiles([circle_profiles()])
    assert len({d.fingerprint for d in (data, told, other, known)}) == 4
