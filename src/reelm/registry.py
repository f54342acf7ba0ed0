"""Names to classes. A table of contents maps each name to "module:Class"; nothing is imported
until it is asked for. Other packages add names through an entry-point group."""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from reelm.errors import UnknownName


def names(kind: str, table: Mapping[str, str]) -> dict[str, str]:
    """The built-in table, plus what installed packages offer under `reelm.<kind>`."""
    return dict(table) | {e.name: e.value for e in entry_points(group=f"reelm.{kind}")}


def find(kind: str, table: Mapping[str, str], name: str) -> Any:
    """Import and return the class called `name`.

    Raises:
        UnknownName: no table lists it. An error inside the module itself is not caught.
    """
    known = names(kind, table)
    if name not in known:
        raise UnknownName(kind.removesuffix("s"), name, known)
    module, _, attribute = known[name].partition(":")
    return getattr(import_module(module), attribute)
