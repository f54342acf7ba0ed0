"""What every recommender must do, whatever it is. A model listed in MODELS is tested here with no
further work; its own file in tests/unit/models holds only what is special about it.

A model that cannot do something says so in its class: `cannot = {"test_name": "why"}`. Where it
can after all, the test fails, so that the gap is taken off the list.
"""

import numpy as np
import pytest
import torch

from reelm import runs, train
from reelm.data.batches import padded
from reelm.data.dataset import Dataset
from reelm.data.split import leave_last_two
from reelm.errors import NonFinite
from reelm.evaluate import evaluate
from reelm.models import MODELS, find
from reelm.models.base import Retriever

LEARN = train.TrainConfig(epochs=40, batch_size=24, learning_rate=0.01, patience=40)
QUICK = train.TrainConfig(epochs=2, batch_size=8)

VARIANTS = {
    "sasrec": {
        "": {},
        "content": {"items": "content"},
        "both": {"items": "both"},
        "softmax": {"objective": "softmax"},
        "binary": {"objective": "binary"},
        "few negatives": {"negatives": 4},
        "ages": {"items": "both", "ages": 3, "cold_bonus": 0.3},
        "taste": {"taste": ("text",), "cold_bonus": 0.3},
        "taste beside all": {"items": "both", "table": "separate", "taste": ("text",), "ages": 3},
    },
    "mamba4rec": {
        "": {},
        "two layers": {"layers": 2, "dt_start": "blanket"},
        "both": {"items": "both", "objective": "sampled"},
    },
    "item_knn": {"": {}, "near": {"neighbours": 3}},
    "lightgcn": {
        "": {},
        "softmax": {"objective": "softmax", "negatives": 8},
    },
    "llmrec": {
        "": {},
        "profiles, pruned": {
            "profiles": ("profile",),
            "prune": "highest",
            "prune_on": "all",
            "prune_after": 1,
            "prune_ramp": 2,
            "base_settings": ("layers=2",),
        },
        "on mmssl": {
            "base": "mmssl",
            "base_settings": ('features=["text", "text"]', "heads=2"),
            "objective": "softmax",
            "profiles": ("profile",),
        },
    },
    "mmssl": {
        "": {"decay": 0.1},  # without it one start in four learns the log by heart
        "two kinds": {"features": ("text", "text"), "heads": 2, "content": 0.2},
    },
    "slim": {
        "": {},
        "profiles": {"profiles": ("profile",)},
        "without ids": {"items": "content", "profiles": ("profile", "profile")},
        "on mamba4rec": {"backbone": "mamba4rec", "items": "id", "profiles": ("profile",)},
    },
    "trawl": {
        "": {"adapted": 2, "hidden": 8, "align": 0.0, "decay": 0.3},
        "softmax": {"objective": "softmax", "negatives": 8, "decay": 0.0},
    },
    "vbpr": {"": {"content_dim": 2, "decay": 0.3}},  # wider, it learns by heart what it is given
    "popularity": {"": {}, "recent": {"half_life_s": 100.0}},
    "promptmm": {"": {}, "ids alone are tuned": {"feature_prompt": 0.0, "layers": 1}},
}
RETRIEVERS = [m for m in sorted(MODELS) if issubclass(find(m), Retriever)]
CASES = [
    pytest.param((name, settings), id=f"{name}-{variant}" if variant else name)
    for name in RETRIEVERS
    for variant, settings in VARIANTS.get(name, {"": {}}).items()
]


@pytest.fixture(params=CASES)
def case(request):
    name, settings = request.param
    return name, find(name).Config(**settings)


@pytest.fixture
def model(case, two_tastes):
    return train.build(*case, two_tastes, seed=0).eval()


@pytest.fixture(autouse=True)
def gap(request, case):
    """Turns a test the model says it cannot pass round: passing is then the failure."""
    name = request.node.originalname
    why = getattr(find(case[0]), "cannot", {}).get(name)
    if why:
        request.applymarker(pytest.mark.xfail(reason=why, strict=True))


def histories(data: Dataset, users: int, length: int) -> torch.Tensor:
    """The histories of the first users, as wide as asked."""
    rows = padded(data.item, data.offsets[:users], data.offsets[1 : users + 1])
    return torch.nn.functional.pad(rows, (length - rows.shape[1], 0))


def test_one_finite_number_per_user_and_item(model, two_tastes):
    scores = model.score(torch.tensor([0, 1]), histories(two_tastes, 2, 5))
    assert scores.shape == (2, 13)
    assert scores.isfinite().all()


