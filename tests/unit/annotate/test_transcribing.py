"""Whisper from a local folder: the real loading code, a tiny model with random weights."""

import json

import numpy as np
import polars as pl
import pytest

import tiny_clips
import tiny_whisper
from reelm import files, look, provenance
from reelm.annotate import hearing, texts, transcribing
from reelm.annotate.hearing import RATE, Whisper
from reelm.annotate.transcribing import TranscribeConfig, transcribe
from reelm.backends.blocks.schema import faults
from reelm.data.tables import Catalog, read_notes
from reelm.errors import BackendError, BadData
from reelm.prompts.speech import Speech


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_whisper.save(tmp_path_factory.mktemp("whisper"))


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.normal(size=int(seconds * RATE))).astype(np.float32)


def test_what_is_heard_has_a_language_and_times_within_the_sound(model):
    (answer,) = Whisper(model).hear([noise(20)])
    told = json.loads(answer.text)
    assert not faults(told, Speech.schema())
    assert told["language"] in tiny_whisper.LANGUAGES and told["pieces"] and answer.tokens_out
    assert all(0 <= p["start_s"] <= p["end_s"] <= 20 for p in told["pieces"])
    assert told["text"] == " ".join(piece["text"] for piece in told["pieces"])
    (german,) = Whisper(model, language="de").hear([noise(20)])
    assert json.loads(german.text)["language"] == "de"


def test_improbable_words_in_a_pause_are_not_believed(model):
    (answer,) = Whisper(model, no_speech=0.0).hear([noise(8)])
    assert json.loads(answer.text) == {"language": "none", "text": "", "pieces": []}


def test_a_folder_without_a_model_is_said(tmp_path):
    with pytest.raises(BackendError, match="no checkpoint here"):
        hearing.identity(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BackendError, match="not a Whisper checkpoint"):
        Whisper(tmp_path)


@pytest.fixture
def catalog(tmp_path) -> Catalog:
    """Three clips, of which the last is text."""
    paths = tiny_clips.write(tmp_path / "clips", 3)
    paths[2].write_text("no video")
    return tiny_clips.catalog(tmp_path, paths)


class Ears:
    """In place of the model: says how long it listened."""

    heard = 0

    def __init__(self, *_):
        pass

    def hear(self, waves):
        Ears.heard += len(waves)
        return [
            hearing.Answer(hearing.spoken("en", f"{len(w) / RATE:.0f} s </speech>", ()), 0, 1, 0.1)
            for w in waves
        ]


def test_speech_becomes_notes_that_other_questions_are_shown(catalog, model, tmp_path, monkeypatch):
    monkeypatch.setattr(transcribing, "Whisper", Ears)
    monkeypatch.setattr(transcribing, "SILENCE", -1.0)  # rendered clips may be silent
    config = TranscribeConfig(model=str(model), longest_s=2)
    folder = transcribe(catalog, config, tmp_path)
    notes = read_notes(folder)
    assert notes["video_id"].to_list() == ["v000", "v001", "v002"]
    assert notes["error_kind"].to_list() == [None, None, "media"]
    assert [json.loads(a)["text"] for a in notes["answer"].drop_nulls()] == ["2 s </speech>"] * 2
    assert files.manifest(folder)["inputs"]["backend"]["backend"] == "whisper"
    shown = texts.blocks(catalog, ("speech",), 100, tmp_path)
    assert shown == dict.fromkeys(
        ["v000", "v001"], f"{texts.BEFORE}<speech>\n2 s ‹/speech›\n</speech>\n"
    )
    before = Ears.heard
    fewer = Catalog(catalog.folder, catalog.videos.head(1), pl.DataFrame())
    assert transcribe(catalog, config, tmp_path) == folder
    assert transcribe(fewer, config, tmp_path) != folder and Ears.heard == before
    page = look.look(catalog, folder, tmp_path / "look.html").read_text(encoding="utf-8")
    assert "2 s &lt;/speech&gt;" in page and "</speech>" not in page


def test_silence_is_not_listened_to(catalog, model, tmp_path, monkeypatch):
    monkeypatch.setattr(transcribing, "Whisper", Ears)
    monkeypatch.setattr(transcribing, "track", silent)
    before = Ears.heard
    notes = read_notes(transcribe(catalog, TranscribeConfig(model=str(model)), tmp_path))
    assert {json.loads(a)["language"] for a in notes["answer"]} == {"none"}
    assert Ears.heard == before


def silent(_):
    return np.zeros(RATE, np.float32)


def test_no_pictures_are_made_up_for_what_was_heard(model, catalog, tmp_path):
    folder = transcribe(catalog, TranscribeConfig(model=str(model), seconds=120), tmp_path / "work")
    first = read_notes(folder)["video_id"][0]
    assert provenance.provenance(folder, first)["pictures"] == []
    with pytest.raises(BadData, match="without pictures"):
        provenance.seen_one(folder, first, catalog)
