"""Annotating clips: one after the other, as in a notebook, against `annotate`, in one run.

    python benchmarks/bench_annotate.py --catalog work/catalog/KEY [--clips 32] [--rounds 3]

`plain`: decode a file without a plan, `generate` of the plain Hugging Face model, parse the
answer, then the next. `alone`: our reading and our backend, one request at a time. `ours`:
`annotate`, the model in this process. Then the model alone, on the same pictures from memory.
Processor seconds count ended child processes, where files are decoded.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from harness import Spent, interleaved, ratio, report
from PIL import Image

from reelm.annotate import AnnotateConfig, annotate
from reelm.annotate.asking import Question
from reelm.backends.base import Request, show
from reelm.backends.pocket import Pocket
from reelm.data.tables import read_catalog
from reelm.engine import videos
from reelm.media.frames import frames, sample
from reelm.media.sound import sound
from reelm.media.views import SOUND_RATE, pictures
from reelm.prompts.attributes import Attributes
from reelm.prompts.caption import Caption


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


def whole(folder: Path, clips: int, rounds: int) -> None:
    """From file to answer."""
    catalog, pocket = read_catalog(folder), Busy()
    paths = [video.path for video in videos(catalog, clips)]
    one = [Question.of(Attributes, pocket)]
    busy: list[float] = []

    def ours() -> Spent:
        with tempfile.TemporaryDirectory() as work:
            config = AnnotateConfig(limit=clips, replicas=0, part=16)
            pocket.seconds, at = 0.0, time.perf_counter()
            used = spent(lambda: annotate(catalog, pocket, Attributes, config, Path(work)))
            busy.append(pocket.seconds / (time.perf_counter() - at))
            return used

    found = interleaved(
        {
            "plain": lambda: [
                plainly(pocket, watched(path, pocket, one, plan=False)[0]) for path in paths
            ],
            "alone": lambda: [pocket.answer(watched(p, pocket, one)) for p in paths],
            "ours": ours,
        },
        rounds,
        warmup=0,
    )
    shapes = {"clips": len(paths)}
    for name, row in found.items():
        rate = {"clips_per_cpu_s": len(paths) / row["cpu_s"]}
        report(f"annotate-{name}", shapes, row, **rate, **ratio(found, "plain", name))
    report("annotate-busy", shapes, {}, model_share_of_wall=sorted(busy)[len(busy) // 2])


def model(folder: Path, clips: int, rounds: int) -> None:
    """The model alone; one question, and two about the same pictures."""
    pocket, apart = Pocket(), Pocket()
    apart._shares = False
    kinds = [Question.of(kind, pocket) for kind in (Attributes, Caption)]
    asked = [watched(v.path, pocket, kinds) for v in videos(read_catalog(folder), clips)]
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
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--catalog", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    model(asked.catalog, asked.clips, asked.rounds)
    whole(asked.catalog, asked.clips, asked.rounds)


if __name__ == "__main__":
    main()
