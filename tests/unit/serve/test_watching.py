"""Watching one video of the service: what cannot be had is told, and nobody waits for it."""

import pytest

import tiny_clips
from reelm import files
from reelm.annotate import way
from reelm.backends.openai_http import OpenAIHTTP, OpenAIHTTPConfig
from reelm.serve.watching import Watcher


@pytest.fixture
def row(tmp_path):
    (path,) = tiny_clips.write(tmp_path / "clips", 1)
    facts = {"video_id": "mine", "path": str(path), "sha256": files.sha256(path), "ok": True}
    return facts | {"title": "a cat"}


def test_a_server_that_is_gone_keeps_no_video_waiting(row, tmp_path, monkeypatch):
    def waits(seconds):
        raise AssertionError(f"waits for {seconds} s")

    monkeypatch.setattr(way.time, "sleep", waits)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    watcher = Watcher(tmp_path / "work")
    watcher._backend = OpenAIHTTP(
        OpenAIHTTPConfig(model="m", base_url="http://127.0.0.1:9/v1", retries=0)
    )
    seen = watcher.watch(row)
    watcher.close()
    (told,) = seen.missing
    assert told.startswith("notes: connection: ") and not seen.answer
