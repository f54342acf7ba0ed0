"""Whatever one item does to its process, every other item gets its result, in order."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from reelm.errors import MediaError
from reelm.media.guard import Guard, GuardError


@pytest.fixture
def work(monkeypatch):
    """The faulty function, importable by name here and in the workers."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import faulty

    return faulty.work


def outcome(result):
    return result.reason if isinstance(result, MediaError) else result


def test_the_rest_goes_on_in_order(work):
    orders = [1, "sleep", 2, "exit", 3, "segfault", "allocate", 4, "refuse", 5, "unicode", 6]
    with Guard(workers=2, seconds=4, memory_bytes=2**26) as guard:
        begun = time.monotonic()
        seen = [(item, outcome(result)) for item, result in guard.map(work, orders)]
    assert seen == [
        (1, 2),
        ("sleep", "took too long"),
        (2, 4),
        ("exit", "crashed"),
        (3, 6),
        ("segfault", "crashed"),
        ("allocate", "out of memory"),
        (4, 8),
        ("refuse", "no video stream"),
        (5, 10),
        ("unicode", "failed"),
        (6, 12),
    ]
    assert time.monotonic() - begun < 60


def test_failures_say_what_and_where(work):
    with Guard(workers=1) as guard:
        orders = ["exit", "segfault", "unicode", "refuse", "unpicklable"]
        wrong = [str(result) for _, result in guard.map(work, orders, label="<{}>".format)]
    assert wrong[0] == "<exit>: crashed: exit code 3"
    assert wrong[1] == "<segfault>: crashed: killed by SIGSEGV"
    assert wrong[2].startswith("<unicode>: failed: UnicodeDecodeError")
    assert wrong[3] == "<refuse>: no video stream: only sound"
    assert wrong[4].startswith("<unpicklable>: failed: ")


@pytest.mark.parametrize(("ours", "theirs"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_do_not_spin(monkeypatch, ours, theirs):
    """They would take the processor from the other workers; but the caller may want it."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if ours:
        monkeypatch.setenv("OMP_WAIT_POLICY", ours)
    with Guard(workers=1) as guard:
        assert list(guard.map(os.getenv, ["OMP_WAIT_POLICY"])) == [("OMP_WAIT_POLICY", theirs)]


def test_a_slow_item_does_not_change_the_order(work):
    with Guard(workers=2) as guard:
        assert [r for _, r in guard.map(work, ["slow", 1, 2, 3])] == ["slow", 2, 4, 6]


def test_workers_are_kept_between_items_and_calls(work):
    with Guard(workers=1) as guard:
        first = {result for _, result in guard.map(work, ["pid"] * 3)}
        again = {result for _, result in guard.map(work, ["pid"] * 3)}
    assert len(first | again) == 1
    assert os.getpid() not in first


def test_large_results_arrive_whole(work):
    with Guard(workers=1) as guard:
        assert [len(r) for _, r in guard.map(work, ["large"] * 2)] == [20_000_000] * 2


def test_items_are_read_only_a_little_ahead(work):
    read = []
    with Guard(workers=1) as guard:
        results = guard.map(work, (read.append(i) or i for i in range(10_000)))
        assert next(results) == (0, 0)
        assert len(read) < 100


def test_no_worker_is_left_behind(work):
    with Guard(workers=2, seconds=60) as guard:
        results = guard.map(work, [1, "sleep", "sleep"])
        next(results)
        children = [worker.process.pid for worker in guard._pool]
        assert children
    assert not any(psutil.pid_exists(pid) for pid in children)


def test_what_cannot_start_is_not_blamed_on_the_data():
    def local(item):
        return item

    with pytest.raises((GuardError, AttributeError, TypeError)), Guard(workers=1) as guard:
        list(guard.map(local, [1]))


def test_a_script_needs_no_main_guard(tmp_path):
    """A worker that imported its caller's script would start workers without end."""
    script = tmp_path / "script.py"
    script.write_text(
        "from operator import neg\n"
        "from reelm.media.guard import Guard\n"
        "with Guard(workers=1) as guard:\n"
        "    assert [r for _, r in guard.map(neg, [1, 2])] == [-1, -2]\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, timeout=60)


def test_nothing_is_not_an_error(work):
    with Guard() as guard:
        assert list(guard.map(work, [])) == []
