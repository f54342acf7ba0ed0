"""RecTools' SASRecModel in its own trainer. It pads every history to the full length."""

import warnings

import numpy as np
import pandas as pd
from gate import Gate
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

LOSSES = {"softmax": "softmax", "binary": "BCE"}


class AtGate(Callback):
    """Every step waits at the gate; its targets are the labels that are not padding."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.gate.step(int((batch["y"] != 0).sum()))


def main() -> None:
    """Defaults, but for the sizes that both sides share; one CPU device as by default."""
    warnings.simplefilter("ignore")
    gate = Gate()
    asked = gate.settings
    with np.load(asked["data"]) as file:
        offsets, item = file["offsets"], file["item"]
    table = pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)),
            Columns.Item: item,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(np.arange(len(item)), unit="s"),
        }
    )
    model = SASRecModel(
        n_factors=asked["dim"],
        n_blocks=asked["layers"],
        n_heads=asked["heads"],
        session_max_len=asked["length"],
        dropout_rate=asked["dropout"],
        batch_size=asked["batch"],
        loss=LOSSES[asked["objective"]],
        get_trainer_func=lambda: Trainer(
            max_epochs=10**6,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[AtGate(gate)],
        ),
    )
    model.fit(Dataset.construct(table))


if __name__ == "__main__":
    main()
