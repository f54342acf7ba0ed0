"""Frames of a video: by seeking to a few moments, against decoding every frame of the file.

    python benchmarks/bench_media.py [--clips 4] [--seconds 30] [--moments 6]

Clips are made in a temporary folder: noise that drifts, 360 by 640, 24 frames a second, H.264
with a key frame every two seconds, as phones and platforms write them. Long clips gain by seeking,
short ones cannot: the last lines are for clips of four seconds with one key frame.
"""

import argparse
import tempfile
from pathlib import Path

import av
import numpy as np
from harness import report, timed

from reelm.media.frames import frames

WIDTH, HEIGHT, FPS = 360, 640, 24


def write(path: Path, seconds: float, gop: int) -> Path:
    """A clip whose picture drifts, so that every frame costs something to decode."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (HEIGHT // 8, 2 * WIDTH // 8, 3)).astype(np.uint8)
    wide = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.options = {"preset": "veryfast"}
        for number in range(int(seconds * FPS)):
            at = number % WIDTH
            picture = np.ascontiguousarray(wide[:, at : at + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def decoded(path: Path, moments: int) -> np.ndarray:
    """The same pictures by decoding all frames and keeping the right ones."""
    with av.open(str(path)) as container:
        every = list(container.decode(video=0))
        picked = [every[int((i + 0.5) / moments * len(every))] for i in range(moments)]
        return np.stack([frame.to_ndarray(format="rgb24") for frame in picked])


def measure(clips: list[Path], seconds: float, moments: int) -> None:
    """Two lines: decoding everything, then seeking."""
    shapes = {
        "clips": len(clips),
        "clip_s": seconds,
        "moments": moments,
        "size": f"{WIDTH}x{HEIGHT}",
    }
    floor = timed(lambda: [decoded(path, moments) for path in clips])
    ours = timed(lambda: [frames(path, moments) for path in clips])
    report("media/decode_all", shapes, floor, clips_per_cpu_s=len(clips) / floor["cpu_s"])
    report(
        "media/frames", shapes, ours,
        clips_per_cpu_s=len(clips) / ours["cpu_s"], times_faster=floor["cpu_s"] / ours["cpu_s"],
    )  # fmt: skip


def main() -> None:
    """Long clips with many key frames, then short ones with one."""
    parser = argparse.ArgumentParser()
    for name, value in (("clips", 2), ("seconds", 30), ("moments", 6)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for seconds, gop in ((float(asked.seconds), 2 * FPS), (4.0, 250)):
            paths = [Path(folder) / f"{int(seconds)}s-{n}.mp4" for n in range(asked.clips)]
            measure([write(path, seconds, gop) for path in paths], seconds, asked.moments)


if __name__ == "__main__":
    main()
