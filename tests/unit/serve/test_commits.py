"""Writers share transactions; one that fails takes nothing of the others with it."""

import threading
import time

import pytest

from reelm.serve.commits import Commits
from reelm.serve.database import Collision, Session, database


class Wrong(Exception):
    """What a job may raise."""


@pytest.fixture
def opened(where):
    """A database and a session with a table."""
    kept = database(where)
    db = kept.connect()
    db.run("CREATE TABLE t (n INTEGER PRIMARY KEY)")
    yield kept, db
    db.close()
    kept.close()


def insert(*numbers, then=None):
    def work(db):
        for number in numbers:
            db.run("INSERT INTO t VALUES (?)", number)
        if then:
            raise then
        return len(numbers)

    return work


def held(db):
    return [row[0] for row in db.rows("SELECT n FROM t ORDER BY n")]


def test_a_job_that_fails_is_undone_and_said(opened):
    commits = Commits(*opened)
    assert commits.do(insert(1, 2)) == 2
    with pytest.raises(Wrong):
        commits.do(insert(3, 4, then=Wrong()))
    with pytest.raises(Collision):
        commits.do(insert(5, 2))
    assert held(opened[1]) == [1, 2]


def test_jobs_that_wait_together_share_a_transaction(opened, monkeypatch):
    commits, failed, begun = Commits(*opened), [], []
    run = Session.run

    def counted(self, statement, *values):
        begun.extend([statement] if statement.startswith("BEGIN") else [])
        return run(self, statement, *values)

    def work(number):
        try:
            commits.do(insert(number, then=Wrong() if number % 5 == 0 else None))
        except Wrong:
            failed.append(number)

    monkeypatch.setattr(Session, "run", counted)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    with commits.waiting():
        for thread in threads:
            thread.start()
        while len(commits._waiting) < 20:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert len(begun) == 1
    assert sorted(failed) == [0, 5, 10, 15]
    assert held(opened[1]) == [n for n in range(20) if n % 5]


def test_one_that_waits_for_the_disk_makes_all_of_its_transaction_wait(tmp_path, monkeypatch):
    kept = database(tmp_path / "s.sqlite")
    db = kept.connect()
    commits = Commits(kept, db)
    how = lambda db: db.rows("PRAGMA synchronous")[0][0]  # noqa: E731
    normal, full = 1, 2
    assert [commits.do(how, synced=False), commits.do(how), commits.do(how, synced=False)] == [
        normal, full, normal]  # fmt: skip
    begun = threading.Event()
    together = Commits._together

    def slow(self):
        begun.set()
        while len(self._waiting) < 2:
            time.sleep(0.001)
        together(self)

    monkeypatch.setattr(Commits, "_together", slow)
    found: list[int] = []
    first = threading.Thread(target=lambda: found.append(commits.do(how, synced=False)))
    first.start()
    begun.wait()
    found.append(commits.do(how))
    first.join()
    assert found == [full, full]
    db.close()
    kept.close()
