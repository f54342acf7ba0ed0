import hashlib
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from reelm import world
from reelm.errors import BadData, StaleFolder
from reelm.world import WorldConfig, render

TINY = WorldConfig(videos=9, people=5, width=64, height=96, fps=3, workers=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return render(TINY, tmp_path_factory.mktemp("tiny") / "world")


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


def test_all_is_there(tiny):
    assert set(contents(tiny)) == {
        *(f"videos/v{number:04d}.mp4" for number in range(1, 10)),
        "videos.parquet", "events.parquet", "truth/attributes.parquet", "truth/tastes.npz",
        "world.json",
    }  # fmt: skip


def test_two_processes_give_the_same_bytes(tiny, tmp_path):
    again = render(TINY.model_copy(update={"workers": 2}), tmp_path / "again")
    assert contents(again) == contents(tiny)


def test_another_seed_gives_another_world(tiny, tmp_path):
    other = render(TINY.model_copy(update={"seed": 1}), tmp_path / "other")
    same = set(contents(other).items()) & set(contents(tiny).items())
    assert not same


def test_the_second_run_returns_at_once(tiny):
    before = (tiny / "manifest.json").stat().st_mtime_ns
    assert render(TINY.model_copy(update={"workers": 3}), tiny) == tiny
    assert (tiny / "manifest.json").stat().st_mtime_ns == before


def test_a_killed_run_is_resumed(tiny, tmp_path):
    out = tmp_path / "world"
    render(TINY, out)
    (out / "manifest.json").unlink()
    (out / "videos/v0002.mp4").unlink()
    (out / "videos/.v0002.1.tmp.mp4").write_bytes(b"half")
    kept = (out / "videos/v0001.mp4").stat().st_mtime_ns
    render(TINY, out)
    assert contents(out) == contents(tiny)
    assert (out / "videos/v0001.mp4").stat().st_mtime_ns == kept


def test_other_settings_in_the_same_folder_are_refused(tiny, tmp_path):
    with pytest.raises(StaleFolder, match=r"other settings than.*people = 6"):
        render(TINY.model_copy(update={"people": 6}), tiny)
    (tmp_path / "letter.txt").write_text("not a world")
    with pytest.raises(StaleFolder, match="holds no world"):
        render(TINY, tmp_path)


def test_tables_agree_with_each_other(tiny):
    videos = pl.read_parquet(tiny / "videos.parquet")
    events = pl.read_parquet(tiny / "events.parquet")
    assert videos.columns == [
        "video_id", "path", "title", "hashtags", "creator", "uploaded_at", "licence",
    ]  # fmt: skip
    assert events.columns == ["user_id", "video_id", "timestamp", "event", "value"]
    assert all((tiny / path).is_file() for path in videos["path"])
    assert set(events["video_id"]) <= set(videos["video_id"])
    assert events["timestamp"].is_sorted() and events["timestamp"].min() > 1767225600
    shown = events.filter(event="watch").join(videos, on="video_id")
    assert (shown["timestamp"] > shown["uploaded_at"]).all()


def test_events_follow_from_portions(tmp_path):
    from reelm.world import people, tables, titles

    watches, _ = people.simulate(titles.make_uploads(200, 3), 60, seed=3)
    events = tables.events_table(watches, seed=3)
    watched = events.filter(event="watch").rename({"value": "portion"})
    assert len(watched) == len(watches.user)
    pairs = watched.select("user_id", "video_id", "portion", watched_at="timestamp")
    after = events.filter(pl.col("event") != "watch").join(pairs, on=["user_id", "video_id"])
    assert (after["timestamp"] > after["watched_at"]).all()
    assert after.filter(event="skip")["portion"].max() < 0.15
    assert after.filter(pl.col("event").is_in(["like", "share"]))["portion"].min() > 0.6
    kinds = dict(events["event"].value_counts().iter_rows())
    assert kinds["watch"] > kinds["like"] > kinds["share"] > 10


def test_true_utility_is_taste_times_attributes(tiny):
    utility = world.true_utility(tiny / "truth", ["u0002", "u0001"], ["v0003"])
    truth = pl.read_parquet(tiny / "truth/attributes.parquet").row(2, named=True)
    with np.load(tiny / "truth/tastes.npz") as stored:
        columns = [column.split("=") for column in stored["columns"].tolist()]
        has = np.array([truth[name] == value for name, value in columns])
        expected = stored["taste"][[1, 0]] @ has + 0.35 * truth["quality"]
    assert has.sum() == 11
    assert utility[:, 0] == pytest.approx(expected)
    with pytest.raises(BadData, match="no user 'u9999'"):
        world.true_utility(tiny / "truth", ["u9999"], ["v0001"])


def test_true_utility_explains_what_is_watched(tmp_path):
    from reelm.world import people, tables, titles

    uploads = titles.make_uploads(200, 4)
    watches, tastes = people.simulate(uploads, 40, seed=4)
    truth = tables.write_truth(tmp_path, uploads, tastes)
    users, videos = [f"u{u:04d}" for u in range(1, 41)], [f"v{v:04d}" for v in range(1, 201)]
    utility = world.true_utility(truth, users, videos)[watches.user, watches.video]
    watched, left = utility[watches.portion > 0.7], utility[watches.portion < 0.3]
    assert watched.mean() > left.mean() + 0.5


def test_settings_can_be_read_without_drawing_libraries():
    program = (
        "import sys, reelm.world; "
        "print([m for m in ('av', 'PIL', 'torch', 'polars', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
