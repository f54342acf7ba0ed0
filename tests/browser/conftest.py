"""A rendered world served on loopback, and a headless Chromium that looks at it."""

import random
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from playwright.sync_api import sync_playwright

from reelm.data.dataset import Dataset
from reelm.data.tables import Catalog, Features
from reelm.models.content import Content
from reelm.runs import Run
from reelm.serve.engine import Engine
from reelm.serve.notes import Notes
from reelm.serve.server import running
from reelm.serve.store import Store
from reelm.world.mp4 import write_mp4
from reelm.world.titles import make_uploads
from reelm.world.vocabulary import ATTRIBUTES

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
RENDERED = 16
"""Files; videos share them in turn, which keeps the rendering short."""
VIDEOS = 120
LOGGED = 100
"""Videos from this one on are not in the log."""


def attributes(clip) -> torch.Tensor:
    """Which values a clip has, of all values of all attributes."""
    values = clip.attributes()
    bits = [value == values[name] for name in ATTRIBUTES for value in ATTRIBUTES[name]]
    return torch.tensor(bits, dtype=torch.float32)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Catalogue, notes and run of a world in which user `fan-of-X` watched the clips with X."""
    folder = tmp_path_factory.mktemp("world")
    uploads = make_uploads(RENDERED, seed=5)
    files = [
        write_mp4(folder / f"{n}.mp4", upload.clip, 180, 320, 12)
        for n, upload in enumerate(uploads)
    ]
    rows, answers = [], {}
    for number in range(VIDEOS):
        upload = uploads[number % RENDERED]
        answers[f"v{number}"] = upload.clip.attributes()
        rows.append(
            {
                "video_id": f"v{number}",
                "path": str(files[number % RENDERED]),
                "title": f"{upload.title} {number}",
                "hashtags": " ".join(upload.hashtags),
                "creator": f"c{upload.creator:03d}",
                "uploaded_at": 60.0 * number,
                "duration_s": 4.0,
                "video_codec": "h264",
            }
        )
    events = watched(uploads)
    vectors = torch.stack([attributes(uploads[n % RENDERED].clip) for n in range(VIDEOS)]).numpy()
    feature = Features("text", tuple(f"v{n}" for n in range(VIDEOS)), vectors.astype(np.float32))
    data = Dataset.build(events, [feature], videos=pl.DataFrame(rows))
    run = Run.of("content", Content(Content.Config(), data), data)
    notes = Notes(answers, [{"prompt": "attributes", "model": "the world's own truth"}])
    return run, Catalog(folder, pl.DataFrame(rows), events), notes


def watched(uploads) -> pl.DataFrame:
    rng = random.Random(3)
    rows = []
    for subject in ATTRIBUTES["subject"]:
        mine = [n for n in range(LOGGED) if uploads[n % RENDERED].clip.subject == subject]
        for step, number in enumerate(rng.sample(mine, min(6, len(mine)))):
            rows.append((f"fan-of-{subject}", f"v{number}", 5000.0 + step, "watch", 0.95))
    for number in range(LOGGED):
        for fan in range(rng.randrange(1, 9)):
            rows.append((f"crowd{fan}", f"v{number}", 6000.0 + number, "watch", 0.8))
    names = ["user_id", "video_id", "timestamp", "event", "value"]
    return pl.DataFrame(rows, schema=names, orient="row")


@pytest.fixture
def engine(world):
    opened = Engine(*world, Store())
    yield opened
    opened.store.close()


@pytest.fixture
def address(engine):
    with running(engine) as address:
        yield address


@pytest.fixture(scope="session")
def chromium():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on this machine; install it with: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, address):
    """A function that opens the feed and fails the test on any error or foreign request."""
    contexts, problems = [], []

    def opened(user="guest", size=(390, 844), before=None, **more):
        width, height = size
        context = chromium.new_context(viewport={"width": width, "height": height}, **more)
        contexts.append(context)
        page = context.new_page()
        watch_for_flaws(page, address, problems)
        if before:
            before(page)
        page.goto(f"{address}/?user={user}")
        page.wait_for_selector(".slide[data-item]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not problems


def watch_for_flaws(page, address, problems):
    """Note every error on a page and every request that goes elsewhere."""
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("console", lambda line: problems.append(line.text) if _is_bad(line) else None)
    page.on("request", lambda r: None if r.url.startswith(address) else problems.append(r.url))


def _is_bad(line) -> bool:
    """Errors on the console, save those of a test that takes the network away."""
    return line.type == "error" and "ERR_INTERNET_DISCONNECTED" not in line.text
