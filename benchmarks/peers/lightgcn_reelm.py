"""ReeLM's LightGCN in its own training loop behind the gate."""

from gate import Gate
from sasrec_reelm import dataset
from torch import Tensor

from reelm.data.pairs import PairBatch
from reelm.models.lightgcn import LightGCNConfig
from reelm.train import TrainConfig, build, train


def main() -> None:
    """Train for ever; the gate ends it."""
    gate = Gate()
    asked = gate.settings
    data = dataset(asked["data"])
    config = LightGCNConfig(dim=asked["dim"], layers=asked["layers"], decay=asked["decay"])
    model = build("lightgcn", config, data, seed=0)

    def loss(batch: PairBatch) -> dict[str, Tensor]:
        gate.step(len(batch.user))
        return model.loss(batch)

    train(model, data, TrainConfig(epochs=10**9, batch_size=asked["batch"]), loss=loss)


if __name__ == "__main__":
    main()
