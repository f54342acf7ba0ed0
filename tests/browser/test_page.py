"""The feed page in a real browser against a real server."""

import os
import time
from pathlib import Path

import polars as pl
import pytest

from reelm.data.dataset import Dataset
from reelm.models.popularity import Popularity
from reelm.runs import Run
from reelm.serve.engine import Engine
from reelm.serve.pace import Late
from reelm.serve.server import running
from reelm.serve.store import Store

from .steps import AT, FLAWS, SOURCES, eventually, playing, swipe

pytestmark = pytest.mark.browser


def test_a_clip_plays_and_its_portion_arrives(open_page, engine):
    page = open_page("guest")
    playing(page, 1.5)
    first = page.evaluate(AT)
    swipe(page)
    eventually(lambda: engine.store.events("guest"))
    (event,) = engine.store.events("guest")
    assert (event.video_id, event.type) == (first, "watch")
    assert 0.3 < event.portion < 0.9
    assert event.feed_id
    assert abs(event.timestamp - time.time()) < 30


def test_replays_exceed_one(open_page, engine):
    page = open_page("guest")
    page.wait_for_function("document.querySelector('.slide[data-current] video').ended === false")
    page.evaluate("document.querySelector('.slide[data-current] video').playbackRate = 4")
    playing(page)
    time.sleep(2.5)
    swipe(page)
    eventually(lambda: engine.store.events("guest"))
    assert engine.store.events("guest")[0].portion > 1


def test_a_paused_clip_does_not_count(open_page, engine):
    page = open_page("guest")
    playing(page, 0.4)
    page.keyboard.press(" ")
    time.sleep(2)
    swipe(page)
    eventually(lambda: engine.store.events("guest"))
    assert engine.store.events("guest")[0].portion < 0.4


def test_a_closed_page_still_tells(open_page, engine):
    page = open_page("guest")
    playing(page, 1.0)
    page.goto("about:blank")
    eventually(lambda: engine.store.events("guest"))
    assert engine.store.events("guest")[0].portion > 0.2


def test_the_next_page_follows_what_was_watched(open_page, engine):
    page = open_page("stranger")
    assert "model" not in page.eval_on_selector_all(
        ".reason", "all => all.map(r => r.dataset.source)"
    )
    playing(page, 3.0)
    liked = page.evaluate(AT)
    for _ in range(5):
        swipe(page)
    sources = page.eval_on_selector_all(".reason", SOURCES)
    assert "model" in sources
    subject = engine.videos.answers(liked)["subject"]
    shown = page.eval_on_selector_all(".slide[data-item]", "all => all.map(s => s.dataset.item)")
    alike = [v for v, s in zip(shown, sources, strict=True) if s == "model"]
    assert engine.videos.answers(alike[0])["subject"] == subject


def test_clips_far_away_let_go_of_their_video(open_page, engine):
    page = open_page("fan-of-cat")
    seen = [page.evaluate(AT)] + [swipe(page) for _ in range(12)]
    assert len(set(seen)) == 13
    loaded = page.eval_on_selector_all("video[src]", "all => all.length")
    assert loaded <= 5 + 4, "of the feed five, of the panel four"
    swipe(page, "ArrowUp")
    assert page.evaluate(AT) == seen[-2]


def test_two_hundred_swipes_without_a_repeat(chromium):
    """On cards and without motion, so that it is the feed that takes the time."""
    log = pl.DataFrame({"user_id": ["a", "a", "b"], "video_id": ["v0", "v1", "v0"]})
    data = Dataset.build(log, videos=[f"v{n}" for n in range(240)])
    run = Run.of("popularity", Popularity(Popularity.Config(), data), data)
    engine = Engine(run, store=Store())
    with running(engine) as address:
        page = chromium.new_page(reduced_motion="reduce")
        page.goto(f"{address}/?user=guest")
        page.wait_for_selector(".slide[data-current]")
        seen = [page.evaluate(AT)] + [swipe(page) for _ in range(200)]
        page.close()
    engine.store.close()
    assert len(set(seen)) == 201


def test_why_this_is_true(open_page, engine):
    page = open_page("fan-of-cat")
    cited = 0
    for _ in range(5):
        item = page.evaluate(AT)
        page.locator(".slide[data-current] .reason").click()
        page.wait_for_selector("#why.open")
        reason = page.inner_text("#why-reason")
        assert reason == page.inner_text(".slide[data-current] .reason span")
        (impression,) = [i for i in impressions(engine, "fan-of-cat") if i.video_id == item]
        assert reason == impression.reason
        watched = {engine.videos.ids[row] for row in engine.past("fan-of-cat").rows}
        assert set(impression.because) <= watched, "it cites what the user did not watch"
        for video in (item, *impression.because):
            facts = engine.videos.answers(video)
            said = {f: v for f, v in impression.facts.items() if f in facts}
            assert said.items() <= facts.items()
            cited += bool(said)
        page.wait_for_function(
            "subject => document.getElementById('why-values').textContent.includes(subject)",
            arg=engine.videos.answers(item)["subject"],
        )
        page.keyboard.press("Escape")
        page.wait_for_selector("#why:not(.open)", state="attached")
        swipe(page)
    assert cited


def impressions(engine, user):
    feeds = engine.store._all("SELECT feed_id FROM feeds WHERE user_id = ?", user)
    return [i for (feed,) in feeds for i in engine.store.impressions(feed)]


