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
from reelm.serve.records import StoredEvent
from reelm.serve.store import Store

WRITER = """
import sys, threading
from reelm.serve.records import StoredEvent
from reelm.serve.store import Store
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


class Writers:
    """Threads that send a batch until it is acknowledged, then the next one."""

    def __init__(self, store):
        self.acknowledged, self.refused, self._store = [], 0, store
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(6)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _write(self, place):
        for number in itertools.count():
            while not self._sent(f"{place}-{number}"):
                self.refused += 1
                time.sleep(0.01)
            if self._end.is_set():
                return

    def _sent(self, name):
        try:
            self._store.add_events(batch(name))
        except Unavailable:
            return self._end.is_set()
        self.acknowledged.append(name)
        return True

    def wait_for(self, more):
        wanted, limit = len(self.acknowledged) + more, time.monotonic() + 30
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < limit, "writing does not go on"
            time.sleep(0.005)


def test_every_acknowledged_event_survives_kill_9_of_postgresql(postgres, url):
    """While it is away writers hear so and send again; then the same store goes on."""
    store = Store(url)
    with Writers(store) as writers:
        for _ in range(2):
            writers.wait_for(60)
            postgres.kill()
            time.sleep(0.05)
            postgres.start()
        writers.wait_for(60)
    store.close()
    assert writers.refused
    check(url, writers.acknowledged)
