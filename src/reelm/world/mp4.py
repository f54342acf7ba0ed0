"""Writing a clip as an ordinary mp4 file: H.264 pictures, AAC sound."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import numpy as np

from reelm import files
from reelm.world.clips import DURATION_S, Clip
from reelm.world.drawing import draw, layout
from reelm.world.sound import synthesize

SOUND_RATE = 16000
_PACKET = 1024  # samples that AAC encodes at a time
_MBTREE = "0"  # x264's macroblock tree reads memory it never set: the bytes would vary


@dataclass(frozen=True)
class Coding:
    """How x264 works: quality (18 fine .. 32 coarse), effort, and frames between keyframes."""

    crf: int = 26
    preset: str = "veryfast"
    keyframe_every: int = 24


def write_mp4(
    path: Path, clip: Clip, width: int = 360, height: int = 640, fps: int = 24, **coding: Any
) -> Path:
    """Render the clip to `path`, which appears only when it is whole.

    Frame i shows the moment i / fps; any fps from 1 on works. `coding` are fields of `Coding`.
    One thread, so the same clip always gives the same bytes with the same libraries.
    The file's index comes first, so that a browser can start before it has all of it.
    """
    with (
        files.atomic(path) as tmp,
        av.open(str(tmp), "w", format="mp4", options={"movflags": "+faststart"}) as out,
    ):
        pictures = _add_pictures(out, width, height, fps, Coding(**coding))
        sound = out.add_stream("aac", rate=SOUND_RATE, layout="mono", bit_rate=48000)
        _mux_pictures(out, pictures, clip)
        _mux_sound(out, sound, clip)
    return path


def _add_pictures(
    out: av.container.OutputContainer, width: int, height: int, fps: int, coding: Coding
) -> av.VideoStream:
    stream = out.add_stream("libx264", rate=fps)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.thread_count = 1
    stream.codec_context.gop_size = coding.keyframe_every
    stream.options = {"crf": str(coding.crf), "preset": coding.preset, "mbtree": _MBTREE}
    return stream


def _mux_pictures(out: av.container.OutputContainer, stream: av.VideoStream, clip: Clip) -> None:
    plan, rate = layout(clip), float(stream.codec_context.framerate)
    for index in range(int(rate * DURATION_S)):
        t = index / rate / DURATION_S
        image = draw(clip, plan, t, stream.width, stream.height)
        out.mux(stream.encode(av.VideoFrame.from_image(image)))
    out.mux(stream.encode())


def _mux_sound(out: av.container.OutputContainer, stream: av.AudioStream, clip: Clip) -> None:
    samples = (synthesize(clip, DURATION_S, SOUND_RATE) * 32767).astype(np.int16)
    for start in range(0, len(samples), _PACKET):
        packet = samples[None, start : start + _PACKET]
        frame = av.AudioFrame.from_ndarray(packet, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())
