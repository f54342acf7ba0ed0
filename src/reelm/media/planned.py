"""Frames of a short H.264 video by a plan: its packets are read first, then few are decoded.

A frame needs the packets from the key frame before it on, and among those no pictures that none
refers to. What is found is what decoding everything finds, or nothing: at the first doubt (times
that are missing or twice there, damage, a frame that does not come) the caller reads on as ever.
Damage in pictures that are left out is not met, so it cannot spoil those that are wanted either.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from reelm.media.probe import DECODER_ERRORS

CODEC = "h264"  # in others "not referred to" may mean "by pictures of the same layer"
MOST_PACKETS, MOST_BYTES = 10_000, 2**26  # a longer video is cheaper to walk through by seeking


class Unplanned(Exception):
    """No plan can be made, or it did not hold. The container was read from."""


def plannable(stream: VideoStream) -> bool:
    """True if a plan is worth a try; nothing is read."""
    return stream.codec_context.name == CODEC and stream.frames <= MOST_PACKETS


def shown(
    container: InputContainer,
    stream: VideoStream,
    ticks: Sequence[int],
    beside: AudioStream | None = None,
) -> tuple[list[VideoFrame], list[Packet]]:
    """The frame on show at each time (the first one before it begins), and the packets `beside`.

    Args:
        container: just opened.
        ticks: times, in the stream's time base.
        beside: a stream whose packets are read on the way; none are decoded.

    Raises:
        Unplanned: open the file again and find the frames in another way.
    """
    try:
        packets, others = _packets(container, stream, beside)
        times = sorted(p.pts for p in packets if p.pts is not None and not p.is_discard)
        if not times:
            raise Unplanned
        wanted = [times[max(0, bisect_right(times, at) - 1)] for at in ticks]
        runs = [packets[first:end] for first, end in needed(packets, wanted)]
        found = _decoded(stream, runs, set(wanted))
    except DECODER_ERRORS as error:
        raise Unplanned from error
    return [found[time] for time in wanted], others


def needed(packets: Sequence[Packet], wanted: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of packets, in the order stored, that lead from key frames to the `wanted` times.

    Each is the number of its first packet and that after its last. They neither touch nor overlap.
    """
    at = {packet.pts: number for number, packet in enumerate(packets)}
    keys = [(p.pts, number) for number, p in enumerate(packets) if p.is_keyframe]
    runs: list[tuple[int, int]] = []
    spans = [
        (max((n for key, n in keys if key is not None and key <= time), default=0), at[time] + 1)
        for time in wanted
    ]
    for first, end in sorted(spans):
        if runs and first <= runs[-1][1]:
            first, end = runs[-1][0], max(end, runs.pop()[1])
        runs.append((first, end))
    return runs


def _packets(
    container: InputContainer, stream: VideoStream, beside: AudioStream | None
) -> tuple[list[Packet], list[Packet]]:
    """All packets of both streams; those of the pictures each with a time of its own and none with
    new decoder settings."""
    packets: list[Packet] = []
    others: list[Packet] = []
    size = 0
    for packet in container.demux(stream) if beside is None else container.demux(stream, beside):
        size += packet.size
        if packet.stream.index != stream.index:
            others.append(packet)  # the sign of the end too: it makes the decoder give the rest
        elif packet.size:
            packets.append(packet)
            odd = packet.pts is None or packet.is_corrupt or packet.has_sidedata("new_extradata")
            if odd or len(packets) > MOST_PACKETS:
                raise Unplanned
        if size > MOST_BYTES:
            raise Unplanned
    if len({packet.pts for packet in packets}) < len(packets) or not packets[0].is_keyframe:
        raise Unplanned
    return packets, others


def _decoded(
    stream: VideoStream, runs: Sequence[Sequence[Packet]], wanted: set[int]
) -> dict[int, VideoFrame]:
    """The frames at `wanted` times, all of one size."""
    context = stream.codec_context
    found: dict[int, VideoFrame] = {}
    newest: int | None = None
    for frame in _frames(stream, runs, wanted):
        late = newest is not None and frame.pts is not None and frame.pts <= newest
        if frame.pts is None or frame.is_corrupt or late:
            raise Unplanned
        newest = frame.pts
        if newest in wanted:
            found[newest] = frame
    sizes = {(frame.width, frame.height) for frame in found.values()}
    if len(found) < len(wanted) or sizes != {(context.width, context.height)}:
        raise Unplanned
    return found


def _frames(
    stream: VideoStream, runs: Sequence[Sequence[Packet]], wanted: set[int]
) -> Iterator[VideoFrame]:
    """What runs of packets decode to, without unwanted pictures that none refers to.

    The decoder forgets all between runs: otherwise it would build a run that begins with a mere
    point of recovery, not a whole picture, on those of the run before, and not say so.
    """
    context = stream.codec_context
    context.options = {"err_detect": "explode"}  # damage that would be painted over is an error
    for run in runs:
        for packet in run:
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            yield from context.decode(packet)
        yield from context.decode(None)
        context.flush_buffers()
