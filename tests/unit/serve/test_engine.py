import polars as pl
import pytest

from reelm.data.dataset import Dataset
from reelm.data.tables import Catalog
from reelm.models.popularity import Popularity
from reelm.runs import Run
from reelm.serve.engine import BadCursor, Engine, EngineConfig, UnknownVideo
from reelm.serve.past import PastRules, read_past
from reelm.serve.reasons import Reasons
from reelm.serve.records import StoredEvent
from reelm.serve.store import Store
from reelm.serve.videos import Videos

from .conftest import USERS, VIDEOS, WATCHED, answer, kind, video


def drain(engine, user, n=7, cursor=None):
    """All pages of a feed."""
    shown, pages = [], 0
    while cursor or not pages:
        page = engine.feed(user, n, cursor)
        shown += page.items
        cursor, pages = page.next_cursor, pages + 1
    return shown


def event(number, user, name, item, portion=None, feed=None):
    return StoredEvent(f"e{number}-{user}", user, item, name, 1e9 + number, portion, feed)


def usable():
    return {video(n) for n in range(2, VIDEOS)}


def test_a_feed_never_repeats_and_shows_all_that_is_left(engine):
    shown = [i.video_id for i in drain(engine, "u3")]
    assert len(shown) == len(set(shown))
    watched = {engine.run.items[row] for row in engine.run.history("u3")}
    assert set(shown) == usable() - watched


@pytest.mark.parametrize("user", ["u3", "nobody", "", "ü/😀 ../x"])
def test_every_user_gets_a_full_page(engine, user):
    page = engine.feed(user, 10)
    assert len(page.items) == 10
    assert [i.position for i in page.items] == list(range(10))


def test_a_known_user_gets_what_alike_users_watched(engine):
    shown = [i for i in engine.feed("u3", 5).items if i.source == "model"]
    assert shown
    assert all(kind(int(i.video_id[1:])) == 3 for i in shown)


def subjects(run, catalog, notes, **rules):
    """Mean number of subjects in the first six places of twenty strangers."""
    engine = Engine(run, catalog, notes, Store(), EngineConfig(new_share=0.2, **rules))
    pages = [engine.feed(f"s{n}", 6).items for n in range(20)]
    assert {i.source for page in pages for i in page} == {"fallback", "new"}
    told = [{answer(int(i.video_id[1:]))["subject"] for i in page} for page in pages]
    return sum(map(len, told)) / len(told)


def test_a_strangers_page_is_as_varied_as_it_is_told(run, catalog, notes):
    plain, varied = (subjects(run, catalog, notes, diversity=share) for share in (0.0, 1.0))
    assert varied > max(4, plain)


def test_strangers_differ(engine):
    lists = {tuple(i.video_id for i in engine.feed(f"s{n}", 6).items) for n in range(5)}
    assert len(lists) > 1


def test_new_videos_get_their_share_and_fit_the_taste(engine):
    shown = engine.feed("u3", 10).items
    new = [i for i in shown if i.source == "new"]
    assert [i.position for i in new] == [2, 7]
    assert all(int(i.video_id[1:]) >= WATCHED for i in new)
    assert kind(int(new[0].video_id[1:])) == 3


def test_no_share_for_new_videos_when_set_to_zero(run, catalog, store):
    engine = Engine(run, catalog, None, store, EngineConfig(new_share=0))
    assert {i.source for i in engine.feed("u3", 3).items} == {"model"}


def test_the_same_cursor_gives_the_same_page(engine):
    first = engine.feed("u3", 4)
    second = engine.feed("u3", 4, first.next_cursor)
    assert engine.feed("u3", 4, first.next_cursor) == second
    assert engine.feed("u3", 4, first.next_cursor).items[0].position == 4


def test_a_feed_goes_on_after_a_restart(run, catalog, notes, tmp_path):
    path = tmp_path / "store.sqlite"
    before = Engine(run, catalog, notes, Store(path))
    first = before.feed("u3", 10)
    before.store.close()
    after = Engine(run, catalog, notes, Store(path))
    rest = drain(after, "u3", cursor=first.next_cursor)
    ids = [i.video_id for i in (*first.items, *rest)]
    assert len(ids) == len(set(ids)) > 40
    after.store.close()