def test_padding_on_the_left_changes_nothing(model, two_tastes):
    user = torch.tensor([0, 1])
    short, long = (model.score(user, histories(two_tastes, 2, n)) for n in (5, 60))
    torch.testing.assert_close(short, long)


def test_a_user_alone_scores_as_in_a_crowd(model, two_tastes):
    history, user = histories(two_tastes, 24, 5), torch.arange(24)
    history[5, :3] = 0  # a short one among long ones
    crowd = model.score(user, history)
    for row in (3, 5):
        alone = model.score(user[row : row + 1], history[row : row + 1])
        torch.testing.assert_close(alone, crowd[row : row + 1])


def test_factors_give_the_scores(model, two_tastes):
    with torch.no_grad():
        factors, user = model.factors(), torch.arange(6)
        if factors is None:
            return
        history = histories(two_tastes, 6, 5)
        scores = model.score(user, history)
        made = model.asking(user, history) @ factors[0].T + factors[1]
    known = factors[1].isfinite()
    torch.testing.assert_close(made[:, known], scores[:, known])
    assert (scores[:, ~known] < scores[:, known].amin(1, keepdim=True)).all()


def test_an_empty_history_gets_finite_scores(model):
    assert model.score(torch.tensor([0]), torch.zeros(1, 4, dtype=torch.long)).isfinite().all()


def test_scoring_changes_nothing(model, two_tastes):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    user, history = torch.arange(4), histories(two_tastes, 4, 5)
    first = model.score(user, history).clone()
    assert torch.equal(first, model.score(user, history))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_one_seed_gives_one_model(case, two_tastes):
    twins = [train.fit(two_tastes, *case, QUICK).model.state_dict() for _ in range(2)]
    assert all(torch.equal(v, twins[1][k]) for k, v in twins[0].items())


def test_another_seed_gives_another_model(case, two_tastes):
    other = QUICK.model_copy(update={"seed": 1})
    twins = [train.fit(two_tastes, *case, c).model for c in (QUICK, other)]
    weights = [dict(m.named_parameters()) for m in twins]
    assert all(
        (v != weights[1][k]).any() for k, v in weights[0].items() if v.numel() > 1 and v.std() > 0
    )


def test_every_weight_gets_gradient(case, two_tastes):
    model = train.build(*case, two_tastes, seed=0)
    train.train(model, two_tastes, QUICK)
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still, f"these weights got no gradient: {still}"


def test_a_saved_run_answers_the_same_without_its_data(case, two_tastes, tmp_path):
    split = leave_last_two(two_tastes)
    name, settings = case
    run = runs.load(train.train_run(split, name, settings, QUICK, tmp_path))
    fresh = train.fit(split, name, settings, QUICK)
    assert run.items == two_tastes.items
    assert run.users == two_tastes.users
    assert run.history("u3") == two_tastes.history(two_tastes.row("u3"))[:-2].tolist()
    user, history = torch.arange(4), histories(two_tastes, 4, 5)
    with torch.inference_mode():
        assert torch.equal(run.model.score(user, history), fresh.model.score(user, history))
    users = ["u1", "u2", "nobody"]
    assert run.recommend(users, 4).equals(fresh.recommend(users, 4))
    assert run.similar(["v1", "never"], 4).equals(fresh.similar(["v1", "never"], 4))


def test_beats_popularity_where_there_is_something_to_learn(case, two_tastes):
    split = leave_last_two(two_tastes)
    found = evaluate(train.fit(split, *case, LEARN), split.test, ("mixed",), (3,))
    floor = evaluate(train.fit(split, "popularity"), split.test, ("mixed",), (3,))
    assert found["recall@3"] > max(0.8, floor["recall@3"])


def test_a_score_that_is_not_finite_is_an_error(model, two_tastes):
    split = leave_last_two(two_tastes)
    whole = model.score
    model.score = lambda user, history: whole(user, history) * torch.nan
    with pytest.raises(NonFinite):
        evaluate(model, split.test)


def test_does_not_change_the_data_it_learns_from(case, two_tastes):
    before = two_tastes.fingerprint
    train.fit(two_tastes, *case, QUICK)
    two_tastes.__dict__.pop("fingerprint")
    assert two_tastes.fingerprint == before


def test_the_random_state_outside_stays_as_it_was(case, two_tastes):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    train.fit(two_tastes, *case, QUICK)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
