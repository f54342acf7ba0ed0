"""Hands of a Ray cluster: parts are worked on by actors on any node, and kept by this process.

Each actor holds a model and decodes what it is asked about, so all nodes must see the video files
under the same paths, and have reelm installed. A part whose actor or node is lost is worked on
elsewhere; results, manifests and ledgers are those of one machine.
"""

import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

from reelm.backends.base import PASSING
from reelm.cost import Meter
from reelm.engine import Hands, Parts, Spent, Worker
from reelm.errors import BackendError, MissingPackage, ReelmError

T = TypeVar("T")
AHEAD = 2  # parts that an actor has at once: one is decoded while the model works on the other
REACH_S = 10.0  # seconds for an address to answer
LOADING = -1  # in place of a part's number
TRIES = 4  # losses that a part survives; nodes come and go, but a part may also be the cause


class ClusterError(ReelmError):
    """A cluster that cannot be reached, or on which a part is lost again and again."""


class Cluster:
    """A connection to a Ray cluster; use it as a context manager."""

    def __init__(self, address: str, needs: dict[str, float] | None = None) -> None:
        """
        Args:
            address: `ray://host:port`, `host:port` or `auto` for the cluster that this machine
                belongs to, or `local` for one that is started here for the purpose.
            needs: what Ray must find for each model, such as {"num_gpus": 1}.

        Raises:
            MissingPackage: Ray is not installed.
            ClusterError: there is no cluster at the address.
        """
        self.ray, self.needs = _ray(), {"num_cpus": 1.0} | (needs or {})
        self._begun = not self.ray.is_initialized()
        if self._begun:
            _join(self.ray, address)

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        if self._begun:
            self.ray.shutdown()

    def call(self, function: Callable[..., T], *given: Any) -> T:
        """What a function returns on a node that has room for a model."""
        try:
            return self.ray.get(self.ray.remote(**self.needs)(function).remote(*given))
        except self.ray.exceptions.RayTaskError as error:
            raise _cause(LOADING, error) from error

    def hands(
        self, make: Callable[[], Worker[Any, Any, Any]], replicas: int
    ) -> Hands[Any, Any, Any]:
        """Hands that work in `replicas` actors; each makes its own worker."""

        def work(_: object, parts: Parts[Any]) -> Generator[tuple[int, Any, Spent]]:
            yield from _Crew(self, make, replicas).over(parts)

        return work


@dataclass(eq=False)
class _Actor:
    """One model somewhere, and the parts it has."""

    handle: Any
    up: bool = False
    """False while it looks for room and loads the model; it is not handed parts before."""
    has: dict[Future[Any], tuple[int, Any]] = field(default_factory=dict)
    """What it works on; until it is up, the word that it is."""

    def hand(self, number: int, tasks: Any) -> None:
        """Give it a part."""
        self.has[self.handle.work.remote(list(tasks)).future()] = number, tasks


class _Crew:
    """Actors that are replaced when they are lost."""

    def __init__(self, cluster: Cluster, make: Callable[[], Any], replicas: int) -> None:
        self._ray, self._make = cluster.ray, make
        options = {"max_concurrency": AHEAD} | cluster.needs
        self._kind = self._ray.remote(**options)(_Remote)
        self._actors = [self._start() for _ in range(replicas)]
        self._losses: dict[int, int] = {}

    def over(self, parts: Parts[Any]) -> Generator[tuple[int, Any, Spent]]:
        """Each part's result, as they come.

        Raises:
            ClusterError: a part, or an actor that was loading its model, was lost too often.
        """
        waiting, left = deque(parts), len(parts)
        try:
            while left:
                self._hand_out(waiting)
                for actor, future in self._ready():
                    if future not in actor.has:
                        continue  # it was lost with its actor just now
                    try:
                        result = future.result()
                    except self._ray.exceptions.RayError as error:
                        waiting.extendleft(self._lost(actor, error))
                        continue
                    number, _ = actor.has.pop(future)
                    if number == LOADING:
                        actor.up = True
                    else:
                        left -= 1
                        yield number, *result
        finally:
            for actor in self._actors:
                self._ray.kill(actor.handle)

    def _start(self) -> _Actor:
        actor = _Actor(self._kind.remote(self._make))
        actor.has[actor.handle.up.remote().future()] = LOADING, None
        return actor

    def _hand_out(self, waiting: deque[tuple[int, Any]]) -> None:
        """Parts to the actors that have fewest."""
        while waiting:
            free = [actor for actor in self._actors if actor.up and len(actor.has) < AHEAD]
            if not free:
                return
            min(free, key=lambda one: len(one.has)).hand(*waiting.popleft())

    def _ready(self) -> list[tuple[_Actor, Future[Any]]]:
        owner = {future: actor for actor in self._actors for future in actor.has}
        ready, _ = wait(owner, return_when=FIRST_COMPLETED)
        return [(owner[future], future) for future in ready]

    def _lost(self, actor: _Actor, error: Exception) -> list[tuple[int, Any]]:
        """Put another actor in its place, and give back the parts that it had.

        What is raised in an actor may be the first sign of a node that ends, whose processes are
        killed one by one; so it counts as a loss.
        """
        had = list(actor.has.values())
        actor.has.clear()
        for number, _ in had:
            self._losses[number] = self._losses.get(number, 0) + 1
            if self._losses[number] > TRIES or _closed(error):
                raise _cause(number, error) from error
        self._ray.kill(actor.handle)
        self._actors[self._actors.index(actor)] = self._start()
        return [(number, tasks) for number, tasks in had if number != LOADING]


class _Remote:
    """The worker in its actor. Two calls may be under way: one decodes, one has the model."""

    def __init__(self, make: Callable[[], Worker[Any, Any, Any]]) -> None:
        self._worker, self._eyes, self._model = make(), Lock(), Lock()
        self._since = Meter()

    def up(self) -> None:
        """Comes back when the model is loaded."""

    def work(self, tasks: Sequence[Any]) -> tuple[Any, Spent]:
        begun = time.perf_counter()
        with self._eyes:
            loaded = self._worker.load(tasks)
        with self._model:
            ready = time.perf_counter()
            made = self._worker.make(loaded)
            now = time.perf_counter()
            cpu_s = self._since.read()["cpu_s"]  # parts overlap: each pays from the last one's end
            self._since = Meter()
        return made, Spent(seconds=now - begun, cpu_s=cpu_s, device_s=now - ready)


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackage("ray", "ray", "a cluster") from error
    return ray


def _join(ray: Any, address: str) -> None:
    options: dict[str, Any] = {} if address == "local" else {"address": address}
    try:
        _reach(address)
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster at {address}: {error}. Start one with `ray start --head`, "
            "or check the address and that both sides run the same versions of Ray and Python."
        ) from error


def _reach(address: str) -> None:
    """Knock at the address; Ray itself waits for minutes and then ends the process."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), REACH_S).close()


def _closed(error: Exception) -> bool:
    """True if an actor has waited for a server as long as it should, or is turned down by it
    whatever it asks: others need not try."""
    cause = getattr(error, "cause", None)
    return isinstance(cause, BackendError) and cause.kind.startswith((*PASSING, "http_4"))


def _cause(number: int, error: Exception) -> Exception:
    """What was raised in the actor, if it is ours; else what became of it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ReelmError):
        return cause
    what = "an actor that loads its model" if number == LOADING else f"part {number}"
    return ClusterError(
        f"{what} was lost {TRIES + 1} times ({str(error).strip().splitlines()[-1]}). "
        "See to the nodes; run the same command again to go on."
    )
