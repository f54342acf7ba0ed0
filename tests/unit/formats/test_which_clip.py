"""Every file is one video, by a name that means no other file; none is lost without a word."""

from pathlib import Path

import pytest

from reelm.formats.base import ReadOptions, Tables
from reelm.formats.table import Table


@pytest.fixture
def told(tmp_path):
    """Read a log of some ids beside some empty files; `items` is the text of a table of videos."""

    def run(names, watched=(), items=None, videos=None):
        for name in names:
            (tmp_path / "nest" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "nest" / name).touch()
        log = tmp_path / "log.csv"
        log.write_text("user,item\n" + "".join(f"u,{video}\n" for video in watched or ["other"]))
        given = {"videos": videos or tmp_path / "nest"}
        if items:
            (tmp_path / "items.csv").write_text(items)
            given["items"] = tmp_path / "items.csv"
        return Table().read(log, ReadOptions(**given))

    return run


def files(tables: Tables) -> dict[str, str]:
    """Id to the last two parts of its file's path."""
    rows = tables.videos.filter(tables.videos["path"].is_not_null()).select("video_id", "path")
    return {video: "/".join(Path(path).parts[-2:]) for video, path in rows.rows()}


NEST = ("alice/001.mp4", "bob/001.mp4", "bob/only.mp4")


def test_stems_that_collide_are_told_apart_by_their_paths(told):
    tables = told(NEST)
    assert files(tables) == {
        "alice/001": "alice/001.mp4", "bob/001": "bob/001.mp4", "only": "bob/only.mp4",
    }  # fmt: skip
    assert tables.mapping["videos.path"].startswith("3 files of ")


def test_hidden_files_are_no_videos(told):
    tables = told(["a.mp4", "._a.mp4", ".Trashes/b.mp4", "sub/._c.mp4"])
    assert files(tables) == {"a": "nest/a.mp4"}


@pytest.mark.parametrize(
    ("watched", "ids"),
    [
        (["alice/001"], {"alice/001", "bob/001", "only"}),
        (["alice/001.mp4"], {"alice/001.mp4", "bob/001", "only"}),
        (["bob/only"], {"alice/001", "bob/001", "bob/only"}),
        (["bob/only.mp4"], {"alice/001", "bob/001", "bob/only.mp4"}),
        (["only.mp4"], {"alice/001", "bob/001", "only.mp4"}),
    ],
)
def test_a_log_may_name_a_file_in_four_ways(told, watched, ids):
    tables = told(NEST, watched)
    assert files(tables).keys() == ids
    assert tables.events["video_id"].to_list() == watched


def test_a_file_of_many_names_is_one_video(told):
    names = ["only", "bob/only", "bob/only.mp4", "alice/001.mp4", "alice/001"]
    tables = told(NEST, names)
    assert tables.events["video_id"].to_list() == ["only"] * 3 + ["alice/001"] * 2
    assert "the log calls 2 of them by more than one name" in tables.mapping["videos.path"]


def test_a_bare_stem_is_the_file_at_the_top(told):
    tables = told(["clip.mp4", "sub/clip.mp4", "a/deep/clip.mp4"], ["clip", "clip.mp4"])
    assert files(tables) == {
        "clip": "nest/clip.mp4", "sub/clip": "sub/clip.mp4", "a/deep/clip": "deep/clip.mp4",
    }  # fmt: skip
    assert tables.events["video_id"].to_list() == ["clip", "clip"]


def test_an_unclear_stem_is_not_guessed_and_said(told):
    tables = told(NEST, ["001", "001.mp4"], items="video_id,title\n001,One\n")
    assert files(tables).keys() == {"alice/001", "bob/001", "only"}
    assert tables.events["video_id"].to_list() == ["001", "001.mp4"]
    said = "given to none: 2, such as 001 (alice/001.mp4, bob/001.mp4)"
    assert said in tables.mapping["videos.path"]


def test_endings_tell_apart_what_paths_do_not(told):
    tables = told(["alice/a.mp4", "alice/a.webm", "bob/a.mkv"], ["alice/a"])
    assert files(tables).keys() == {"alice/a.mp4", "alice/a.webm", "bob/a"}
    assert "1, such as alice/a (alice/a.mp4, alice/a.webm)" in tables.mapping["videos.path"]


def test_a_table_names_files_by_their_paths(told):
    items = "video_id,title\nalice/001,One\nbob/001.mp4,Two\n"
    tables = told(NEST, ["bob/001", "alice/001.mp4"], items=items)
    assert dict(tables.videos.select("video_id", "title").rows()) == {
        "alice/001": "One", "bob/001.mp4": "Two", "only": None,
    }  # fmt: skip
    assert tables.events["video_id"].to_list() == ["bob/001.mp4", "alice/001"]


def test_a_file_that_the_table_places_is_not_another_video(told):
    items = "video_id,path\nx7,nest/alice/001.mp4\nonly,nest/alice/../bob/only.mp4\n"
    tables = told(NEST, ["only.mp4"], items=items)
    assert files(tables) == {
        "x7": "alice/001.mp4",
        "only": "bob/only.mp4",
        "bob/001": "bob/001.mp4",
    }
    assert tables.events["video_id"].to_list() == ["only"]


def test_a_file_whose_name_the_table_gives_to_another_is_set_aside(told, tmp_path):
    tables = told(NEST, items="video_id,path\nonly,lost.mp4\n")
    assert files(tables).keys() == {"only", "alice/001", "bob/001"}
    assert tables.quarantine.rows() == [
        (
            "videos",
            "only",
            f"{tmp_path}/nest/bob/only.mp4",
            "the table names another file",
            f"{tmp_path}/lost.mp4",
        )
    ]


def test_names_that_differ_in_accents_alone_are_set_aside(told):
    tables = told(["caf\u00e9.mp4", "cafe\u0301.mp4", "b.mp4"])
    assert files(tables).keys() == {"b"}
    assert tables.quarantine["reason"].to_list() == ["another file has its name"] * 2


def test_a_word_for_nothing_is_no_id(told):
    assert files(told(["null.mp4", "b.mp4"])).keys() == {"null.mp4", "b"}


def test_a_link_to_a_file_is_that_file(told, tmp_path):
    (tmp_path / "nest" / "liked").mkdir(parents=True)
    (tmp_path / "nest" / "liked" / "z.mp4").symlink_to(tmp_path / "nest" / "b.mp4")
    tables = told(["b.mp4"], ["liked/z", "b"])
    assert files(tables) == {"b": "nest/b.mp4"}
    assert tables.events["video_id"].to_list() == ["b", "b"]


def test_paths_of_a_list_are_told_from_its_folder(told, tmp_path):
    (tmp_path / "list.txt").write_text("\ufeffnest/alice/001.mp4\nnest/bob/001.mp4\n")
    tables = told(NEST, ["nest/bob/001"], videos=tmp_path / "list.txt")
    assert files(tables).keys() == {"nest/alice/001", "nest/bob/001"}
    (tmp_path / "lists").mkdir()
    elsewhere = tmp_path / "lists" / "list.txt"
    elsewhere.write_text("".join(f"{tmp_path}/nest/{name}\n" for name in NEST))
    assert files(told(NEST, videos=elsewhere)).keys() == {"alice/001", "bob/001", "only"}
