"""API keys: who may call the service, and for what. A file of hashes; keys are shown once."""

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from reelm import files
from reelm.errors import BadData, ConfigError, nearest

SCOPES = ("feed", "write", "edit", "admin")
"""feed: read feeds, videos and media. write: send events and videos. edit: correct notes. admin:
all, also deletion, metrics and the choice of the run."""
PREFIX = "reelm"


@dataclass(frozen=True)
class Key:
    """What the file keeps of one key."""

    id: str
    name: str
    """Whose it is, in words."""
    scopes: tuple[str, ...]
    salt: str
    hash: str
    """SHA-256 of salt and secret. The secret has 256 bits of chance: a slow hash adds nothing."""
    created_at: float
    """Seconds UTC."""
    revoked_at: float | None = None

    def may(self, scope: str) -> bool:
        """Whether it opens what asks for this scope."""
        return scope in self.scopes or "admin" in self.scopes


class Keys:
    """The keys of one file. It is read again when it changes, so a revoked key stops at once."""

    def __init__(self, path: Path) -> None:
        """The file need not be there yet.

        Raises:
            BadData: it is there and is no file of keys.
        """
        self.path, self._lock = path, threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}
        self.list()

    def add(self, name: str, scopes: Sequence[str]) -> str:
        """Make a key and return it; it cannot be shown again.

        Raises:
            ConfigError: a scope that does not exist, or none.
        """
        for scope in scopes:
            if scope not in SCOPES:
                raise ConfigError(
                    f"unknown scope {scope!r}.{nearest(scope, SCOPES)} Known: {', '.join(SCOPES)}."
                )
        if not scopes:
            raise ConfigError(f"a key needs a scope: {', '.join(SCOPES)}.")
        secret, salt = secrets.token_urlsafe(32), secrets.token_hex(16)
        key = Key(
            secrets.token_hex(4), name, tuple(dict.fromkeys(scopes)), salt, _hash(salt, secret),
            time.time(),
        )  # fmt: skip
        with self._alone():
            self._write([*self.list(), key])
        return f"{PREFIX}_{key.id}_{secret}"

    def list(self) -> list[Key]:
        """All keys, revoked ones too, in the order in which they were made."""
        with self._lock:
            self._read()
            return list(self._keys.values())

    def revoke(self, id: str) -> None:
        """Let a key open nothing from now on.

        Raises:
            ConfigError: there is no key of that id.
        """
        known = [key.id for key in self.list()]  # none ever leaves the file
        if id not in known:
            raise ConfigError(f"unknown key {id!r}.{nearest(id, known)} See `reelm keys list`.")
        with self._alone():
            now = time.time()
            self._write([replace(k, revoked_at=now) if k.id == id else k for k in self.list()])

    def any(self) -> bool:
        """Whether some key opens anything."""
        return any(key.revoked_at is None for key in self.list())

    def check(self, text: str) -> Key | None:
        """The key that a client sent, if it is one and was not revoked."""
        _, id, secret = (*text.split("_", 2), "", "", "")[:3]
        with self._lock:
            self._read()
            key = self._keys.get(id)
        given = _hash(key.salt if key else "", secret)
        good = hmac.compare_digest(given, key.hash if key else "")
        return key if key and good and key.revoked_at is None else None

    def media_pass(self, key: Key, until: int) -> str:
        """A text that opens media, and nothing else, until then (seconds UTC), unless the key is
        revoked before. Nothing is kept for it."""
        told = f"{key.id}.{until}"
        return f"{told}.{_signed(key, told)}"

    def admitted(self, text: str, now: float | None = None) -> Key | None:
        """The key that a media pass was made for, if it is one and still opens media."""
        told, _, signature = text.rpartition(".")
        id, _, until = told.partition(".")
        with self._lock:
            self._read()
            key = self._keys.get(id)
        if key is None or key.revoked_at is not None or not key.may("feed"):
            return None
        good = hmac.compare_digest(_signed(key, told).encode(), signature.encode())
        fresh = until.isascii() and until.isdigit() and len(until) < 12
        now = time.time() if now is None else now
        return key if good and fresh and int(until) > now else None

    def _read(self) -> None:
        try:
            facts = self.path.stat()
        except FileNotFoundError:
            self._keys, self._stamp = {}, None
            return
        stamp = (facts.st_mtime_ns, facts.st_ino)
        if stamp == self._stamp:
            return
        try:
            rows = json.loads(self.path.read_text(encoding="utf-8"))
            keys = [Key(**row | {"scopes": tuple(row["scopes"])}) for row in rows]
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise BadData(f"{self.path}: not a file of keys: {error}") from error
        self._keys, self._stamp = {key.id: key for key in keys}, stamp

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Read and write the file with nobody between. What is locked is a file beside it, which
        stays: each writing puts another file in the place of the keys'."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with files.locked(handle):
                self._stamp = None  # two writings within one tick of the clock may look like none
                yield
        finally:
            os.close(handle)

    def _write(self, keys: Sequence[Key]) -> None:
        with files.atomic(self.path, private=True) as tmp:
            tmp.write_text(json.dumps([asdict(key) for key in keys], indent=1), encoding="utf-8")


def _signed(key: Key, told: str) -> str:
    """Only who reads the file of keys can make it."""
    return hmac.new(key.hash.encode(), f"media {told}".encode(), hashlib.sha256).hexdigest()


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}{secret}".encode("utf-8", "surrogatepass")).hexdigest()
