"""What a decoder can do to its process. Imported by name in child processes."""

import ctypes
import os
import time

from reelm.errors import MediaError
from reelm.media import examine


def work(order):
    """Do what the order says; numbers are doubled."""
    if isinstance(order, int):
        return 2 * order
    return {
        "sleep": lambda: time.sleep(600),
        "allocate": allocate,
        "exit": lambda: os._exit(3),
        "segfault": lambda: ctypes.string_at(0),
        "refuse": refuse,
        "unicode": lambda: b"\xff".decode("utf-8"),
        "unpicklable": lambda: lambda: None,
        "large": lambda: bytes(20_000_000),
        "slow": lambda: time.sleep(0.4) or "slow",
        "pid": lambda: os.getpid(),
    }[order]()


def allocate():
    """Take memory without end."""
    kept = []
    while True:
        kept.append(bytearray(b"x" * 10_000_000))


def refuse():
    """What our own readers raise."""
    raise MediaError("x.mp4", "no video stream", "only sound")


def look(task):
    """Stand-in for `examine.look`: files called sleep, exit … do that to their process."""
    if task.path.stem in ("sleep", "exit", "segfault", "allocate"):
        work(task.path.stem)
    return examine._base(task.path) | {"duration_s": 1.0}
