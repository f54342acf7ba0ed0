"""Annotating clips: one after the other, as in a notebook, against `annotate`, in one run.

    python benchmarks/bench_annotate.py [--catalog work/catalog/KEY] [--clips 32] [--rounds 3]

Without `--catalog` that many clips of the rendered world are made in a temporary folder.

`plain`: decode a file without a plan, `generate` of the plain Hugging Face model, parse the
answer, then the next. `alone`: our reading and our backend, one request at a time. `workers-N`:
`annotate`, the model in this process, N processes that decode. They take turns; a ratio is taken
within a round, of processor seconds (those of ended child processes counted) and of wall seconds.
One thread of torch everywhere. Wall seconds are worth something on a quiet machine only.

Then how much of the wall time the model is busy, by what is asked; and where the processor
milliseconds of a clip go, stage by stage, each measured in this process on its own. Before all
that the model alone, on the same pictures from memory.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from harness import Spent, interleaved, quartiles, ratio, report
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText

from reelm.annotate import AnnotateConfig, annotate_all
from reelm.annotate.asking import Question
from reelm.backends.base import Request, show
from reelm.backends.pocket import FOLDER, Pocket
from reelm.data.tables import Catalog, read_catalog
from reelm.engine import videos
from reelm.ingest import IngestConfig, ingest
from reelm.media import frames as framing
from reelm.media import packing
from reelm.media.frames import frames, sample
from reelm.media.planned import shown as decoded
from reelm.media.probe import audio_stream, opened, stream_duration_s, video_stream
from reelm.media.sound import heard, sound
from reelm.media.store import FrameStore
from reelm.media.views import SOUND_RATE, pictures
from reelm.prompts.attributes import Attributes
from reelm.prompts.base import Prompt
from reelm.prompts.caption import Caption
from reelm.prompts.visual_summary import VisualSummary
from reelm.world import WorldConfig, render

DEARER = 6  # times the layers of pocket in the model that stands for one of realistic weight


class Busy(Pocket):
    """Pocket that counts the wall seconds it is at work."""

    seconds = 0.0

    def answer(self, requests: Sequence[Request]) -> Any:
        at = time.perf_counter()
        try:
            return super().answer(requests)
        finally:
            self.seconds += time.perf_counter() - at


def spent(call: Callable[[], Any]) -> Spent:
    """Processor seconds of a call, those of its ended child processes counted."""
    before = os.times()
    call()
    after = os.times()
    return Spent(sum(after[:4]) - sum(before[:4]))


def watched(
    path: Path, pocket: Pocket, questions: Sequence[Question], *, plan: bool = True
) -> list[Request]:
    """Decode one file in this process and ask about it; every frame unless there is a `plan`."""
    view = pocket.view
    found = frames(path, view.moments) if plan else sample(path, view.moments).frames
    shown = pictures(view, found, sound(path, SOUND_RATE))
    return [
        Request(path.stem, show(shown, q.text), q.schema, q.prompt.max_tokens) for q in questions
    ]


def plainly(pocket: Pocket, request: Request) -> Any:
    """What the processor and `generate` of the checkpoint make of a request; None if not JSON."""
    inputs = pocket.inputs
    images = [Image.fromarray(picture.pixels) for picture in request.pictures]
    made = inputs._processor(text=[inputs.text(request)], images=images, return_tensors="pt")
    made = {name: value for name, value in made.items() if name in pocket._takes}
    with torch.inference_mode():
        ids = pocket.model.generate(**made, do_sample=False, max_new_tokens=request.max_tokens)
    text = inputs.tokenizer.decode(ids[0, made["input_ids"].shape[1] :], skip_special_tokens=True)
    try:
        return json.loads(text)
    except ValueError:
        return None


def annotated(
    catalog: Catalog,
    pocket: Busy,
    prompts: Sequence[type[Prompt]],
    clips: int,
    workers: int,
    work: Path,
) -> float:
    """Annotate; the share of the wall time that the model was at work."""
    config = AnnotateConfig(limit=clips, replicas=0, part=16, workers=workers)
    pocket.seconds, at = 0.0, time.perf_counter()
    annotate_all(catalog, pocket, prompts, config, work)
    return pocket.seconds / (time.perf_counter() - at)


@contextmanager
def emptied() -> Iterator[Path]:
    """A folder for one run."""
    with tempfile.TemporaryDirectory() as work:
        yield Path(work)


def filmed(folder: Path, clips: int) -> Path:
    """A catalogue of so many clips of the rendered world."""
    world = render(WorldConfig(videos=clips), folder / "world")
    return ingest(world, folder, IngestConfig())


def whole(catalog: Catalog, clips: int, rounds: int, crews: Sequence[int]) -> None:
    """From file to answer."""
    pocket = Busy()
    paths = [video.path for video in videos(catalog, clips)]
    one = [Question.of(Attributes, pocket)]
    walls: dict[str, list[float]] = {}

    def plain() -> None:
        for path in paths:
            plainly(pocket, watched(path, pocket, one, plan=False)[0])

    def alone() -> None:
        for path in paths:
            pocket.answer(watched(path, pocket, one))

    def ours(workers: int) -> None:
        with emptied() as work:
            annotated(catalog, pocket, [Attributes], clips, workers, work)

    def timed(name: str, call: Callable[[], None]) -> Spent:
        at = time.perf_counter()
        used = spent(call)
        walls.setdefault(name, []).append(time.perf_counter() - at)
        return used

    calls: dict[str, Callable[[], None]] = {"plain": plain, "alone": alone}
    calls |= {f"workers-{n}": lambda n=n: ours(n) for n in crews}
    plainly(pocket, watched(paths[0], pocket, one, plan=False)[0])  # neither learns on the clock
    pocket.answer(watched(paths[0], pocket, one))
    found = interleaved(
        {name: lambda n=name, c=call: timed(n, c) for name, call in calls.items()}, rounds, 0
    )
    for name, row in found.items():
        rate = {"clips_per_cpu_s": len(paths) / row["cpu_s"]}
        rate |= {"clips_per_s": len(paths) / median(walls[name])}
        times = [a / b for a, b in zip(walls["plain"], walls[name], strict=True)]
        wall = {"wall_s": median(walls[name]), "wall_rounds": walls[name]}
        wall |= {"wall_ratio": median(times), "wall_ratio_spread": quartiles(times)}
        over = ratio(found, "plain", name)
        report(f"annotate-{name}", {"clips": len(paths)}, row, **rate, **over, **wall)


def busy(catalog: Catalog, clips: int, rounds: int, crews: Sequence[int]) -> None:
    """The share of the wall time that the model is at work, and what a clip takes it."""
    three = [Attributes, Caption, VisualSummary]
    with dearer() as folder:
        light, heavy = Busy(), Busy(folder=folder)
        some = min(clips, max(32, clips // 2))
        cases = {
            "one prompt, from file": (light, three[:1], clips, False),
            "three prompts on one watching, from file": (light, three, clips, False),
            "one prompt, frames stored": (light, three[:1], clips, True),
            f"one prompt, from file, {DEARER} times the layers": (heavy, three[:1], some, False),
        }
        for case, (pocket, prompts, count, stored) in cases.items():
            for workers in crews[:1] if stored else crews:
                shares, took, walls = [], [], []
                for _ in range(rounds):
                    with emptied() as work:
                        if stored:
                            annotated(catalog, pocket, three[1:2], count, workers, work)
                        at = time.perf_counter()
                        shares.append(annotated(catalog, pocket, prompts, count, workers, work))
                        walls.append((time.perf_counter() - at) / count)
                        took.append(1000 * pocket.seconds / count)
                shape = {"clips": count, "case": case, "workers": workers}
                figures = {"model_share_of_wall": median(shares), "spread": quartiles(shares)}
                figures |= {"rounds": shares, "clips_per_s": 1 / median(walls)}
                report("annotate-busy", shape, figures, model_wall_ms_per_clip=median(took))


@contextmanager
def dearer() -> Iterator[Path]:
    """A checkpoint like pocket's with more layers, of random weights: what it says means nothing,
    but the grammar makes it say as much."""
    with emptied() as work:
        folder = Path(shutil.copytree(FOLDER, work / "dearer"))
        config = AutoConfig.from_pretrained(folder)
        config.vision_config.num_hidden_layers *= DEARER
        config.text_config.num_hidden_layers *= DEARER
        config.text_config.layer_types = config.text_config.layer_types * DEARER
        torch.manual_seed(0)
        AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
        yield folder


def stages(catalog: Catalog, clips: int) -> None:
    """Processor milliseconds of a clip, stage by stage; medians over clips, one process."""
    pocket, spans = Pocket(), {}
    asked = [Question.of(Attributes, pocket)]
    paths = [video.path for video in videos(catalog, clips)]
    with tempfile.TemporaryDirectory() as folder:
        settings = FrameStore(Path(folder), pocket.view.moments)._settings

    def clock(where: str, stage: str, call: Callable[[], Any]) -> Any:
        at = time.thread_time()
        made = call()
        spans.setdefault((where, stage), []).append(1000 * (time.thread_time() - at))
        return made

    requests = []
    for path in paths:
        packed, voice = _child(path, settings, clock)
        seen = clock("caller", "pictures back", lambda packed=packed: _back(packed))
        wave = clock("caller", "sound back", lambda voice=voice: packing.unpacked_sound(voice))
        views = clock(
            "caller", "model's pictures", lambda s=seen, w=wave: pictures(pocket.view, s, w)
        )
        parts = show(views, asked[0].text)
        requests.append(Request(path.stem, parts, asked[0].schema, Attributes.max_tokens))
    pocket.answer(requests[:2])
    for at in range(0, len(requests), 32):
        batch = requests[at : at + 32]
        start = time.thread_time()
        pocket.answer(batch)
        each = 1000 * (time.thread_time() - start) / len(batch)
        spans.setdefault(("caller", "model"), []).append(each)
    for path in paths[:32]:
        request = clock(
            "plain loop", "watching", lambda p=path: watched(p, pocket, asked, plan=False)[0]
        )
        clock("plain loop", "model", lambda r=request: plainly(pocket, r))
    for (where, stage), values in spans.items():
        shape = {"clips": len(values), "where": where, "stage": stage}
        report("annotate-stage", shape, {"cpu_ms": median(values), "spread": quartiles(values)})


def _child(path: Path, settings: Any, clock: Callable[..., Any]) -> tuple[list[bytes], bytes]:
    """What `packing.decode` does, under a clock."""
    opening = opened(path)
    container = clock("child", "opening", opening.__enter__)
    stream, voice = video_stream(container), audio_stream(container)
    assert stream is not None, path
    ticks = framing._ticks(stream, stream_duration_s(path, stream) or 0.0, settings.moments)
    found, packets = clock(
        "child", "decoding pictures", lambda: decoded(container, stream, ticks, voice)
    )
    made = clock("child", "shrinking", lambda: framing._pictures(found, stream, settings.longest))
    wave = clock("child", "sound", lambda: heard(packets, SOUND_RATE, settings.sound_s))
    opening.__exit__(None, None, None)
    wave = wave / np.float32(max(1.0, np.abs(wave).max(initial=0.0)))
    packed = clock(
        "child",
        "packing pictures",
        lambda: [packing.packed_picture(one, settings.quality) for one in made],
    )
    return packed, clock("child", "packing sound", lambda: packing.packed_sound(wave))


def _back(packed: Sequence[bytes]) -> Any:
    return np.stack([packing.unpacked_picture(one) for one in packed])


def model(catalog: Catalog, clips: int, rounds: int) -> None:
    """The model alone; one question, and two about the same pictures."""
    pocket, apart = Pocket(), Pocket()
    apart._shares = False
    kinds = [Question.of(kind, pocket) for kind in (Attributes, Caption)]
    asked = [watched(v.path, pocket, kinds) for v in videos(catalog, clips)]
    first, second = ([both[n] for both in asked] for n in (0, 1))
    flat = [request for both in asked for request in both]
    found = interleaved(
        {
            "plain": lambda: [plainly(pocket, request) for request in first],
            "alone": lambda: [pocket.answer([request]) for request in first],
            "batched": lambda: pocket.answer(first),
            "two-passes": lambda: [apart.answer(first), apart.answer(second)],
            "two-shared": lambda: pocket.answer(flat),
        },
        rounds,
        warmup=0,
    )
    same = [a.__dict__ | {"seconds": 0} for a in pocket.answer(flat)] == [
        a.__dict__ | {"seconds": 0} for a in apart.answer(flat)
    ]
    shapes = {"clips": len(asked)}
    for name, row in found.items():
        rate = {"clips_per_cpu_s": len(asked) / row["cpu_s"]}
        report(f"model-{name}", shapes, row, **rate, **ratio(found, "plain", name))
    over = ratio(found, "two-passes", "two-shared")
    report("model-two-prompts", shapes, {}, **over, answers_equal=same)


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--catalog", type=Path)
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", choices=["model", "whole", "busy", "stages"])
    asked = parser.parse_args()
    with emptied() as work:
        catalog = read_catalog(asked.catalog or filmed(work, asked.clips))
        sizes = (asked.clips, asked.rounds)
        parts: Mapping[str, Callable[[], None]] = {
            "model": lambda: model(catalog, min(asked.clips, 96), asked.rounds),
            "whole": lambda: whole(catalog, *sizes, asked.workers),
            "busy": lambda: busy(catalog, *sizes, asked.workers),
            "stages": lambda: stages(catalog, min(asked.clips, 96)),
        }
        for name, part in parts.items():
            if asked.only in (None, name):
                part()


if __name__ == "__main__":
    main()
