from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from reelm import train
from reelm.data.dataset import Dataset
from reelm.data.tables import Features
from reelm.errors import BadData
from reelm.models.blocks.age import NOT_YET, AgeWorth
from reelm.models.sasrec import SASRec, SASRecConfig

VIDEOS = [f"v{number}" for number in range(5)]


def log(rows):
    """A dataset of (user, video, time); v4 is in the catalogue and never chosen."""
    events = pl.DataFrame(rows, schema=["user_id", "video_id", "timestamp"], orient="row")
    return Dataset.build(events, videos=VIDEOS)


@pytest.fixture
def two_spells():
    """v0 and v1 come in the first spell, v2 and v3 in the second, where v2 is chosen most."""
    first = [("a", "v0", 1.0), ("b", "v1", 2.0), ("c", "v0", 3.0), ("d", "v0", 4.0)]
    second = [("a", "v2", 11.0), ("b", "v2", 12.0), ("c", "v3", 13.0), ("d", "v1", 14.0)]
    return log([(user, video, float(time)) for user, video, time in first + second])


def test_worth_starts_as_how_much_more_than_by_chance_an_age_is_chosen(two_spells):
    """Fresh ones: all 4 of the first spell and 3 of the second, where 4 + 2 are expected; old
    ones: 1 of the second, where 2 are."""
    worth = AgeWorth(two_spells, 2).worth
    torch.testing.assert_close(worth.detach(), torch.tensor([8 / 7, 2 / 3]).log())


def test_the_product_of_columns_is_the_worth_of_the_age_at_that_time(two_spells):
    age = AgeWorth(two_spells, 2)
    with torch.no_grad():
        age.worth.copy_(torch.tensor([0.5, -0.25]))
    when = torch.tensor([2.0, 13.0], dtype=torch.float64)
    items = torch.tensor([1, 3, 5])  # v0, v2 and the one never seen
    found = age.places(when) @ age.items(items).T
    assert found.tolist() == [[0.5, NOT_YET, NOT_YET], [-0.25, 0.5, 0.5]]


def test_a_video_never_seen_counts_at_the_best_age_before_it(two_spells):
    age = AgeWorth(two_spells, 2)
    seen = torch.from_numpy(two_spells.counts > 0)
    with torch.no_grad():
        age.worth.copy_(torch.tensor([0.5, 0.75]))
    assert age.today(seen)[1:].tolist() == [0.75, 0.75, 0.5, 0.5, 0.75]
    with torch.no_grad():
        age.worth.copy_(torch.tensor([0.5, 0.25]))
    assert age.today(seen)[5] == 0.5


def test_upload_times_say_when_a_video_came(two_spells):
    """v4 was uploaded in the first spell and nobody wanted it: it is no news."""
    uploaded = np.array([np.nan, np.nan, 0.5, 2.5, np.nan, 3.0])
    age = AgeWorth(replace(two_spells, uploaded=uploaded), 2)
    assert age.came[1:].tolist() == [0, 0, 0, 1, 0]


def test_a_log_without_times_is_refused(two_spells):
    broken = replace(two_spells, time=np.where(two_spells.time > 12, np.nan, two_spells.time))
    with pytest.raises(BadData, match=r"model\.ages needs the time of every interaction"):
        AgeWorth(broken, 2)


def test_many_spells_of_few_moments_stay_finite(two_spells):
    at_once = replace(two_spells, time=np.full(len(two_spells), 7.0))
    for data in (at_once, two_spells):
        age = AgeWorth(data, 40)
        assert age.worth.isfinite().all()
        assert age.today(torch.from_numpy(data.counts > 0)).isfinite().all()


def test_learns_that_only_the_new_is_chosen():
    """Each day everybody chooses one of the day's two videos, whose features say nothing: the two
    of tomorrow must come before all others, and today's before yesterday's."""
    draw = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"v{2 * day + draw.integers(2)}", day * 100.0 + user)
        for user in range(40)
        for day in range(6)
    ]
    events = pl.DataFrame(rows, schema=["user_id", "video_id", "timestamp"], orient="row")
    videos = [f"v{number}" for number in range(14)]
    features = Features("text", tuple(videos), draw.normal(size=(14, 4)).astype(np.float32))
    data = Dataset.build(events, [features], videos=videos)
    config = SASRecConfig(items="content", ages=6, dim=8, feedforward=8, layers=1)
    schedule = train.TrainConfig(epochs=15, batch_size=8)
    model = train.fit(data, "sasrec", config, schedule).model
    assert isinstance(model, SASRec)
    history = torch.from_numpy(np.stack([data.history(row) for row in range(40)])).long()
    with torch.inference_mode():
        scores = model.score(torch.arange(40), history)[:, 1:].mean(0)
    days = scores.view(7, 2).mean(1)
    assert days[6] > days[:5].max() + 1
    assert days[5] > days[:5].max() + 1
