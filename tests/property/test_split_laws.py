"""Whatever the log is: nothing is lost, nothing is asked twice, nothing is shown too early."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelm.data.dataset import Dataset
from reelm.data.split import SPLITTERS, SplitConfig, joined

event = st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(0, 50), st.integers(0, 2))
logs = st.lists(event, min_size=1, max_size=60)
names = st.sampled_from(sorted(SPLITTERS))


def build(log):
    parts = ("train", "valid", "test")
    rows = [(f"u{u}", f"v{v}", float(t), parts[s]) for u, v, t, s in log]
    schema = ["user_id", "video_id", "timestamp", "split"]
    return Dataset.build(pl.DataFrame(rows, schema=schema, orient="row"))


def pairs(data):
    return set(zip(data.user.tolist(), data.item.tolist(), strict=True))


@settings(max_examples=25)
@given(logs, names)
def test_questions_hold_together(log, name):
    data = build(log)
    cut = SPLITTERS[name](data, SplitConfig())
    everything = pairs(data)
    assert pairs(cut.train) <= pairs(cut.before_test) <= everything
    for questions in (cut.valid, cut.test):
        assert len(set(questions.users.tolist())) == len(questions)
        for q in range(len(questions)):
            user, targets = int(questions.users[q]), questions.targets(q).tolist()
            assert len(targets) == len(set(targets)) > 0
            assert all((user, target) in everything for target in targets)
            assert all((user, item) in everything for item in questions.history(q).tolist())


@settings(max_examples=25)
@given(logs)
def test_leaving_two_out_loses_nothing(log):
    data = build(log)
    cut = SPLITTERS["leave_last_two"](data, SplitConfig())
    assert cut.valid.users.tolist() == cut.test.users.tolist()
    assert cut.test.users.tolist() == np.flatnonzero(np.diff(data.offsets) >= 3).tolist()
    for q, user in enumerate(cut.test.users.tolist()):
        whole = [*cut.train.history(user), *cut.valid.targets(q), *cut.test.targets(q)]
        assert whole == data.history(user).tolist()
        assert cut.test.history(q).tolist() == whole[:-1]
        assert cut.valid.history(q).tolist() == whole[:-2]


@settings(max_examples=25)
@given(logs, st.sampled_from([0.0, 0.2]))
def test_a_split_by_time_shows_nothing_that_came_later(log, valid_share):
    data = build(log)
    cut = SPLITTERS["global_time"](data, SplitConfig(valid_share=valid_share, test_share=0.3))
    test_from = np.quantile(data.time, 0.7)
    assert (cut.before_test.time < test_from).all()
    when = {}
    for user, item, time in zip(data.user.tolist(), data.item.tolist(), data.time, strict=True):
        when.setdefault((user, item), []).append(time)
    for q, user in enumerate(cut.test.users.tolist()):
        assert all(min(when[user, item]) < test_from for item in cut.test.history(q).tolist())
        assert all(min(when[user, item]) >= test_from for item in cut.test.targets(q).tolist())


@settings(max_examples=25)
@given(logs)
def test_a_cold_item_is_nowhere_in_training(log):
    data = build(log)
    cut = SPLITTERS["cold_item"](data, SplitConfig(valid_share=0.3, test_share=0.3))
    assert not set(cut.test.target.tolist()) & set(cut.before_test.item.tolist())
    assert not set(cut.valid.target.tolist()) & set(cut.train.item.tolist())


@settings(max_examples=15)
@given(logs, names)
def test_joining_keeps_the_test_and_empties_the_validation(log, name):
    cut = SPLITTERS[name](build(log), SplitConfig())
    one = joined(cut)
    assert len(one.valid) == 0
    assert one.test is cut.test
    assert one.train is cut.before_test
    assert one.fingerprint != cut.fingerprint


@settings(max_examples=15)
@given(logs, st.data())
def test_some_questions_are_those_questions(log, data):
    whole = SPLITTERS["given"](build(log), SplitConfig()).test
    rows = data.draw(st.lists(st.integers(0, len(whole) - 1), unique=True)) if len(whole) else []
    some = whole.take(np.array(rows, np.int64))
    for place, q in enumerate(rows):
        assert some.users[place] == whole.users[q]
        assert some.history(place).tolist() == whole.history(q).tolist()
        assert some.targets(place).tolist() == whole.targets(q).tolist()


@pytest.mark.parametrize("name", sorted(SPLITTERS))
def test_an_empty_log_is_no_crash(name):
    data = build([(0, 0, 0, 0)])
    assert SPLITTERS[name](data, SplitConfig()).name == name
