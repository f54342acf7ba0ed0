import json
import stat
import threading

import pytest
from typer.testing import CliRunner

from reelm.cli import app
from reelm.errors import BadData, ConfigError
from reelm.serve.keys import Keys


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "deep" / "keys.json")


def test_a_key_opens_what_its_scopes_say(keys):
    text = keys.add("phone app", ["feed", "write"])
    key = keys.check(text)
    assert key and key.name == "phone app"
    assert key.may("feed") and key.may("write") and not key.may("admin")
    everything = keys.check(keys.add("me", ["admin"]))
    assert everything and everything.may("feed") and everything.may("write")


def test_the_file_does_not_hold_the_key_and_is_private(keys):
    text = keys.add("phone app", ["feed"])
    assert text.split("_", 2)[2] not in keys.path.read_text()
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


def test_wrong_keys_open_nothing(keys):
    text = keys.add("phone app", ["feed"])
    other = keys.add("other", ["admin"])
    mixed = "_".join([*other.split("_", 2)[:2], text.split("_", 2)[2]])
    for wrong in (
        "",
        "_",
        "__",
        "x",
        text[:-1],
        text + "x",
        text.upper(),
        mixed,
        "ü_ä_ö",
        "\ud800",
    ):
        assert keys.check(wrong) is None, wrong


def test_a_revoked_key_stops_at_once_in_another_process_too(keys):
    running = Keys(keys.path)
    text = keys.add("phone app", ["feed"])
    key = running.check(text)
    assert key and running.any()
    keys.revoke(key.id)
    assert running.check(text) is None and not running.any()


@pytest.mark.parametrize("slow", ["add", "revoke"])
def test_two_who_write_at_once_lose_no_key(keys, monkeypatch, slow):
    """The first stops between reading and writing, until the second has written or waits."""
    first = keys.check(keys.add("first", ["feed"]))
    write, second = Keys._write, threading.Event()

    def stop(self, rows):
        if threading.current_thread().name == "slow":
            started.set()
            second.wait(0.5)
        write(self, rows)

    monkeypatch.setattr(Keys, "_write", stop)
    started, other = threading.Event(), Keys(keys.path)
    call = {"add": lambda: other.add("slow", ["feed"]), "revoke": lambda: other.revoke(first.id)}
    thread = threading.Thread(target=call[slow], name="slow")
    thread.start()
    assert started.wait(10)
    quick = keys.add("quick", ["feed"])
    second.set()
    thread.join()
    assert keys.check(quick), "the first writer put back what it had read"
    names = {key.name for key in keys.list() if key.revoked_at is None}
    assert names == ({"first", "slow", "quick"} if slow == "add" else {"quick"})


def test_a_key_that_is_not_there_leaves_nothing_behind(keys):
    with pytest.raises(ConfigError):
        keys.revoke("nobody")
    assert not keys.path.parent.exists()


def test_unknown_scopes_and_keys_are_said(keys):
    with pytest.raises(ConfigError, match=r"'feeds'.*Did you mean 'feed'"):
        keys.add("x", ["feeds"])
    with pytest.raises(ConfigError, match="needs a scope"):
        keys.add("x", [])
    with pytest.raises(ConfigError, match="reelm keys list"):
        keys.revoke("nobody")


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"id": "x"}]'])
def test_a_broken_file_is_said(tmp_path, text):
    path = tmp_path / "keys.json"
    path.write_text(text)
    if text == "{}":
        path.write_text(json.dumps({"a": 1}))
    with pytest.raises(BadData, match="not a file of keys"):
        Keys(path)


def test_the_commands(tmp_path):
    def run(*words):
        done = CliRunner().invoke(app, ["keys", *words, "--work", str(tmp_path)])
        assert done.exit_code == 0, done.output
        return done.output.strip()

    text = run("add", "phone app", "--scope", "feed")
    assert "valid" in run("list") and "phone app" in run("list")
    run("revoke", text.split("_")[1])
    assert "revoked" in run("list")


def test_a_media_pass_ends_and_cannot_be_made_or_stretched(keys):
    text, other = keys.add("page", ["feed"]), keys.add("other", ["feed"])
    key = keys.check(text)
    made = keys.media_pass(key, 2000)
    assert keys.admitted(made, now=1999.0) == key
    assert keys.admitted(made, now=2000.0) is None
    id, until, signature = made.split(".")
    stranger = keys.check(other).id
    for wrong in (
        "", ".", "..", "a.b.c", f"{id}.9999.{signature}", f"{stranger}.{until}.{signature}",
        f"{id}.{until}.", f"{id}.{until}.é", f"{id}..{signature}", text,
    ):  # fmt: skip
        assert keys.admitted(wrong, now=1.0) is None, wrong
    keys.revoke(id)
    assert keys.admitted(made, now=1.0) is None
