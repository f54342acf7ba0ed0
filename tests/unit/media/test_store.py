"""The store gives back what was decoded, at a fraction of its size, and never decodes twice."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reelm.errors import BadData, MediaError
from reelm.files import sha256
from reelm.media import store as module
from reelm.media.frames import frames
from reelm.media.guard import Guard
from reelm.media.sound import sound
from reelm.media.store import FrameStore


@pytest.fixture
def videos(clip, tmp_path):
    """Two good clips and one that is none: (video id, SHA-256, path)."""
    paths = [clip("a.mp4", tone_hz=440), clip("b.mp4", size=(48, 64)), tmp_path / "c.mp4"]
    paths[2].write_bytes(b"no video")
    return [(path.stem, sha256(path), path) for path in paths]


@pytest.fixture
def guard():
    with Guard(workers=1) as one:
        yield one


def test_gives_back_what_was_decoded(videos, tmp_path, guard):
    store = FrameStore(tmp_path / "store", moments=4)
    filled = store.fill(videos, guard)
    assert (filled.stored, filled.reused, list(filled.failed)) == (2, 0, ["c"])
    for _, sha, path in videos[:2]:
        seen, heard = store.get(sha)
        true = frames(path, 4)
        assert (seen.shape, seen.dtype) == (true.shape, np.uint8)
        assert np.abs(seen.astype(int) - true).mean() < 4
        assert heard == pytest.approx(sound(path, 8000), abs=1e-4)
    wrong = store.get(videos[2][1])
    assert isinstance(wrong, MediaError)
    assert wrong.reason == "cannot be decoded"


def test_pictures_are_nearer_than_before(videos_dev, tmp_path, guard):
    """Version 1 kept WebP of quality 85; a store must not give worse pictures than that."""
    store = FrameStore(tmp_path / "store", moments=2)
    good = [(p.name, e["sha256"], p) for p, e in videos_dev if e["kind"] == "ok"][:8]
    store.fill(good, guard)
    for name, sha, path in good:
        seen, _ = store.get(sha)
        for kept, true in zip(seen, frames(path, 2, 320), strict=True):
            out = io.BytesIO()
            Image.fromarray(true).save(out, format="WEBP", quality=85, method=2)
            webp = np.asarray(Image.open(out).convert("RGB"))
            assert off(kept, true) <= off(webp, true), name


def off(one, other):
    """Mean squared difference of two pictures."""
    return ((one.astype(float) - other) ** 2).mean()


def test_a_store_of_another_version_is_made_again(videos, tmp_path, guard, monkeypatch):
    monkeypatch.setattr(module, "VERSION", 1)
    old = FrameStore(tmp_path / "store")
    old.fill(videos, guard)
    before = {path: path.read_bytes() for path in old.folder.iterdir()}
    monkeypatch.undo()
    new = FrameStore(tmp_path / "store")
    assert videos[0][1] not in new
    assert new.fill(videos, guard).reused == 0
    assert videos[0][1] in new
    assert {path: path.read_bytes() for path in old.folder.iterdir()} == before


@pytest.mark.parametrize("left", [0, 60, 200])
def test_damaged_bytes_are_told(videos, tmp_path, guard, left):
    store = FrameStore(tmp_path / "store")
    store.fill(videos[:1], guard)
    (data,) = store.folder.glob("*.bin")
    data.write_bytes(data.read_bytes()[:left])
    with pytest.raises(BadData, match=rf"{data.name}.*cannot be read back.*Delete"):
        store.get(videos[0][1])


def test_a_second_fill_does_nothing(videos, tmp_path):
    with Guard(workers=1) as guard:
        FrameStore(tmp_path / "store").fill(videos, guard)
    untouched = {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("part-*")}
    told = []
    again = FrameStore(tmp_path / "store").fill(videos, guard=None, progress=told.append)
    assert (again.stored, again.reused, list(again.failed)) == (2, 3, ["c"])
    assert sum(told) == 3
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("part-*")} == untouched


def test_equal_files_are_decoded_once_and_failures_can_be_retried(videos, tmp_path, guard):
    store = FrameStore(tmp_path / "store")
    name, sha, path = videos[0]
    wrong = [(name, sha, tmp_path / "missing.mp4"), ("twin", sha, path)]
    assert set(store.fill(wrong, guard).failed) == {name, "twin"}
    assert set(store.fill(videos[:1], guard).failed) == {name}
    assert not store.fill(videos[:1], guard, retry_failed=True).failed
    assert not isinstance(FrameStore(tmp_path / "store").get(sha), MediaError)


def test_other_settings_are_another_store(tmp_path):
    folders = {FrameStore(tmp_path, moments=m, longest=s).folder for m in (4, 6) for s in (64, 320)}
    assert len(folders) == 4


def test_what_was_never_filled_is_a_mistake(tmp_path):
    with pytest.raises(BadData, match="fill the store first"):
        FrameStore(tmp_path).get("0" * 64)


def test_a_killed_fill_resumes(clip, tmp_path):
    """Killed while it decodes: parts on disk are whole, and the next fill does only the rest."""
    paths = [clip(f"{n}.mp4", count=n + 2) for n in range(12)]
    listed = [(path.stem, sha256(path), str(path)) for path in paths]
    script = (
        "import reelm.media.store as store, pathlib\n"
        "store.PART_VIDEOS = 2\n"
        f"videos = [(n, s, pathlib.Path(p)) for n, s, p in {listed!r}]\n"
        "import time\n"
        f"filler = store.FrameStore(pathlib.Path({str(tmp_path / 'store')!r}))\n"
        "filler.fill(videos, progress=lambda n: time.sleep(0.2))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    folder = FrameStore(tmp_path / "store").folder
    until = time.monotonic() + 60
    while len(list(folder.glob("part-*.parquet"))) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {p.name for p in folder.glob("part-*.parquet")}
    with Guard(workers=1) as guard:
        videos = [(n, s, Path(p)) for n, s, p in listed]
        filled = FrameStore(tmp_path / "store").fill(videos, guard)
    assert 4 <= filled.reused < 12
    assert filled.stored == 12
    assert before < {p.name for p in folder.glob("part-*.parquet")}


def test_much_smaller_than_what_was_decoded(videos_dev, tmp_path):
    store = FrameStore(tmp_path, moments=6, longest=320)
    good = [(p.name, e["sha256"], p) for p, e in videos_dev if e["kind"] == "ok"]
    with Guard(workers=1) as guard:
        store.fill(good, guard)
    seen = [store.get(sha) for _, sha, _ in good]
    floats = sum(4 * pictures.size + wave.nbytes for pictures, wave in seen)
    clips = sum(path.stat().st_size for _, _, path in good)
    taken = sum(path.stat().st_size for path in store.folder.glob("part-*"))
    assert taken < floats / 20
    assert taken < clips / 3
