"""What does pocket see? Scored on unseen clips, decoded from mp4, by what it generates alone.

    python benchmarks/pocket_accuracy.py --work work/pocket_accuracy --clips 600

Renders clips that training never drew (another seed) as 360x640 mp4 at 24 frames a second with AAC
sound, ingests and annotates them as any catalogue is, and compares every note with the truth. Then
the controls: frames in reverse must flip directions, one frame repeated must hide them, another
clip's sound must bring that clip's music. Writes benchmarks/results/pocket_accuracy.json.
"""

import argparse
import json
import platform
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch

from reelm.annotate import AnnotateConfig, annotate
from reelm.backends import find as find_backend
from reelm.backends.base import Answer, Backend, Request, show
from reelm.backends.pocket import FOLDER
from reelm.data.tables import read_catalog, read_notes
from reelm.ingest import IngestConfig, ingest
from reelm.media.frames import frames
from reelm.media.sound import sound
from reelm.media.views import SOUND_RATE, pictures
from reelm.prompts import find as find_prompt
from reelm.world.clips import Clip, sample_clip
from reelm.world.rendering import render_clips
from reelm.world.vocabulary import ATTRIBUTES, SEEN_IN

HERE = Path(__file__).parent
SEED = 424242
FLIPPED = {"left": "right", "right": "left", "up": "down", "down": "up"}
CONTROLS = 150  # clips that the controls are run on
Sight = tuple[np.ndarray, np.ndarray]


def films(work: Path, count: int, workers: int) -> tuple[list[Clip], list[Path]]:
    """Clips drawn from a seed that training does not use, and their mp4 files."""
    rng = random.Random(SEED)
    clips = [sample_clip(rng) for _ in range(count)]
    paths = [work / "films" / f"c{i:04d}.mp4" for i in range(count)]
    render_clips(clips, paths, (360, 640, 24), workers)
    return clips, paths


def noted(work: Path, paths: Sequence[Path], backend: Backend) -> list[dict[str, str]]:
    """One answer per clip, through ingest and annotate; {} where there was a failure."""
    log = work / "log.csv"
    rows = "".join(f"nobody,{path.stem},watch,1\n" for path in paths)
    log.write_text("user_id,video_id,event,value\n" + rows)
    catalog = read_catalog(ingest(log, work, IngestConfig(videos=work / "films")))
    folder = annotate(catalog, backend, find_prompt("attributes"), AnnotateConfig(), work)
    table = read_notes(folder)
    said = dict(zip(table["video_id"], table["answer"], strict=True))
    return [json.loads(said.get(path.stem) or "{}") for path in paths]


def asked(backend: Backend, sights: Sequence[Sight]) -> list[dict[str, str]]:
    """Answers about given frames and sounds."""
    prompt = find_prompt("attributes")
    question = backend.phrase("attributes") or prompt.ask(backend.vocabulary)
    schema = prompt.schema(backend.vocabulary)
    requests = [
        Request(str(i), show(pictures(backend.view, *sight), question), schema, prompt.max_tokens)
        for i, sight in enumerate(sights)
    ]
    answers = backend.answer(requests)
    return [json.loads(a.text) if isinstance(a, Answer) else {} for a in answers]


def share(said: Sequence[dict[str, str]], clips: Sequence[Clip], name: str) -> float:
    """How often the note names the clip's value."""
    return float(
        np.mean([s.get(name) == getattr(c, name) for s, c in zip(said, clips, strict=True)])
    )


def controls(backend: Backend, clips: Sequence[Clip], sights: Sequence[Sight]) -> dict[str, float]:
    """Reversed frames, one frame repeated, swapped sound."""
    moving = [i for i, clip in enumerate(clips) if clip.motion in FLIPPED]
    plain = asked(backend, [sights[i] for i in moving])
    back = asked(backend, [(sights[i][0][::-1], sights[i][1]) for i in moving])
    still = asked(backend, [(np.repeat(sights[i][0][:1], 6, 0), sights[i][1]) for i in moving])
    donors = [*clips[1:], clips[0]]
    swapped = [(a[0], b[1]) for a, b in zip(sights, [*sights[1:], sights[0]], strict=True)]
    music = asked(backend, swapped)

    def right(said: list[dict[str, str]], flip: bool) -> float:
        truth = [FLIPPED[clips[i].motion] if flip else clips[i].motion for i in moving]
        return float(np.mean([s.get("motion") == t for s, t in zip(said, truth, strict=True)]))

    return {
        "directions right, frames in order": right(plain, False),
        "directions flipped, frames reversed": right(back, True),
        "directions right, one frame repeated": right(still, False),
        "instrument is the donor's, sound swapped": share(music, donors, "instrument"),
        "tempo is the donor's, sound swapped": share(music, donors, "tempo"),
        "mood is the donor's, sound swapped": share(music, donors, "mood"),
        "subject is the clip's own, sound swapped": share(music, clips, "subject"),
    }


def speed(backend: Backend, sights: Sequence[Sight]) -> dict[str, float]:
    """Clips per processor second, decoded already: batches of 32, and one by one."""
    asked(backend, sights[:32])
    start = time.process_time()
    asked(backend, sights[:128])
    batched = min(128, len(sights)) / (time.process_time() - start)
    start = time.process_time()
    for sight in sights[:24]:
        asked(backend, [sight])
    return {"batched": batched, "one by one": 24 / (time.process_time() - start)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path("work/pocket_accuracy"))
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--render-only", action="store_true")
    parser.add_argument("--model", type=Path, help="another checkpoint folder than pocket's")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clips, paths = films(arguments.work, arguments.clips, arguments.workers)
    if arguments.render_only:
        return
    kind = find_backend("pocket")
    backend = kind(None, arguments.model or FOLDER)
    said = noted(arguments.work, paths, backend)
    rows = [
        {
            "attribute": name,
            "told by": SEEN_IN[name],
            "accuracy": round(share(said, clips, name), 4),
            "chance": round(1 / len(values), 3),
            "most common": round(max(np.unique([getattr(c, name) for c in clips],
                                               return_counts=True)[1]) / len(clips), 3),
        }
        for name, values in ATTRIBUTES.items()
    ]  # fmt: skip
    some = clips[:CONTROLS]
    sights = [(frames(p, backend.view.moments), sound(p, SOUND_RATE)) for p in paths[:CONTROLS]]
    size = (arguments.model or FOLDER) / "model.safetensors"
    result = {
        "clips": len(clips),
        "valid answers": float(np.mean([bool(s) for s in said])),
        "attributes": rows,
        "controls": {k: round(v, 4) for k, v in controls(backend, some, sights).items()},
        "clips per cpu second": {k: round(v, 1) for k, v in speed(backend, sights).items()},
        "safetensors_mb": round(size.stat().st_size / 1e6, 2),
        "machine": platform.machine(),
        "torch": torch.__version__,
    }
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "pocket_accuracy.json").write_text(json.dumps(result, indent=1) + "\n")
    print(pl.DataFrame(rows))
    print(json.dumps({k: v for k, v in result.items() if k != "attributes"}, indent=1))


if __name__ == "__main__":
    main()
