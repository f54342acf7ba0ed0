"""RecBole's LightGCN in RecBole's trainer, with its defaults but for the sizes.

RecBole 1.2.1 fills its matrix by a method that scipy has dropped since; it is given back here, and
runs once, before the first step.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse
from gate import Gate
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

NAME = "pairs"


def write(asked: dict) -> Path:
    """All pairs as the training file; one of them as validation and test, which nobody asks."""
    with np.load(asked["data"]) as file:
        offsets, item = file["offsets"], file["item"]
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    table = pd.DataFrame({"user_id:token": user, "item_id:token": item})
    folder = Path(asked["scratch"]).resolve() / "recbole-data"
    (folder / NAME).mkdir(parents=True, exist_ok=True)
    for part, rows in (("train", table), ("valid", table[:1]), ("test", table[:1])):
        rows.to_csv(folder / NAME / f"{NAME}.{part}.inter", sep="\t", index=False)
    return folder


def main() -> None:
    """Train until the gate ends it."""
    gate = Gate()
    asked = gate.settings
    folder = write(asked)
    scipy.sparse.dok_matrix._update = lambda self, entries: self._dict.update(entries)
    sys.argv = sys.argv[:1]  # RecBole reads the command line
    os.chdir(asked["scratch"])  # where it puts its logs
    settings = {
        "data_path": str(folder),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1},
        "train_batch_size": asked["batch"],
        "embedding_size": asked["dim"],
        "n_layers": asked["layers"],
        "reg_weight": asked["decay"],
        "epochs": 10**6,
        "use_gpu": False,
        "show_progress": False,
    }
    config = Config(model="LightGCN", dataset=NAME, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    data = create_dataset(config)
    train_data, _, _ = data_preparation(config, data)
    model = get_model("LightGCN")(config, train_data._dataset).to(config["device"])
    compute = model.calculate_loss

    def at_gate(interaction):
        gate.step(len(interaction))
        return compute(interaction)

    model.calculate_loss = at_gate
    get_trainer(config["MODEL_TYPE"], "LightGCN")(config, model).fit(train_data, saved=False)


if __name__ == "__main__":
    main()
