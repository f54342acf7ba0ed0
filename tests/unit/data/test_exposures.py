import numpy as np
import polars as pl
import pytest
import torch

from reelm.data.batches import exposed
from reelm.data.dataset import Dataset, DatasetConfig
from reelm.data.packing import pack
from reelm.data.split import SplitConfig, keep, split
from reelm.data.stored import keep as store
from reelm.data.stored import read
from reelm.errors import BadData, ConfigError

CONFIG = DatasetConfig(exposures=True)
ROWS = [
    ("a", "v", "watch", 0.9, 1.0),
    ("a", "w", "watch", 0.1, 2.0),
    ("a", "x", "like", 1.0, 3.0),
    ("a", "y", "watch", 0.8, 3.0),
    ("a", "z", "skip", 1.0, 4.0),
    ("b", "v", "watch", 0.2, 2.5),
    ("c", "w", "watch", 0.7, 9.0),
    ("c", "v", "watch", 0.0, 9.5),
]
NAMES = ["user_id", "video_id", "event", "value", "timestamp"]


def built(rows=ROWS, config=CONFIG, **more):
    events = pl.DataFrame(rows, schema=NAMES, orient="row").with_columns(**more)
    return Dataset.of(pack([events], list("vwxyz"), config))


def shown(exposures, data):
    """user, video, label, history by ids."""
    return [
        (
            data.users[exposures.user[p]],
            data.items[exposures.item[p]],
            int(exposures.label[p]),
            "".join(data.items[i] for i in exposures.history(p)),
        )
        for p in range(len(exposures))
    ]


def test_what_was_not_liked_is_kept_with_what_was_liked_before_its_moment():
    data = built()
    assert shown(data.exposures, data) == [
        ("a", "v", 1, ""),
        ("a", "w", 0, "v"),
        ("a", "x", 1, "v"),
        ("a", "y", 1, "v"),  # x came at the same second: it may be the later one
        ("a", "z", 0, "vxy"),
        ("b", "v", 0, ""),
        ("c", "w", 1, ""),
        ("c", "v", 0, "w"),
    ]


def test_interactions_are_those_of_a_dataset_without_exposures():
    whole, plain = built(), built(config=DatasetConfig())
    assert plain.exposures is None
    assert whole.users == ("a", "b", "c")
    assert plain.users == ("a", "c")
    assert whole.item.tolist() == plain.item.tolist()
    assert whole.value.tolist() == plain.value.tolist()
    assert np.diff(whole.offsets).tolist() == [3, 0, 1]


def test_a_watch_and_its_like_are_one_exposure_that_was_liked():
    data = built([("a", "v", "watch", 0.1, 1.0), ("a", "v", "like", 1.0, 1.5)])
    assert shown(data.exposures, data) == [("a", "v", 1, "")]


def test_stars_decide_where_a_rule_says_so():
    rows = [("a", "v", "rating", 1.0, 1.0), ("a", "w", "rating", 1.0, 2.0)]
    rows += [("a", "x", "rating", 1.0, 3.0)]
    config = CONFIG.model_copy(update={"rating_above": 3.0})
    data = built(rows, config, rating=pl.Series([4.0, 3.0, None]))
    assert shown(data.exposures, data) == [("a", "v", 1, ""), ("a", "w", 0, "v")]
    plain = built(rows, DatasetConfig(rating_above=3.0), rating=pl.Series([4.0, 3.0, None]))
    assert plain.item.tolist() == [1]


def test_a_watch_nobody_measured_was_not_refused():
    data = built([("a", "v", "watch", None, 1.0), ("a", "w", "watch", 0.9, 2.0)])
    assert shown(data.exposures, data) == [("a", "w", 1, "")]


def test_what_was_liked_counts_though_nobody_measured_it():
    data = built([("a", "v", "like", None, 1.0), ("a", "w", "watch", 0.1, 2.0)])
    assert shown(data.exposures, data) == [("a", "v", 1, ""), ("a", "w", 0, "v")]


def test_a_log_without_values_has_exposures_too():
    rows = pl.DataFrame(
        {"user_id": ["a"] * 3, "video_id": list("vwx"), "event": ["like", "dislike", "like"]}
    )
    data = Dataset.of(pack([rows], list("vwx"), CONFIG))
    assert shown(data.exposures, data) == [
        ("a", "v", 1, ""),
        ("a", "w", 0, "v"),
        ("a", "x", 1, "v"),
    ]


