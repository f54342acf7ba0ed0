"""Notes become material to tune a model on; of users the whole text that was read."""

import json

import polars as pl
import pytest

import tiny_clips
from reelm import files
from reelm.annotate import AnnotateConfig, annotate
from reelm.backends.fake import Fake
from reelm.errors import BadData
from reelm.lessons import lessons
from reelm.prompts.attributes import Attributes
from reelm.tune import conversations


@pytest.fixture
def about_users(tmp_path):
    notes = tmp_path / "work" / "notes" / "rationale-0"
    notes.mkdir(parents=True)
    said = '{"taste": "cats", "forms": "", "next": ["a", "b", "c"]}'
    table = {
        "user_id": ["u0", "u1"],
        "answer": [said, None],
        "error_kind": [None, "timeout"],
        "text": ["- subject: cat\n\nWhat?", "- subject: dog\n\nWhat?"],
    }
    pl.DataFrame(table).write_parquet(notes / "part-00000.parquet")
    about = {"about": "user", "prompt": {"name": "rationale", "version": 1}}
    return files.finish(notes, stage="annotate", settings=about, inputs={})


def test_what_was_said_of_users_is_a_conversation(about_users, tmp_path):
    done = lessons(about_users, tmp_path / "lessons.jsonl")
    assert (done.rows, done.left_out) == (1, {"u1": "timeout"})
    ((one,), refused) = conversations.read(done.path)
    assert not refused and one.about == "u0" and not one.images
    asked, answered = one.messages
    assert asked["content"] == [{"type": "text", "text": "- subject: cat\n\nWhat?"}]
    assert json.loads(answered["content"][0]["text"])["taste"] == "cats"


def test_notes_without_an_answer_teach_nothing(about_users, tmp_path):
    part = about_users / "part-00000.parquet"
    pl.read_parquet(part).tail(1).write_parquet(part)
    with pytest.raises(BadData, match="no answer"):
        lessons(about_users, tmp_path / "lessons.jsonl")


def test_what_was_said_of_videos_brings_the_pictures(tmp_path):
    work = tmp_path / "work"
    folder = work / "catalog" / "c"
    made = tiny_clips.catalog(folder, tiny_clips.write(folder, 1))
    made.videos.write_parquet(folder / "videos.parquet")
    made.videos.head(0).with_columns(user_id="video_id", event="video_id").write_parquet(
        folder / "events.parquet"
    )
    files.finish(folder, stage="ingest")
    notes = annotate(made, Fake(), Attributes, AnnotateConfig(seconds=120), work)
    done = lessons(notes, tmp_path / "lessons.jsonl")
    ((one,), refused) = conversations.read(done.path)
    assert done.rows == 1 and not refused and one.about == "v000"
    assert one.images and all(image.is_file() for image in one.images)
