import json
import shutil

import numpy as np
import polars as pl
import pytest

import tiny_clips
from reelm import files, tallies
from reelm.annotate import AnnotateConfig, annotate
from reelm.backends.fake import Fake
from reelm.data.tables import Catalog, read_features, read_notes
from reelm.encode import EncodeConfig, encode, fielded, holds_values, summary
from reelm.encoders.hashing import Hashing
from reelm.encoders.signal import Signal
from reelm.encoders.values import Values
from reelm.errors import BadData, ConfigError, MissingInput
from reelm.prompts import PROMPTS, find
from reelm.prompts.attributes import Attributes


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Seven clips; v005 is a copy of v001 and v006 is not a video. Every fifth has no title."""
    folder = tmp_path_factory.mktemp("clips")
    paths = tiny_clips.write(folder, 5)
    paths += [folder / "v005.mp4", folder / "v006.mp4"]
    shutil.copy(paths[1], paths[5])
    paths[6].write_bytes(b"no video")
    return tiny_clips.catalog(folder, paths)


@pytest.fixture(scope="module")
def work(catalog, tmp_path_factory):
    """A work folder that holds notes."""
    work = tmp_path_factory.mktemp("work")
    annotate(catalog, Fake(), Attributes, AnnotateConfig(part=3), work)
    return work


@pytest.fixture(scope="module")
def notes(work):
    (folder,) = (work / "notes").iterdir()
    return folder


def failed(folder) -> dict[str, str]:
    table = pl.read_parquet(folder / "failed.parquet")
    return dict(zip(table["video_id"], table["reason"], strict=True))


def test_videos_become_rows_and_broken_ones_reasons(catalog, tmp_path):
    folder = encode(catalog, Signal(), EncodeConfig(part=3, batch=2, seconds=120), tmp_path)
    made = read_features(folder)
    assert sorted(made.ids) == [f"v{n:03d}" for n in range(6)]
    assert set(failed(folder)) == {"v006"} and failed(folder)["v006"]
    rows = dict(zip(made.ids, made.vectors, strict=True))
    assert np.array_equal(rows["v001"], rows["v005"])
    assert not np.array_equal(rows["v001"], rows["v002"])
    facts = files.manifest(folder)
    assert (facts["rows"], facts["failed"], facts["dim"]) == (7, 1, Signal().dim)
    assert encode(catalog, Signal(), EncodeConfig(part=3, seconds=120), tmp_path) == folder


def test_titles_are_read_with_their_hashtags(catalog, tmp_path):
    folder = encode(catalog, Hashing(), EncodeConfig(input="title", part=2), tmp_path)
    made = read_features(folder)
    assert set(failed(folder)) == {"v000", "v005"} and "no title" in failed(folder).values()
    said = Hashing().encode(["<b>clip</b> number 3 #cat #fyp"])[0]
    assert np.array_equal(made.vectors[made.ids.index("v003")], said)


def test_values_of_notes_have_a_column_each(catalog, work, notes):
    folder = encode(catalog, Values(), EncodeConfig(), work, notes)
    made = read_features(folder)
    assert files.manifest(folder)["settings"]["input"] == "values"
    rows = read_notes(notes).filter(pl.col("video_id") == "v002")
    said = Values().encode([tallies.line(json.loads(rows["answer"][0]))])[0]
    assert said.any() and np.array_equal(made.vectors[made.ids.index("v002")], said)
    with pytest.raises(MissingInput, match="notes"):
        encode(catalog, Values(), EncodeConfig(), work)


def test_fields_are_title_and_notes_behind_their_names(catalog, work, notes):
    folder = encode(catalog, Hashing(), EncodeConfig(input="fields"), work, notes)
    made = read_features(folder)
    answer = json.loads(read_notes(notes).filter(pl.col("video_id") == "v003")["answer"][0])
    told = "; ".join(f"{name}: {value}" for name, value in answer.items() if value != "none")
    text = f"title: <b>clip</b> number 3; hashtags: #cat #fyp; {told}"
    assert np.array_equal(made.vectors[made.ids.index("v003")], Hashing().encode([text])[0])
    assert fielded({"likes": ["a", "b"], "mood": "none", "pace": None}) == "likes: a, b"


def test_notes_are_read_as_sentences(catalog, work, notes):
    folder = encode(catalog, Hashing(), EncodeConfig(input="notes"), work, notes)
    made = read_features(folder)
    assert set(failed(folder)) == {"v006"}
    rows = read_notes(notes).filter(pl.col("video_id") == "v002")
    said = Hashing().encode([Attributes.as_text(json.loads(rows["answer"][0]))])[0]
    assert np.array_equal(made.vectors[made.ids.index("v002")], said)
    both = encode(catalog, Hashing(), EncodeConfig(input="title+notes"), work, notes)
    assert len(read_features(both).ids) == 7 and both != folder


def test_any_column_can_be_read(catalog, tmp_path):
    folder = encode(catalog, Hashing(), EncodeConfig(input="hashtags"), tmp_path)
    vectors = read_features(folder).vectors
    assert len(vectors) == 5 and np.ptp(vectors, axis=0).max() == 0


def test_what_is_missing_is_named(catalog, tmp_path):
    with pytest.raises(ConfigError, match=r"'titel' is not title.*hashtags"):
        encode(catalog, Hashing(), EncodeConfig(input="titel"), tmp_path)
    with pytest.raises(MissingInput, match="reelm annotate"):
        encode(catalog, Hashing(), EncodeConfig(input="notes"), tmp_path)


def test_other_texts_are_another_folder(catalog, tmp_path):
    other = Catalog(catalog.folder, catalog.videos.with_columns(title=pl.lit("x")), catalog.events)
    folders = {encode(c, Hashing(), EncodeConfig(), tmp_path) for c in (catalog, other)}
    assert len(folders) == 2


def test_videos_without_files_have_titles_all_the_same(tmp_path):
    videos = pl.DataFrame({"video_id": ["a", "b"], "title": ["x", "y"]})
    bare = Catalog(tmp_path, videos, pl.DataFrame())
    made = read_features(encode(bare, Hashing(), EncodeConfig(), tmp_path))
    assert made.ids == ("a", "b")
    with pytest.raises(BadData, match="none of its 2 videos has a file"):
        encode(bare, Signal(), EncodeConfig(), tmp_path)


def test_a_vector_that_is_not_finite_is_a_failure(catalog, tmp_path):
    class Broken(Hashing):
        def encode(self, inputs):
            vectors = super().encode(inputs)
            vectors[["2" in text for text in inputs], 3] = np.nan
            return vectors

    folder = encode(catalog, Broken(), EncodeConfig(), tmp_path)
    assert "not finite" in failed(folder)["v002"]
    assert "v002" not in read_features(folder).ids


def test_what_came_of_it_is_one_line(catalog, work, notes, tmp_path):
    assert summary(encode(catalog, Values(), EncodeConfig(), work, notes)) == (
        "7 rows, 1 failed (1 no answer in the notes)"
    )

    class Broken(Hashing):
        def encode(self, inputs):
            return (
                super().encode(inputs)
                * np.where(["3" in text for text in inputs], np.nan, 1)[:, None]
            )

    told = summary(encode(catalog, Broken(), EncodeConfig(), tmp_path))
    assert told == "7 rows, 3 failed (2 no title, 1 for other reasons)"
    whole = Catalog(catalog.folder, catalog.videos[1:4], catalog.events)
    assert summary(encode(whole, Hashing(), EncodeConfig(), tmp_path)) == "3 rows, 0 failed"


def test_where_nothing_is_encoded_no_folder_is_left(catalog, tmp_path):
    bare = Catalog(tmp_path / "c", pl.DataFrame({"video_id": ["a", "b"]}), pl.DataFrame())
    for _ in range(2):
        with pytest.raises(BadData, match=r"hashing: of 2 rows not one.*2 no title.*--input"):
            encode(bare, Hashing(), EncodeConfig(), tmp_path)
        assert list((tmp_path / "features").iterdir()) == []
    broken = Catalog(catalog.folder, catalog.videos[6:].with_columns(ok=True), catalog.events)
    with pytest.raises(BadData, match=r"signal: of 1 rows not one.*name another with --catalog"):
        encode(broken, Signal(), EncodeConfig(seconds=120), tmp_path)
    failed = tmp_path / "notes" / "caption-0"
    failed.mkdir(parents=True)
    columns = {"video_id": ["a", "b"], "answer": [None, None], "error_kind": ["timeout", "media"]}
    table = pl.DataFrame(columns, schema_overrides={"answer": pl.String})
    table.write_parquet(failed / "part-00000.parquet")
    files.finish(failed, stage="annotate", settings={"prompt": {"name": "caption", "version": 1}})
    for reads in ("notes", "title+notes"):
        with pytest.raises(BadData, match=r"caption-0: of its 2 rows not one .*1 timeout, 1 media"):
            encode(catalog, Hashing(), EncodeConfig(input=reads), tmp_path, failed)
    assert list((tmp_path / "features").iterdir()) == []


def test_videos_that_the_notes_are_silent_about_are_told(catalog, tmp_path):
    notes = tmp_path / "notes" / "caption-0"
    notes.mkdir(parents=True)
    ids = catalog.videos["video_id"].to_list()
    said = ['{"caption": "A cat."}', '{"caption": "A dog."}', None]
    columns = {"video_id": ids[:3], "answer": said, "error_kind": [None, None, "timeout"]}
    pl.DataFrame(columns).write_parquet(notes / "part-00000.parquet")
    files.finish(notes, stage="annotate", settings={"prompt": {"name": "caption", "version": 1}})
    alone = encode(catalog, Hashing(), EncodeConfig(input="notes"), tmp_path, notes)
    left = len(ids) - 2
    assert f"{left} failed ({left} no answer in the notes)" in summary(alone)
    both = encode(catalog, Hashing(), EncodeConfig(input="title+notes"), tmp_path, notes)
    assert files.manifest(both)["silent"] == left
    assert f"; the notes hold no answer about {left} of them" in summary(both)


def test_which_prompts_have_short_fields():
    """Of those that videos are watched with; notes by others are never taken unasked."""
    asked = [prompt for prompt in map(find, PROMPTS) if prompt.about == "video"]
    short = {prompt.name for prompt in asked if holds_values(prompt.schema())} - {"speech"}
    assert short == {"attributes", "details", "knowledge"}


def test_notes_about_users_give_rows_of_users(tmp_path):
    notes = tmp_path / "notes" / "user_profile-0"
    notes.mkdir(parents=True)
    said = ['{"likes": ["cats"], "dislikes": [], "summary": "Calm."}', None, "{}"]
    table = pl.DataFrame({"user_id": ["u0", "u1", "u2"], "answer": said})
    table.write_parquet(notes / "part-00000.parquet")
    about = {"about": "user", "prompt": {"name": "user_profile", "version": 1}}
    files.finish(notes, stage="annotate", settings=about, inputs={"train": "t"})
    bare = Catalog(tmp_path / "c", pl.DataFrame({"video_id": ["v0"]}), pl.DataFrame())
    made = encode(bare, Hashing(), EncodeConfig(input="notes"), tmp_path, notes)
    assert read_features(made).ids == ("u0",)
    failed = pl.read_parquet(made / "failed.parquet")
    assert failed.columns == ["user_id", "reason"]
    assert failed["user_id"].to_list() == ["u1", "u2"], "one has no answer, one says nothing"
    assert files.manifest(made)["inputs"]["train"] == "t"
    with pytest.raises(ConfigError, match="of users there are notes only"):
        encode(bare, Hashing(), EncodeConfig(input="title+notes"), tmp_path, notes)


def test_a_fact_that_its_text_does_not_hold_is_not_encoded(tmp_path):
    notes = tmp_path / "notes" / "extraction-0"
    notes.mkdir(parents=True)
    fact = {"factor": "topic", "source": "title"}
    kinds = {"v0": ["noodles"], "v1": ["noodles", "dragons"], "v2": ["dragons"]}
    said = [json.dumps({"facts": [fact | {"fact": f} for f in one]}) for one in kinds.values()]
    told = ["<title>\nnoodles\n</title>\n"] * 3
    table = pl.DataFrame({"video_id": [*kinds], "answer": said, "told": told})
    table.write_parquet(notes / "part-00000.parquet")
    files.finish(notes, stage="annotate", settings={"prompt": {"name": "extraction", "version": 1}})
    bare = Catalog(tmp_path / "c", pl.DataFrame({"video_id": [*kinds]}), pl.DataFrame())
    made = encode(bare, Hashing(), EncodeConfig(input="notes"), tmp_path, notes)
    vectors = read_features(made)
    assert vectors.ids == ("v0", "v1") and (vectors.vectors[0] == vectors.vectors[1]).all()
    assert failed(made).keys() == {"v2"}