def test_a_new_feed_starts_with_what_was_not_shown(engine):
    first = {i.video_id for i in engine.feed("u3", 10).items}
    assert first.isdisjoint(i.video_id for i in engine.feed("u3", 10).items)


def test_again_brings_back_what_was_shown(engine):
    drain(engine, "u3")
    assert not engine.feed("u3", 10).items
    assert len(engine.feed("u3", 10, again=True).items) == 10


@pytest.mark.parametrize("cursor", ["", "x", "x.1", ".5", "x.-1", "x.1e3", "x.٣"])
def test_cursors_of_nobody(engine, cursor):
    if cursor:
        with pytest.raises(BadCursor):
            engine.feed("u3", 5, cursor)


def test_cursors_of_others_and_of_the_future(engine):
    page = engine.feed("u3", 5)
    with pytest.raises(BadCursor, match="no feed of user"):
        engine.feed("u4", 5, page.next_cursor)
    with pytest.raises(BadCursor, match="ahead"):
        engine.feed("u3", 5, f"{page.feed_id}.500")


def test_the_next_page_knows_the_newest_portions(engine):
    page = engine.feed("guest", 6)
    assert "model" not in {i.source for i in page.items}
    engine.store.add_events([event(n, "guest", "watch", video(3 + 6 * n), 1.0) for n in range(3)])
    following = engine.feed("guest", 6, page.next_cursor).items
    modelled = [i for i in following if i.source == "model"]
    assert modelled
    assert all(kind(int(i.video_id[1:])) == 3 for i in modelled)


def test_past_counts_events_by_the_rules(engine):
    row = engine.videos.row
    engine.store.add_events(
        [
            event(1, "g", "watch", video(10), 0.3, "f"),
            event(2, "g", "watch", video(10), 0.3, "f"),  # taken up again: 0.6 in one feed
            event(3, "g", "watch", video(11), 0.4, "f1"),
            event(4, "g", "watch", video(11), 0.4, "f2"),  # two short watches stay short
            event(5, "g", "like", video(12)),
            event(6, "g", "like", video(13)),
            event(7, "g", "unlike", video(13)),
            event(8, "g", "watch", video(14), 2.0),
            event(9, "g", "skip", video(14)),
            event(10, "g", "share", video(15)),
            event(11, "g", "watch", "no such video", 1.0),
        ]
    )
    past = engine.past("g")
    assert past.rows == (row[video(10)], row[video(12)], row[video(15)])
    assert past.liked == {row[video(12)]}
    assert past.touched == {row[video(n)] for n in range(10, 16)}
    assert not past.trained


def test_watching_again_moves_a_video_to_the_end(engine):
    old = engine.run.history("u3")
    first = engine.run.items[old[0]]
    engine.store.add_events([event(1, "u3", "watch", first, 1.0)])
    assert list(engine.past("u3").rows) == [*old[1:], old[0]]


def test_a_copy_counts_as_its_first(engine):
    engine.store.add_events([event(1, "g", "watch", video(0), 1.0)])
    assert engine.past("g").rows == (engine.videos.row[video(6)],)


def test_what_the_log_says_was_left_is_not_shown(run, catalog, store):
    left = catalog.events.head(1).with_columns(
        video_id=pl.lit(video(40)), value=pl.lit(0.1), user_id=pl.lit("u3")
    )
    events = pl.concat([catalog.events, left])
    engine = Engine(run, Catalog(catalog.folder, catalog.videos, events), None, store)
    assert video(40) not in {i.video_id for i in drain(engine, "u3")}


@pytest.mark.parametrize("user", ["u0", "u3", "u17", f"u{USERS - 1}", "nobody"])
def test_reasons_are_true(engine, catalog, user):
    watched = {engine.run.items[row] for row in engine.run.history(user)}
    for shown in drain(engine, user):
        here = described(catalog, shown.video_id)
        if not shown.because:
            assert not shown.facts
            continue
        assert set(shown.because) <= watched
        for other in (here, *(described(catalog, v) for v in shown.because)):
            for field, value in shown.facts.items():
                assert value in other[field], f"{shown.reason} is not true of {other}"
        assert f" {len(shown.because)} clips " in shown.reason or " a clip " in shown.reason
        assert all(value in shown.reason for value in shown.facts.values())


