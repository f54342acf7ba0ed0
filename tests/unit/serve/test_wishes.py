"""What users say outright: block, follow, less like this; and being forgotten."""

from dataclasses import replace

import numpy as np
import pytest

from reelm.serve.engine import BadCursor
from reelm.serve.records import StoredEvent

from .conftest import VIDEOS, WATCHED, answer, kind, video


def says(engine, user, *events):
    stored = [
        StoredEvent(f"{user}-{n}-{what}", user, item or "", what, 1e9 + n, None, None, creator)
        for n, (what, item, creator) in enumerate(events)
    ]
    engine.store.add_events(stored)


def shown(engine, user, n=100, again=False):
    return [int(i.video_id[1:]) for i in engine.feed(user, n, again=again).items]


@pytest.mark.parametrize("again", [False, True])
def test_a_blocked_video_or_creator_is_never_shown(engine, again):
    says(engine, "u3", ("block", video(20), None), ("block", None, "creator5"))
    numbers = shown(engine, "u3", again=again)
    assert numbers and 20 not in numbers
    assert not [n for n in numbers if n % 7 == 5]
    says(engine, "u3", ("unblock", None, "creator5"))


def test_a_block_can_be_taken_back(engine):
    says(engine, "s", ("block", None, "creator5"), ("unblock", None, "creator5"))
    assert [n for n in shown(engine, "s") if n % 7 == 5]


def test_a_block_in_the_middle_of_a_feed_holds_from_the_next_page_on(engine):
    first = engine.feed("s", 5)
    says(engine, "s", ("block", None, "creator2"))
    second = engine.feed("s", 50, first.next_cursor)
    assert second.items and not [i for i in second.items if int(i.video_id[1:]) % 7 == 2]


def test_less_like_this_shows_fewer_alike(engine):
    """Over many feeds of twelve places, with what was seen allowed to come back."""
    before = [n for _ in range(8) for n in shown(engine, "s", 12, again=True)]
    wrong = max(set(map(kind, before)), key=list(map(kind, before)).count)
    number = next(n for n in range(10, WATCHED) if kind(n) == wrong)
    says(engine, "s", ("less_like_this", video(number), None))
    after = [n for _ in range(8) for n in shown(engine, "s", 12, again=True)]
    share = [sum(kind(n) == wrong for n in part) / len(part) for part in (before, after)]
    assert share[1] < 0.75 * share[0], share


def test_less_like_this_is_heard_where_the_model_chooses(engine):
    past, row = engine.past("u3"), engine.videos.row
    pool = engine._everything.pools(past, np.zeros(0, np.int64)).model
    scores = pool.scores
    unwanted = row[video(33)]
    more = replace(past, unwanted=(unwanted,))
    heard, plain = (engine._picker.by_model(pool, p) for p in (more, past))
    change = np.where(np.isfinite(scores), heard, 0) - np.where(np.isfinite(scores), plain, 0)
    alike = [
        n for n in range(10, WATCHED) if kind(n) == kind(33) and np.isfinite(scores[row[video(n)]])
    ]
    lost = {n: change[row[video(n)]] for n in alike}
    assert all(loss < 0 for loss in lost.values())
    assert min(lost, key=lost.get) == 33


def test_followed_creators_come_sooner(engine):
    places = [shown(engine, f"s{n}", 20) for n in range(6)]
    for n in range(6):
        says(engine, f"t{n}", ("follow", video(4), None))  # whose creator is creator4
    later = [shown(engine, f"t{n}", 20) for n in range(6)]
    count = [sum(n % 7 == 4 for part in parts for n in part) for parts in (places, later)]
    assert count[1] > count[0]


def test_a_deleted_user_is_a_stranger_even_to_the_run(engine):
    assert engine.past("u3").rows
    engine.feed("u3", 5)
    engine.store.delete_user("u3")
    assert engine.past("u3").rows == ()
    assert not engine.past("u3").trained
    assert {i.source for i in engine.feed("u3", 10).items} == {"fallback", "new"}
    assert len(shown(engine, "u3", again=False)) > VIDEOS - 15, "the log's videos may be shown"


def test_a_feed_whose_user_is_deleted_ends_with_words(engine, monkeypatch):
    page = engine.feed("u3", 4)
    choose = engine._choose
    monkeypatch.setattr(
        engine, "_choose", lambda *a: (choose(*a), engine.store.delete_user("u3"))[0]
    )
    with pytest.raises(BadCursor, match="deleted meanwhile"):
        engine.feed("u3", 4, page.next_cursor)
    with pytest.raises(BadCursor, match="deleted meanwhile"):
        engine.feed("u3", 4)


def test_reasons_cite_only_notes_and_events_that_exist(engine):
    says(engine, "u3", *[("like", video(n), None) for n in (9, 15, 21)])
    says(engine, "s", *[("like", video(n), None) for n in (10, 16, 22)])
    cited = 0
    for user in ("u3", "s"):
        mine = {engine.videos.ids[row] for row in engine.past(user).rows}
        for item in engine.feed(user, 40).items:
            assert set(item.because) <= mine
            for other in (item.video_id, *item.because) if item.because else ():
                number = int(other[1:])
                said = answer(number) | {
                    "creator": f"creator{number % 7}", "hashtag": {f"#tag{number % 4}", "#fun"},
                }  # fmt: skip
                for field, value in item.facts.items():
                    assert value in said[field] if field == "hashtag" else value == said[field]
                    cited += 1
    assert cited > 20


def test_less_like_this_can_be_taken_back(engine):
    says(engine, "s", ("less_like_this", video(20), None), ("less_like_this", video(21), None))
    assert len(engine.past("s").unwanted) == 2
    says(engine, "s2", ("skip", video(20), None))
    events = [("less_like_this", video(20), None), ("undo_less_like_this", video(20), None)]
    says(engine, "w", ("watch", video(21), None), ("like", video(20), None), *events)
    past = engine.past("w")
    assert not past.unwanted and engine.videos.row[video(20)] in past.rows
    says(engine, "x", ("like", video(20), None), ("skip", video(20), None), *events)
    assert not engine.past("x").rows, "a skip of before still stands"
