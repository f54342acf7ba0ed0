"""A log and a folder of files become a catalogue that accounts for every row, once."""

import shutil

import av
import numpy as np
import polars as pl
import pytest

from reelm import files
from reelm.errors import BadData
from reelm.ingest import IngestConfig, ingest, summary
from reelm.media import examine

QUICK = IngestConfig(workers=1, moments=2)


def film(path, grey, seconds=1):
    """A small film of one shade, five frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 48, "yuv420p"
        for _ in range(5 * seconds):
            pixels = np.full((48, 32, 3), grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def source(tmp_path):
    """Two films, a copy of the first, a broken file, one that is missing; six events, one bad."""
    folder = tmp_path / "source"
    (folder / "videos").mkdir(parents=True)
    film(folder / "videos" / "a.mp4", 40)
    film(folder / "videos" / "b.mp4", 200)
    shutil.copy(folder / "videos" / "a.mp4", folder / "videos" / "copy.mp4")
    (folder / "videos" / "broken.mp4").write_bytes(b"nothing of the kind")
    (folder / "items.csv").write_text(
        "video_id,path,title,licence,lang,Age Rating\nb,,Bee,MIT,de,16+\ngone,gone.mp4,,,,\n"
    )
    (folder / "events.csv").write_text(
        "user,item,time,portion\n"
        "u1,a,1700000000,0.5\nu1,b,1700000001,0.7\nu2,copy,1700000002,1\n"
        "u2,broken,1700000003,1\nu3,never-seen,1700000004,1\nu3,,1700000005,1\n"
    )
    return folder


def table(folder, name):
    return pl.read_parquet(folder / f"{name}.parquet")


def test_every_row_is_accounted_for(source, tmp_path):
    folder = ingest(source, tmp_path / "work", QUICK.model_copy(update={"licence": "CC0"}))
    videos = table(folder, "videos")
    facts = {row["video_id"]: row for row in videos.to_dicts()}
    assert list(facts) == ["b", "gone", "a", "broken", "copy", "never-seen"]
    assert {v: f["ok"] for v, f in facts.items() if not f["ok"]} == {"gone": False, "broken": False}
    assert (facts["b"]["title"], facts["b"]["licence"], facts["a"]["licence"]) == (
        "Bee",
        "MIT",
        "CC0",
    )
    assert (facts["b"]["language"], facts["b"]["age_rating"]) == ("de", "16+")  # the feed filters
    assert {v: f["duplicate_of"] for v, f in facts.items() if f["duplicate_of"]} == {"copy": "a"}
    assert (facts["a"]["width"], facts["a"]["height"]) == (32, 48)
    assert facts["a"]["duration_s"] == pytest.approx(1.0, abs=0.3)
    assert facts["a"]["sha256"] == files.sha256(source / "videos" / "a.mp4")
    assert facts["a"]["has_audio"] is False
    assert facts["never-seen"]["path"] is None
    assert table(folder, "events").height == 5
    assert sorted(table(folder, "quarantine").select("table", "id", "reason").rows()) == [
        ("events", "u3", "no video id"),
        ("videos", "broken", "cannot be decoded"),
        ("videos", "gone", "not found"),
    ]
    manifest = files.manifest(folder)
    assert manifest["rows"] == {
        "events_in": 6, "events": 5, "videos": 6, "files": 5, "files_ok": 3, "duplicates": 1,
        "users": 3,
    }  # fmt: skip
    assert manifest["failed"] == 3


def test_the_summary_tells_the_mapping_and_the_reasons(source, tmp_path):
    said = summary(ingest(source, tmp_path / "work", QUICK))
    assert "user_id <- user of events.csv" in said
    assert "set aside: 1 video: cannot be decoded" in said


def test_the_summary_tells_what_would_be_missed_later(source, tmp_path):
    (source / "events.csv").write_text(
        "user,item,time,event\nu1,a,1,watch\nu1,b,2,watch\nu1,never-seen,3,gefällt\n"
    )
    (source / "items.csv").write_text("video_id,movie_title,genre,release_year\nb,Bee,x,1999\n")
    folder = ingest(source, tmp_path / "work", QUICK)
    said = summary(folder)
    assert "kinds of event: watch 2, gefällt 1" in said
    assert "not counted unless dataset.positive names it: gefällt 1" in said
    assert "without a file: 1 videos" in said
    assert "not used: release_year of items.csv" in said
    bee = table(folder, "videos").row(by_predicate=pl.col("video_id") == "b", named=True)
    assert (bee["title"], bee["hashtags"]) == ("Bee", "x")


def test_clips_of_one_name_are_all_there_and_a_copy_does_not_rename_the_first(tmp_path):
    nest = tmp_path / "nest"
    for name, grey in {"clip.mp4": 90, "bob/001.mp4": 200, "alice/001.mp4": 40}.items():
        (nest / name).parent.mkdir(parents=True, exist_ok=True)
        film(nest / name, grey)
    shutil.copy(nest / "clip.mp4", nest / "alice" / "clip.mp4")
    log = tmp_path / "log.csv"
    log.write_text("user,item,time\nu,alice/001,1\nu,clip,2\nw,001,3\n")
    folder = ingest(log, tmp_path / "work", QUICK.model_copy(update={"videos": nest}))
    assert files.manifest(folder)["rows"]["files"] == 4
    videos = table(folder, "videos").filter(pl.col("path").is_not_null())
    ids = {"clip": None, "alice/001": None, "bob/001": None, "alice/clip": "clip"}
    assert dict(videos.select("video_id", "duplicate_of").rows()) == ids
    said = summary(folder)
    assert "given to none: 1, such as 001 (alice/001.mp4, bob/001.mp4)" in said
    assert "without a file: 1 videos" in said


def test_times_that_no_log_can_have_are_doubted(tmp_path):
    text = "user,item,time\nu,a,20260131\nu,b,1700000000\nu,c,4102444800\n"
    (line,) = doubts(tmp_path, text)
    assert line.startswith("times before 1990 or still to come: 2, 1970-08-23 to 2100-01-01. ")
    assert doubts(tmp_path, text, timestamp="time") == []


def doubts(tmp_path, text, **mapping):
    """What the summary of a log doubts."""
    (tmp_path / "log.csv").write_text(text)
    folder = ingest(tmp_path / "log.csv", tmp_path / "work", IngestConfig(mapping=mapping))
    said = files.manifest(folder)["doubts"]
    assert set(said) <= set(summary(folder).splitlines())
    return said


def test_a_log_without_times_says_so(tmp_path):
    (line,) = doubts(tmp_path, "user,item,moment\nu,a,1700000000\n")
    assert line.startswith("no times: events go by the order of the file, and repeats of them stay")
    assert "--map timestamp=NAME" in line
    assert doubts(tmp_path, "user,item\nu,a\n") == [line.partition(";")[0]]
    assert doubts(tmp_path, "user,item,moment\nu,a,9\n", timestamp="moment") == []
    assert doubts(tmp_path, "user,item,moment\nu,a,9\n", timestamp="") == []


def test_times_that_cannot_be_read_are_shown_with_those_that_can(tmp_path):
    text = "user,item,date\nu,a,31.12.2025 10:00\nu,b,12/31/2025\n"
    with pytest.raises(
        BadData, match=r"2 events: unreadable time; .*'31\.12\.2025 10:00'.*ISO 8601"
    ):
        doubts(tmp_path, text)
    (line,) = doubts(tmp_path, text + "u,c,2025-12-31\n")
    assert "unreadable times: 2, such as '31.12.2025 10:00'" in line
    assert "ISO 8601" in line and "milliseconds" in line


@pytest.mark.parametrize(
    ("columns", "rows", "starts"),
    [
        ("watch_time,duration", ["9000,10", "8000,9", "5,10"], "watch_time: in milliseconds? Half"),
        ("watch_time,duration", ["9,10", "8,9"], None),
        ("watch_time,duration", ["9,10000", "8,9000"], "duration: in milliseconds? Half"),
        ("watch_time_ms,duration_s", ["9000,10", "8000,9"], None),
        ("watch_time_ms,duration_ms", ["9000,10"], "watch_time: in milliseconds, as its name says"),
        ("portion", ["350", "93", "55"], "value: are they shares of 1"),
        ("portion", ["3", "0.5", "0.2"], None),
    ],
)
def test_portions_of_another_unit_are_doubted(tmp_path, columns, rows, starts):
    lines = [f"u,v{n},{1_700_000_000 + n},{row}" for n, row in enumerate(rows)]
    said = doubts(tmp_path, "\n".join([f"user,item,time,{columns}", *lines]))
    assert [line.startswith(starts or "") for line in said] == [True] * bool(starts)


def test_watched_milliseconds_of_real_files_are_doubted(source, tmp_path):
    (source / "events.csv").write_text("user,item,time,watch_time\nu,a,1,900\nw,b,2,700\n")
    assert "watch_time: in milliseconds? Half" in summary(ingest(source, tmp_path / "work", QUICK))


def test_the_same_source_is_read_once(source, tmp_path, monkeypatch):
    folder = ingest(source, tmp_path / "work", QUICK)
    monkeypatch.setattr("reelm.formats.table.Table.read", None)
    assert ingest(source, tmp_path / "work", QUICK.model_copy(update={"workers": 2})) == folder


@pytest.mark.parametrize("change", ["log", "film", "new film", "setting"])
def test_what_changes_the_result_changes_the_folder(source, tmp_path, change):
    work, config = tmp_path / "work", QUICK
    first = ingest(source, work, config)
    if change == "log":
        with (source / "events.csv").open("a") as log:
            log.write("u9,a,1700000009,1\n")
    elif change == "film":
        film(source / "videos" / "a.mp4", 90, seconds=2)
    elif change == "new film":
        film(source / "videos" / "c.mp4", 90)
    else:
        config = config.model_copy(update={"licence": "CC0"})
    second = ingest(source, work, config)
    assert second != first
    a, b = table(first, "videos"), table(second, "videos")
    assert a.equals(b) == (change == "log")


def test_only_what_changed_is_opened_again(source, tmp_path, monkeypatch):
    ingest(source, tmp_path / "work", QUICK)
    film(source / "videos" / "new.mp4", 90)
    opened = []
    looked_at = examine.Examiner._looked_at
    monkeypatch.setattr(
        examine.Examiner,
        "_looked_at",
        lambda self, paths, workers: opened.extend(paths) or looked_at(self, paths, workers),
    )
    ingest(source, tmp_path / "work", QUICK)
    assert [path.name for path in opened] == ["new.mp4"]


def test_killed_while_it_examines_it_goes_on(source, tmp_path, monkeypatch):
    monkeypatch.setattr(examine, "PART_FILES", 1)
    looked_at = examine.Examiner._looked_at

    def killed(self, paths, workers):
        for row in looked_at(self, paths, workers):
            yield row
            if "b.mp4" in row["path"]:
                raise KeyboardInterrupt

    monkeypatch.setattr(examine.Examiner, "_looked_at", killed)
    with pytest.raises(KeyboardInterrupt):
        ingest(source, tmp_path / "work", QUICK)
    assert not list((tmp_path / "work" / "catalog").rglob(files.MANIFEST))
    monkeypatch.setattr(examine.Examiner, "_looked_at", looked_at)
    again = ingest(source, tmp_path / "work", QUICK)
    whole = ingest(source, tmp_path / "other", QUICK)
    for name in ("videos", "events", "quarantine"):
        assert table(again, name).equals(table(whole, name))


def test_watched_seconds_are_measured_by_the_films_length(source, tmp_path):
    (source / "events.csv").write_text("user,item,watch_time\nu,a,0.5\nu,never-seen,3\n")
    folder = ingest(source, tmp_path / "work", QUICK)
    assert table(folder, "events")["value"].to_list() == [pytest.approx(0.5, abs=0.15)]
    assert table(folder, "events").columns == [
        "user_id", "video_id", "timestamp", "event", "value", "rating", "split", "order",
    ]  # fmt: skip
    lost = table(folder, "quarantine").filter(table="events")
    assert lost.select("place", "reason").rows() == [("event 1", "no portion")]


def test_features_come_along_with_their_ids(tmp_path):
    source = tmp_path / "set"
    source.mkdir()
    log = {"user": [0, 1], "item": [2, 0], "split": [0, 2]}
    pl.DataFrame(log).write_parquet(source / "interactions.parquet")
    np.savez(source / "features.npz", image=np.eye(3, 4), audio=np.ones((3, 2)))
    folder = ingest(source, tmp_path / "work", IngestConfig(format="tiktok"))
    for name, width in {"image": 4, "audio": 2}.items():
        vectors = np.load(folder / "features" / name / "part-00000.npy")
        assert (vectors.shape, vectors.dtype) == ((3, width), np.float32)
        ids = pl.read_parquet(folder / "features" / name / "ids.parquet")
        assert ids["video_id"].to_list() == ["0", "1", "2"]
    assert table(folder, "videos")["ok"].all()


def test_a_log_without_a_good_row_is_refused(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user,item\n,v\nu,\n")
    with pytest.raises(BadData, match="not one good row"):
        ingest(log, tmp_path / "work", QUICK)


def test_all_real_files_come_in(tmp_path, data_folder):
    folder = data_folder / "videos_dev"
    log = tmp_path / "log.csv"
    log.write_text("user,item,portion\nu,google+ExoPlayer__sample_av1,0.5\n")
    made = ingest(log, tmp_path / "work", IngestConfig(workers=1, videos=folder))
    assert files.manifest(made)["rows"]["files"] == 35
    reasons = table(made, "quarantine").select("id", "reason").rows()
    assert {video.partition("__")[2]: reason for video, reason in reasons} == {
        "corrupted": "damaged",
        "sample_opus": "no video stream",
        "Mpeg4": "no video stream",
        "chunk_out_of_range": "cannot be decoded",
        "bipbop_cbcs_video_init": "no frame could be decoded",
    }
    usable = table(made, "videos").filter("ok")
    assert usable.height == 31
    said = summary(made).splitlines()
    assert "kept: 1 video: damaged" in said
    assert "set aside: 2 videos: no video stream" in said


def test_comments_come_in_and_strange_ones_are_set_aside(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,video_id,timestamp\na,v1,1\nb,v2,2\n")
    lines = "videoId,comment,likes\nv1,so cute,3\nv9,who is this,1\nv2,,0\n,hm,1\nv2,wow,\n"
    (tmp_path / "said.csv").write_text(lines)
    config = IngestConfig(comments=tmp_path / "said.csv")
    folder = ingest(tmp_path / "log.csv", tmp_path / "work", config)
    assert pl.read_parquet(folder / "comments.parquet").rows() == [
        ("v1", "so cute", 3.0), ("v2", "wow", None),
    ]  # fmt: skip
    bad = pl.read_parquet(folder / "quarantine.parquet").filter(pl.col("table") == "comments")
    assert bad["reason"].to_list() == ["no such video", "no text", "no video id"]
    assert ingest(tmp_path / "log.csv", tmp_path / "work", IngestConfig()) != folder
