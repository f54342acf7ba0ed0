"""Writers share transactions; one that fails takes nothing of the others with it."""

import itertools
import threading
import time

import pytest

from reelm.serve import sqlite
from reelm.serve.commits import Commits, Syncs
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


class Disk:
    """Counts syncs, each of which ends when it is told to."""

    def __init__(self, error=None):
        self.begun, self.error, self.go = 0, error, threading.Semaphore(0)

    def sync(self):
        self.begun += 1
        assert self.go.acquire(timeout=10)
        if self.error:
            raise self.error


def waiting(syncs, count):
    """Threads that wait for the disk, and what they were told."""
    told = []

    def wait():
        try:
            told.append(syncs.ask().result())
        except Wrong as error:
            told.append(error)

    threads = [threading.Thread(target=wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, told


def until(holds):
    limit = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.001)


@pytest.mark.parametrize("error", [None, Wrong()])
def test_who_waits_for_the_disk_waits_for_a_sync_that_began_later(error):
    disk = Disk(error)
    syncs = Syncs(disk.sync)
    first, told_first = waiting(syncs, 1)
    until(lambda: disk.begun == 1)
    later, told = waiting(syncs, 5)
    disk.go.release()
    first[0].join()
    until(lambda: disk.begun == 2)
    assert told == [], "the sync that was under way does not hold what came after it began"
    disk.go.release()
    for thread in later:
        thread.join()
    assert disk.begun == 2, "who waits together shares one"
    assert told_first == [error] and told == [error] * 5


def test_only_what_is_acknowledged_waits_for_the_disk(tmp_path, monkeypatch):
    kept = database(tmp_path / "s.sqlite")
    db, disk = kept.connect(), Disk()
    monkeypatch.setattr(kept, "sync", disk.sync)
    commits = Commits(kept, db)
    commits.do(lambda db: db.run("CREATE TABLE t (n INTEGER)"), synced=False)
    synced = threading.Thread(target=lambda: commits.do(insert(1)))
    synced.start()
    until(lambda: disk.begun == 1)
    assert commits.do(insert(2), synced=False) == 1, "others write while the disk syncs"
    assert synced.is_alive() and held(db) == [1, 2]
    disk.go.release()
    synced.join()
    db.close()
    kept.close()


def test_the_log_is_put_into_the_file_beside_those_who_write(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "EACH_S", 0.01)
    monkeypatch.setattr(sqlite, "LONG", 20)
    kept = database(tmp_path / "s.sqlite")
    db = kept.connect()
    db.run("CREATE TABLE t (n INTEGER PRIMARY KEY, long TEXT)")
    log, numbers = tmp_path / "s.sqlite-wal", itertools.count()

    def grown():
        db.run("INSERT INTO t VALUES (?,?)", next(numbers), "x" * 5000)
        return (tmp_path / "s.sqlite").stat().st_size > 2 * log.stat().st_size

    until(grown)  # the log begins anew, so that the file outgrows it
    db.close()
    kept.close()
    assert not log.exists()
