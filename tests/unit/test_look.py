import html
import re

import polars as pl
import pytest

import tiny_clips
from reelm.annotate import AnnotateConfig, annotate
from reelm.backends.base import Failure
from reelm.backends.fake import Fake
from reelm.data.tables import Catalog
from reelm.look import look
from reelm.media.views import View
from reelm.prompts.attributes import Attributes

TITLE = '<script>alert("1")</script> & wait'


class Watching(Fake):
    """Is shown sound and motion; refuses one video."""

    def __init__(self):
        super().__init__()
        self.view = View(moments=3, shown=(0, 2), square=32, sound=True, motion=True)

    def answer(self, requests):
        said = super().answer(requests)
        return [
            Failure("refused", "<i>no</i>") if request.key == "v001" else one
            for request, one in zip(requests, said, strict=True)
        ]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalog")
    made = tiny_clips.catalog(folder, tiny_clips.write(folder, 4))
    pl.DataFrame(
        {
            "table": ["videos"],
            "id": ["<u>bad</u>.mp4"],
            "place": ["bad.mp4"],
            "reason": ["no video stream"],
            "detail": [None],
        }
    ).write_parquet(folder / "quarantine.parquet")
    return Catalog(folder, made.videos.with_columns(title=pl.lit(TITLE)), made.events)


@pytest.fixture(scope="module")
def page(catalog, tmp_path_factory) -> str:
    work = tmp_path_factory.mktemp("work")
    notes = annotate(catalog, Watching(), Attributes, AnnotateConfig(seconds=120), work)
    return look(catalog, notes, work / "look.html").read_text()


def test_the_page_shows_what_was_seen_and_said(page):
    assert len(re.findall('<img src="data:image/webp;base64,', page)) == 4 * 4
    assert re.findall("<figcaption>(.*?)</figcaption>", page)[:4] == [
        "Frame 1", "Frame 2", "Sound", "Motion 1",
    ]  # fmt: skip
    assert page.count('class="said"') == 3 and "no video stream" in page
    assert page.count("refused") == 2 and "model" in page and "fake" in page


def test_titles_of_strangers_are_only_text(page):
    assert page.count(html.escape(TITLE, quote=True).replace("&quot;", "&#34;")) == 4
    assert not re.search("<script|<i>no|<u>|<b>clip", page)
    assert "default-src 'none'" in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_without_notes_it_shows_everything_of_some(catalog, tmp_path):
    page = look(catalog, None, tmp_path / "look.html", limit=2).read_text()
    assert page.count("<article ") == 2 and "2 of 4 videos" in page
    assert page.count("<figcaption>Frame") == 12 and page.count("<figcaption>Motion") == 4
    assert 'class="said"' not in page
