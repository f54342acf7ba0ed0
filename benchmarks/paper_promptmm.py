"""PromptMM on TikTok: what a student gains from its teacher, and what it costs to ask each.

    REELM_DATA=... python benchmarks/paper_promptmm.py [--seeds N] [--only ARM ...]

The split is the source's own; weights and settings are chosen by recall@20 on all validation
questions, and the test is opened once per arm and seed. Teacher and student of a row have the same
seed. `random` and `shuffled` are the controls of distill.teacher_control. `cut` is the teacher's
vectors reduced to the student's width by a singular value decomposition of its scores: what can be
had without teaching. Rows hold the operations of scoring one user with nothing kept (`encoded`) and
with all vectors kept (`cached`), and the numbers that are kept for that.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import study
import torch
from study import Arm

from reelm import cost, runs, train
from reelm.data.split import Split
from reelm.distill import DistillConfig, distill_run
from reelm.models.base import Retriever
from reelm.models.ease import EASEConfig
from reelm.models.lightgcn import LightGCNConfig
from reelm.models.mf import MFConfig
from reelm.models.pairwise import Pairwise
from reelm.models.promptmm import PromptMMConfig
from reelm.train import TrainConfig

TABLE = "paper_promptmm_tiktok"
TEACHER = PromptMMConfig(features=("image", "audio"), layers=3, content_weight=0.03, id_prompt=0.02)
TRAIN = TrainConfig(
    epochs=100, batch_size=4096, learning_rate=2e-3, weight_decay=0.0, validate_every=5,
    patience=4, validate_on=99_999, measure="mixed/recall@20",
)  # fmt: skip
TEACH = TRAIN.model_copy(
    update={
        "epochs": 40, "batch_size": 2048, "learning_rate": 1e-2, "schedule": "cosine", "patience": 8
    }
)  # fmt: skip
LISTS = DistillConfig()
SCRATCH = 0.1  # decay of mf without a teacher: best of .001 to 1 on validation
SMALL = 16  # a quarter of the teacher's width


def arms() -> list[Arm]:
    """The lines of the table."""
    small, wide = MFConfig(dim=SMALL), MFConfig()
    return [
        Arm("teacher", "promptmm", TEACHER, TRAIN),
        Arm("student 16", "mf", small, TEACH),
        Arm("student 16, random", "mf", small, TEACH),
        Arm("student 16, shuffled", "mf", small, TEACH),
        Arm("teacher cut to 16", "mf", small, TRAIN),
        Arm("mf 16", "mf", MFConfig(dim=SMALL, decay=SCRATCH), TEACH),
        Arm("student 64", "mf", wide, TEACH),
        Arm("mf 64", "mf", MFConfig(decay=SCRATCH), TEACH),
        Arm("lightgcn", "lightgcn", LightGCNConfig(), TRAIN),
        Arm("ease", "ease", EASEConfig(ridge=35.0), TRAIN),
    ]


def make(data: Split, arm: Arm, seed: int) -> Path:
    """The run of an arm, and first that of its teacher if it has one."""
    first = arms()[0]
    if "student" not in arm.name and "cut" not in arm.name:
        return study.trained(data, arm, seed)
    teacher = runs.load(study.trained(data, first, seed))
    training = arm.train.model_copy(update={"seed": seed})
    if "cut" in arm.name:
        return cut(data, teacher, arm, training)
    control = arm.name.partition(", ")[2] or "as_is"
    config = LISTS.model_copy(update={"teacher_control": control, "control_seed": seed})
    given = data, teacher, arm.model, arm.settings
    return distill_run(*given, config, training, study.WORK)


def cut(data: Split, teacher: runs.Run, arm: Arm, training: TrainConfig) -> Path:
    """An mf whose scores are the nearest to the teacher's that its width allows."""
    assert isinstance(arm.settings, MFConfig)
    width = arm.settings.dim
    sections = {"model": arm.settings, "train": training}
    inputs = {"split": data.fingerprint, "model": "mf", "teacher": teacher.key}

    def learn(folder: Path) -> tuple[Retriever, list[train.Row]]:
        assert isinstance(teacher.model, Pairwise)
        model = train.build("mf", arm.settings, data.train, training.seed)
        with torch.no_grad():
            (left, r), (right, s) = (torch.linalg.qr(side) for side in teacher.model.served())
            u, values, v = torch.linalg.svd(r @ s.T)
            model.user.copy_((left @ u)[:, :width] * values[:width])
            model.item.copy_((right @ v.T)[:, :width])
        return model, []

    return train.carry_out(train.Plan("cut", 1, "mf", sections, inputs), data, study.WORK, learn)


def extra(model: Retriever, data: Split) -> Mapping[str, Any]:
    """What one user costs, recall of cold videos, and of users with few interactions."""
    with torch.inference_mode():
        user, history = torch.tensor([0]), torch.from_numpy(data.train.history(0)).long()[None]
        model.eval()  # forgets vectors that were kept
        spent = [cost.flops(lambda: model.score(user, history)) for _ in ("encoded", "cached")]
    report = study.evaluate(model, data.test, ("mixed", "warm", "cold"), (20,))
    mixed = report.per_user.filter(report.per_user["pool"] == "mixed")
    light = np.diff(data.train.offsets)[mixed["user"].to_numpy()] < 5
    kept = 0
    if isinstance(model, Pairwise):
        kept = sum(side.numel() for side in model.served())
    return {
        "flops_encoded": spent[0],
        "flops_cached": spent[1],
        "numbers": sum(t.numel() for t in model.state_dict().values()),
        "numbers_cached": kept,
        "warm": report["warm/recall@20"],
        "cold": report["cold/recall@20"],
        "light": float(mixed["recall@20"].to_numpy()[light].mean()),
    }


def main() -> None:
    """Rows that are missing are made; then the table is printed."""
    asked = study.asked()
    data = study.tiktok()
    chosen = study.wanted(arms(), asked.only)
    for seed in range(asked.seeds):
        once = [arm for arm in chosen if arm.model != "ease" or not seed]
        study.run(TABLE, data, once, [seed], extra, make)
    print(study.show(TABLE, ("recall@20", "ndcg@20")))
    print(costs())


def costs() -> str:
    """What each arm costs online, as Markdown."""
    lines = ["| arm | MFLOP encoded | MFLOP cached | numbers | kept |", "|---|---|---|---|---|"]
    for row in (row for row in study.rows(TABLE) if row["seed"] == 0):
        cells = f"{row['flops_encoded'] / 1e6:.2f} | {row['flops_cached'] / 1e6:.2f}"
        lines.append(f"| {row['arm']} | {cells} | {row['numbers']} | {row['numbers_cached']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
