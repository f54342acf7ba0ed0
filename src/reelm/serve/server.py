"""From folders to a listening service: open an engine, serve it until told to stop."""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from reelm import runs
from reelm.data.tables import read_catalog
from reelm.errors import BackendError, ConfigError
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.notes import load_notes
from reelm.serve.service import create_app
from reelm.serve.store import Store

GRACE_S = 5
"""How long a stopping service waits for answers on their way."""


def open_engine(
    run: Path, catalog: Path | None = None, notes: Sequence[Path] = (), store: Path | None = None,
    config: EngineConfig | None = None,
) -> Engine:  # fmt: skip
    """An engine over a run folder.

    Args:
        catalog: the catalogue folder with the videos to show; without it there is no media.
        notes: notes folders that reasons and the "why this?" panel cite; later ones win.
        store: file of events and feeds; by default `serve/store.sqlite` in the work folder, so
            that it outlives the run.

    Raises:
        BadData: a folder is not finished, or the store is not one.
    """
    table = read_catalog(catalog) if catalog else None
    path = store or store_of(run)
    return Engine(runs.load(run), table, load_notes(notes), Store(path), config)


def store_of(run: Path) -> Path:
    """The default store of a run folder `work/runs/x`: `work/serve/store.sqlite`."""
    return run.resolve().parent.parent / "serve" / "store.sqlite"


def serve(
    engine: Engine, host: str = "127.0.0.1", port: int = 8000,
    announce: Callable[[str], Any] = lambda address: None,
) -> None:  # fmt: skip
    """Serve until interrupted (Ctrl-C or SIGTERM), then close the store.

    Args:
        host: a loopback address; others are refused, as there are no API keys yet.
        port: 0 takes a free one.
        announce: called with the address once the port is taken.

    Raises:
        ConfigError: the host is not a loopback address, or the port is taken.
    """
    with _listening(host, port) as listener:
        announce(_address(listener))
        try:
            _server(engine).run(sockets=[listener])
        finally:
            engine.store.close()


@contextmanager
def running(engine: Engine, port: int = 0) -> Iterator[str]:
    """Serve from a thread of this process while the block runs; yields the address.

    Raises:
        BackendError: the service did not start within a few seconds.
    """
    with _listening("127.0.0.1", port) as listener:
        server = _server(engine)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            _wait(server)
            yield _address(listener)
        finally:
            server.should_exit = True
            thread.join(2 * GRACE_S)


def _server(engine: Engine) -> uvicorn.Server:
    settings = uvicorn.Config(
        create_app(engine), log_level="warning", access_log=False, server_header=False,
        ws="none", lifespan="off", timeout_graceful_shutdown=GRACE_S,
    )  # fmt: skip
    return uvicorn.Server(settings)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket, so that a taken port is an error of ours, before anything is loaded."""
    address = _loopback(host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((str(address), port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot listen on {host} port {port}: {error}. Choose another --port."
            ) from error
        yield listener


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError as error:
        raise ConfigError(f"host {host!r}: not an IP address. Use 127.0.0.1.") from error
    if not address.is_loopback:
        raise ConfigError(
            f"host {host}: reachable from other machines, and the service has no API keys yet, so "
            "anyone there could read and write. Use 127.0.0.1, behind a proxy that asks who it is."
        )
    return address


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _wait(server: uvicorn.Server) -> None:
    end = time.monotonic() + 10
    while not server.started:
        if time.monotonic() > end:
            raise BackendError("service", "did not start within 10 s")
        time.sleep(0.01)
