"""RecBole's SASRec in RecBole's trainer, with its defaults.

It learns from every beginning of every history: one row, and one target, per interaction but a
user's first. So one of its epochs costs rows x length places, of which one in `length` predicts.
It keeps the last two interactions of each user for validation and test.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from gate import Gate
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

NAME = "log"


def write(asked: dict) -> Path:
    """The interactions as RecBole's atomic file; the timestamp is the place in the history."""
    with np.load(asked["data"]) as file:
        offsets, item = file["offsets"], file["item"]
    sizes = np.diff(offsets)
    table = pd.DataFrame(
        {
            "user_id:token": np.repeat(np.arange(len(sizes)), sizes),
            "item_id:token": item,
            "timestamp:float": np.arange(len(item)) - np.repeat(offsets[:-1], sizes),
        }
    )
    folder = Path(asked["scratch"]).resolve() / "recbole-data"
    (folder / NAME).mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / NAME / f"{NAME}.inter", sep="\t", index=False)
    return folder


def main() -> None:
    """RecBole's own settings but for length, batch and sizes, which are its defaults here too."""
    gate = Gate()
    asked = gate.settings
    folder = write(asked)
    sys.argv = sys.argv[:1]  # RecBole reads the command line
    os.chdir(asked["scratch"])  # where it puts its logs
    settings = {
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        "train_neg_sample_args": None,
        "MAX_ITEM_LIST_LENGTH": asked["length"],
        "train_batch_size": asked["batch"],
        "hidden_size": asked["dim"],
        "n_layers": asked["layers"],
        "n_heads": asked["heads"],
        "inner_size": asked["feedforward"],
        "hidden_dropout_prob": asked["dropout"],
        "attn_dropout_prob": asked["dropout"],
        "loss_type": "CE",
        "use_gpu": False,
        "show_progress": False,
    }
    config = Config(model="SASRec", dataset=NAME, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    data = create_dataset(config)
    train_data, _, _ = data_preparation(config, data)
    model = get_model("SASRec")(config, train_data._dataset).to(config["device"])
    compute = model.calculate_loss

    def at_gate(interaction):
        gate.step(len(interaction))
        return compute(interaction)

    model.calculate_loss = at_gate
    get_trainer(config["MODEL_TYPE"], "SASRec")(config, model).fit(train_data, saved=False)


if __name__ == "__main__":
    main()
