"""What every encoder does: one vector for each text or video, the same whatever its neighbours."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32, UInt8

from reelm import files
from reelm.config import Config
from reelm.media.views import View


class EncoderConfig(Config):
    """Base of the encoders' settings; section [encoder]."""


@dataclass(frozen=True)
class Clip:
    """A decoded video."""

    frames: UInt8[np.ndarray, "moments height width 3"]
    """At the moments of the encoder's view, upright, square pixels."""
    sound: Float32[np.ndarray, "samples"]
    """Mono at views.SOUND_RATE; empty if there is none."""
    duration_s: float | None = None


class Encoder(ABC):
    """Loaded once, asked many times."""

    name: ClassVar[str]
    Config: ClassVar[type[EncoderConfig]]
    reads: ClassVar[Literal["text", "video"]]
    """Whether `encode` is given strings or Clips."""
    usual: ClassVar[str] = "title"
    """What an encoder of text reads where `encode.input` does not say."""

    dim: int
    """Width of the vectors."""
    view: View = View(moments=6)
    """What of a video is looked at; encoders of text have no use for it."""
    device: str = "cpu"
    """For the cost ledger."""

    @abstractmethod
    def encode(self, inputs: Sequence[Any]) -> Float32[np.ndarray, "inputs dim"]:
        """One finite vector per input."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Whatever can change the vectors: settings, hash of the weights."""


def best_device(asked: str) -> str:
    """What was asked for; for `auto` an accelerator, if there is one."""
    import torch

    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def folder_hash(folder: Path) -> str:
    """Twelve hex digits over the files of a checkpoint folder that can change its vectors."""
    kept = (".safetensors", ".bin", ".json", ".txt", ".model")
    facts = [f"{p.name} {files.sha256(p)}" for p in sorted(folder.iterdir()) if p.suffix in kept]
    return files.digest("\n".join(facts).encode())


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing bars and from naming packages that nobody misses."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
