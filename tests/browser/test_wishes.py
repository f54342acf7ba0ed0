"""Follow, block and less like this, and all of it taken back; the page where keys are asked for."""

import pytest

from reelm.serve.keys import Keys
from reelm.serve.server import Access, running

from .steps import AT, eventually, playing, swipe

pytestmark = pytest.mark.browser
BY = "all => all.filter(s => !s.hidden).map(s => s.querySelector('.by span').textContent)"


def kinds(engine, user="guest"):
    return [e.type for e in engine.store.events(user) if e.type != "watch"]


def creator(engine, video):
    return engine.videos.fact(video, "creator")


def test_a_blocked_creator_is_gone_from_what_is_loaded_and_what_comes(open_page, engine):
    page = open_page("guest", reduced_motion="reduce")
    page.wait_for_selector(".slide[data-current]")
    first = page.evaluate(AT)
    blocked = creator(engine, first)
    page.keyboard.press("b")
    page.wait_for_function(f"before => {AT} !== before", arg=first)
    eventually(lambda: kinds(engine) == ["block"])
    (event,) = [e for e in engine.store.events("guest") if e.type == "block"]
    assert event.creator == blocked
    seen = [swipe(page) for _ in range(16)]
    assert blocked not in {creator(engine, video) for video in seen}
    assert len(set(seen)) == 16
    below = page.eval_on_selector_all(".slide[data-item]:not([hidden])", BY)[1:]
    assert f"@{blocked}" not in below


def test_a_block_is_taken_back_by_undo(open_page, engine):
    page = open_page("guest")
    page.wait_for_selector(".slide[data-current]")
    blocked = creator(engine, page.evaluate(AT))
    page.keyboard.press("b")
    page.get_by_role("button", name="Undo").click()
    eventually(lambda: kinds(engine) == ["block", "unblock"])
    assert blocked not in engine.past("guest").blocked_creators
    assert page.locator(".slide[hidden]").count() == 0
    assert page.locator(".slide.blocked").count() == 0


def test_less_like_this_is_told_and_taken_back(open_page, engine):
    page = open_page("guest", size=(1440, 900))
    page.wait_for_selector(".slide[data-current]")
    item = page.evaluate(AT)
    page.get_by_role("button", name="Less like this").click()
    eventually(lambda: engine.past("guest").unwanted)
    assert engine.past("guest").unwanted == (engine.videos.row[item],)
    page.wait_for_function(f"before => {AT} !== before", arg=item)
    page.get_by_role("button", name="Undo", exact=True).click()
    eventually(lambda: not engine.past("guest").unwanted)
    assert page.inner_text("#less") == "Less like this"


def test_following_shows_on_all_clips_of_the_creator(open_page, engine):
    page = open_page("guest")
    page.wait_for_selector(".slide[data-current]")
    followed = creator(engine, page.evaluate(AT))
    page.locator(".slide[data-current] [data-act=follow]").click()
    eventually(lambda: engine.past("guest").followed == {followed})
    assert page.inner_text(".slide[data-current] [data-act=follow]") == "Following"
    page.keyboard.press("f")
    eventually(lambda: not engine.past("guest").followed)
    assert kinds(engine) == ["follow", "unfollow"]


@pytest.fixture
def locked(engine, tmp_path):
    """A service that asks for keys, and its keys."""
    keys = Keys(tmp_path / "keys.json")
    keys.add("somebody else", ["admin"])
    with running(engine, access=Access(keys)) as address:
        yield address, keys


def test_the_page_asks_for_a_key_once_and_media_plays(chromium, locked, engine):
    address, keys = locked
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(f"{address}/?user=guest")
    page.wait_for_selector("#keys[open]")
    assert page.evaluate("document.activeElement.id") == "key"
    for typed, said in (
        ("nonsense", "does not know"), (keys.add("r", ["feed"]), "does not open: write"),
    ):  # fmt: skip
        page.fill("#key", typed)
        page.keyboard.press("Enter")
        page.wait_for_function(
            "said => document.getElementById('keys-wrong').textContent.includes(said)", arg=said
        )
    good = keys.add("page", ["feed", "write"])
    page.fill("#key", good)
    page.get_by_role("button", name="Open").click()
    playing(page, 0.8)
    swipe(page)
    eventually(lambda: engine.store.events("guest"))
    assert good not in page.evaluate("document.cookie + JSON.stringify(localStorage)")
    page.reload()
    playing(page, 0.3)
    assert not page.locator("#keys[open]").count(), "the tab remembers the key"
    keys.revoke(good.split("_")[1])
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    page.wait_for_selector("#keys[open]")
    context.close()
