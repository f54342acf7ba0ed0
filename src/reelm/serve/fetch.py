"""Fetching a video that somebody else names, without being led to places that are not public."""

import ipaddress
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx2

from reelm.config import Config
from reelm.errors import ReelmError, refusal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
REDIRECTS = 3


class RefusedUri(ReelmError):
    """A URI that is not fetched, or that did not give a video; the message says why."""

    def __init__(self, uri: str, why: str) -> None:
        super().__init__(f"uri {uri[:200]!r}: {why}")


class FetchConfig(Config):
    """How far a URI is followed."""

    seconds: float = 20.0
    """Wall time for the whole of it."""
    max_bytes: int = 64 * 2**20
    """Longest file."""
    private: bool = False
    """Also fetch from loopback and private addresses; only where all clients may reach those."""


def fetch(uri: str, into: Path, config: FetchConfig) -> None:
    """Write what lies at an http or https URI into a file.

    A name is resolved once and the address that was checked is the one that is asked, so that a
    name server cannot change its mind in between; each redirect is checked in the same way.

    Raises:
        RefusedUri: another scheme, an address that is not public, no answer in time, too long.
    """
    end = time.monotonic() + config.seconds
    at = uri
    for _ in range(REDIRECTS + 1):
        parts = _checked(uri, at)
        address = _resolved(uri, parts, config.private)
        following = _get(uri, parts, address, into, config, end)
        if following is None:
            return
        at = urljoin(at, following)
    raise RefusedUri(uri, f"more than {REDIRECTS} redirects")


def _checked(uri: str, at: str) -> SplitResult:
    try:
        parts = urlsplit(at)
        good = parts.hostname and parts.port != 0
    except ValueError as error:
        raise RefusedUri(uri, f"not a URI: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise RefusedUri(uri, "only http and https are fetched")
    if not good or parts.username is not None or parts.password is not None:
        raise RefusedUri(uri, "it must name a host, and no user or password")
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in at):
        raise RefusedUri(uri, "blanks and control characters must be escaped")
    return parts


def _resolved(uri: str, parts: SplitResult, private: bool) -> Address:
    """The first address of the host, if all of its addresses may be asked."""
    host = parts.hostname or ""
    try:
        found = socket.getaddrinfo(host, _port(parts), type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
    except (OSError, ValueError) as error:
        raise RefusedUri(uri, f"host {host[:100]!r} cannot be resolved") from error
    if not private and not all(map(is_public, addresses)):
        raise RefusedUri(uri, f"host {host[:100]!r} is not a public address")
    return addresses[0]


def is_public(address: Address) -> bool:
    """Whether an address is one of the open internet, also when it is written inside another."""
    if isinstance(address, ipaddress.IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour
        if inside is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo is not None:
            return False
        if inside is not None:
            return is_public(inside)
    return address.is_global and not address.is_multicast and not address.is_reserved


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _get(
    uri: str, parts: SplitResult, address: Address, into: Path, config: FetchConfig, end: float
) -> str | None:
    """Write the answer into the file, or give where it redirects to."""
    host = f"[{address}]" if address.version == 6 else str(address)
    name = parts.hostname or ""
    query = f"?{parts.query}" if parts.query else ""
    asked = f"{parts.scheme}://{host}:{_port(parts)}{parts.path or '/'}{query}"
    headers = {"host": parts.netloc, "accept": "video/*", "accept-encoding": "identity"}
    options: dict[str, Any] = {"headers": headers, "extensions": {"sni_hostname": name}}
    try:
        with (
            httpx2.Client(trust_env=False, timeout=max(0.1, end - time.monotonic())) as client,
            client.stream("GET", asked, **options) as answer,
        ):
            if answer.is_redirect:
                return answer.headers.get("location", "")
            if answer.status_code != 200:
                raise RefusedUri(uri, f"answered with status {answer.status_code}")
            with into.open("wb") as file:
                for piece in _pieces(uri, answer, config, end):
                    file.write(piece)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
        if refusal(error):  # of our disk, and not of the URI
            raise
        raise RefusedUri(uri, f"no answer: {type(error).__name__}") from error
    return None


def _pieces(uri: str, answer: Any, config: FetchConfig, end: float) -> Iterator[bytes]:
    size = 0
    for piece in answer.iter_raw():
        size += len(piece)
        if size > config.max_bytes:
            raise RefusedUri(uri, f"longer than {config.max_bytes} bytes")
        if time.monotonic() > end:
            raise RefusedUri(uri, f"took more than {config.seconds:g} s")
        yield piece
