"""Frames and sound of one video; where a plan holds, the file is opened and read once for both."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from reelm.media.frames import planned, sample
from reelm.media.planned import Unplanned
from reelm.media.probe import audio_stream, opened
from reelm.media.sound import heard, sound


def watched(
    path: Path, moments: int, longest: int | None, rate: int, most_s: float | int | None = None
) -> tuple[UInt8[np.ndarray, "moments height width 3"], Float32[np.ndarray, "samples"]]:
    """What `frames` and `sound` give, at less cost.

    Raises:
        MediaError: as `frames`.
    """
    try:
        with opened(path) as container:
            pictures, packets = planned(container, moments, longest, audio_stream(container))
            return pictures, heard(packets, rate, most_s)
    except Unplanned:
        return sample(path, moments, longest).frames, sound(path, rate, most_s)
