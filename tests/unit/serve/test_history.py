import math
from collections import Counter

import pytest

from reelm.serve.counters import Counters
from reelm.serve.history import BOUNDS_MS, MINUTES, MOST_TOPICS, History, quantile, topics_of


class Clock:
    def __init__(self, now=60_000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_an_hour_is_kept_and_gaps_are_zero(clock):
    history = History(clock)
    for _ in range(3 * MINUTES):
        history.request("a", 200, 0.001)
        clock.now += 120
    minutes = history.minutes()
    assert len(minutes) == MINUTES and len(history._minutes) <= MINUTES
    assert [m.at for m in minutes] == [60 * (minutes[0].at // 60 + n) for n in range(MINUTES)]
    assert sum(m.requests.total() for m in minutes) == MINUTES // 2 - 1, (
        "every other, and not yet the present one"
    )
    assert minutes[-1].at <= clock.now < minutes[-1].at + 60


def test_what_was_read_does_not_change_any_more(clock):
    history = History(clock)
    history.request("a", 500, 0.001)
    read = history.minutes()[-1]
    history.request("a", 500, 0.001)
    assert (read.requests["a"], read.errors) == (1, 1)
    assert history.minutes()[-1].requests["a"] == 2


def test_a_rate_is_that_of_the_last_whole_seconds(clock):
    history = History(clock)
    for _ in range(30):
        for _ in range(5):
            history.request("a", 200, 0.001)
        clock.now += 1
    assert history.per_second() == 5
    clock.now += 4
    assert history.per_second() == 3
    clock.now += 60
    assert history.per_second() == 0


def test_quantiles_are_at_most_a_quarter_too_high(clock):
    history = History(clock)
    for n in range(1, 1001):
        history.request("a", 200, n / 1e3)  # 1 ms to 1 s
    parts = [history.minutes()[-1].latency["a"]]
    for share, true in ((0.5, 500), (0.95, 950), (0.99, 990), (1.0, 1000)):
        told = quantile(parts, share)
        assert told is not None and true <= told <= 1.25 * true
    assert quantile([], 0.5) is None
    assert quantile([Counter({len(BOUNDS_MS): 1})], 0.5) == math.inf
    halves = [Counter({0: 1}), Counter({5: 1})]
    assert quantile(halves, 0.5) == BOUNDS_MS[0] and quantile(halves, 0.51) == BOUNDS_MS[5]


def test_strange_topics_do_not_fill_the_memory(clock):
    history = History(clock)
    for n in range(10 * MOST_TOPICS):
        history.shown({"model": 1}, 0, [f"t{n}", "t0"])
    topics = history.minutes()[-1].topics
    assert len(topics) == MOST_TOPICS and topics["t0"] == 10 * MOST_TOPICS + 1


@pytest.mark.parametrize(
    ("answer", "tags", "told"),
    [
        ({"subject": " Cat ", "colour": "red"}, ["#a"], ["cat"]),
        ({"topics": ["cats", "Cats", "food", 3, "x" * 99]}, [], ["cats", "food"]),
        ({"subject": "none"}, ["#a", "#b", "#c", "#d"], ["#a", "#b", "#c"]),
        ({}, [], []),
    ],
)
def test_what_a_video_is_about(answer, tags, told):
    assert topics_of(answer, tags) == told


def test_looking_is_no_traffic(clock):
    counters = Counters(clock)
    for route in ("/metrics", "/v1/admin/overview", "page", "/v1/events"):
        counters.request(route, 200, 0.01)
    assert counters.read(lambda h: h.minutes()[-1].requests) == {"/v1/events": 1}
    assert counters.text({}).count("reelm_request_seconds_count") == 4, "metrics have them all"
