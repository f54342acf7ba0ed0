"""Work on files that may hang, crash or exhaust memory, in processes that are thrown away then.

Each worker is a fresh Python without the caller's `__main__`, so a script or a notebook needs no
`if __name__ == "__main__"`. It limits its own address space and carries an alarm of its own, so
nothing is left running when the caller is killed.
"""

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import psutil

from reelm.errors import MediaError, ReelmError

Item = TypeVar("Item")
Result = TypeVar("Result")

START_S = 120  # seconds for a worker to import what it needs, on a machine under load
WATCH_S = 0.25  # seconds between looks at the workers' memory
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Unless the caller's environment says otherwise. Threads of torch that wait by spinning take the
processor from the other workers: a run with a model of two threads took two to four times the
processor time on two cores that were busy."""
AHEAD = 8  # items per worker that may be finished before an earlier one is


class GuardError(ReelmError):
    """Workers cannot be started, whatever the file: the fault is not in the data."""


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    index: int | None = None
    """Which item it works on; None when it is idle."""
    deadline: float = 0.0
    """When it is killed, on the monotonic clock."""

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()


class Guard:
    """Runs functions over items in child processes, with a time and memory limit per item.

    Use it as a context manager; leaving it ends all workers.
    """

    def __init__(
        self,
        workers: int = 2,
        seconds: float | int = 20.0,
        memory_bytes: int = 2 * 1024**3,
        start_s: float | int = START_S,
    ) -> None:
        """
        Args:
            workers: child processes, each with one item at a time.
            seconds: wall time for one item, after which its process is killed; may be lowered.
            memory_bytes: what one process may take beyond what it starts with.
            start_s: wall time for a process to start and read the function.
        """
        self.workers, self.seconds, self.memory_bytes = max(1, workers), seconds, memory_bytes
        self._start_s = start_s
        self._pool: list[_Worker] = []
        self._function: Any = None

    def __enter__(self) -> "Guard":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._pool:
            worker.stop()
        self._pool.clear()

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        label: Callable[[Item], object] = str,
    ) -> Iterator[tuple[Item, Result | MediaError]]:
        """Yield each item with its result or with what went wrong, in the items' order.

        Args:
            function: importable by name in another process (not a lambda, not in `__main__`).
            items: read lazily, a little ahead of what was yielded; each must be picklable.
            label: what errors call an item, e.g. its path.

        Raises:
            GuardError: a worker cannot even be started or cannot import the function.
        """
        if function is not self._function:
            self.__exit__()
            self._function = function
        job = _Job(iter(items), label)
        try:
            while job.more(self.workers * AHEAD) or job.open:
                self._hand_out(job)
                self._collect(job)
                yield from job.ready()
        finally:
            for worker in [w for w in self._pool if w.index is not None]:
                self._drop(worker)  # the caller stopped early

    def _hand_out(self, job: "_Job[Any]") -> None:
        """Give waiting items to idle workers; start workers while there are fewer than asked."""
        while job.waiting:
            idle = next((w for w in self._pool if w.index is None), None)
            if idle is None and len(self._pool) < self.workers:
                idle = self._start()
            if idle is None:
                return
            idle.index = job.waiting.popleft()
            idle.deadline = time.monotonic() + self.seconds
            try:
                idle.connection.send(job.open[idle.index])
            except (BrokenPipeError, ConnectionResetError):
                job.waiting.appendleft(idle.index)  # it died while idle; the item is innocent
                self._drop(idle)

    def _collect(self, job: "_Job[Any]") -> None:
        """Wait for an answer, a death or a limit, and note what came of it."""
        busy = {w.connection: w for w in self._pool if w.index is not None}
        nearest = min((w.deadline for w in busy.values()), default=0.0)
        patience = min(WATCH_S, max(0.0, nearest - time.monotonic()))
        for ready in wait(list(busy), timeout=patience):
            assert isinstance(ready, Connection)
            worker = busy.pop(ready)
            job.settle(worker.index, self._answer(worker))
            worker.index = None
        for worker in busy.values():
            wrong = self._wrong(worker)
            if wrong:
                job.settle(worker.index, wrong)
                self._drop(worker)

    def _answer(self, worker: _Worker) -> Any:
        """A result, or what the worker's end means."""
        try:
            good, value = worker.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            code = worker.process.wait()
            self._drop(worker)
            return "crashed", _ending(code)
        return value if not good else _Good(value)

    def _wrong(self, worker: _Worker) -> tuple[str, str] | None:
        """Why a busy worker must be killed now, if it must."""
        if time.monotonic() >= worker.deadline:
            return "took too long", f"more than {self.seconds:g} s"
        try:
            taken = psutil.Process(worker.process.pid).memory_info().rss
        except psutil.Error:
            return None  # it just died; its connection will tell
        if taken > self.memory_bytes + 2**28:
            return "out of memory", f"more than {self.memory_bytes / 2**20:.0f} MiB"
        return None

    def _start(self) -> _Worker:
        """A new worker that has imported the function and says so."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, str(theirs.fileno())],
                env=WAITING | os.environ,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        worker = _Worker(process, Connection(ours.detach()))
        self._pool.append(worker)
        try:
            worker.connection.send(sys.path)  # as text first: the child cannot import us before
            worker.connection.send((self._function, self.seconds, self.memory_bytes))
            said = (
                worker.connection.recv() if worker.connection.poll(self._start_s) else "no answer"
            )
        except (EOFError, OSError) as error:
            said = f"{type(error).__name__} ({_ending(process.wait())})"
        if said != "ready":
            self._drop(worker)
            raise GuardError(f"a worker process cannot start: {said}")
        return worker

    def _drop(self, worker: _Worker) -> None:
        if worker in self._pool:
            self._pool.remove(worker)
        worker.stop()


@dataclass(frozen=True)
class _Good:
    """A result, told apart from the (reason, detail) of a failure."""

    value: Any


class _Job(Generic[Item]):
    """Items on their way: read, open, settled, and yielded in order."""

    def __init__(self, items: Iterator[Item], label: Callable[[Item], object]) -> None:
        self.items, self.label = items, label
        self.read = self.yielded = 0
        self.waiting: deque[int] = deque()
        self.open: dict[int, Item] = {}
        self.settled: dict[int, Any] = {}

    def more(self, ahead: int) -> bool:
        """Read items until `ahead` are open; True while any is waiting."""
        while len(self.open) < ahead:
            try:
                item = next(self.items)
            except StopIteration:
                break
            self.open[self.read] = item
            self.waiting.append(self.read)
            self.read += 1
        return bool(self.waiting)

    def settle(self, index: int | None, outcome: Any) -> None:
        """Note what came of an item: a `_Good`, or the reason and detail of a failure."""
        if index is None:
            return
        if isinstance(outcome, _Good):
            self.settled[index] = outcome.value
        else:
            self.settled[index] = MediaError(self.label(self.open[index]), *outcome)

    def ready(self) -> Iterator[tuple[Item, Any]]:
        """What can be yielded without breaking the order."""
        while self.yielded in self.settled:
            index, self.yielded = self.yielded, self.yielded + 1
            yield self.open.pop(index), self.settled.pop(index)


_CHILD = """
import sys
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
sys.path[:] = connection.recv()
from reelm.media.guard import work
work(connection)
"""


def work(connection: Connection) -> None:
    """The life of a worker: read the function, then items, and answer until the caller is gone."""
    try:
        function, seconds, memory_bytes = connection.recv()
    except Exception as error:  # noqa: BLE001 - any failure to import is told to the caller
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send("ready")
    _limit(memory_bytes)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        # An alarm ends this process even inside foreign code, if the caller cannot.
        signal.setitimer(signal.ITIMER_REAL, 1.5 * seconds + 5)
        answer = _answer_to(function, item)
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            connection.send_bytes(answer)
        except (BrokenPipeError, ConnectionResetError):
            return


def _answer_to(function: Callable[[Any], Any], item: Any) -> bytes:
    """Pickled (True, result) or (False, (reason, detail))."""
    try:
        return pickle.dumps((True, function(item)), protocol=5)
    except MediaError as error:
        wrong = error.reason, error.detail
    except MemoryError:
        wrong = "out of memory", "the process reached its limit"
    except Exception as error:  # noqa: BLE001 - this is the boundary; the rest goes on
        wrong = "failed", f"{type(error).__name__}: {error}"
    return pickle.dumps((False, wrong))


def _limit(memory_bytes: int) -> None:
    """Let this process map `memory_bytes` more than it has now, where the system can."""
    try:
        import resource
    except ImportError:
        return  # the caller's watch on resident memory is what is left
    now = psutil.Process(os.getpid()).memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (now + memory_bytes, resource.RLIM_INFINITY))


def _ending(code: int) -> str:
    """An exit code in words: signals are negative numbers."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
