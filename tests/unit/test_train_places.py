"""How training chooses and calibrates a model that rates single places."""

from dataclasses import replace

import pytest
import torch

from reelm import train
from reelm.config import parse
from reelm.errors import ConfigError
from reelm.evaluate import places
from reelm.models.din import DINConfig

SMALL = DINConfig(dim=4, hidden=(8,), unit=4)
FEW = train.TrainConfig(epochs=3, batch_size=48, learning_rate=0.02, measure="places/logloss")


def learned(split, config=FEW, settings=SMALL):
    model = train.build("din", settings, split.train, config.seed)
    rows = train.train(model, split.train, config, train.judged(split, model))
    return model, rows


def test_the_least_loss_is_kept(passed_by):
    """On turned labels every epoch makes validation worse, so the first is kept."""
    turned = replace(passed_by.valid_shown, label=1 - passed_by.valid_shown.label)
    _, rows = learned(replace(passed_by, valid_shown=turned))
    found = [row["places/logloss"] for row in rows]
    kept = next(row["epoch"] for row in rows if row.get("kept"))
    assert found[int(kept) - 1] == min(found)
    assert found[-1] > found[0]


def test_validation_places_are_what_is_calibrated_on(passed_by):
    model, _ = learned(passed_by)
    slope, shift = model.calibration.tolist()
    assert slope > 0
    assert (slope, shift) != (1.0, 0.0)
    found = places(model, passed_by.valid_shown).metrics
    assert found["logloss"] < found["logloss_raw"]
    assert found["predicted"] == pytest.approx(found["liked"], abs=0.01)
    heat, _ = learned(passed_by, settings=SMALL.model_copy(update={"calibrate": "temperature"}))
    assert heat.calibration[1] == 0
    none, _ = learned(passed_by, settings=SMALL.model_copy(update={"calibrate": "no"}))
    assert torch.equal(none.calibration, torch.tensor([1.0, 0.0]))
    assert places(none, passed_by.valid_shown).metrics["auc"] == pytest.approx(found["auc"])


def test_nothing_is_learned_from_validation_or_test(passed_by):
    """Without validation the weights are those of the same epochs, whatever validation says."""
    config = FEW.model_copy(update={"epochs": 1})
    plain, _ = learned(replace(passed_by, valid_shown=None), config)
    chosen, _ = learned(passed_by, config)
    weights = [dict(m.named_parameters()) for m in (plain, chosen)]
    assert all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())
    assert torch.equal(plain.calibration, torch.tensor([1.0, 0.0]))


def test_measures_of_the_other_kind(passed_by):
    pool = FEW.model_copy(update={"measure": "mixed/ndcg@10", "epochs": 1})
    assert "places/auc" in learned(passed_by, pool)[1][0]
    with pytest.raises(ConfigError, match="mixed/ndcg@10"):
        train.fit(passed_by, "mf", train_config=FEW)
    liked = passed_by.valid_shown.take(passed_by.valid_shown.label > 0)
    auc = FEW.model_copy(update={"measure": "places/auc"})
    with pytest.raises(ConfigError, match="not"):
        learned(replace(passed_by, valid_shown=liked), auc)


@pytest.mark.parametrize(
    "measure", ["mixed/ndgc@10", "mixed/recall", "all/ndcg@10", "places/ndcg", "mixed/ndcg@0",
                "mixed/recall@00", "mixed/hit@-1"],
)  # fmt: skip
def test_a_misspelt_measure_is_refused_before_training(measure):
    with pytest.raises(ConfigError, match=r"train\.measure"):
        parse(train.TrainConfig, {"measure": measure}, "train")


def test_validation_places_of_one_kind_are_said_to_be_so(passed_by):
    """By the measure that is taken, though another one was named."""
    liked = passed_by.valid_shown.take(passed_by.valid_shown.label > 0)
    config = FEW.model_copy(update={"measure": "mixed/ndcg@10"})
    told = f"^places/auc cannot be measured: of {len(liked)} validation places all were liked"
    with pytest.raises(ConfigError, match=told):
        learned(replace(passed_by, valid_shown=liked), config)
