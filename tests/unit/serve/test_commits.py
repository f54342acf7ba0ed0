"""Writers share transactions; one that fails takes nothing of the others with it."""

import threading
import time

import pytest

from reelm.serve.commits import Commits
from reelm.serve.schema import connect


class Wrong(Exception):
    """What a job may raise."""


@pytest.fixture
def db(tmp_path):
    opened = connect(tmp_path / "db.sqlite")
    opened.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
    yield opened
    opened.close()


def insert(*numbers, then=None):
    def work(db):
        for number in numbers:
            db.execute("INSERT INTO t VALUES (?)", (number,))
        if then:
            raise then
        return len(numbers)

    return work


def held(db):
    return [row[0] for row in db.execute("SELECT n FROM t ORDER BY n")]


def test_a_job_that_fails_is_undone_and_said(db):
    commits = Commits(db, threading.RLock())
    assert commits.do(insert(1, 2)) == 2
    with pytest.raises(Wrong):
        commits.do(insert(3, 4, then=Wrong()))
    assert held(db) == [1, 2]


def test_jobs_that_wait_together_share_a_transaction(db):
    lock, begun = threading.RLock(), []
    commits, failed = Commits(db, lock), []
    db.set_trace_callback(lambda text: begun.append(text) if text.startswith("BEGIN") else None)

    def work(number):
        try:
            commits.do(insert(number, then=Wrong() if number % 5 == 0 else None))
        except Wrong:
            failed.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    with lock:
        for thread in threads:
            thread.start()
        while len(commits._waiting) < 20:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert len(begun) == 1
    assert sorted(failed) == [0, 5, 10, 15]
    assert held(db) == [n for n in range(20) if n % 5]
