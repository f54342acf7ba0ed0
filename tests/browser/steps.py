"""What a person does on the page, and how a test waits for what comes of it."""

import time

PLAYING = """() => {
    const video = document.querySelector('.slide[data-current] video');
    return video && !video.paused && video.currentTime;
}"""
SETTLED = (
    "() => Math.abs(document.querySelector('.slide[data-current]').getBoundingClientRect().top -"
    " document.querySelector('.slide[data-current]').parentElement.getBoundingClientRect().top) < 2"
)
"""The current slide has come to rest where the feed begins."""
AT = "document.querySelector('.slide[data-current]')?.dataset.item"

SOURCES = "all => all.map(reason => reason.dataset.source)"
FOCUSED = "document.activeElement.dataset.act ?? document.activeElement.id"


def playing(page, at_least=0.3):
    """Wait until the current clip has played on to that second."""
    page.wait_for_function(f"() => ({PLAYING})() > {at_least}", timeout=20_000)


def swipe(page, key="ArrowDown"):
    """One swipe by key; the id of the slide that is current afterwards."""
    before = page.evaluate(AT)
    page.keyboard.press(key)
    page.wait_for_function(f"before => {AT} !== before", arg=before, timeout=20_000)
    page.wait_for_function(SETTLED, timeout=20_000)
    return page.evaluate(AT)


def eventually(claim, seconds=60.0):
    """Wait for what another process will make true."""
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.05)
