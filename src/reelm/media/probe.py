"""Facts about a video file, and the one place where files are opened for decoding."""

import math
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from reelm.errors import MediaError

DECODER_ERRORS = (
    FFmpegError,
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    ValueError,  # UnicodeDecodeError among them
)
"""What decoding a hostile file was seen to raise; PyAV's own errors are only the first."""
STRANGE = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}
"""What a path may lead to that is no file; to open a pipe would be to wait for who writes."""
LENIENT: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
"""Titles in other encodings must not end the reading: PyAV raised UnicodeDecodeError unless told;
from 19 on it keeps what it cannot read, and takes no such argument."""


@dataclass(frozen=True)
class Probe:
    """What a file says about itself, plus what its first frame shows.

    Everything about pictures is None in a file without a video stream.
    """

    container: str
    """FFmpeg's name of the format, e.g. `mov,mp4,m4a,3gp,3g2,mj2`."""
    duration_s: float | None
    """Length in seconds; counted from the packets when the header does not say; None if neither."""
    fps: float | None
    """Mean frames per second as the container states them; 1000 means that it does not know."""
    width: int | None
    """Pixels across as shown: after rotation, with square pixels."""
    height: int | None
    """Pixels down as shown."""
    coded_width: int | None
    """Pixels across as stored."""
    coded_height: int | None
    """Pixels down as stored."""
    rotation: int
    """Degrees, counter-clockwise, by which stored frames must be turned: 0, 90, 180, -90, -180."""
    video_codec: str | None
    """Codec of the first video stream, whatever decodes it: `av1` and not `libdav1d`."""
    pixel_format: str | None
    """FFmpeg's name, e.g. `yuv420p10le`."""
    frames: int | None
    """Frames as the header counts them; None when it does not."""
    audio_codec: str | None
    """Codec of the first audio stream, whatever decodes it."""
    sample_rate: int | None
    """Samples per second of the first audio stream."""
    channels: int | None
    """Channels of the first audio stream."""
    video_streams: int
    """Moving pictures; a cover picture does not count."""
    audio_streams: int
    """Sound tracks."""


def probe(path: Path) -> Probe:
    """Read a file's facts; at most one frame is decoded.

    Raises:
        MediaError: the file is not there or no decoder opens it. A file without pictures, or one
            whose first frame is broken, is not an error here; `frames` refuses it.
    """
    with opened(path) as container:
        video, audio = video_stream(container), audio_stream(container)
        first = _first_frame(container, video)
        turn = rotation(first)
        width, height = shown_size(video, turn) if video else (None, None)
        return Probe(
            container=container.format.name,
            duration_s=duration_s(path, container, video),
            fps=float(video.average_rate) if video and video.average_rate else None,
            width=width,
            height=height,
            coded_width=(video.codec_context.width or None) if video else None,
            coded_height=(video.codec_context.height or None) if video else None,
            rotation=turn,
            video_codec=video.codec_context.codec.canonical_name if video else None,
            pixel_format=video.codec_context.pix_fmt if video else None,
            frames=(video.frames or None) if video else None,
            audio_codec=audio.codec_context.codec.canonical_name if audio else None,
            sample_rate=audio.sample_rate if audio else None,
            channels=audio.channels if audio else None,
            video_streams=len(_moving(container)),
            audio_streams=len(container.streams.audio),
        )


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """An open container; whatever a decoder raises inside the block becomes a MediaError."""
    path = Path(path)
    _see(path)
    try:
        with av.open(str(path), **LENIENT) as container:
            yield container
    except MemoryError as error:
        raise MediaError(path, "out of memory", _said(error)) from error
    except DECODER_ERRORS as error:
        raise MediaError(path, "cannot be decoded", _said(error)) from error


def _see(path: Path) -> None:
    """
    Raises:
        MediaError: there is nothing, or something other than a file, or it may not be looked at.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        what = f"a link to {path.readlink()}, which is not there" if path.is_symlink() else ""
        raise MediaError(path, "not found", what or "there is no such file") from error
    except (OSError, ValueError) as error:
        raise MediaError(path, "not found", _said(error)) from error
    if not stat.S_ISREG(mode):
        what = next((name for holds, name in STRANGE.items() if holds(mode)), "something else")
        raise MediaError(path, "not a file", f"it is {what}")


def video_stream(container: InputContainer) -> VideoStream | None:
    """The first stream of moving pictures, set to decode in one thread; None if there is none."""
    streams = _moving(container)
    if not streams:
        return None
    streams[0].codec_context.thread_count = 1  # parallel work is by file, in processes
    return streams[0]


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The first sound track, or None."""
    return container.streams.audio[0] if container.streams.audio else None


def duration_s(path: Path, container: InputContainer, stream: VideoStream | None) -> float | None:
    """Length in seconds by the container, else by the stream, else by the times of its packets."""
    if container.duration:
        return container.duration / av.time_base
    if stream is None:
        return None
    return stream_duration_s(path, stream)


def stream_duration_s(path: Path, stream: VideoStream) -> float | None:
    """Length of the pictures alone in seconds; None when neither header nor packets tell it."""
    tick = stream.time_base
    if tick is None:
        return None
    if stream.duration and stream.duration > 0:
        return float(stream.duration * tick)
    container = stream.container
    if isinstance(container, InputContainer) and container.duration:
        late = 0 if stream.start_time is None else stream.start_time * tick
        early = (container.start_time or 0) / av.time_base
        return max(container.duration / av.time_base - (float(late) - early), float(tick))
    return _counted_s(path)


def rotation(frame: VideoFrame | None) -> int:
    """Degrees counter-clockwise to the nearest quarter turn, from the frame's display matrix."""
    if frame is None or not math.isfinite(frame.rotation):
        return 0
    return round(frame.rotation / 90) * 90


def shown_size(stream: VideoStream, turn: int) -> tuple[int | None, int | None]:
    """Width and height in pixels as a player shows them: square pixels, upright."""
    context = stream.codec_context
    if not context.width or not context.height:
        return None, None
    aspect = stream.sample_aspect_ratio or context.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, 16) <= aspect <= 16:
        aspect = Fraction(1)  # a broken header, not a picture sixteen times wider than its pixels
    width, height = max(1, round(context.width * aspect)), context.height
    return (height, width) if turn % 180 else (width, height)


def _moving(container: InputContainer) -> list[VideoStream]:
    """Video streams that are not cover pictures."""
    cover = Disposition.attached_pic
    return [s for s in container.streams.video if not s.disposition & cover]


def _first_frame(container: InputContainer, stream: VideoStream | None) -> VideoFrame | None:
    """The first frame that decodes among the first packets; None when nothing does."""
    if stream is None:
        return None
    try:
        return next(container.decode(stream), None)
    except DECODER_ERRORS:
        return None  # `frames` says what is wrong; the header's facts still count


def _counted_s(path: Path) -> float | None:
    """Seconds between the first and the end of the last packet of the first video stream."""
    with opened(path) as container:
        stream = video_stream(container)
        tick = None if stream is None else stream.time_base  # a closed file tells none
        if stream is None or tick is None:
            return None
        spans = [
            (packet.pts, packet.pts + (packet.duration or 0))
            for packet in container.demux(stream)
            if packet.pts is not None
        ]
    if not spans:
        return None
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    return float((last - first) * tick)


def _said(error: BaseException) -> str:
    """One line: what kind of error, and its own words where it has some."""
    said = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
