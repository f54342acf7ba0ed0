import html
import json
import re

import pytest
from fastapi.testclient import TestClient

import tiny_clips
from reelm.annotate import AnnotateConfig, annotate
from reelm.backends.fake import Fake
from reelm.correct import correct
from reelm.data.tables import read_notes
from reelm.editing import MOST_BYTES, create_editor
from reelm.errors import ConfigError
from reelm.look import Gallery, look
from reelm.prompts.attributes import Attributes

EVIL = '"><script>alert(1)</script>'


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return tiny_clips.catalog(folder, tiny_clips.write(folder, 2))


@pytest.fixture
def notes(catalog, tmp_path):
    return annotate(catalog, Fake(), Attributes, AnnotateConfig(seconds=120), tmp_path)


@pytest.fixture
def page(catalog, notes, tmp_path):
    """A client at the page."""
    app = create_editor(Gallery(catalog, notes, tmp_path), "secret")
    with TestClient(app, base_url="http://127.0.0.1", follow_redirects=False) as client:
        yield client


def colour(notes):
    return json.loads(read_notes(notes)["answer"][0])["colour"]


def send(page, **values):
    form = {"token": "secret", "video": "v000", "version": "model", "author": "ann"}
    return page.post("/correct", data=form | values)


def test_a_form_per_note_shows_what_is_said_today(page, notes):
    text = page.get("/").text
    assert text.count('<form method="post"') == 2 and text.count('value="secret"') == 2
    assert f'name="field.colour" value="{colour(notes)}"' in text
    assert "<script" not in text


def test_a_correction_is_kept_and_shown_with_author_and_history(page, notes, catalog, tmp_path):
    before = colour(notes)
    said = send(page, **{"field.colour": "red", "author": "ann b", "why": "seen"})
    assert said.status_code == 303 and said.headers["location"] == "/?author=ann%20b#v000"
    assert colour(notes) == "red"
    static = look(catalog, notes, tmp_path / "look.html").read_text()
    for text in (page.get("/", params={"author": "ann b"}).text, static):
        assert re.search(r"<b>colour</b> red <i>ann b, \d{4}-\d\d-\d\d \d\d:\d\d UTC</i>", text)
        assert "2 versions" in text and f"colour = {before}" in text and "(seen)" in text
    assert "<form" not in static and "secret" not in static
    assert 'name="author" value="ann b"' in page.get("/", params={"author": "ann b"}).text


def test_without_the_token_of_the_page_nothing_is_kept(page, notes):
    before = colour(notes)
    for token in ("", "secre", "sécret"):
        assert send(page, **{"field.colour": "red", "token": token}).status_code == 403
    assert page.post("/correct", content=b"\xff").status_code == 403
    big = send(page, **{"field.colour": "x" * MOST_BYTES})
    assert big.status_code == 403 and colour(notes) == before


def test_other_names_of_this_machine_are_refused(page):
    assert page.get("/", headers={"host": "evil.example"}).status_code == 400


def test_what_cannot_be_kept_is_told_and_stays_in_the_form(page, notes):
    said = send(page, **{"field.colour": "x" * 41})
    assert said.status_code == 400 and "longer than 40" in said.text and "x" * 41 in said.text
    correct(notes, "v000", {"colour": "green"}, "bob")
    said = send(page, **{"field.colour": "red"})
    assert said.status_code == 409 and "bob corrected this note" in said.text
    assert colour(notes) == "green"


def test_what_people_write_is_only_text(page):
    send(page, **{"field.colour": EVIL, "author": EVIL, "why": EVIL})
    text = page.get("/", params={"author": EVIL}).text
    assert "<script" not in text and html.escape(EVIL).replace("&quot;", "&#34;") in text
    policy = page.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy


def test_without_notes_there_is_nothing_to_correct(catalog, tmp_path):
    with pytest.raises(ConfigError, match="reelm annotate"):
        create_editor(Gallery(catalog, None, tmp_path))
