"""What every recommender that rates single places must do, whatever it is; see test_models."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from polars.testing import assert_frame_equal

from reelm import runs, train
from reelm.data.batches import padded
from reelm.errors import ConfigError, MissingInput, NonFinite
from reelm.evaluate import evaluate, places, summary
from reelm.evaluate import test as report_of
from reelm.models import MODELS, find
from reelm.models.base import Ranker

LEARN = train.TrainConfig(epochs=40, batch_size=24, learning_rate=0.01, patience=40)
QUICK = train.TrainConfig(epochs=2, batch_size=8)

BOTH = {"features": ("text",), "profiles": ("profile",)}
ONCE = {"states": "text", "tokens": 1, "features": ("text",)}
VARIANTS = {
    "din": {"": {}, "fields": BOTH},
    "dcn": {"": {}, "fields": BOTH},
    "kar": {
        "": {"user_knowledge": "profile"},
        "dcn, shared": {
            "user_knowledge": "profile", "adaptor": "shared", "backbone": "dcn",
            "backbone_settings": ("layers=1",),
        },
        "items, dedicated": {"adaptor": "dedicated"},
        "users, mlp": {"user_knowledge": "profile", "item_knowledge": "", "adaptor": "mlp"},
    },
    "once": {
        "": ONCE,
        "naml, fields": {**ONCE, **BOTH, "user_encoder": "naml"},
        "generated": {**ONCE, "generated": "profile"},
        "nearest": {**ONCE, "generated": "profile", "generated_as": "nearest"},
        "features alone": {"states": "", "features": ("text",)},
    },
}  # fmt: skip
RANKERS = [m for m in sorted(MODELS) if issubclass(find(m), Ranker)]
CASES = [
    pytest.param((name, settings), id=f"{name}-{variant}" if variant else name)
    for name in RANKERS
    for variant, settings in VARIANTS.get(name, {"": {}}).items()
]


@pytest.fixture(params=CASES)
def case(request):
    name, settings = request.param
    return name, find(name).Config(**settings)


@pytest.fixture
def model(case, passed_by):
    return train.build(*case, passed_by.train, seed=0).eval()


def asked(split, users, length):
    """The first users, their histories as wide as asked, and three candidates each."""
    data = split.train
    rows = padded(data.item, data.offsets[:users], data.offsets[1 : users + 1])
    history = torch.nn.functional.pad(rows, (length - rows.shape[1], 0))
    candidates = torch.arange(3 * users).reshape(users, 3) % 12 + 1
    return torch.arange(users), history, candidates


def test_one_finite_number_per_candidate(model, passed_by):
    scores = model.score(*asked(passed_by, 4, 5))
    assert scores.shape == (4, 3)
    assert scores.isfinite().all()


def test_padding_on_the_left_changes_nothing(model, passed_by):
    short, long = (model.score(*asked(passed_by, 2, n)) for n in (3, 60))
    torch.testing.assert_close(short, long)


def test_a_place_alone_scores_as_in_a_crowd(model, passed_by):
    user, history, candidates = asked(passed_by, 24, 3)
    history[5, :2] = 0
    crowd = model.score(user, history, candidates)
    for row, column in ((3, 0), (5, 2)):
        one = slice(row, row + 1)
        alone = model.score(user[one], history[one], candidates[one, column : column + 1])
        torch.testing.assert_close(alone[0, 0], crowd[row, column])


def test_an_empty_history_gets_finite_scores(model):
    nothing = torch.zeros(1, 4, dtype=torch.long)
    assert model.score(torch.tensor([0]), nothing, torch.tensor([[1, 2]])).isfinite().all()


def test_scoring_changes_nothing(model, passed_by):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first = model.score(*asked(passed_by, 4, 5)).clone()
    with torch.inference_mode():
        kept = [model.score(*asked(passed_by, 4, 5)) for _ in range(2)]
    torch.testing.assert_close(first, kept[0])
    assert torch.equal(kept[0], kept[1])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_whole_catalogue_scores_as_candidates_do(model, passed_by):
    user, history, candidates = asked(passed_by, 4, 5)
    whole = model.score_all(user, history)
    assert whole.shape == (4, 13)
    torch.testing.assert_close(whole.gather(1, candidates), model.score(user, history, candidates))


def test_one_seed_gives_one_model(case, passed_by):
    twins = [train.fit(passed_by, *case, QUICK).model.state_dict() for _ in range(2)]
    assert all(torch.equal(v, twins[1][k]) for k, v in twins[0].items())


def test_another_seed_gives_another_model(case, passed_by):
    other = QUICK.model_copy(update={"seed": 1})
    twins = [train.fit(passed_by, *case, c).model for c in (QUICK, other)]
    weights = [dict(m.named_parameters()) for m in twins]
    assert all((v != weights[1][k]).any() for k, v in weights[0].items() if v.numel() > 1)


def test_every_weight_gets_gradient(case, passed_by):
    model = train.build(*case, passed_by.train, seed=0)
    train.train(model, passed_by.train, QUICK)
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still, f"these weights got no gradient: {still}"


def test_a_saved_run_answers_the_same_without_its_data(case, passed_by, tmp_path):
    run = runs.load(train.train_run(passed_by, *case, QUICK, tmp_path))
    fresh = train.fit(passed_by, *case, QUICK)
    assert run.items == passed_by.train.items
    assert torch.equal(run.model.calibration, fresh.model.calibration)
    with torch.inference_mode():
        shown = asked(passed_by, 4, 5)
        assert torch.equal(run.model.score(*shown), fresh.model.score(*shown))
    users = ["u1", "u2", "nobody"]
    assert_frame_equal(run.recommend(users, 4), fresh.recommend(users, 4))
    assert_frame_equal(run.similar(["v1", "never"], 4), fresh.similar(["v1", "never"], 4))


def test_learns_whom_a_video_is_for(case, passed_by, tmp_path):
    folder = train.train_run(passed_by, *case, LEARN, tmp_path)
    run = runs.load(folder)
    found = places(run.model, passed_by.test_shown).metrics
    assert found["auc"] > 0.95
    assert found["logloss"] < 0.4
    assert "places/auc" in (folder / "metrics.jsonl").read_text()
    assert "places/auc" in (folder / "card.md").read_text()
    report = report_of(run, passed_by, tmp_path)
    assert "auc" in summary(report)
    assert (report / "places.parquet").is_file()
    assert "logloss" in (report / "report.html").read_text()
    assert report_of(run, passed_by, tmp_path) == report


def test_labels_dealt_anew_teach_nothing(case, model, passed_by):
    """What it learns comes from the labels and from nothing that was left lying about. In a world
    this small one dealing may fall like the truth, or against it: the mean of four. Likeness of
    what was liked, which some models go by before they learn, is no learning."""
    shown = passed_by.train.exposures
    before = places(model, passed_by.test_shown).metrics["auc"]
    found = []
    for seed in range(4):
        label = np.random.default_rng(seed).permutation(shown.label)
        dealt = replace(passed_by.train, exposures=replace(shown, label=label))
        split = replace(passed_by, train=dealt, valid_shown=None)
        learned = train.fit(split, *case, QUICK).model
        found.append(places(learned, passed_by.test_shown).metrics["auc"])
    assert np.mean(found) < max(0.75, before + 0.05), (before, found)


def test_a_score_that_is_not_finite_is_an_error(model, passed_by):
    whole = model.score
    model.score = lambda *asked: whole(*asked) * torch.nan
    with pytest.raises(NonFinite):
        _ = places(model, passed_by.test_shown).metrics


def test_without_exposures_it_says_what_to_do(case, two_tastes):
    with pytest.raises(MissingInput, match=r"dataset\.exposures=true"):
        train.fit(two_tastes, *case, QUICK)


def test_who_needs_the_whole_catalogue_is_told_that_it_rates_places(case, passed_by):
    run = train.fit(passed_by, *case, QUICK)
    with pytest.raises(ConfigError, match="rates single places"):
        evaluate(run, passed_by.test)


def test_does_not_change_the_data_it_learns_from(case, passed_by):
    before = passed_by.train.fingerprint
    train.fit(passed_by, *case, QUICK)
    passed_by.train.__dict__.pop("fingerprint")
    assert passed_by.train.fingerprint == before


def test_the_random_state_outside_stays_as_it_was(case, passed_by):
    before = torch.get_rng_state()
    train.fit(passed_by, *case, QUICK)
    assert torch.equal(torch.get_rng_state(), before)
