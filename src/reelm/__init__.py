"""Recommend micro-videos by watching them."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "load":  # looked up when asked for: importing reelm must not import torch
        from reelm.runs import load

        return load
    raise AttributeError(f"module 'reelm' has no attribute {name!r}")
