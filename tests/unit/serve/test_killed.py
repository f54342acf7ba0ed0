"""What was acknowledged outlives a process that is killed at any moment."""

import os
import signal
import subprocess
import sys
import time

import pytest

from reelm.serve.store import Store

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


@pytest.mark.parametrize("after_s", [0.2, 0.5])
def test_every_acknowledged_event_survives_kill_9(tmp_path, after_s):
    path = tmp_path / "store.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after_s)
    os.kill(process.pid, signal.SIGKILL)
    acknowledged = (first + process.stdout.read()).split("\n")[:-1]  # the last may be cut
    process.wait()
    process.stdout.close()
    store = Store(path)
    there = {event.event_id for event in store.events("u")}
    store.close()
    wanted = {f"{name}-{k}" for name in acknowledged for k in range(3)}
    assert len(acknowledged) > 6
    assert wanted <= there, "an acknowledged event is lost"
    batches: dict[str, int] = {}
    for event in there:
        batches[event.rpartition("-")[0]] = batches.get(event.rpartition("-")[0], 0) + 1
    assert set(batches.values()) == {3}, "half a batch was kept"
