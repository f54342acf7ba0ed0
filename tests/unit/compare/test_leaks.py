"""Each detector finds what was planted, and is silent in the clean world."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from clean_world import VIDEOS, events, text_features, vectors, videos

from reelm.compare import leaks
from reelm.compare.findings import histories, targets
from reelm.compare.leaks import counted
from reelm.data.dataset import Dataset
from reelm.data.split import SplitConfig, split
from reelm.data.tables import Catalog
from reelm.errors import BadData


def kinds(found) -> set[tuple[str, str]]:
    return {(one.severity, one.kind) for one in found}


def retold(catalog: Catalog, **columns) -> Catalog:
    return replace(catalog, videos=catalog.videos.with_columns(**columns))


def titles(change: dict[int, str]) -> pl.Series:
    table = videos()["title"].to_list()
    for video, title in change.items():
        table[video] = title
    return pl.Series(table)


def a_target(cut, question: int = 0) -> tuple[str, int]:
    """User id and video number of a test target."""
    return cut.train.users[cut.test.users[question]], int(cut.test.targets(question)[0]) - 1


def test_the_clean_world_is_clean(data, cut, catalog):
    by_time = split(data, SplitConfig(name="global_time"))
    assert leaks(by_time, data, catalog) == []
    found = leaks(cut, data, catalog)
    assert kinds(found) == {("note", "time")}  # the future of others, which this protocol has


def test_shapes_of_questions(cut):
    question, item = targets(cut.test)
    row, shown = histories(cut.test)
    assert len(question) == len(cut.test) and len(row) == sum(cut.test.stop - cut.test.start)
    for number in (0, 7, len(cut.test) - 1):
        assert item[question == number].tolist() == cut.test.targets(number).tolist()
        assert shown[row == number].tolist() == cut.test.history(number).tolist()


# ---- time


def test_share_of_targets_whose_video_has_a_future(data, cut, catalog):
    """Counted anew, one target at a time."""
    late = 0
    for number in range(len(cut.test)):
        user, item = cut.test.users[number], cut.test.targets(number)[0]
        when = data.time[data.offsets[user + 1] - 1]
        late += bool(np.any(cut.train.time[cut.train.item == item] > when))
    (said,) = [f for f in leaks(cut, data, catalog) if " test targets" in f.means]
    assert 0 < late < len(cut.test)
    assert f"and {late} (" in said.means


def test_a_cut_by_time_with_a_hole_is_found(data, cut):
    holed = replace(cut, name="global_time")
    found = leaks(holed, data)
    assert ("leak", "time") in kinds(found)


def test_a_users_own_future_in_training_is_found(data):
    order = np.tile(np.array(["test", "valid", *["train"] * 6]), len(data.users))
    given = replace(
        data, split=np.array([{"train": 0, "valid": 1, "test": 2}[o] for o in order], np.int8)
    )
    cut = split(given, SplitConfig(name="given"))
    (own,) = [f for f in leaks(cut, given) if "same user" in f.means and " test " in f.means]
    assert own.severity == "warning" and own.count == len(cut.test)
    promised = leaks(replace(cut, name="leave_last_two"), given)
    assert any(f.severity == "leak" and "same user" in f.means for f in promised)


def test_without_times_nothing_is_said_of_time(cut, data):
    timeless = replace(data, time=np.full(len(data), np.nan))
    assert leaks(cut, timeless) == [] == leaks(cut)


def test_where_some_times_are_missing_the_others_count(data, cut):
    """Half of the users without times; the share is of the targets that have one."""
    some = replace(data, time=np.where(data.user % 2, np.nan, data.time))
    known = replace(cut.train, time=np.where(cut.train.user % 2, np.nan, cut.train.time))
    found = [f for f in leaks(replace(cut, train=known), some) if " test targets" in f.means]
    assert len(found) == 1 and f" of {len(cut.test) // 2} test targets" in found[0].means


def test_another_dataset_is_refused(cut):
    other = Dataset.build(events().head(16))
    with pytest.raises(BadData, match="other users or videos"):
        leaks(cut, other)


# ---- held out in training


def test_a_test_interaction_left_in_training_is_found(data, cut):
    whole = replace(cut, train=data)
    found = [f for f in leaks(whole, data) if f.kind == "held out"]
    assert {f.severity for f in found} == {"leak"}
    assert sorted(f.count for f in found) == [len(cut.valid), len(cut.test)]
    assert [f.severity for f in leaks(whole) if f.kind == "held out"] == ["warning"] * 2


def test_a_target_in_its_own_history_is_found(data, cut):
    seen = replace(cut.test, stop=cut.test.stop + 1)
    found = [f for f in leaks(replace(cut, test=seen)) if f.kind == "held out"]
    assert [(f.severity, f.count) for f in found] == [("warning", len(cut.test))]


def test_a_video_chosen_again_is_a_note():
    log = events()
    again = log.group_by("user_id", maintain_order=True).first()
    again = again.with_columns(pl.col("timestamp") + 10_000).select(log.columns)
    data = Dataset.build(pl.concat([log, again]))
    cut = split(data, SplitConfig(name="leave_last_two"))
    found = [f for f in leaks(cut, data) if f.kind == "held out"]
    assert [(f.severity, f.count) for f in found] == [("note", len(cut.test))]


@pytest.mark.parametrize("shift", [100_000, -100_000])
def test_a_split_whose_parts_overlap_is_found(shift):
    """Whether the test's copy in training stands beside it in the user's past or far away."""
    log = (
        events().with_columns(order=pl.int_range(pl.len()), split=pl.lit("train")).drop("timestamp")
    )
    test = pl.col("order") == pl.col("order").max().over("user_id")
    log = log.with_columns(split=pl.when(test).then(pl.lit("test")).otherwise("split"))
    copies = log.filter(split="test").head(3)
    copies = copies.with_columns(split=pl.lit("train"), order=pl.col("order") + shift)
    data = Dataset.build(pl.concat([log, copies]).cast(log.schema))
    cut = split(data)
    found = [f for f in leaks(cut, data) if f.kind == "held out"]
    assert [(f.severity, f.count) for f in found] == [("warning", 3)]
    assert len(cut.test) == log.filter(split="test").height - 3
    clean = Dataset.build(log)
    assert not [f for f in leaks(split(clean), clean) if f.kind == "held out"]


def test_a_video_chosen_again_after_a_cut_by_time_is_a_note():
    log = events()
    again = log.group_by("user_id", maintain_order=True).first()
    again = again.with_columns(pl.col("timestamp") + 10_000).select(log.columns)
    data = Dataset.build(pl.concat([log, again]))
    found = leaks(split(data, SplitConfig(name="global_time")), data)
    assert {f.severity for f in found if f.kind == "held out"} == {"note"}


# ---- popularity


def test_counts_that_hold_the_test_are_found(data, cut):
    cut.train.__dict__["counts"] = data.counts
    found = [f for f in leaks(cut) if f.kind == "popularity"]
    assert [f.severity for f in found] == ["leak"]
    del cut.train.__dict__["counts"]
    assert counted(cut.train.counts, cut.train, "a model") == []
    assert counted(data.counts, cut.train, "a model")[0].count == np.sum(
        data.counts != cut.train.counts
    )


@pytest.mark.parametrize(
    "made",
    [
        lambda all_, train: all_,
        lambda all_, train: np.log1p(all_),
        lambda all_, train: all_ / all_.sum(),
        lambda all_, train: -3.0 * (all_ - train) + 1,
    ],
)
def test_a_feature_of_all_counts_is_found(data, cut, catalog, made):
    table = torch.from_numpy(np.concatenate([np.zeros((1, 6)), vectors()]).astype(np.float32))
    table[:, 3] = torch.from_numpy(made(data.counts, cut.train.counts).astype(np.float32))
    planted = replace(cut.train, features={"text": table})
    found = [f for f in leaks(replace(cut, train=planted)) if f.kind == "popularity"]
    assert [f.severity for f in found] == ["leak"]
    assert "features.text, column 3" in found[0].example


@pytest.mark.parametrize("made", [lambda c: c, np.sqrt, np.log1p, lambda c: c.argsort().argsort()])
def test_a_feature_of_training_counts_is_no_leak(cut, made):
    table = torch.zeros(VIDEOS + 1, 1)
    table[:, 0] = torch.from_numpy(np.asarray(made(cut.train.counts)).astype(np.float32))
    planted = replace(
        cut.train, features={"n": table}, has_feature={"n": np.arange(VIDEOS + 1) > 0}
    )
    assert leaks(replace(cut, train=planted)) == []


def test_a_column_of_the_catalogue_with_all_counts_is_a_warning(data, cut, catalog):
    told = retold(catalog, likes=pl.Series(data.counts[1:]))
    found = [f for f in leaks(cut, catalog=told) if f.kind == "popularity"]
    assert [f.severity for f in found] == ["warning"] and "likes" in found[0].example


# ---- duplicates


def twin_of(cut, question: int = 3) -> tuple[int, int]:
    """A video of a test history and the target of the same question."""
    return int(cut.test.history(question)[0]) - 1, int(cut.test.targets(question)[0]) - 1


def test_one_file_under_two_ids_is_found(cut, catalog):
    shown, target = twin_of(cut)
    hashes = videos()["sha256"].to_list()
    hashes[target] = hashes[shown]
    found = [f for f in leaks(cut, catalog=retold(catalog, sha256=pl.Series(hashes)))]
    assert kinds(found) >= {("leak", "duplicates by file")}
    assert f"a copy of video v{shown}" in " ".join(f.example for f in found)


def test_what_the_catalogue_calls_a_duplicate_is_found(cut, catalog):
    shown, target = twin_of(cut)
    first = [f"v{shown}" if v == target else None for v in range(VIDEOS)]
    told = retold(catalog, duplicate_of=pl.Series(first, dtype=pl.String))
    assert ("leak", "duplicates by file") in kinds(leaks(cut, catalog=told))


def test_like_features_under_one_title_are_found(catalog):
    data = Dataset.build(events(), [text_features(vectors())], videos=videos())
    shown, target = twin_of(split(data, SplitConfig(name="leave_last_two")))
    alike = vectors()
    alike[target] = 1.0001 * alike[shown]
    data = Dataset.build(events(), [text_features(alike)], videos=videos())
    cut = split(data, SplitConfig(name="leave_last_two"))
    other = titles({shown: "Parrot on a bicycle", target: " parrot on a Bicycle"})
    found = leaks(cut, catalog=retold(catalog, title=other))
    assert ("warning", "duplicates by features and title") in kinds(found)
    untold = retold(catalog, title=titles({shown: "Parrot", target: "Another parrot"}))
    assert leaks(cut, catalog=untold) == []


def test_one_title_alone_is_no_duplicate(cut, catalog):
    shown, target = twin_of(cut)
    assert leaks(cut, catalog=retold(catalog, title=titles({shown: "Same", target: "Same"}))) == []


# ---- texts


def test_a_users_id_in_a_title_is_found(cut, catalog):
    user, video = a_target(cut)
    told = retold(catalog, title=titles({video: f"For {user.upper()}, with love"}))
    (found,) = leaks(cut, catalog=told)
    assert (found.severity, found.kind) == (
        "leak",
        "user in text",
    ) and f"user {user}" in found.example
    stranger = int(np.setdiff1d(np.arange(len(cut.train.users)), _askers(cut, video + 1))[0])
    told = retold(catalog, title=titles({video: f"by {cut.train.users[stranger]}"}))
    assert kinds(leaks(cut, catalog=told)) == {("warning", "user in text")}


def _other(user: str) -> str:
    return "u1" if user != "u1" else "u2"


def _askers(cut, item: int) -> np.ndarray:
    found = []
    for questions in (cut.valid, cut.test):
        question, target = targets(questions)
        found.append(questions.users[question[target == item]])
    return np.concatenate(found)


def test_another_videos_id_in_a_title_is_found(cut, catalog):
    shown, target = twin_of(cut)
    told = retold(catalog, title=titles({shown: f"next: v{target}."}))
    (found,) = leaks(cut, catalog=told)
    assert (found.severity, found.kind) == ("leak", "other videos in text")
    itself = retold(catalog, title=titles({shown: f"clip v{shown}"}))
    assert leaks(cut, catalog=itself) == []


def test_notes_are_read_too(cut):
    shown, _ = twin_of(cut)
    said = json.dumps({"caption": "a cat", "split": "test"})
    notes = pl.DataFrame({"video_id": [f"v{shown}"], "answer": [said], "error": [None]})
    (found,) = leaks(cut, notes=[notes])
    assert found.kind == "label in text" and "notes 1" in found.example
    clean = notes.with_columns(answer=pl.lit(json.dumps({"caption": "a cat on target"})))
    assert leaks(cut, notes=[clean]) == []


@pytest.mark.parametrize("text", ["cats label: 1", "rating=4.5 cats", "cats, rank : 3"])
def test_labels_with_values_are_found(cut, catalog, text):
    assert kinds(leaks(cut, catalog=retold(catalog, title=titles({5: text})))) == {
        ("warning", "label in text")
    }


def test_a_word_that_marks_the_test_is_found(data, catalog):
    cut = split(data, SplitConfig(name="cold_item", test_share=0.2))
    held = np.unique(cut.test.target) - 1
    bare = pl.Series([f"clip {chr(97 + v % 26)}" for v in range(VIDEOS)]).to_list()
    marked = [f"{t} test" if v in set(held) else t for v, t in enumerate(bare)]
    found = leaks(cut, catalog=retold(catalog, title=pl.Series(marked)))
    assert ("leak", "split in text") in kinds(found)
    assert not [f for f in leaks(cut, catalog=catalog) if f.kind == "split in text"]


def test_a_target_in_the_text_of_its_user_is_found(cut, catalog):
    user, video = a_target(cut)
    told = retold(catalog, title=titles({video: "The Parrot of Lisbon"}))
    for text in (f"likes v{video} most", "Fan of the parrot of Lisbon!"):
        users = pl.DataFrame({"user_id": [user, _other(user)], "profile": [text, "likes cats"]})
        found = leaks(cut, catalog=replace(told, users=users))
        assert kinds(found) == {("leak", "target in text")}
        assert found[0].count == 1
    others = pl.DataFrame({"user_id": [user], "profile": ["likes The Parrot of Lisbons"]})
    assert leaks(cut, catalog=replace(told, users=others)) == []


def test_a_title_the_user_had_met_is_no_leak(cut, catalog):
    shown, target = twin_of(cut)
    user, _ = a_target(cut, 3)
    both = retold(
        catalog, title=titles({shown: "The Parrot of Lisbon", target: "The Parrot of Lisbon"})
    )
    users = pl.DataFrame({"user_id": [user], "profile": ["the parrot of lisbon"]})
    assert leaks(cut, catalog=replace(both, users=users)) == []
