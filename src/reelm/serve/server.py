"""From folders to a listening service: open an engine, serve it until told to stop."""

import gc
import ipaddress
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn

from reelm import runs, sources
from reelm.data.tables import read_catalog, read_features
from reelm.engine import alone
from reelm.errors import BackendError, ConfigError, ReelmError, StaleFolder
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.gate import ServiceConfig
from reelm.serve.grown import Scale, features_of
from reelm.serve.keys import Keys
from reelm.serve.notes import load_notes
from reelm.serve.outcomes import Trial
from reelm.serve.ranking import Ranking
from reelm.serve.rules import DAY_S
from reelm.serve.served import Parts, Served, sibling
from reelm.serve.service import LOOPBACK, create_app
from reelm.serve.store import Store
from reelm.serve.trials import begin
from reelm.serve.uploads import UploadConfig, Uploads
from reelm.serve.watching import Recipe, Watcher

log = logging.getLogger(__name__)

GRACE_S = 5
"""How long a stopping service waits for answers on their way."""
FORGET_S = 6 * 3600.0
"""How often what was shown long ago is removed."""
SWITCH_S = 0.0005
"""How long a thread may keep Python's interpreter while another waits for it. Python's own 5 ms
would let a request, which takes one or two, wait for a model that is being loaded."""


@dataclass(frozen=True)
class Access:
    """Who may call, and how often and how much."""

    keys: Keys | None = None
    """Without keys everybody on this machine may do everything."""
    service: ServiceConfig = field(default_factory=ServiceConfig)
    uploads: UploadConfig = field(default_factory=UploadConfig)


def open_parts(
    run: Path, catalog: Path | None = None, notes: Sequence[Path] = (),
    store: Store | Path | None = None, config: EngineConfig | None = None,
    features: Mapping[str, Path] | None = None,
) -> Parts:  # fmt: skip
    """What an engine over a run folder is made of.

    Args:
        catalog: the catalogue folder with the videos to show; without it there is no media.
        notes: notes folders that reasons and the "why this?" panel cite; later ones win.
        store: events and feeds; by default those of `serve/store.sqlite` in the work folder, so
            that they outlive the run.
        features: the run's features folders by name; they say how new videos are encoded.

    Raises:
        BadData: a folder is not finished, or the store is not one.
    """
    loaded, table = runs.load(run), read_catalog(catalog) if catalog else None
    recipes, scales = {}, {}
    for name in features_of(loaded):
        folder = (features or {}).get(name)
        if folder is not None:
            recipes[name] = Recipe.of(folder).name
            scale = Scale.of(read_features(folder, name), loaded)
            scales |= {name: scale} if scale else {}
    told = load_notes(notes)
    if not isinstance(store, Store):  # last: nobody would close it if a folder were bad
        store = Store(store or store_of(run))
    return Parts(loaded, table, told, store, config, recipes, scales)


def open_engine(
    run: Path, catalog: Path | None = None, notes: Sequence[Path] = (), store: Path | None = None,
    config: EngineConfig | None = None,
) -> Engine:  # fmt: skip
    """An engine over a run folder; see `open_parts`."""
    parts = open_parts(run, catalog, notes, store, config)
    try:
        return parts.engine()
    except BaseException:
        parts.store.close()
        raise


def open_served(
    run: Path, config: EngineConfig | None = None, service: ServiceConfig | None = None
) -> Served:
    """A run folder with the folders that its `sources.json` names, ready to be changed; with
    `serve.ab` a second one for the users of arm b.

    Args:
        service: names another store than that of the work folder, and the second run.

    Raises:
        BadData: a folder is not finished, or the store is not one.
        ConfigError: the store's address cannot be read.
        UnknownRun: there is no second run of that name.
        Unavailable: the store's database does not answer.
    """

    how, beside = service or ServiceConfig(), run.resolve().parent
    usual = store_of(run)
    kept = Store(how.store.get_secret_value() if how.store else usual, usual.parent)

    def arm(folder: Path, ranker: str | None, trial: tuple[Trial, Served] | None = None) -> Served:
        ranking = Ranking(runs.load(sibling(beside, ranker))) if ranker else None

        def parts(folder: Path) -> Parts:
            found = sources.load(folder)
            made = open_parts(folder, found.catalog, found.notes, kept, config, found.features)
            return replace(made, ranking=ranking)

        return Served(parts(folder), parts, trial)

    try:
        trial = None
        if how.ab is not None:
            other = arm(sibling(beside, how.ab), how.ab_ranker)
            trial = begin(kept, how.ab_name, how.ab_share), other
        return arm(run, how.ranker, trial)
    except BaseException:
        kept.close()
        raise


def open_uploads(served: Served, config: UploadConfig | None = None) -> Uploads | None:
    """A place for new videos, beside the store; None for an engine in memory."""
    beside = served.engine.store.beside
    if beside is None or served.parts is None:
        return None
    folder = beside / "uploads"

    def watcher() -> Watcher:
        run = served.parts.run.folder if served.parts else None
        found = sources.load(run) if run and (run / sources.NAME).is_file() else None
        if found is None or served.parts is None:
            return Watcher(folder)
        recipes = [Recipe.of(found.features[name]) for name in served.parts.recipes]
        return Watcher(folder, recipes, found.notes)

    return Uploads(served, folder, watcher, config)


def store_of(run: Path) -> Path:
    """The default store of a run folder `work/runs/x`: `work/serve/store.sqlite`."""
    return run.resolve().parent.parent / "serve" / "store.sqlite"


