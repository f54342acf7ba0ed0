"""Small rendered clips as files, and a catalogue of them."""

import random
from pathlib import Path

import polars as pl

from reelm import files
from reelm.data.tables import Catalog
from reelm.world.clips import sample_clip
from reelm.world.mp4 import write_mp4

SMALL = {"width": 90, "height": 160, "fps": 4}


def write(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """`count` different clips of a few kilobytes each."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"v{n:03d}.mp4" for n in range(count)]
    for path in paths:
        if not path.exists():
            write_mp4(path, sample_clip(rng), **SMALL)
    return paths


def catalog(folder: Path, paths: list[Path]) -> Catalog:
    """As ingest would leave it, in memory only; titles are hostile."""
    shas = [files.sha256(path) for path in paths]
    videos = pl.DataFrame(
        {
            "video_id": [path.stem for path in paths],
            "path": [str(path) for path in paths],
            "title": [f"<b>clip</b> number {n}" if n % 5 else None for n in range(len(paths))],
            "hashtags": ["#cat #fyp" if n % 5 else None for n in range(len(paths))],
            "sha256": shas,
            "duration_s": [4.0] * len(paths),
            "ok": [True] * len(paths),
            "duplicate_of": [
                paths[shas.index(sha)].stem if shas.index(sha) < n else None
                for n, sha in enumerate(shas)
            ],
        }
    )
    return Catalog(folder, videos, pl.DataFrame())