def test_the_split_by_time_cuts_both_and_shows_nothing_of_later_parts():
    data = built()
    cut = split(data, SplitConfig(name="global_time", valid_from=3.0, test_from=9.2))
    assert shown(cut.train.exposures, data) == [
        ("a", "v", 1, ""),
        ("a", "w", 0, "v"),
        ("b", "v", 0, ""),
    ]
    assert [row[:3] for row in shown(cut.valid_shown, data)] == [
        ("a", "x", 1), ("a", "y", 1), ("a", "z", 0), ("c", "w", 1),
    ]  # fmt: skip
    assert shown(cut.test_shown, data) == [("c", "v", 0, "w")]
    assert cut.train.exposures.past.tolist() == cut.train.item.tolist()
    assert len(cut.before_test.exposures) == 7


def test_a_given_split_out_of_time_still_hides_the_test_from_training():
    part = pl.Series(["test", "train", "train", "train", "train", "train", "train", "valid"])
    cut = split(built(split=part))
    assert [row[3] for row in shown(cut.train.exposures, cut.train)][:4] == ["", "", "", "xy"]
    assert shown(cut.valid_shown, cut.train) == [("c", "v", 0, "w")]


def test_parts_of_a_dataset_lose_exposures_rather_than_keep_those_of_the_test():
    data = built()
    assert keep(data, np.ones(len(data), bool)).exposures is None


def test_splits_that_cannot_cut_exposures_say_so():
    with pytest.raises(ConfigError, match=r"dataset\.exposures"):
        split(built(), SplitConfig(name="leave_last_two"))
    with pytest.raises(ConfigError, match="valid_share"):
        split(built(), SplitConfig(name="global_time", valid_share=0))
    with pytest.raises(BadData, match="1 that were not"):
        rows = [*ROWS, ("c", "z", "watch", 0.0, None)]
        split(built(rows), SplitConfig(name="global_time"))


def test_a_label_changes_the_fingerprint():
    other = [*ROWS[:5], ("b", "v", "skip", 1.0, 2.6), *ROWS[6:]]
    assert built().fingerprint == built().fingerprint
    assert built().fingerprint != built(other[:-1]).fingerprint
    cuts = [split(built(r), SplitConfig(name="global_time", valid_from=3.0, test_from=9.2))
            for r in (ROWS, [*ROWS[:4], *ROWS[5:]])]  # fmt: skip
    assert cuts[0].fingerprint != cuts[1].fingerprint


def test_batches_hold_every_place_once():
    data = built()
    whole = list(exposed(data.exposures, 3, 2, torch.Generator().manual_seed(0)))
    assert [len(batch.item) for batch in whole] == [3, 3, 2]
    rows = [
        (int(u), int(i), float(y), [x for x in h.tolist() if x])
        for batch in whole
        for u, i, y, h in zip(batch.user, batch.item, batch.label, batch.history, strict=True)
    ]
    assert sorted(rows)[4] == (0, 5, 0.0, [3, 4])  # the newest two of three
    assert len({row[:2] for row in rows}) == len(ROWS)
    assert next(exposed(data.exposures, 3, 2)).item.tolist() == [1, 2, 3]


def test_a_kept_log_comes_back_with_its_exposures(tmp_path):
    events = pl.DataFrame(ROWS, schema=NAMES, orient="row")
    packed = pack([events], None, CONFIG)
    store(packed, tmp_path)
    assert Dataset.of(read(tmp_path)).fingerprint == Dataset.of(packed).fingerprint


def test_a_digest_changes_with_time_and_with_the_split():
    """Reports hold the times, and what the split is decides what is learned from."""
    later = [(*row[:4], row[4] + 1000) for row in ROWS]
    train = built(split=pl.Series(["train"] * 8))
    test = built(split=pl.Series(["train"] * 7 + ["test"]))
    found = [built(), built(later), train, test]
    assert len({data.exposures.digest() for data in found}) == 4
    assert len({split(one).test_shown.digest() for one in (built(), built(later))}) == 2
    assert built().exposures.digest() == built().exposures.digest()