def described(catalog, name):
    """What notes and catalogue say of a video, field to values."""
    row = catalog.videos.row(by_predicate=pl.col("video_id") == name, named=True)
    tags = ["#" + tag.lstrip("#") for tag in row["hashtags"].split()]
    said = {field: [value] for field, value in answer(int(name[1:])).items()}
    return said | {"hashtag": tags, "creator": [row["creator"]]}


def test_popular_reasons_give_the_true_count(engine):
    for shown in engine.feed("nobody", 20).items:
        count = int(engine.videos.counts[engine.videos.row[shown.video_id]])
        if shown.source == "fallback" and count > 1:
            assert f"watched {count:,} times" in shown.reason
        elif shown.source == "new":
            assert not count
            assert shown.reason.startswith("New here")


def test_liked_and_finished_are_said_only_of_what_was(engine):
    cats = [video(n) for n in range(6, 30, 6)]
    engine.store.add_events([event(n, "g", "watch", v, 1.0) for n, v in enumerate(cats)])
    said = " ".join(i.reason for i in engine.feed("g", 10).items)
    assert "you finished" in said
    assert "liked" not in said
    engine.store.add_events([event(10 + n, "g", "like", v) for n, v in enumerate(cats)])
    assert "you liked" in " ".join(i.reason for i in engine.feed("g", 10).items)


def test_similar_videos_can_be_shown(engine):
    found = engine.similar(video(9), 5)
    assert len(found) == 5
    assert {kind(int(v[1:])) for v, _ in found[:3]} == {3}
    new = engine.similar(video(WATCHED + 3), 5)
    assert kind(int(new[0][0][1:])) == 3
    with pytest.raises(UnknownVideo):
        engine.similar("no such video")


def test_without_catalogue_and_notes_it_still_answers(run):
    page = Engine(run).feed("u3", 10)
    assert len(page.items) == 10
    assert "Predicted from the last 5 videos you watched." in {i.reason for i in page.items}


def test_a_model_with_nothing_to_say_is_not_asked(catalog, store):
    data = Dataset.build(catalog.events.head(1), videos=catalog.videos.drop("duplicate_of"))
    run = Run.of("popularity", Popularity(Popularity.Config(), data), data)
    engine = Engine(run, catalog, None, store)
    assert "model" not in {i.source for i in engine.feed("u0", 10).items}


def test_popularity_says_that_it_is_popularity(run, catalog, store):
    data = Dataset.build(catalog.events, videos=catalog.videos.drop("duplicate_of"))
    popular = Run.of("popularity", Popularity(Popularity.Config(), data), data)
    shown = Engine(popular, catalog, None, store).feed("u3", 10).items
    told = {item.reason.split()[0] for item in shown if item.source == "model"}
    assert told == {"Popular:"}


@pytest.mark.parametrize(
    ("kinds", "trained", "done", "word"),
    [
        ({"watch"}, [], [(1, "like", None)], "one you liked"),
        ({"rating"}, [], [(1, "watch", 0.6)], "one you watched"),
        ({"rating"}, [], [(1, "watch", 0.95)], "one you finished"),
        ({"rating"}, [3], [], "one you rated"),
        ({"watch"}, [3], [(1, "watch", 0.6)], "2 videos you watched"),
        ({"watch"}, [3], [(1, "share", None)], "2 videos you chose"),
        ({"rating"}, [3], [(1, "watch", 0.6)], "2 videos you chose"),
        ({"favourite"}, [3], [], "one you chose"),
    ],
)
def test_a_reason_says_what_was_done(run, kinds, trained, done, word):
    videos = Videos(run.items, run.counts, None, None)
    events = [event(n, "u", name, video(item), part) for n, (item, name, part) in enumerate(done)]
    past = read_past("u", trained, events, videos.row, PastRules())
    links = videos.facets.links(past.rows)
    told = Reasons(videos, kinds).of("model", videos.row[video(9)], past, links)
    assert told.sentence == f"Predicted from the last {word}."
