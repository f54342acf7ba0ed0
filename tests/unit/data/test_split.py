from dataclasses import replace

import polars as pl
import pytest

from reelm.data.dataset import Dataset
from reelm.data.split import SplitConfig, given, global_time, split
from reelm.errors import BadData, ConfigError


def log(rows, *columns):
    return Dataset.build(pl.DataFrame(rows, schema=["user_id", "video_id", *columns], orient="row"))


TIMED = [("a", "x", 1.0), ("a", "y", 5.0), ("a", "z", 9.0), ("b", "z", 6.0), ("b", "x", 9.0)]


def test_the_split_that_fits_is_found():
    assert split(log(TIMED, "timestamp")).name == "global_time"
    assert split(log([r[:2] for r in TIMED])).name == "leave_last_two"
    rows = [(u, v, "train") for u, v, _ in TIMED]
    assert split(log(rows, "split")).name == "given"


def test_the_fingerprint_follows_where_the_targets_of_a_question_end():
    cut = split(log([(user, video) for user in "ab" for video in "xyz"]))
    ends = cut.valid.target_offsets.copy()
    ends[1] += 1  # the first question takes the target of the second
    valid = replace(cut.valid, target_offsets=ends)
    assert replace(cut, valid=valid).fingerprint != replace(cut).fingerprint


def test_moments_may_be_given():
    config = SplitConfig(valid_from=4.0, test_from=8.0)
    cut = global_time(log(TIMED, "timestamp"), config)
    assert len(cut.train) == 1
    assert cut.valid.users.tolist() == [0]  # b had no history before
    assert cut.valid.targets(0).tolist() == [3 - 1]
    assert cut.test.users.tolist() == [0, 1]
    assert cut.test.history(0).tolist() == [1, 2]


def test_validation_may_be_the_last_of_training():
    cut = global_time(log(TIMED, "timestamp"), SplitConfig(test_from=8.0, valid_share=0))
    assert len(cut.train) == 2  # a's x and b's z, b has nothing else
    assert cut.valid.users.tolist() == [0]
    assert cut.test.history(0).tolist() == [1, 2]


def test_a_given_split_asks_users_without_a_history_too():
    rows = [("a", "x", "train"), ("a", "y", "test"), ("b", "y", "test"), ("c", "x", "valid")]
    cut = given(log(rows, "split"))
    assert [len(cut.test.history(q)) for q in range(2)] == [1, 0]
    assert [cut.test.targets(q).tolist() for q in range(2)] == [[2], [2]]
    assert len(cut.train) == 1


def test_what_cannot_be_split_says_why():
    with pytest.raises(BadData, match="leave_last_two"):
        global_time(log([r[:2] for r in TIMED]))
    with pytest.raises(BadData, match="column split"):
        given(log(TIMED, "timestamp"))
    with pytest.raises(ConfigError, match="valid_from"):
        global_time(log(TIMED, "timestamp"), SplitConfig(valid_from=9.0, test_from=2.0))
    with pytest.raises(ConfigError, match=r"Set split\.valid_from below that"):
        global_time(log(TIMED, "timestamp"), SplitConfig(test_from=2.0))  # nobody set valid_from
    for name in ("global_time", "random", "cold_item"):
        with pytest.raises(ConfigError, match="leave nothing to learn from"):
            split(log(TIMED, "timestamp"), SplitConfig(name=name, test_share=0.95))
