"""Frames of a short H.264 video by a plan: its packets are read first, then few are decoded.

A frame needs the packets from the key frame before it on, and among those no pictures that none
refers to. What is found is what decoding everything finds, or nothing: at the first doubt (times
that are missing or twice there, damage, a frame that does not come) the caller reads on as ever.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

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


def shown(container: InputContainer, stream: VideoStream, ticks: Sequence[int]) -> list[VideoFrame]:
    """The frame on show at each time; the first one before it begins.

    Args:
        container: just opened.
        ticks: times, in the stream's time base.

    Raises:
        Unplanned: open the file again and find the frames in another way.
    """
    try:
        packets = _packets(container, stream)
        times = sorted(p.pts for p in packets if p.pts is not None and not p.is_discard)
        if not times:
            raise Unplanned
        wanted = [times[max(0, bisect_right(times, at) - 1)] for at in ticks]
        found = _decoded(stream, [packets[at] for at in needed(packets, wanted)], set(wanted))
    except DECODER_ERRORS as error:
        raise Unplanned from error
    return [found[time] for time in wanted]


def needed(packets: Sequence[Packet], wanted: Sequence[int]) -> list[int]:
    """Which packets, in the order stored, lead from key frames to the frames at `wanted` times."""
    at = {packet.pts: number for number, packet in enumerate(packets)}
    keys = [(p.pts, number) for number, p in enumerate(packets) if p.is_keyframe]
    numbers: set[int] = set()
    for time in wanted:
        first = max((number for key, number in keys if key is not None and key <= time), default=0)
        numbers.update(range(first, at[time] + 1))
    return sorted(numbers)


def _packets(container: InputContainer, stream: VideoStream) -> list[Packet]:
    """All packets of a stream, each with a time of its own and none with new decoder settings."""
    packets: list[Packet] = []
    size = 0
    for packet in container.demux(stream):
        if packet.size == 0:
            continue  # the sign that the file has ended
        size += packet.size
        packets.append(packet)
        odd = packet.pts is None or packet.is_corrupt or packet.has_sidedata("new_extradata")
        if odd or len(packets) > MOST_PACKETS or size > MOST_BYTES:
            raise Unplanned
    if len({packet.pts for packet in packets}) < len(packets) or not packets[0].is_keyframe:
        raise Unplanned
    return packets


def _decoded(
    stream: VideoStream, packets: Sequence[Packet], wanted: set[int]
) -> dict[int, VideoFrame]:
    """The frames at `wanted` times, all of one size."""
    context = stream.codec_context
    found: dict[int, VideoFrame] = {}
    newest: int | None = None
    for frame in _frames(stream, packets, wanted):
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
    stream: VideoStream, packets: Sequence[Packet], wanted: set[int]
) -> Iterator[VideoFrame]:
    """What the packets decode to, without unwanted pictures that none refers to."""
    context = stream.codec_context
    context.options = {"err_detect": "explode"}  # damage that would be painted over is an error
    for packet in packets:
        context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from context.decode(packet)
    yield from context.decode(None)
