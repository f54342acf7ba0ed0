"""RePlay's SasRec in Lightning's trainer: the class that it calls legacy, or (`variant` is new) the
one that follows it. Both pad every history to the full length."""

import warnings
from itertools import pairwise

warnings.simplefilter("ignore")  # RePlay warns at import

import lightning  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from gate import Gate  # noqa: E402
from replay.data import FeatureHint, FeatureSource, FeatureType  # noqa: E402
from replay.data.nn import (  # noqa: E402
    PandasSequentialDataset,
    TensorFeatureInfo,
    TensorFeatureSource,
    TensorSchema,
)
from replay.models.nn.sequential.sasrec import SasRec, SasRecTrainingDataset  # noqa: E402
from replay.nn.lightning import LightningModule  # noqa: E402
from replay.nn.sequential import SasRec as NewSasRec  # noqa: E402
from torch.utils.data import DataLoader, default_collate  # noqa: E402

LOSSES = {"softmax": {"loss_type": "CE"}, "binary": {"loss_type": "BCE", "loss_sample_count": 1}}


class AtGate(lightning.Callback):
    """Every step waits at the gate; its targets are those that the padding mask leaves."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        target = batch["target_padding_mask"]
        known = target.view_as(batch["padding_mask"]) & batch["padding_mask"]
        self.gate.step(int(known.sum()))


def schema(items: int, dim: int) -> TensorSchema:
    """One feature, the item; rows count from 0, and padding comes after the last."""
    source = TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")
    return TensorSchema(
        TensorFeatureInfo(
            name="item_id",
            is_seq=True,
            cardinality=items,
            padding_value=items,
            embedding_dim=dim,
            feature_type=FeatureType.CATEGORICAL,
            feature_sources=[source],
            feature_hint=FeatureHint.ITEM_ID,
        )
    )


def legacy(kind: TensorSchema, asked: dict) -> lightning.LightningModule:
    """The model of `replay.models.nn`, with the optimizer it brings."""
    return SasRec(
        kind,
        block_count=asked["layers"],
        head_count=asked["heads"],
        hidden_size=asked["dim"],
        max_seq_len=asked["length"],
        dropout_rate=asked["dropout"],
        **LOSSES[asked["objective"]],
    )


def new(kind: TensorSchema, asked: dict) -> lightning.LightningModule:
    """The model of `replay.nn`, whose loss is the softmax over all items."""
    model = NewSasRec.from_params(
        kind,
        embedding_dim=asked["dim"],
        num_heads=asked["heads"],
        num_blocks=asked["layers"],
        max_sequence_length=asked["length"],
        dropout=asked["dropout"],
    )
    return LightningModule(model)


def renamed(rows: list[dict]) -> dict:
    """A batch under the names, and in the shapes, that the new model asks for."""
    batch = default_collate(rows)
    return {
        "feature_tensors": batch["feature_tensor"],
        "padding_mask": batch["padding_mask"],
        "positive_labels": batch["positive_labels"][..., None],
        "target_padding_mask": batch["target_padding_mask"][..., None],
    }


def main() -> None:
    """Defaults, but for the sizes that both sides share."""
    gate = Gate()
    asked = gate.settings
    with np.load(asked["data"]) as file:
        offsets, item, items = file["offsets"], file["item"] - 1, int(file["items"])
    histories = [item[a:b] for a, b in pairwise(offsets)]
    table = pd.DataFrame({"user_id": range(len(histories)), "item_id": histories})
    kind = schema(items, asked["dim"])
    rows = SasRecTrainingDataset(
        PandasSequentialDataset(kind, "user_id", "item_id", table), asked["length"]
    )
    is_new = asked["variant"] == "new"
    collate = renamed if is_new else None
    loader = DataLoader(rows, asked["batch"], shuffle=True, collate_fn=collate)
    lightning.Trainer(
        max_epochs=10**6,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[AtGate(gate)],
    ).fit((new if is_new else legacy)(kind, asked), loader)


if __name__ == "__main__":
    main()
