"""Recommend micro-videos by watching them."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`reelm.load(folder)` is `reelm.runs.load`, found when asked for: reelm itself is light."""
    if name == "load":
        return import_module("reelm.runs").load
    raise AttributeError(f"module 'reelm' has no attribute {name!r}")
