"""Killed five times with SIGKILL, at random moments, training ends with the weights of a run that
was left alone, to the last bit."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = 5

CHILD = """
import sys
from pathlib import Path
import numpy as np
import polars as pl
import torch
from reelm import train
from reelm.data.dataset import Dataset
from reelm.data.split import leave_last_two
from reelm.models.sasrec import SASRecConfig

torch.set_num_threads(1)
rng = np.random.default_rng(0)
user = np.repeat(np.arange(150), 20)
events = pl.DataFrame({"user_id": user, "video_id": rng.integers(0, 60, len(user)),
                       "timestamp": np.arange(len(user), dtype=float)})
split = leave_last_two(Dataset.build(events.with_columns(pl.col("user_id", "video_id").cast(str))))
model = SASRecConfig(dim=16, feedforward=16)
config = train.TrainConfig(epochs=12, batch_size=4, checkpoint_s=0, average=0.99, patience=99,
                           precision=sys.argv[2])
print("begun", flush=True)
print(train.train_run(split, "sasrec", model, config, Path(sys.argv[1])), flush=True)
"""


def start(work: Path, precision: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(work), precision]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> Path:
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    return Path(out.splitlines()[-1])


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss/sampled"] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_killed_five_times_the_weights_are_the_same(tmp_path, precision):
    rng = random.Random(precision)
    calm = finished(start(tmp_path / "calm", precision))
    for _ in range(KILLS):
        process = start(tmp_path / "cut", precision)
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        time.sleep(rng.uniform(0.2, 0.8))
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
        process.stdout.close()
    folder = finished(start(tmp_path / "cut", precision))
    assert folder.name == calm.name
    assert losses(folder) == losses(calm)
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() == (calm / weights).read_bytes()