def test_buttons_say_what_they_do(open_page, engine):
    page = open_page("guest")
    playing(page)
    item = page.evaluate(AT)
    page.locator(".slide[data-current] .rail [data-act=like]").click()
    page.keyboard.press("l")
    page.keyboard.press("x")
    eventually(lambda: len([e for e in engine.store.events("guest") if e.type != "watch"]) == 3)
    kinds = {e.type for e in engine.store.events("guest") if e.video_id == item}
    assert {"like", "unlike", "skip"} <= kinds
    page.wait_for_function(f"before => {AT} !== before", arg=item)


def test_sound_is_off_until_asked_for(open_page):
    page = open_page("guest")
    muted = "document.querySelector('.slide[data-current] video').muted"
    assert page.evaluate(muted)
    page.get_by_role("button", name="Sound").click()
    assert not page.evaluate(muted)
    swipe(page)
    assert not page.evaluate(muted)


def test_strangers_text_stays_text(open_page):
    """Titles, hashtags, names and reasons as an attacker would write them."""
    hostile = "<img src=x onerror=document.title='owned'><b>bold</b>"

    def spoil(route):
        page = route.fetch().json()
        for item in page["items"]:
            item |= {"title": hostile, "creator": hostile, "reason": hostile, "hashtags": [hostile]}
        route.fulfill(json=page)

    page = open_page("guest", before=lambda page: page.route("**/v1/feed/**", spoil))
    page.wait_for_selector(".slide[data-current]")
    assert page.inner_text(".slide[data-current] h3") == hostile
    assert page.text_content("#why-reason") == hostile
    assert page.locator(".words img, .words b, #why b, #why img, #sent img").count() == 0
    assert page.title() == "ReeLM"


def test_another_user_gets_another_feed(open_page, engine):
    page = open_page("fan-of-cat", size=(1440, 900))
    playing(page)
    page.fill("#user", "fan-of-car")
    page.click("#switch button")
    page.wait_for_function("document.getElementById('name').textContent === 'fan-of-car'")
    page.wait_for_selector(".slide[data-current]")
    eventually(lambda: engine.store.events("fan-of-cat"))
    playing(page, 0.5)
    swipe(page)
    eventually(lambda: engine.store.events("fan-of-car"))
    page.click("#stranger")
    page.wait_for_function("document.getElementById('name').textContent.startsWith('guest-')")


def test_the_service_away_and_back(open_page, engine):
    page = open_page("guest")
    playing(page)
    page.context.set_offline(True)
    swipe(page)
    time.sleep(0.5)
    assert not engine.store.events("guest")
    page.context.set_offline(False)
    eventually(lambda: engine.store.events("guest"))


def test_a_service_without_time_is_asked_again(chromium, address, engine, monkeypatch):
    real, turned_away = engine.feed, []

    def late(*asked):
        if not turned_away:
            turned_away.append(time.monotonic())
            raise Late("too many requests")
        return real(*asked)

    monkeypatch.setattr(engine, "feed", late)
    page = chromium.new_page()
    page.goto(f"{address}/?user=guest")
    page.wait_for_selector(".slide[data-item]")
    assert time.monotonic() - turned_away[0] > 1, "not before retry-after"
    assert page.locator("text=The feed did not come").count() == 0
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_control_has_a_name_and_the_keyboard_reaches_it(open_page, scheme):
    page = open_page("guest", size=(1440, 900), color_scheme=scheme)
    page.wait_for_selector("#less")
    assert page.evaluate(FLAWS) == []
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.dataset.act ?? document.activeElement.id")
        )
    wanted = {
        "user",
        "stranger",
        "sound",
        "follow",
        "like",
        "skip",
        "share",
        "why",
        "less",
        "block",
    }
    assert wanted <= reached


def test_reduced_motion_waits_for_a_wish(open_page):
    page = open_page("guest", reduced_motion="reduce")
    page.wait_for_selector(".slide[data-current].is-paused")
    page.keyboard.press(" ")
    playing(page)


def test_a_catalogue_without_files_is_cards(chromium, world):
    engine = Engine(world[0], store=Store())
    with running(engine) as address:
        page = chromium.new_page()
        page.goto(f"{address}/?user=fan-of-cat")
        page.wait_for_selector(".slide[data-current] .still:not([hidden])")
        seen = {page.evaluate(AT), swipe(page), swipe(page)}
        page.keyboard.press("l")
        eventually(lambda: engine.store.events("fan-of-cat"))
        page.close()
    engine.store.close()
    assert len(seen) == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "size"), [("phone", (390, 844)), ("desktop", (1440, 900))])
def test_it_fits_the_screen(open_page, tmp_path, scheme, name, size):
    """Also takes the pictures; REELM_SCREENSHOTS names a folder to keep them in."""
    folder = Path(os.environ.get("REELM_SCREENSHOTS", tmp_path))
    page = open_page("fan-of-cat", size=size, color_scheme=scheme)
    playing(page, 1.2)
    swipe(page)
    playing(page, 1.2)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=folder / f"feed_{name}_{scheme}.png")
    if name == "phone":
        page.locator(".slide[data-current] .reason").click()
        page.wait_for_selector("#why.open")
        time.sleep(1)
        page.screenshot(path=folder / f"feed_why_{scheme}.png")
