"""What was acknowledged outlives a process that is killed at any moment."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from reelm.serve.database import Unavailable
from reelm.serve.store import Store, StoredEvent

WRITER = """
import sys, threading
from reelm.serve.store import Store, StoredEvent
store, said = Store(sys.argv[1]), threading.Lock()
def write(thread):
    for number in range(100000):
        name = f"{thread}-{number}"
        store.add_events([StoredEvent(f"{name}-{k}", "u", "v", "like", 1.0) for k in range(3)])
        with said:
            print(name, flush=True)
for thread in range(6):
    threading.Thread(target=write, args=(thread,)).start()
"""


def batch(name):
    return [StoredEvent(f"{name}-{k}", "u", "v", "like", 1.0) for k in range(3)]


def check(where, acknowledged):
    """Every batch that was acknowledged is there, and none in part."""
    store = Store(where)
    there = {event.event_id for event in store.events("u")}
    store.close()
    wanted = {f"{name}-{k}" for name in acknowledged for k in range(3)}
    assert wanted <= there, "an acknowledged event is lost"
    batches: dict[str, int] = {}
    for event in there:
        batches[event.rpartition("-")[0]] = batches.get(event.rpartition("-")[0], 0) + 1
    assert set(batches.values()) == {3}, "half a batch was kept"


@pytest.mark.parametrize("after_s", [0.2, 0.5])
def test_every_acknowledged_event_survives_kill_9(where, after_s):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(where)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after_s)
    os.kill(process.pid, signal.SIGKILL)
    acknowledged = (first + process.stdout.read()).split("\n")[:-1]  # the last may be cut
    process.wait()
    process.stdout.close()
    assert len(acknowledged) > 6
    check(where, acknowledged)


def test_every_acknowledged_event_survives_kill_9_of_postgresql(postgres, url):
    """While it is away writers hear so and send again; then the same store goes on."""
    store, acknowledged, refused, end = Store(url), [], [], threading.Event()

    def write(thread):
        for number in itertools.count():
            sent = f"{thread}-{number}"
            while sent:
                if end.is_set():
                    return
                try:
                    store.add_events(batch(sent))
                    acknowledged.append(sent)
                    sent = ""
                except Unavailable:
                    refused.append(sent)
                    time.sleep(0.01)

    def wait_for(more):
        wanted, limit = len(acknowledged) + more, time.monotonic() + 30
        while len(acknowledged) < wanted:
            assert time.monotonic() < limit, "writing does not go on"
            time.sleep(0.005)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            wait_for(60)
            postgres.kill()
            time.sleep(0.05)
            postgres.start()
        wait_for(60)
    finally:
        end.set()
        for thread in threads:
            thread.join()
    store.close()
    assert refused
    check(url, acknowledged)