def keys_of(store: Path) -> Path:
    """Where the keys lie: beside the store."""
    return store.parent / "keys.json"


def serve(
    of: Engine | Served, host: str = "127.0.0.1", port: int = 8000,
    announce: Callable[[str], Any] = lambda address: None, access: Access | None = None,
) -> None:  # fmt: skip
    """Serve until interrupted (Ctrl-C or SIGTERM), then close the store, also if it is refused.

    Answers on their way are finished first. On SIGHUP the newest run is served.

    Args:
        host: an address of this machine; one that others can reach is refused without a key.
        port: 0 takes a free one.
        announce: called with the address once the port is taken.

    Raises:
        ConfigError: the host is public and there is no key, the port is taken, or another service
            has the same SQLite store.
    """
    served, access = of if isinstance(of, Served) else Served(of), access or Access()
    store, days = served.engine.store, access.service.shown_days
    with (
        closing(store),
        listening(host, port, access.keys) as listener,
        _only(store),
        closing(store),  # before another service may have it
    ):
        announce(address_of(listener))
        gc.freeze()  # millions of ids and tables that stay: no use going through them again
        sys.setswitchinterval(SWITCH_S)
        # uvicorn hands a SIGTERM on when it is done; the system's own answer would end us there
        with _changing_on_hangup(served), _forgetting(store, days), _on("SIGTERM", sys.exit):
            _server(served, access, host, listener).run(sockets=[listener])


@contextmanager
def running(of: Engine | Served, port: int = 0, access: Access | None = None) -> Iterator[str]:
    """Serve from a thread of this process while the block runs; yields the address.

    Raises:
        BackendError: the service did not start within a few seconds.
    """
    served, access = of if isinstance(of, Served) else Served(of), access or Access()
    with listening("127.0.0.1", port, access.keys) as listener:
        server = _server(served, access, "127.0.0.1", listener)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            _wait(server)
            yield address_of(listener)
        finally:
            server.should_exit = True
            thread.join(2 * GRACE_S)


def _server(served: Served, access: Access, host: str, listener: socket.socket) -> uvicorn.Server:
    public = not _parsed(host).is_loopback
    app = create_app(
        served, (*LOOPBACK, host), open_uploads(served, access.uploads), access.keys,
        access.service, public,
    )  # fmt: skip
    app.state.pace.listener = listener
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False,
        ws="none", lifespan="on", timeout_graceful_shutdown=GRACE_S,
    )  # fmt: skip
    return uvicorn.Server(settings)


@contextmanager
def _only(store: Store) -> Iterator[None]:
    """Hold a store that is a file against a second service, which would fill the same feeds."""
    with ExitStack() as held:
        if store.folder is not None:
            try:
                held.enter_context(alone(store.folder))
            except StaleFolder as error:
                raise ConfigError(
                    f"{store.folder}: another `reelm serve` has this store. End it, serve a run of "
                    "another --work, or let both share PostgreSQL (serve.store)."
                ) from error
        yield


@contextmanager
def _forgetting(store: Store, days: float | None) -> Iterator[None]:
    """While the block runs, what was shown longer ago than so many days is removed now and then."""
    if days is None:
        yield
        return
    ended = threading.Event()

    def work() -> None:
        while True:
            try:
                store.forget_shown(time.time() - DAY_S * days)
            except Exception:
                log.exception("what was shown long ago stays until it is tried again")
            if ended.wait(FORGET_S):
                return

    thread = threading.Thread(target=work, name="forget", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(GRACE_S)


@contextmanager
def _changing_on_hangup(served: Served) -> Iterator[None]:
    """While the block runs, SIGHUP means: serve the newest run; a bad one changes nothing."""

    def change() -> None:
        try:
            log.warning("now serving %s", served.use())
        except ReelmError as error:
            log.error("the run stays as it is: %s", error)

    with _on("SIGHUP", lambda: threading.Thread(target=change, daemon=True).start()):
        yield


@contextmanager
def _on(name: str, act: Callable[[], Any]) -> Iterator[None]:
    """While the block runs, a signal is answered so; only the main thread can, on systems that
    have it."""
    number = getattr(signal, name, None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def listening(host: str, port: int, keys: Keys | None = None) -> Iterator[socket.socket]:
    """A bound socket, so that a taken port is an error of ours, before anything is loaded.

    Raises:
        ConfigError: the port is taken, or the host is public and there is no key.
    """
    address = _allowed(host, keys)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    # named as TCP, or asyncio does not switch Nagle's algorithm off, and answers wait 40 ms
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((str(address), port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot listen on {host} port {port}: {error}. Choose another --port."
            ) from error
        yield listener


def _parsed(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError as error:
        raise ConfigError(f"host {host!r}: not an IP address. Use 127.0.0.1.") from error


def _allowed(host: str, keys: Keys | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = _parsed(host)
    if not address.is_loopback and not (keys and keys.any()):
        raise ConfigError(
            f"host {host}: reachable from other machines, and there are no API keys yet, so "
            "anyone there could read and write. Make one with `reelm keys add`, or use 127.0.0.1."
        )
    return address


def address_of(listener: socket.socket) -> str:
    """Where a bound socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _wait(server: uvicorn.Server) -> None:
    end = time.monotonic() + 10
    while not server.started:
        if time.monotonic() > end:
            raise BackendError("service", "did not start within 10 s")
        time.sleep(0.01)
