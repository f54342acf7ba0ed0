import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from reelm.serve.engine import Engine
from reelm.serve.gate import ServiceConfig
from reelm.serve.pace import BEAT_S, Late, Pace
from reelm.serve.server import Access, running

from .test_service import watch


def test_a_request_waits_as_long_as_the_loop_is_late():
    async def busy():
        pace = Pace(0.3)
        beating = asyncio.create_task(pace.beat())
        await asyncio.sleep(2 * BEAT_S)
        pace.admit(pace.since())
        time.sleep(0.3 + 3 * BEAT_S)  # holds the loop
        since = pace.since()
        with pytest.raises(Late, match="try again in a second"):
            pace.admit(since)
        pace.admit(since, patience=2.0)
        await asyncio.sleep(2 * BEAT_S)
        pace.admit(pace.since())
        beating.cancel()

    asyncio.run(busy())


@pytest.mark.parametrize("most_s, late", [(1.0, True), (0.0, False)])
def test_what_waits_for_a_thread_carries_when_it_came(most_s, late):
    now = [100.0]
    pace = Pace(most_s, clock=lambda: now[0])
    since = pace.since()
    assert since == 100.0, "nobody has to beat where threads answer"
    now[0] += 1.5
    if late:
        with pytest.raises(Late):
            pace.admit(since)
    else:
        pace.admit(since)


@pytest.mark.parametrize("quick", [True, False])
def test_more_than_can_be_answered_is_turned_away_in_time(engine, monkeypatch, quick):
    real, worked = engine.feed, threading.Lock()

    def slow(*asked):
        with worked:  # one at a time, as Python works
            time.sleep(0.2)
        return real(*asked)

    monkeypatch.setattr(Engine, "quick", quick)
    monkeypatch.setattr(engine, "feed", slow)
    access = Access(service=ServiceConfig(wait_s=0.5))
    with running(engine, access=access) as address, ThreadPoolExecutor(20) as people:

        def ask(number):
            began = time.monotonic()
            answer = httpx2.get(f"{address}/v1/feed/u{number}?n=2", timeout=30)
            return answer, time.monotonic() - began

        answers = list(people.map(ask, range(20)))
        refused = [answer for answer, _ in answers if answer.status_code == 503]
        assert 3 <= len(refused) <= 18, "one after the other they take four seconds"
        assert refused[0].headers["retry-after"] == "1"
        assert "try again" in refused[0].json()["error"]
        assert all(answer.status_code in (200, 503) for answer, _ in answers)
        assert max(seconds for _, seconds in answers) < 3.8
        sent = httpx2.post(f"{address}/v1/events", json={"events": [watch(1)]}, timeout=30)
        assert sent.json() == {"stored": 1, "repeated": 0, "unknown_videos": 0}
        assert httpx2.get(f"{address}/v1/feed/u1?n=2", timeout=30).status_code == 200
        told = httpx2.get(f"{address}/metrics", timeout=30).text
        assert f'route="/v1/feed/{{user}}",status="503"}} {len(refused)}' in told
