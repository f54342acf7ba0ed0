from dataclasses import replace

import polars as pl
import pytest

from reelm.errors import ConfigError
from reelm.serve.engine import Engine, EngineConfig

from .conftest import VIDEOS, video

DAY_S = 86400.0


@pytest.fixture
def labelled(catalog):
    """Languages en, de and none in turn; ages 6+, 12, 18 and none; one licence, sometimes."""
    numbers = range(VIDEOS)
    return replace(
        catalog,
        videos=catalog.videos.with_columns(
            language=pl.Series([("en", "de", None)[n % 3] for n in numbers]),
            age_rating=pl.Series([("6+", "12", "18", None)[n % 4] for n in numbers]),
            licence=pl.Series([("CC0-1.0", "")[n % 2] for n in numbers]),
            uploaded_at=pl.Series([None if n == 5 else DAY_S * n for n in numbers]),
        ),
    )


def shown(run, catalog, store, **settings):
    engine = Engine(run, catalog, None, store, EngineConfig(**settings))
    return {int(i.video_id[1:]) for i in engine.feed("nobody", 100).items}


def usable(keep):
    return {n for n in range(2, VIDEOS) if keep(n)}


@pytest.mark.parametrize(
    ("settings", "keep"),
    [
        ({"languages": ["EN"]}, lambda n: n % 3 == 0),
        ({"languages": ["en", "de"]}, lambda n: n % 3 < 2),
        ({"languages": ["en"], "unknown_passes": True}, lambda n: n % 3 != 1),
        ({"licences": ["cc0-1.0"]}, lambda n: n % 2 == 0),
        ({"max_age_rating": 12}, lambda n: n % 4 < 2),
        ({"max_age_rating": 12, "unknown_passes": True}, lambda n: n % 4 != 2),
        ({"languages": ["de"], "max_age_rating": 6}, lambda n: n % 3 == 1 and n % 4 == 0),
    ],
)
def test_only_what_passes_is_shown(run, labelled, store, settings, keep):
    assert shown(run, labelled, store, **settings) == usable(keep)


def test_what_grows_too_old_is_not_shown_any_more(run, labelled, store, monkeypatch):
    clock = [DAY_S * VIDEOS]
    monkeypatch.setattr("time.time", lambda: clock[0])
    engine = Engine(run, labelled, None, store, EngineConfig(newest_days=20))
    first = {int(i.video_id[1:]) for i in engine.feed("a", 100).items}
    assert first == usable(lambda n: n >= VIDEOS - 20)
    clock[0] += 10 * DAY_S
    assert {int(i.video_id[1:]) for i in engine.feed("b", 100).items} == usable(
        lambda n: n >= VIDEOS - 10
    )


@pytest.mark.parametrize("setting", [{"languages": ["en"]}, {"max_age_rating": 6}])
def test_a_column_that_is_not_there_is_an_error_at_the_start(run, catalog, store, setting):
    with pytest.raises(ConfigError, match=rf"engine\.{next(iter(setting))}.*column"):
        Engine(run, catalog, None, store, EngineConfig(**setting))


def test_similar_videos_pass_too(run, labelled, store):
    engine = Engine(run, labelled, None, store, EngineConfig(languages=["en"]))
    assert {int(v[1:]) % 3 for v, _ in engine.similar(video(9), 20)} == {0}
