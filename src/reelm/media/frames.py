"""Frames at moments of a video, upright and with square pixels, found by seeking."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from reelm.errors import MediaError
from reelm.media.planned import Unplanned, plannable, shown
from reelm.media.probe import (
    DECODER_ERRORS,
    opened,
    rotation,
    shown_size,
    stream_duration_s,
    video_stream,
)

SEEK_S = 1.0  # seconds; a nearer moment is reached by decoding on
REORDER_S = 0.25  # seconds; a key frame may be shown this much later than it is stored
EARLY_SHARE, EARLY_S = 0.1, 1.0  # pictures that end this much before their time are cut short


@dataclass(frozen=True)
class Sample:
    """Frames of one video and how well they were found."""

    frames: UInt8[np.ndarray, "moments height width 3"]
    """One picture per moment; a moment after the last frame that decodes repeats that frame."""
    times_s: tuple[float, ...]
    """When each picture begins, in seconds from the first one."""
    duration_s: float
    """Length of the pictures that the header states."""
    damaged: int
    """Packets on the way that the decoder refused."""

    @property
    def cut_short(self) -> bool:
        """True if the pictures end well before the length that the header states."""
        moments = len(self.times_s)
        wanted = (moments - 0.5) / moments * self.duration_s
        return wanted - self.times_s[-1] > max(EARLY_SHARE * self.duration_s, EARLY_S)


def frames(
    path: Path, moments: int, longest: int | None = None
) -> UInt8[np.ndarray, "moments height width 3"]:
    """Pictures at (i + 0.5) / moments of the duration, oldest first.

    Args:
        moments: how many; a video with fewer frames repeats some.
        longest: pixels of the longer side; larger pictures are made smaller, smaller ones stay.

    Raises:
        MediaError: the file cannot be opened, has no moving pictures, or no frame decodes.

    Cost: one decode from the key frame before each moment; neighbours that share a key frame are
    decoded once. In short H.264 videos pictures that no wanted one needs are left out.
    """
    _at_least_one(moments)
    try:
        with opened(path) as container:
            return planned(container, moments, longest)[0]
    except Unplanned:
        return sample(path, moments, longest).frames


def sample(path: Path, moments: int, longest: int | None = None) -> Sample:
    """As `frames`, and with the times found and the damage met; reads more of the file for that.

    Raises:
        MediaError: as `frames`.
    """
    _at_least_one(moments)
    try:
        return _sample(path, moments, longest, seeking=True)
    except _Lost:
        return _sample(path, moments, longest, seeking=False)


def _at_least_one(moments: int) -> None:
    if moments < 1:
        raise ValueError(f"moments must be at least 1, not {moments}")


def planned(
    container: InputContainer,
    moments: int,
    longest: int | None,
    beside: AudioStream | None = None,
) -> tuple[UInt8[np.ndarray, "moments height width 3"], list[Packet]]:
    """As `frames`, from a container that was just opened; and the packets of the stream `beside`.

    Raises:
        Unplanned: open the file again and take `sample`.
    """
    stream = video_stream(container)
    if stream is None or stream.time_base is None or not plannable(stream):
        raise Unplanned
    ticks = _ticks(stream, stream_duration_s(Path(container.name), stream) or 0.0, moments)
    found, others = shown(container, stream, ticks, beside)
    return np.stack(_pictures(found, stream, longest)), others


def _ticks(stream: VideoStream, length_s: float, moments: int) -> list[int]:
    """The moments in the stream's time base."""
    start, tick = stream.start_time or 0, float(stream.time_base or 0)
    return [start + round((i + 0.5) / moments * length_s / tick) for i in range(moments)]


class _Lost(Exception):
    """A seek went wrong: the index lies, or the format cannot seek. Decode from the start."""


def _sample(path: Path, moments: int, longest: int | None, *, seeking: bool) -> Sample:
    with opened(path) as container:
        stream = video_stream(container)
        if stream is None or stream.time_base is None:
            raise MediaError(path, "no video stream", "the file holds no moving pictures")
        length = stream_duration_s(path, stream) or 0.0
        reader = _Reader(container, stream, seeking)
        found = [reader.at(target) for target in _ticks(stream, length, moments)]
        kept = [frame for frame in found if frame is not None]
        if len(kept) < moments:
            detail = f"{reader.damaged} damaged packets" if reader.damaged else "it holds no frame"
            raise MediaError(path, "no frame could be decoded", detail)
        pixels = np.stack(_pictures(kept, stream, longest))
        times = tuple(reader.seconds(frame) for frame in kept)
        return Sample(pixels, times, length, reader.damaged)


