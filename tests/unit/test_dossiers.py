"""What a model is shown about users, and what becomes of its answers."""

import numpy as np
import polars as pl
import pytest

from reelm import dossiers, tallies, train
from reelm.backends.base import Chances, Failure, Request
from reelm.data.dataset import Dataset
from reelm.data.split import SplitConfig, global_time
from reelm.errors import BadData, ConfigError
from reelm.models.popularity import PopularityConfig

CUT = 300.0  # s; interactions from here on are held out


@pytest.fixture
def split():
    """Even users watch cats, odd ones dogs; after the cut the log goes on with new videos."""
    rows = [(f"u{u}", f"v{2 * ((u + n) % 6) + u % 2}", 10.0 * n + u) for u in range(8)
            for n in range(4)]  # fmt: skip
    rows += [(f"u{u}", f"late{u}", CUT + u) for u in range(8)]
    rows += [(f"u{u}", f"v{2 * ((u + 5) % 6) + u % 2}", CUT + 50 + u) for u in range(8)]
    log = pl.DataFrame(rows, schema=["user_id", "video_id", "timestamp"], orient="row")
    data = Dataset.build(log.with_columns(event=pl.lit("like")))
    return global_time(data, SplitConfig(name="global_time", valid_from=200.0, test_from=CUT))


@pytest.fixture
def answers():
    told = {f"v{v}": {"subject": "dog" if v % 2 else "cat", "mood": "none"} for v in range(12)}
    return told | {f"late{u}": {"subject": "secret"} for u in range(8)}


@pytest.fixture
def base(split):
    return train.fit(split.train, "popularity", PopularityConfig())


def test_only_training_is_shown(split, base, answers):
    seen = {split.train.items[item] for item in split.train.item}
    asked = dossiers.profile_dossiers(split, answers)
    asked += [d for both in dossiers.edge_dossiers(split, base, answers) for d in both]
    assert asked
    for one in asked:
        own = {split.train.items[i] for i in split.train.history(split.train.row(one.user))}
        assert one.shown <= seen and set(one.watched) <= own
        assert not set(one.candidates) & own
        assert "secret" not in "".join(one.request.parts)
        assert not one.request.pictures


def test_the_newest_are_shown_oldest_first(split, answers):
    (one, *_) = dossiers.profile_dossiers(split, answers, most=2)
    row = split.train.row(one.user)
    assert list(one.watched) == [split.train.items[i] for i in split.train.history(row)[-2:]]


def test_only_what_lies_before_the_cut_is_shown(split, base, answers):
    asked = dossiers.profile_dossiers(split, answers, cut=0.5)
    asked += [d for both in dossiers.edge_dossiers(split, base, answers, cut=0.5) for d in both]
    for one in asked:
        history = [split.train.items[i] for i in split.train.history(split.train.row(one.user))]
        assert one.read == int(len(history) / 2) > 0
        assert list(one.watched) == history[: one.read]
    assert not dossiers.profile_dossiers(split, answers, cut=0.1), "nobody has ten"
    assert all(one.read == 4 for one in dossiers.profile_dossiers(split, answers))


def test_a_share_of_users_is_always_the_same_and_about_as_large():
    users = [f"u{n}" for n in range(2000)]
    few, more = ({u for u in users if dossiers.drawn(u, share)} for share in (0.1, 0.3))
    assert few < more and abs(len(few) - 200) < 50
    assert all(dossiers.drawn(user, 1.0) for user in users)


def test_a_base_that_saw_more_than_training_is_refused(split, answers):
    other = train.fit(split.before_test if len(split.valid) else split.train, "popularity")
    later = Dataset.build(pl.DataFrame({"user_id": ["u0"], "video_id": ["v0"], "event": ["like"]}))
    for run in [train.fit(later, "popularity")] + ([other] if len(split.valid) else []):
        with pytest.raises(BadData, match="same split"):
            dossiers.candidates(run, split.train)


