import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import tiny_clips
from reelm import engine, files
from reelm.cost import Ledger
from reelm.data.tables import Catalog
from reelm.engine import DecodeConfig, Decoder, Video, to_open, videos
from reelm.errors import BadData, MediaError, StaleFolder


class Copying:
    """Writes each part's tasks as text; remembers what it loaded and worked on, and when."""

    device = "cpu"

    def __init__(self, folder, die_at=None):
        self.folders, self.die_at, self.log = [folder], die_at, []

    def path(self, folder, number):
        return folder / f"part-{number}.txt"

    def load(self, tasks):
        self.log.append(("load", tasks[0], time.monotonic()))
        return list(tasks)

    def make(self, loaded):
        if loaded[0] == self.die_at:
            raise RuntimeError("killed")
        time.sleep(0.05)
        self.log.append(("make", loaded[0], time.monotonic()))
        return loaded

    def keep(self, number, made):
        for folder in self.folders:
            files.write_text(self.path(folder, number), " ".join(made))
        facts = {"rows": len(made), "tokens_in": 2 * len(made)}
        return [facts | {"share": 1 / len(self.folders)} for _ in self.folders]


TASKS = [f"t{n}" for n in range(7)]


def test_parts_are_done_in_order_and_counted(tmp_path):
    (total,) = engine.run(Copying(tmp_path), TASKS, 3, "copy")
    assert [p.read_text() for p in sorted(tmp_path.glob("part-*"))] == [
        "t0 t1 t2",
        "t3 t4 t5",
        "t6",
    ]
    assert (total["rows"], total["tokens_in"], total["parts"]) == (7, 14, 3)
    assert total["seconds"] >= 0.15
    assert not list(tmp_path.glob(".*"))


def test_the_next_part_is_read_while_one_is_worked_on(tmp_path):
    stage = Copying(tmp_path)
    engine.run(stage, TASKS, 3, "copy")
    when = {(what, task): at for what, task, at in stage.log}
    assert when["load", "t3"] < when["make", "t0"]
    assert when["load", "t6"] < when["make", "t3"]


def test_two_parts_ahead_and_no_more(tmp_path):
    """One waits for files while another is read back; a third would only fill memory."""
    stage = Copying(tmp_path)
    engine.run(stage, [f"t{n}" for n in range(6)], 1, "copy")
    when = {(what, task): at for what, task, at in stage.log}
    for n in range(1, 4):
        assert when["load", f"t{n + 2}"] < when["make", f"t{n}"]
        assert when["load", f"t{n + 2}"] > when["make", f"t{n - 1}"]


def test_two_threads_may_ask_one_decoder(tmp_path):
    """Each gets its own videos, whoever comes first to the workers."""
    paths = tiny_clips.write(tmp_path, 6)
    wanted = [Video(p.name, files.sha256(p), p) for p in paths]
    with Decoder(tmp_path / "work", 2, DecodeConfig(seconds=120)) as decoder:
        alone = decoder(wanted)
        with ThreadPoolExecutor(3) as pool:
            fresh = Decoder(tmp_path / "other", 2, DecodeConfig(seconds=120))
            with fresh:
                found = list(pool.map(fresh, [wanted[:2], wanted[2:4], wanted[4:]]))
    for one, other in zip(alone, chain(*found), strict=True):
        assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


def test_only_what_is_missing_is_done_again(tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        engine.run(Copying(tmp_path, die_at="t3"), TASKS, 3, "copy")
    (tmp_path / ".part-1.99.tmp.txt").write_text("half")
    stage = Copying(tmp_path)
    (total,) = engine.run(stage, TASKS, 3, "copy")
    assert [task for what, task, _ in stage.log if what == "make"] == ["t3", "t6"]
    assert [line.part for line in Ledger(tmp_path).lines()] == [0, 1, 2]
    assert total["rows"] == 7 and not list(tmp_path.glob(".*"))


def test_a_part_whose_line_was_lost_gets_one_that_says_so(tmp_path):
    engine.run(Copying(tmp_path), TASKS, 3, "copy")
    lines = (tmp_path / "cost.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cost.jsonl").write_text(lines[0] + lines[2])
    stage = Copying(tmp_path)
    engine.run(stage, TASKS, 3, "copy")
    assert not stage.log
    told = {line.part: line.known for line in Ledger(tmp_path).lines()}
    assert told == {0: True, 1: False, 2: True}


def test_two_folders_share_the_time_of_a_part(tmp_path):
    stage = Copying(tmp_path / "a")
    stage.folders.append(tmp_path / "b")
    first, second = engine.run(stage, TASKS, 3, "copy")
    assert first["rows"] == second["rows"] == 7 and first["seconds"] == second["seconds"]
    assert 0.15 <= first["device_s"] + second["device_s"] <= 2 * first["seconds"] + 1e-3
    (tmp_path / "b" / "part-1.txt").unlink()
    stage.log.clear()
    engine.run(stage, TASKS, 3, "copy")
    assert [task for what, task, _ in stage.log if what == "make"] == ["t3"]


def test_nothing_to_do_is_done_at_once(tmp_path):
    assert engine.run(Copying(tmp_path), [], 3, "copy")[0]["rows"] == 0


def hold(folder, ready, leave):
    with engine.alone(Path(folder)):
        ready.set()
        leave.wait(60)


def test_two_processes_do_not_fill_one_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    other = context.Process(target=hold, args=(str(tmp_path), ready, leave))
    other.start()
    assert ready.wait(60)
    with pytest.raises(StaleFolder, match="another process"):
        engine.run(Copying(tmp_path), TASKS, 3, "copy")
    leave.set()
    other.join(60)
    assert engine.run(Copying(tmp_path), TASKS, 3, "copy")[0]["rows"] == 7


def catalog(folder, **columns) -> Catalog:
    return Catalog(folder, pl.DataFrame(columns), pl.DataFrame())


def test_usable_videos_are_listed_once_per_content(tmp_path):
    made = catalog(
        tmp_path,
        video_id=["a", "b", "c", "d", "e"],
        path=["/a", "/b", None, "/d", "/e"],
        sha256=["1", "2", "3", "1", "4"],
        ok=[True, True, True, True, False],
    )
    assert videos(made) == [Video("a", "1", Path("/a"), ("d",)), Video("b", "2", Path("/b"))]
    assert videos(made, limit=1)[0].ids == ("a", "d")
    assert videos(catalog(tmp_path, video_id=["a"])) == []


def test_no_file_is_no_work_that_is_done(tmp_path):
    with pytest.raises(BadData, match=r"none of its 2 videos has a file.*--videos"):
        to_open(catalog(tmp_path, video_id=["a", "b"]))


def test_a_file_that_cannot_be_decoded_gives_its_error_in_its_place(tmp_path):
    (good,) = tiny_clips.write(tmp_path, 1)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    wanted = [Video(p.name, files.sha256(p), p) for p in (broken, good)]
    with Decoder(tmp_path, 2, DecodeConfig(seconds=120)) as decoder:
        wrong, decoded = decoder(wanted)
    assert isinstance(wrong, MediaError)
    frames, sound = decoded
    assert frames.shape[0] == 2 and frames.shape[3] == 3 and len(sound) > 0


def test_a_lock_whose_file_was_taken_away_is_none(tmp_path):
    with engine.alone(tmp_path):
        late = (tmp_path / ".lock").open("w")
    with late, pytest.raises(OSError, match="taken away"):
        engine._lock(late.fileno())
