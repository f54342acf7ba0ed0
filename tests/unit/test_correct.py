import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

import tiny_clips
from reelm import files, provenance
from reelm.annotate import AnnotateConfig, annotate
from reelm.backends.base import Failure
from reelm.backends.fake import Fake
from reelm.correct import correct, export
from reelm.data.corrections import Corrections
from reelm.data.tables import Catalog, read_notes
from reelm.encode import EncodeConfig, encode
from reelm.encoders.hashing import Hashing
from reelm.errors import BadData, ConfigError, StaleFolder
from reelm.media.views import View
from reelm.prompts.attributes import Attributes


class Watching(Fake):
    """Is shown sound and motion; refuses one video."""

    def __init__(self, seed=0):
        super().__init__()
        self.config = self.config.model_copy(update={"seed": seed})
        self.view = View(moments=3, shown=(0, 2), square=32, sound=True, motion=True)
        self.shown = {}

    def answer(self, requests):
        self.shown |= {request.key: request for request in requests}
        said = super().answer(requests)
        return [
            Failure("refused", "no") if request.key == "v001" else one
            for request, one in zip(requests, said, strict=True)
        ]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    made = tiny_clips.catalog(folder, tiny_clips.write(folder, 3))
    made.videos.write_parquet(folder / "videos.parquet")
    made.videos.head(0).with_columns(user_id="video_id", event="video_id").write_parquet(
        folder / "events.parquet"
    )
    files.finish(folder, stage="ingest")
    return made


@pytest.fixture
def asked(catalog, tmp_path):
    """A notes folder, and the backend that was asked."""
    backend = Watching()
    return annotate(catalog, backend, Attributes, AnnotateConfig(seconds=120), tmp_path), backend


def note(folder, video):
    table = read_notes(folder)
    return json.loads(table["answer"][table["video_id"].to_list().index(video)])


def test_a_correction_is_checked_kept_and_survives_another_model(asked, catalog, tmp_path):
    folder, _ = asked
    made = correct(folder, "v000", {"colour": " red "}, "ann", "I see it")
    assert (made.fields, made.author, made.why) == ({"colour": "red"}, "ann", "I see it")
    assert note(folder, "v000")["colour"] == "red" and set(made.answer) == set(
        Attributes.model_fields
    )
    again = annotate(catalog, Watching(seed=1), Attributes, AnnotateConfig(seconds=120), tmp_path)
    assert again != folder and note(again, "v000")["colour"] == "red"
    assert note(again, "v000")["scene"] != note(folder, "v000")["scene"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"color": "red"}, r"no field 'color'\. Did you mean 'colour'"),
        ({"colour": "x" * 41}, "longer than 40"),
        ({}, "nothing was changed"),
    ],
)
def test_what_the_question_does_not_allow_is_refused(asked, values, said):
    with pytest.raises(ConfigError, match=said):
        correct(asked[0], "v000", values, "ann")
    assert Corrections.of(asked[0]).all() == []


def test_an_author_and_a_note_are_needed(asked):
    with pytest.raises(ConfigError, match="--author"):
        correct(asked[0], "v000", {"colour": "red"}, " ")
    with pytest.raises(BadData, match=r"no note about 'v00'\. Did you mean 'v00"):
        correct(asked[0], "v00", {"colour": "red"}, "ann")


def test_a_failed_note_must_be_written_whole(asked):
    with pytest.raises(ConfigError, match="subject is missing"):
        correct(asked[0], "v001", {"colour": "red"}, "ann")
    correct(asked[0], "v001", dict.fromkeys(Attributes.model_fields, "none"), "ann")
    assert note(asked[0], "v001")["mood"] == "none"
    correct(asked[0], "v001", {"mood": "glad"}, "bob")
    assert note(asked[0], "v001")["mood"] == "glad"


def test_two_people_do_not_overwrite_each_other_unseen(asked):
    correct(asked[0], "v000", {"colour": "red"}, "ann", expected="model")
    with pytest.raises(StaleFolder):
        correct(asked[0], "v000", {"colour": "green"}, "bob", expected="model")


