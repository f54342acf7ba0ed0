"""The script of deploy/: what a service gathered becomes a run that knows of it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reelm import files, runs, sources
from reelm.data.tables import read_catalog
from reelm.ingest import IngestConfig, ingest
from reelm.serve.records import StoredEvent
from reelm.serve.store import Store
from reelm.world import WorldConfig, render

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "deploy" / "nightly.sh"


def night(home):
    """One run of the script; the last line that it printed."""
    env = os.environ | {
        "REELM_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run([SCRIPT], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return home / done.stdout.splitlines()[-1]


def test_what_was_watched_is_in_the_next_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # runs name their catalogue as the commands were told
    work = tmp_path / "work"
    (tmp_path / "reelm.toml").write_text(
        "[train]\nepochs = 1\n[split]\nname = 'global_time'\ntest_from = 4e9\nvalid_share = 0\n"
    )
    before = read_catalog(
        ingest(render(WorldConfig(videos=12, people=20), tmp_path / "world"), work, IngestConfig())
    )
    video = before.videos["video_id"].to_list()
    now = time.time()
    liked = [StoredEvent(f"e{n}", "ann", video[n], "like", now + n) for n in range(5)]
    store = Store(work / "serve" / "store.sqlite")
    store.add_events(liked)
    store.delete_user(gone := before.events["user_id"][0])
    run = night(tmp_path)
    assert runs.load(run).history("ann")
    assert gone not in runs.load(run).users
    after = read_catalog(sources.load(run).catalog)
    assert after.folder != before.folder
    assert after.events.filter(user_id="ann")["video_id"].to_list() == video[:5]
    notes = sources.load(run).notes[0]
    asked = files.manifest(notes)["finished_at"]
    store.add_events([StoredEvent("e9", "ann", video[9], "like", now + 9)])
    store.close()
    second = night(tmp_path)
    assert second != run and sources.load(second).notes[0] == notes
    assert files.manifest(notes)["finished_at"] == asked, "no video is watched again"
    last = read_catalog(sources.load(second).catalog)
    assert last.events.height == after.events.height + 1