def test_too_many_candidates_for_the_letters(split, base, answers):
    with pytest.raises(ConfigError, match="2 to 20"):
        dossiers.edge_dossiers(split, base, answers, top=21)


def test_candidates_are_shown_in_both_orders(split, base, answers):
    for one, two in dossiers.edge_dossiers(split, base, answers, top=4):
        assert one.candidates == two.candidates[::-1]


def test_counting_likes_what_was_watched(split, base, answers):
    asked = dossiers.edge_dossiers(split, base, answers, top=8)
    found = dossiers.edges(asked, tallies.choose)
    assert found.failed == 0 and len(found.table) + found.disagreed == len(asked)
    for user, liked, disliked, weight in found.table.rows():
        odd = int(user[1:]) % 2
        assert int(liked[1:]) % 2 == odd and int(disliked[1:]) % 2 != odd and 0 < weight < 1


def test_an_answer_that_changes_with_the_order_is_dropped(split, base, answers):
    asked = dossiers.edge_dossiers(split, base, answers, top=2)

    def rather_the_first(requests, choices):
        return [log_chances(0.9, 0.1), log_chances(0.8, 0.2)] * len(asked)

    found = dossiers.edges(asked, rather_the_first)
    assert found.disagreed == len(asked) and len(found.table) == 0


def log_chances(*chances):
    return Chances([float(np.log(one)) for one in chances])


def test_a_failure_costs_its_user_alone(split, base, answers):
    asked = dossiers.edge_dossiers(split, base, answers, top=8)

    def broken(requests, choices):
        said = tallies.choose(requests, choices)
        return [Failure("timeout", "late"), *said[1:]]

    whole, found = dossiers.edges(asked, tallies.choose), dossiers.edges(asked, broken)
    assert found.failed == 1
    assert found.table.equals(whole.table.filter(pl.col("user_id") != asked[0][0].user))


def test_the_weight_is_the_margin_of_probabilities(split, base, answers):
    (both, *_) = dossiers.edge_dossiers(split, base, answers, top=2)

    def sure(requests, choices):
        return [log_chances(0.6, 0.2), log_chances(0.1, 0.7)]

    found = dossiers.edges([both], sure).table
    assert found["weight"].item() == pytest.approx((0.5 + 0.75) / 2)
    assert found["liked"].item() == both[0].candidates[0]


def test_a_line_reads_back_as_it_was_written():
    answer = {"subject": "Cat", "word": "a; b\nc", "effect": "none", "count": 2, "text": "x" * 41}
    said = tallies.line(answer)
    assert "\n" not in said
    assert tallies.read(said) == [("subject", "cat"), ("word", "a, b c"), ("count", "2")]


def test_a_candidate_without_a_line_is_a_failure():
    (said,) = tallies.choose([Request("u", ("- subject: cat\n\nA) subject: cat",))], [["A", "B"]])
    assert isinstance(said, Failure) and "'B'" in said.message


def test_tallies_count_training_alone(split, answers):
    videos, users = tallies.tallied(split.train, answers)
    assert dict(zip(videos.ids, videos.vectors.sum(1), strict=True))["v0"] == 1
    columns = {tuple(v) for v in videos.vectors.tolist()}
    assert len(columns) == 3  # cat, dog, secret
    even = users.vectors[users.ids.index("u0")]
    cat = videos.vectors[videos.ids.index("v0")].argmax()
    assert even[cat] == even.max() > 0
    late = videos.vectors[videos.ids.index("late0")].argmax()
    assert even[late] < 0


def test_sentences_are_told_too_and_counted_by_nobody(split):
    """A note whose values are all longer than those that two videos share."""
    told = {f"v{v}": {"visual_summary": f"a {v} cat " * 12} for v in range(12)}
    asked = dossiers.profile_dossiers(split, told)
    assert len(asked) == 8
    assert all("visual_summary: a " in one.request.parts[0] for one in asked)
    assert not any(tallies.read(row) for row in asked[0].request.parts[0].splitlines()[:2])
