from reelm.serve import limits
from reelm.serve.limits import Buckets


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_bucket_empties_and_fills_again():
    clock = Clock()
    buckets = Buckets(2.0, 3, clock)
    assert [buckets.take("a") for _ in range(3)] == [0.0] * 3
    assert buckets.take("a") == 0.5
    assert buckets.take("b") == 0.0, "others are not held up"
    clock.now = 0.5
    assert buckets.take("a") == 0.0
    assert buckets.take("a") == 0.5
    clock.now = 100.0
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5], "no more than a burst"


def test_a_rate_of_0_limits_nothing():
    buckets = Buckets(0.0, 1)
    assert not any(buckets.take("a") for _ in range(50))


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "MOST", 10)
    buckets = Buckets(1.0, 1, Clock())
    for client in range(100):
        buckets.take(str(client))
    assert len(buckets._left) == 10