def test_corrected_notes_are_encoded_anew(asked, catalog, tmp_path):
    folder, _ = asked
    config = EncodeConfig(input="notes")
    before = encode(catalog, Hashing(), config, tmp_path, folder)
    assert files.manifest(before)["inputs"]["corrections"] is None
    correct(folder, "v000", {"colour": "red"}, "ann")
    after = encode(catalog, Hashing(), config, tmp_path, folder)
    assert after != before and files.manifest(after)["inputs"]["corrections"]
    assert encode(catalog, Hashing(), config, tmp_path, folder) == after


def test_provenance_tells_all_that_was_shown(asked, catalog, tmp_path):
    folder, backend = asked
    correct(folder, "v000", {"colour": "red"}, "ann", "I see it")
    told = provenance.provenance(folder, "v000")
    request = backend.shown["v000"]
    assert told["question"] == request.parts[-1] and told["schema"] == request.schema
    assert [p["name"] for p in told["pictures"]] == [p.name for p in request.pictures]
    assert [p.get("at") for p in told["pictures"][:2]] == [[0.1667], [0.8333]]
    assert told["sha256"] == catalog.videos["sha256"][0] and told["max_tokens"] == 200
    assert told["said"]["colour"] != "red" and told["note"]["colour"] == "red"
    (one,) = told["corrections"]
    assert (one["author"], one["why"], one["replaces"]) == ("ann", "I see it", "model")
    text = provenance.as_text(told)
    assert "decoding" not in text and "weights" not in text  # the fake has none
    assert "question: These pictures" in text and "I see it" in text
    failed = provenance.provenance(folder, "v001")
    assert failed["failure"] == {"kind": "refused", "text": "no"} and failed["note"] is None
    json.dumps(told)


def test_the_very_pictures_can_be_had_again(asked, catalog, tmp_path):
    folder, backend = asked
    shown = provenance.seen_one(folder, "v000")
    for one, other in zip(shown, backend.shown["v000"].pictures, strict=True):
        assert one.name == other.name and np.array_equal(one.pixels, other.pixels)
    paths = provenance.save(shown, tmp_path / "out")
    assert [path.name for path in paths][:3] == ["01-frame-1.png", "02-frame-2.png", "03-sound.png"]
    assert np.array_equal(np.asarray(Image.open(paths[0])), shown[0].pixels)


def test_pictures_of_a_content_that_is_gone_are_not_made_up(asked, catalog):
    other = Catalog(
        catalog.folder, catalog.videos.filter(pl.col("video_id") != "v000"), catalog.log
    )
    with pytest.raises(BadData, match=r"no usable file with the content.*--catalog"):
        provenance.seen_one(asked[0], "v000", other)


def test_ids_that_were_shown_are_told_of_users(tmp_path):
    folder = tmp_path / "notes" / "user_profile-aaa"
    folder.mkdir(parents=True)
    pl.DataFrame(
        {"video_id": ["u1"], "answer": ["{}"], "error_kind": [None], "shown": [["v1", "v2"]]}
    ).write_parquet(folder / "part-00000.parquet")
    files.finish(folder, stage="annotate")
    told = provenance.provenance(folder, "u1")
    assert told["shown"] == ["v1", "v2"] and told["pictures"] == []


def test_corrected_rows_become_tuning_data(asked, tmp_path):
    folder, backend = asked
    correct(folder, "v000", {"colour": "blue"}, "ann")
    correct(folder, "v000", {"colour": "red"}, "bob")
    made = export(tmp_path, tmp_path / "out" / "tuning.jsonl")
    (line,) = map(json.loads, made.path.read_text().splitlines())
    assert made.rows == 1 and not made.left_out and line["author"] == "bob"
    asking, answering = line["messages"]
    said = [p["text"] for p in asking["content"] if p["type"] == "text"]
    assert said == [part for part in backend.shown["v000"].parts if isinstance(part, str)]
    assert json.loads(answering["content"][0]["text"]) == note(folder, "v000")
    images = sum(p["type"] == "image" for p in asking["content"])
    assert images == len(line["images"]) == len(backend.shown["v000"].pictures)
    assert all((made.path.parent / path).is_file() for path in line["images"])


def test_an_export_without_corrections_says_what_to_do(tmp_path):
    with pytest.raises(BadData, match="reelm look --edit"):
        export(tmp_path, tmp_path / "tuning.jsonl")
