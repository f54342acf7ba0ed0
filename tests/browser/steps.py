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


FLAWS = """() => {
    const seen = (one) => one.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const mixed = (...colours) => {
        canvas.clearRect(0, 0, 1, 1);
        for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (rgb) => rgb.map((c) => c / 255)
        .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((all, c, n) => all + c * [0.2126, 0.7152, 0.0722][n], 0);
    const under = (one) =>
        one ? [...under(one.parentElement), getComputedStyle(one).backgroundColor] : [];
    const found = [];
    for (const one of document.querySelectorAll("button, input, select, [role=img]")) {
        const name = one.getAttribute("aria-label") || one.textContent.trim() ||
            [...(one.labels ?? [])].map((l) => l.textContent).join("");
        if (seen(one) && !one.closest("[aria-hidden=true]") && !name) found.push(one.outerHTML);
    }
    for (const one of document.querySelectorAll("main *, aside *, dialog *")) {
        const words = [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!words || !seen(one) || one.closest(".stage, svg")) continue;
        const style = getComputedStyle(one), ground = under(one);
        const [a, b] = [light(mixed(...ground)), light(mixed(...ground, style.color))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const large = parseFloat(style.fontSize) >= 24;
        if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)}: ${one.textContent}`);
    }
    return found;
}"""
"""Controls without a name, and words whose contrast is below 4.5 (3 for large ones; WCAG 2.1 AA).
Words over clips are left out: what is behind them moves."""


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
