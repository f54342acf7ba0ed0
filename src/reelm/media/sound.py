"""The sound of a video as one channel at a wanted rate."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from av.packet import Packet
from jaxtyping import Float32

from reelm.media.probe import audio_stream, opened


def sound(
    path: Path, rate: int = 16000, most_s: float | int | None = None
) -> Float32[np.ndarray, "samples"]:
    """The first sound track, all channels averaged, full scale at 1; empty when there is none.

    Args:
        rate: samples per second of the answer.
        most_s: seconds after which reading stops; None reads all.

    Raises:
        MediaError: the file cannot be opened. Damaged packets inside it are left out.
    """
    with opened(path) as container:
        stream = audio_stream(container)
        return heard(() if stream is None else container.demux(stream), rate, most_s)


def heard(
    packets: Iterable[Packet], rate: int, most_s: float | int | None = None
) -> Float32[np.ndarray, "samples"]:
    """As `sound`, from the packets of one sound track, while their file is open."""
    most = None if most_s is None else int(most_s * rate)
    pieces = list(_pieces(packets, rate, most))
    if not pieces:
        return np.zeros(0, np.float32)
    return np.concatenate(pieces)[:most]


def _pieces(
    packets: Iterable[Packet], rate: int, most: int | None
) -> Iterator[Float32[np.ndarray, "samples"]]:
    """One-channel pieces at `rate`, until `most` samples were given."""
    given, resampler, shape = 0, AudioResampler(format="fltp", rate=rate), None
    for frame in _decoded(packets):
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape is not None and now != shape:  # streams may change channels on the way
            resampler = AudioResampler(format="fltp", rate=rate)
        shape = now
        for made in resampler.resample(frame):
            yield _one_channel(made)
            given += made.samples
        if most is not None and given >= most:
            return
    if shape is not None:
        for made in resampler.resample(None):
            yield _one_channel(made)


def _one_channel(made: AudioFrame) -> Float32[np.ndarray, "samples"]:
    channels = made.to_ndarray()
    return channels[0] if len(channels) == 1 else channels.mean(axis=0, dtype=np.float32)


def _decoded(packets: Iterable[Packet]) -> Iterator[AudioFrame]:
    """Frames as they come; packets that do not decode are left out."""
    left = iter(packets)
    while True:
        try:
            packet = next(left, None)
        except FFmpegError:
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except FFmpegError:
            continue
