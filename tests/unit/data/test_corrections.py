"""Corrections win over models, belong to contents, and are never lost or mixed up."""

import json
import subprocess
import sys
import time

import polars as pl
import pytest

from reelm import files
from reelm.data.corrections import MODEL, Correction, Corrections
from reelm.data.tables import applied, read_notes, read_said
from reelm.errors import StaleFolder

RED, CAT = {"colour": "red"}, {"colour": "red", "subject": "cat"}


def correction(video="v0", sha="s0", fields=None, **more) -> Correction:
    fields = RED if fields is None else fields
    given = {"answer": CAT | fields, "prompt_version": 1, "author": "ann", "time": 0.0}
    return Correction(video, sha, fields, **given | more)


def notes(work, key, rows, version=1):
    """A notes folder of rows (video, sha, answer, kind of error)."""
    folder = work / "notes" / f"attributes-{key}"
    folder.mkdir(parents=True)
    table = pl.DataFrame(
        [(*row, row[3] and "why") for row in rows],
        schema=["video_id", "sha256", "answer", "error_kind", "error"],
        orient="row",
    )
    table.write_parquet(folder / "part-00000.parquet")
    prompt = {"name": "attributes", "version": version}
    return files.finish(folder, stage="annotate", settings={"prompt": prompt})


def answers(folder):
    table = read_notes(folder)
    pairs = zip(table["video_id"], table["answer"], strict=True)
    return {name: json.loads(said) if said else None for name, said in pairs}


BLUE = '{"colour":"blue","subject":"dog"}'


def test_a_correction_wins_for_the_content_and_its_copies_in_every_folder(tmp_path):
    first = notes(tmp_path, "aaa", [("v0", "s0", BLUE, None), ("v1", "s1", BLUE, None)])
    made = Corrections(tmp_path, "attributes").add(correction())
    again = notes(tmp_path, "bbb", [("v9", "s0", BLUE, None), ("v0", "other", BLUE, None)])
    assert answers(first) == {"v0": {"colour": "red", "subject": "dog"}, "v1": json.loads(BLUE)}
    assert answers(again) == {
        "v9": {"colour": "red", "subject": "dog"},  # a copy, in a later run
        "v0": json.loads(BLUE),  # the same id with another file
    }
    assert read_notes(first)["correction"].to_list() == [made.key, None]
    assert read_said(first)["answer"].to_list() == [BLUE, BLUE]
    other = notes(tmp_path / "elsewhere", "aaa", [("v0", "s0", BLUE, None)])
    assert answers(other)["v0"]["colour"] == "blue"


def test_later_versions_are_laid_over_earlier_ones(tmp_path):
    folder = notes(tmp_path, "aaa", [("v0", "s0", BLUE, None)])
    store = Corrections(tmp_path, "attributes")
    digests = [applied(folder, read_said(folder)).digest]
    first = store.add(correction())
    digests.append(applied(folder, read_said(folder)).digest)
    second = store.add(correction(fields={"subject": "hen"}, author="bob"))
    digests.append(applied(folder, read_said(folder)).digest)
    assert answers(folder) == {"v0": {"colour": "red", "subject": "hen"}}
    assert (first.replaces, second.replaces) == (MODEL, first.key)
    assert [one.author for one in store.history("v0", "s0")] == ["ann", "bob"]
    assert digests[0] is None and len(set(digests)) == 3
    assert 0 <= time.time() - second.time < 60
    store.add(correction(fields={"colour": "green"}))
    assert answers(folder) == {"v0": {"colour": "green", "subject": "hen"}}


def test_a_failed_note_gets_the_whole_correction_and_no_longer_counts_as_failed(tmp_path):
    rows = [("v0", "s0", None, "timeout"), ("v1", "s1", None, "timeout")]
    same, newer = notes(tmp_path, "aaa", rows), notes(tmp_path, "bbb", rows, version=2)
    Corrections(tmp_path, "attributes").add(correction())
    assert answers(same) == {"v0": CAT, "v1": None}
    assert read_notes(same)["error_kind"].to_list() == [None, "timeout"]
    assert answers(newer)["v0"] is None  # another question: half an answer is none
    assert read_notes(newer)["error"].to_list() == ["why", "why"]


def test_fields_that_a_newer_question_lacks_are_left_out(tmp_path):
    folder = notes(tmp_path, "bbb", [("v0", "s0", '{"subject":"dog"}', None)], version=2)
    Corrections(tmp_path, "attributes").add(correction())
    assert answers(folder) == {"v0": {"subject": "dog"}}


def test_without_a_file_the_id_counts(tmp_path):
    folder = notes(tmp_path, "aaa", [("u1", None, BLUE, None), ("u2", None, BLUE, None)])
    Corrections(tmp_path, "attributes").add(correction("u1", None))
    assert {name: said["colour"] for name, said in answers(folder).items()} == {
        "u1": "red", "u2": "blue",
    }  # fmt: skip


def test_who_looked_before_another_corrected_must_look_again(tmp_path):
    store = Corrections(tmp_path, "attributes")
    first = store.add(correction(), expected=MODEL)
    with pytest.raises(StaleFolder, match="v0: ann corrected this note since you looked"):
        store.add(correction(author="bob"), expected=MODEL)
    assert store.add(correction(author="bob"), expected=first.key).replaces == first.key


def test_a_line_cut_by_a_kill_is_left_out_and_told_of(tmp_path, caplog):
    store = Corrections(tmp_path, "attributes")
    store.add(correction())
    whole = store.path.read_bytes()
    store.path.write_bytes(whole + whole[: len(whole) // 2])
    assert len(store.all()) == 1 and "cut short and is left out" in caplog.text
    store.add(correction(fields={"subject": "hen"}))
    assert "taken away" in caplog.text
    assert [one.fields for one in store.all()] == [RED, {"subject": "hen"}]


def test_a_line_that_is_no_correction_loses_no_other(tmp_path, caplog):
    store = Corrections(tmp_path, "attributes")
    store.add(correction())
    store.path.write_bytes(b"no json\n{}\n" + store.path.read_bytes())
    assert len(store.all()) == 1
    assert "line 1 is left out" in caplog.text and "line 2 is left out" in caplog.text


WRITER = """
import sys
from pathlib import Path
from reelm.data.corrections import Correction, Corrections
store, author = Corrections(Path(sys.argv[1]), "attributes"), sys.argv[2]
for n in range(int(sys.argv[3])):
    fields = {"colour": f"{author}{n}" + "x" * 5000}
    store.add(Correction("v0", "s0", fields, fields, 1, author, 0.0))
"""


def writer(work, author, count) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(work), author, str(count)])


def test_two_writers_lose_nothing_and_form_one_line_of_versions(tmp_path):
    for one in [writer(tmp_path, name, 30) for name in "ab"]:
        assert one.wait() == 0
    made = Corrections(tmp_path, "attributes").history("v0", "s0")
    assert sorted(one.author for one in made) == ["a"] * 30 + ["b"] * 30
    assert [one.replaces for one in made] == [MODEL, *(one.key for one in made[:-1])]


def test_a_killed_writer_loses_at_most_the_line_under_way(tmp_path):
    store, seen = Corrections(tmp_path, "attributes"), 0
    for _ in range(3):
        one, end = writer(tmp_path, "k", 100_000), time.monotonic() + 60
        while len(store.all()) < seen + 3 and time.monotonic() < end:
            time.sleep(0.01)
        one.kill()
        one.wait()
        made = store.all()
        assert len(made) >= seen + 3
        seen = len(made)
        store.add(correction(author="after"))
        assert store.all()[:seen] == made and store.all()[-1].author == "after"
        seen += 1
