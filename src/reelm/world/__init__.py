"""The rendered world: micro-videos made from nothing, and people who watch them.

`render` fills a folder with mp4 files, a catalogue, a log, and, apart from them, the truth.
Drawing and tables are imported when they are needed.
"""

import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from reelm import files
from reelm.config import Config
from reelm.errors import StaleFolder

if TYPE_CHECKING:
    from reelm.world.drawing import contact_sheet
    from reelm.world.tables import true_utility

__all__ = ["WorldConfig", "contact_sheet", "render", "true_utility"]

STAGE, VERSION = "world", 1
_SETTINGS = "world.json"
_ELSEWHERE = {
    "contact_sheet": "reelm.world.drawing",
    "true_utility": "reelm.world.tables",
}


class WorldConfig(Config):
    """Size of the world, and of its videos. The people's tastes are fixed in `world.people`."""

    videos: int = Field(default=160, ge=1, le=9999)
    """Videos that are rendered; each lasts four seconds."""
    people: int = Field(default=120, ge=1, le=9999)
    """People who watch for thirty days."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """The same seed gives the same files, byte for byte."""
    width: int = Field(default=360, ge=64, multiple_of=2)
    """Width of a frame in pixels."""
    height: int = Field(default=640, ge=64, multiple_of=2)
    """Height of a frame in pixels."""
    fps: int = Field(default=24, ge=1, le=60)
    """Frames per second."""
    workers: int = Field(default=2, ge=1)
    """Processes that render; the files do not depend on it."""


def render(config: WorldConfig, out: Path) -> Path:
    """Render the world into `out`, manifest last, and return `out`. Run it again to resume.

    Writes `videos/v0001.mp4` and so on, `videos.parquet`, `events.parquet` and `truth/`.

    Raises:
        StaleFolder: `out` holds a world of other settings.
    """
    facts = config.model_dump(exclude={"workers"})
    key = files.key(STAGE, VERSION, facts, {})
    _claim(out, key, facts)
    if files.finished(out):
        return out

    from reelm.world import people, rendering, tables, titles

    start = time.monotonic()
    uploads = titles.make_uploads(config.videos, config.seed)
    watches, tastes = people.simulate(uploads, config.people, config.seed)
    events = tables.events_table(watches, config.seed)
    tables.write_truth(out / "truth", uploads, tastes)
    tables.write_table(out / "videos.parquet", tables.videos_table(uploads))
    tables.write_table(out / "events.parquet", events)
    paths = [out / tables.video_path(number) for number in range(len(uploads))]
    shape = config.width, config.height, config.fps
    rendering.render_clips([upload.clip for upload in uploads], paths, shape, config.workers)
    rows = {"videos": len(uploads), "users": config.people, "events": len(events)}
    return files.finish(
        out, stage=STAGE, version=VERSION, key=key, settings=facts, inputs={}, rows=rows, failed=0,
        seed=config.seed, seconds=round(time.monotonic() - start, 3),
    )  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE[name]), name)


def _claim(out: Path, key: str, facts: dict[str, Any]) -> None:
    """Mark `out` as the folder of these settings before anything else is written to it."""
    mark = out / _SETTINGS
    text = f'{{"key": "{key}"}}\n'
    if not mark.is_file():
        files.write_text(files.vacant(out, STAGE) / mark.name, text)
    elif mark.read_text(encoding="utf-8") != text:
        wanted = ", ".join(f"{name} = {value}" for name, value in facts.items())
        raise StaleFolder(
            f"{out}: holds a world of other settings than {wanted}. "
            "Choose another folder, or delete this one."
        )