class _Reader:
    """Walks through a stream, forwards only, and seeks where that saves decoding."""

    def __init__(self, container: InputContainer, stream: VideoStream, seeking: bool) -> None:
        self.container, self.stream, self.seeking = container, stream, seeking
        self.damaged = 0
        self.tick = float(stream.time_base or 0)
        self.start = stream.start_time or 0
        self.keys: list[int] = []  # decoding times of key frames, in ticks
        self.stored: int | None = None  # decoding time of the newest packet, in ticks
        self.newest: int | None = None  # when the newest frame begins, in ticks
        self.shown: VideoFrame | None = None  # the newest frame that began by the time asked for
        self.ahead: VideoFrame | None = None  # the one after it
        self.source = self._decoded()

    def at(self, target: int) -> VideoFrame | None:
        """The frame on show at `target`, in ticks; the last one if the file ends before."""
        if self._worth_seeking(target):
            self._seek(target)
        while self.ahead is None or self._ticks(self.ahead) <= target:
            if self.ahead is not None:
                self.shown = self.ahead
            self.ahead = next(self.source, None)
            if self.ahead is None:
                break
        return self.shown or self.ahead

    def seconds(self, frame: VideoFrame) -> float:
        """When a frame begins, in seconds after the start of the stream."""
        return (self._ticks(frame) - self.start) * self.tick

    def _worth_seeking(self, target: int) -> bool:
        """True if a key frame lies between what was read and the target, or may lie there."""
        if not self.seeking:
            return False
        read = self.start if self.stored is None else self.stored
        if (target - read) * self.tick < SEEK_S:
            return False
        if not self.keys and len(self.stream.index_entries) > 1:  # some are read by the first seek
            self.keys = [e.timestamp for e in self.stream.index_entries if e.is_keyframe]
        if not self.keys:
            return True  # no index: try, and see where it leads
        latest = target - REORDER_S / self.tick
        return any(read < key <= latest for key in self.keys)

    def _seek(self, target: int) -> None:
        """Go to the key frame before `target`; give up seeking when that leads backwards."""
        before = self.ahead
        try:
            self.container.seek(target, stream=self.stream)
        except DECODER_ERRORS as error:
            raise _Lost from error
        self.source, self.newest = self._decoded(), None
        first = next(self.source, None)
        if first is None or not first.key_frame or self._ticks(first) > target:
            raise _Lost
        if before is not None and self._ticks(first) < self._ticks(before):
            self.seeking = False  # key frames are too far apart for seeking to help
        self.shown, self.ahead = None, first

    def _decoded(self) -> Iterator[VideoFrame]:
        """Frames as they come; packets that do not decode are counted and passed over."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:
                self.damaged += 1
                return  # the file itself cannot be read on
            if packet is None:
                return
            self.stored = packet.dts if packet.dts is not None else self.stored
            try:
                decoded = packet.decode()
            except EOFError:
                return
            except FFmpegError:
                self.damaged += 1
                continue
            for frame in decoded:
                yield self._timed(frame)

    def _timed(self, frame: VideoFrame) -> VideoFrame:
        """Give a frame without a time, or with an earlier one than its predecessor, a later one.

        Frames come in the order of showing; AVI files know only the order of storing.
        """
        if frame.pts is None:
            rate = self.stream.average_rate or self.stream.guessed_rate or 25
            step = max(1, round(1 / (float(rate) * self.tick)))
            frame.pts = self.start if self.newest is None else self.newest + step
        if self.newest is not None:
            frame.pts = max(frame.pts, self.newest + 1)
        self.newest = frame.pts
        return frame

    def _ticks(self, frame: VideoFrame) -> int:
        return self.start if frame.pts is None else frame.pts


def _pictures(
    found: list[VideoFrame], stream: VideoStream, longest: int | None
) -> list[UInt8[np.ndarray, "height width 3"]]:
    """Frames as upright RGB with square pixels, all of the size of the first."""
    turn = rotation(found[0])
    width, height = shown_size(stream, turn)
    if width is None or height is None:
        raise MediaError(stream.container.name, "no frame could be decoded", "it has no size")
    scale = min(1.0, longest / max(width, height)) if longest else 1.0
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    lying = (height, width) if turn % 180 else (width, height)
    scaler = VideoReformatter()  # one, because its tables take as long to make as a picture
    made: dict[int, UInt8[np.ndarray, "height width 3"]] = {}
    for frame in found:
        if id(frame) not in made:  # moments of a short video share frames
            flat = scaler.reformat(frame, *lying, "rgb24", interpolation="BICUBIC", threads=1)
            made[id(frame)] = np.ascontiguousarray(np.rot90(flat.to_ndarray(), turn // 90))
    return [made[id(frame)] for frame in found]
