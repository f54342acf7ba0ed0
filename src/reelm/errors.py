"""Everything a user can get wrong, as types. Each message says what, where, and what to do."""

import difflib
import errno
import re
from collections.abc import Collection, Iterable

REFUSED = (
    *(errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
)
"""What a system says of a place that cannot be written: no bug of ours."""
REFUSAL = re.compile(
    r"No space left on device|Permission denied|Read-only file system|Disk quota exceeded"
    r"|File too large|\d+ requested and \d+ written"
)
"""The same in the words of writers that give no number; the last are NumPy's on a full disk."""
WRITERS = ("polars.", "safetensors.")
"""Modules whose own errors may speak of such a place; known by name, so as not to load them."""


def refusal(error: BaseException) -> str | None:
    """What an error says of a place that cannot be written; None if it speaks of something else."""
    if isinstance(error, OSError) and error.errno is not None:
        told = f"{error.filename or 'disk'}: {error.strerror}"
        return told if error.errno in REFUSED else None
    writer = isinstance(error, OSError) or type(error).__module__.startswith(WRITERS)
    if writer and REFUSAL.search(str(error)):
        return f"disk: {error}".partition("\n")[0]
    return None


def nearest(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


class ReelmError(Exception):
    """Base of all errors a user can act on: the CLI prints them, the service answers with them."""


class ConfigError(ReelmError):
    """A setting is missing, misspelt or out of range."""


class UnknownName(ReelmError):
    """A name that no table of contents lists."""

    def __init__(self, kind: str, name: str, known: Collection[str]) -> None:
        listed = ", ".join(sorted(known))
        super().__init__(f"unknown {kind} {name!r}.{nearest(name, known)} Known: {listed}.")
        self.kind, self.name = kind, name


class UnknownUser(ReelmError):
    """A user the dataset has no row for."""

    def __init__(self, user: str) -> None:
        super().__init__(f"unknown user {user!r}: no event of this user is in the dataset.")
        self.user = user


class MissingInput(ReelmError):
    """A model needs a table that the dataset was loaded without."""

    def __init__(self, model: str, need: str, have: Collection[str], fix: str) -> None:
        loaded = ", ".join(sorted(have)) or "nothing"
        super().__init__(f"{model} needs {need}; loaded: {loaded}. Make it with: {fix}")
        self.model, self.need = model, need


class MissingPackage(ReelmError):
    """A heavy package that lives in an extra is not installed."""

    def __init__(self, package: str, extra: str, wanted_by: str) -> None:
        super().__init__(
            f"{wanted_by} needs the package {package}. "
            f"Install it with: pip install 'reelm[{extra}]'"
        )
        self.package, self.extra = package, extra


class BadData(ReelmError):
    """A file or table that cannot be read as what it claims to be."""


class StaleFolder(ReelmError):
    """A stage folder holds results of other settings, or was changed after it was finished."""


class NonFinite(ReelmError):
    """A loss or a score became NaN or infinite."""


class MediaError(ReelmError):
    """A video file that could not be opened, decoded or finished in time."""

    def __init__(self, path: object, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{path}: {self.why}")

    @property
    def why(self) -> str:
        """Reason and detail, without the path."""
        return ": ".join(filter(None, (self.reason, self.detail)))


class BackendError(ReelmError):
    """A multimodal model could not be loaded or did not answer."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
