"""What every encoder does: one vector for each text or video, the same whatever its neighbours."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32, UInt8

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
    stored: ClassVar[type[np.float16] | type[np.float32]] = np.float32
    """Precision of the vectors on disk."""
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
