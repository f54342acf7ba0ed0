"""The operator's page: what it says is what the service answers."""

import os
import time
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from reelm.serve.engine import Engine
from reelm.serve.keys import Keys
from reelm.serve.records import StoredEvent
from reelm.serve.server import Access, running
from reelm.serve.store import Store

from .conftest import watch_for_flaws
from .steps import FLAWS, eventually

pytestmark = pytest.mark.browser


@pytest.fixture
def look(chromium, address):
    """Open the page and keep the last answer that it drew."""
    contexts, problems, answers = [], [], []

    def opened(size=(1280, 900), **more):
        width, height = size
        context = chromium.new_context(viewport={"width": width, "height": height}, **more)
        contexts.append(context)
        page = context.new_page()
        watch_for_flaws(page, address, problems)
        page.on("response", lambda r: answers.append(r) if r.url.endswith("overview") else None)
        page.goto(f"{address}/operator")
        page.wait_for_selector("body[data-now]")
        return page

    yield opened, answers
    for context in contexts:
        context.close()
    assert not problems


def drawn(page, answers):
    """The answer that stands on the page."""
    now = float(page.evaluate("document.body.dataset.now"))
    (answer,) = [a for a in (r.json() for r in answers) if a["now"] == now]
    return answer


def used(page, address):
    """Some traffic, as a page would make it."""
    for user in ("fan-of-cat", "fan-of-car", "guest"):
        for _ in range(3):
            page.request.get(f"{address}/v1/feed/{user}?n=8")
    events = [
        {"event_id": f"e{n}", "type": kind, "user_id": "guest", "item_id": f"v{n}"}
        for n, kind in enumerate(("like", "like", "share"))
    ]
    page.request.post(f"{address}/v1/events", data={"events": events})


def percent(share):
    """As a browser rounds: halves go up, where Python takes them to the even side."""
    places = Decimal("0.1") if share < 0.0995 else Decimal(1)
    return f"{Decimal(100 * share).quantize(places, ROUND_HALF_UP)} %"


def test_it_renders_without_data(look):
    page = look[0]()
    assert page.inner_text("#c-requests").startswith("No requests yet")
    assert page.inner_text("#c-topics") == "No feed was shown in the last hour."
    assert page.inner_text("#t-fallback") == "–"
    assert "NaN" not in page.inner_text("body") and "undefined" not in page.inner_text("body")


def test_its_numbers_are_those_of_the_answer(look, address):
    page = look[0]()
    used(page, address)
    page.wait_for_selector("#c-topics table")
    now = drawn(page, look[1])
    assert page.inner_text("#t-feeds") == str(sum(m["feeds"] for m in now["minutes"])) == "9"
    assert page.inner_text("#t-rate") == f"{now['requests_per_s']:.1f}"
    assert page.inner_text("#t-fallback") == percent(now["fallback_share"])
    assert page.inner_text("#t-cold") == percent(now["cold_share"])
    p50 = now["latency_ms"]["feed"]["p50"]
    assert page.inner_text("#t-latency") == f"{float(f'{p50:.3g}'):g} ms"
    rows = page.eval_on_selector_all(
        "#c-topics tr", "all => all.map(r => [r.cells[0].textContent, r.cells[2].textContent])"
    )
    assert rows == [[t["name"], percent(t["share"])] for t in now["topics"]]
    events = page.eval_on_selector_all(
        "#c-events tr", "all => all.map(r => [r.cells[0].textContent, r.cells[2].textContent])"
    )
    assert events == [[kind, str(n)] for kind, n in now["events"].items()]
    assert now["events"] == {"like": 2, "share": 1}
    bars = page.locator("#c-requests rect title").all_text_contents()
    told = [m["requests"] for m in now["minutes"] if m["requests"]]
    assert [int(bar.rpartition(": ")[2]) for bar in bars] == told
    names, counts = (page.locator(f"#s-facts {tag}").all_inner_texts() for tag in ("dt", "dd"))
    store = dict(zip(names, counts, strict=True))
    assert store == {table: str(n) for table, n in now["store"].items()}


def test_it_asks_again_and_says_when_the_service_is_away(look, address):
    page = look[0]()
    before = page.evaluate("document.body.dataset.now")
    page.wait_for_function("before => document.body.dataset.now !== before", arg=before)
    page.context.set_offline(True)
    page.wait_for_selector("#status.wrong", timeout=15_000)
    page.context.set_offline(False)
    page.wait_for_selector("#status:not(.wrong)", timeout=15_000)


def test_text_of_strangers_stays_text(chromium, world):
    run, catalog, notes = world
    hostile = "<img src=x onerror=alert(1)>"
    answers = {video: dict(said) | {"subject": hostile} for video, said in notes.answers.items()}
    engine = Engine(run, catalog, type(notes)(answers, notes.provenance), Store())
    with running(engine) as address:
        page = chromium.new_page()
        page.request.get(f"{address}/v1/feed/guest?n=5")
        page.goto(f"{address}/operator")
        page.wait_for_selector("#c-topics table")
        assert page.inner_text("#c-topics th") == hostile
        assert page.locator("main img").count() == 0
        page.close()
    engine.store.close()


def test_it_asks_for_an_admins_key(chromium, engine, tmp_path):
    keys = Keys(tmp_path / "keys.json")
    low, high = keys.add("app", ["feed", "write"]), keys.add("me", ["admin"])
    with running(engine, access=Access(keys)) as address:
        page = chromium.new_page()
        page.goto(f"{address}/operator")
        page.wait_for_selector("#keys[open]")
        page.fill("#key", low)
        page.keyboard.press("Enter")
        page.wait_for_function(
            "() => document.getElementById('keys-wrong').textContent.includes('admin')"
        )
        page.fill("#key", high)
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-now]")
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "size"), [("phone", (390, 844)), ("desktop", (1280, 900))])
def test_it_fits_the_screen_and_is_legible(look, address, engine, tmp_path, scheme, name, size):
    page = look[0](size, color_scheme=scheme)
    used(page, address)
    engine.store.add_events([StoredEvent("x", "guest", "v1", "like", time.time())])
    page.wait_for_selector("#c-topics table")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(FLAWS) == []
    folder = Path(os.environ.get("REELM_SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / f"operator_{name}_{scheme}.png", full_page=True)
    page.evaluate("scrollTo(0, 1e6)")
    eventually(lambda: name == "desktop" or page.evaluate("scrollY") > 0)


def test_runs_are_changed_by_buttons_and_a_refusal_is_shown(chromium, address):
    page, sent = chromium.new_page(), []

    def more(route):
        now = route.fetch().json()
        now["run"] |= {"others": ["run-b", "run-c"], "before": "run-a"}
        route.fulfill(json=now)

    def taken(route):
        sent.append(route.request.post_data_json)
        route.fulfill(json={"run": "run-c", "videos": 1})

    page.route("**/v1/admin/overview", more)
    page.route("**/v1/admin/run", taken)
    page.goto(f"{address}/operator")
    page.wait_for_selector("body[data-now]")
    page.select_option("#runs", "run-c")
    page.get_by_role("button", name="Serve", exact=True).click()
    page.wait_for_selector("#r-said:text('Now serving run-c.')")
    assert sent == [{"run": "run-c", "arm": "a"}]
    page.get_by_role("button", name="Roll back to run-a").click()
    page.wait_for_selector("#r-said.wrong")  # this service has one engine that stays
    assert "no earlier run" in page.inner_text("#r-said")
    page.close()
