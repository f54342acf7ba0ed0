"""Short lists in the order of somebody who reads: readers that count, fail, or like one letter."""

import itertools
import json

import numpy as np
import polars as pl
import pytest

from circle import circle_events
from reelm import bill, files, rerank, runs, train
from reelm.annotate import way
from reelm.backends.base import Chances, Failure
from reelm.backends.fake import Fake
from reelm.backends.openai_http import OpenAIHTTP, OpenAIHTTPConfig
from reelm.data.dataset import Dataset
from reelm.data.preferences import LETTERS
from reelm.data.split import leave_last_two
from reelm.errors import BackendError, BadData
from reelm.models.popularity import Popularity
from reelm.rerank import RerankConfig, reading
from reelm.tallies import Tallies

SMALL = RerankConfig(candidates=4, turns=2, questions=12)


class Reader(Fake):
    """Says what `script(request, letters)` says, and counts how often it was asked."""

    def __init__(self, script):
        super().__init__()
        self.script, self.asked = script, 0

    def choose(self, requests, choices):
        self.asked += len(requests)
        said = [self.script(*pair) for pair in zip(requests, choices, strict=True)]
        return [one if isinstance(one, Failure) else Chances(one, 100, 1) for one in said]


def likes_the_first(request, letters):
    return [0.0 if letter == "A" else -5.0 for letter in letters]


@pytest.fixture(scope="module")
def split():
    return leave_last_two(Dataset.build(circle_events()))


@pytest.fixture(scope="module")
def run(split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    settings = Popularity.Config(), train.TrainConfig()
    return runs.load(train.train_run(split, "popularity", *settings, folder))


@pytest.fixture(scope="module")
def told(split):
    """Videos of the two tastes have a value each, and one of their own."""
    return {
        video: f"taste: {'even' if row % 2 else 'odd'}; name: {video}"
        for row, video in enumerate(split.train.items)
        if row
    }


def report(folder):
    return json.loads((folder / "report.json").read_text())


def test_lines_tell_titles_notes_or_both():
    videos = pl.DataFrame({"video_id": ["a", "b", "c"], "title": ["my\n cat", None, ""]})
    said = {"a": {"subject": "cat", "sound": "none"}, "b": {"subject": "dog"}}
    assert rerank.lines(videos, said, "titles") == {"a": "title: my cat"}
    assert rerank.lines(videos, said, "notes") == {"a": "subject: cat", "b": "subject: dog"}
    assert rerank.lines(videos, said, "both")["a"] == "title: my cat; subject: cat"


def test_a_list_holds_one_target_and_nothing_that_was_watched(split, run, told):
    lists = rerank.drawn(split.test, run.items, told, SMALL)
    assert lists.items.shape == (12, 4) and len(set(lists.target)) > 1
    by_user = {user: row for row, user in enumerate(split.test.users)}
    for user, shown, place in zip(lists.user, lists.items, lists.target, strict=True):
        row = by_user[user]
        assert shown[place] in split.test.targets(row)
        assert len(set(shown)) == 4 and not set(shown) & set(split.test.history(row))
        assert sum(item in split.test.targets(row) for item in shown) == 1
    again = rerank.drawn(split.test, run.items, told, SMALL)
    assert np.array_equal(again.items, lists.items)


def test_videos_that_nothing_is_told_of_are_in_no_list(split, run, told):
    some = {video: text for video, text in told.items() if video not in ("v1", "v2")}
    lists = rerank.drawn(split.test, run.items, some, SMALL)
    assert not {"v1", "v2"} & {run.items[item] for item in lists.items.flat}
    with pytest.raises(BadData, match="--notes"):
        rerank.drawn(split.test, run.items, dict(list(told.items())[:5]), SMALL)


def test_who_counts_what_was_liked_beats_the_order_shown_and_the_placebo_does_not(
    split, run, told, tmp_path
):
    seen = rerank.rerank(run, split, told, Tallies(), SMALL, tmp_path)
    other = SMALL.model_copy(update={"dealt": True})
    placebo = rerank.rerank(run, split, told, Tallies(), other, tmp_path)
    counted, dealt = (report(folder)["ways"]["reader"]["ndcg"][0] for folder in (seen, placebo))
    assert counted > report(seen)["ways"]["order"]["ndcg"][0] and counted > dealt
    assert files.manifest(seen)["rows"] == 12 == len(pl.read_parquet(seen / "per_user.parquet"))
    assert "reader less run" in rerank.summary(seen)
    by_chance = next(x for x in rerank.summary(seen).splitlines() if x.startswith("chance "))
    assert by_chance.split()[1:] == ["0.640", "0.250", "0.521"], "of four candidates"
    assert report(seen)["chance"]["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, abs=1e-4)


def test_turned_all_the_way_round_a_liking_for_a_letter_is_worth_nothing(
    split, run, told, tmp_path
):
    reader = Reader(likes_the_first)
    whole = SMALL.model_copy(update={"turns": 4})
    found = report(rerank.rerank(run, split, told, reader, whole, tmp_path))
    assert found["ways"]["reader"]["hit@1"][0] == 0, "all tie, and ties count against"
    assert found["moved by turning"] > 1
    once = SMALL.model_copy(update={"turns": 1})
    found = report(rerank.rerank(run, split, told, reader, once, tmp_path))
    assert found["reader hit@1 by place of the target"] == {"first": 1.0, "last": 0.0}


def test_candidates_shown_alone_score_by_yes_against_no(split, run, told, tmp_path):
    def yes(request, words):
        (text,) = request.parts
        assert words == ("Yes", "No") and "B) " not in text
        return [0.0 if "A) taste: odd" in text else -3.0, -1.0]

    reader, alone = Reader(yes), SMALL.model_copy(update={"ask": "yes"})
    folder = rerank.rerank(run, split, told, reader, alone, tmp_path)
    assert reader.asked == 2 * 12 * 4, "each candidate once, whatever the turns"
    found = report(folder)
    assert found["moved by turning"] is None
    counted = rerank.rerank(run, split, told, Tallies(), alone, tmp_path)
    assert report(counted)["ways"]["reader"]["ndcg"][0] > found["ways"]["order"]["ndcg"][0]


def test_a_reader_that_fails_comes_last_and_is_counted(split, run, told, tmp_path):
    count = itertools.count()

    def refuses(request, letters):  # all but one view of a list of validation, and of the test
        return Failure("refused", "no") if next(count) % 24 else likes_the_first(request, letters)

    folder = rerank.rerank(run, split, told, Reader(refuses), SMALL, tmp_path)
    found = report(folder)
    assert found["ways"]["reader"]["ndcg"][0] == pytest.approx(1 / np.log2(5), abs=1e-4)
    assert (found["failed"], found["requests"]) == ({"refused": 2 * 2 * 12 - 2}, 2 * 2 * 12)
    assert found["ways"]["mixed"] == found["ways"]["run"], "whatever the weight of who says nothing"
    assert "46 of 48 requests failed (46 refused)" in rerank.summary(folder)
    again = Reader(likes_the_first)
    assert rerank.rerank(run, split, told, again, SMALL, tmp_path) == folder and not again.asked


def test_what_was_said_before_a_kill_is_not_asked_again(split, run, told, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "AT_ONCE", 10)
    whole = Reader(likes_the_first)
    straight = rerank.rerank(run, split, told, whole, SMALL, tmp_path / "straight")

    def dies(request, letters):
        if reader.asked > 30:
            raise KeyboardInterrupt
        return likes_the_first(request, letters)

    reader = Reader(dies)
    with pytest.raises(KeyboardInterrupt):
        rerank.rerank(run, split, told, reader, SMALL, tmp_path / "killed")
    second = Reader(likes_the_first)
    folder = rerank.rerank(run, split, told, second, SMALL, tmp_path / "killed")
    assert second.asked == whole.asked - 24, "those of validation had been kept"
    assert report(folder) == report(straight)
    said = folder / rerank.SAID
    said.write_bytes(said.read_bytes()[:-5])  # a kill within a line
    for left in (1, 0):
        (folder / files.MANIFEST).unlink()
        third = Reader(likes_the_first)
        rerank.rerank(run, split, told, third, SMALL, tmp_path / "killed")
        assert third.asked == left, "what was asked after the kill is kept too"


def test_a_reader_that_never_answers_leaves_no_finished_folder(split, run, told, tmp_path):
    reader = Reader(lambda request, letters: Failure("unsupported", "no log-probabilities"))
    with pytest.raises(
        BackendError, match=r"all 24 requests failed \(24 unsupported\), .*no log-pr"
    ):
        rerank.rerank(run, split, told, reader, SMALL, tmp_path)
    assert reader.asked == 24, "those of the test are not asked"
    (folder,) = (tmp_path / "reports").iterdir()
    assert not files.finished(folder) and not (folder / "report.json").exists()
    assert files.finished(rerank.rerank(run, split, told, Reader(likes_the_first), SMALL, tmp_path))


def test_a_folder_that_an_older_version_finished_without_a_word_is_asked_again(
    split, run, told, tmp_path
):
    folder = rerank.rerank(run, split, told, Reader(likes_the_first), SMALL, tmp_path)
    (folder / rerank.SAID).write_text("")
    again = Reader(likes_the_first)
    rerank.rerank(run, split, told, again, SMALL, tmp_path)
    assert again.asked == 2 * 2 * 12


def test_a_way_that_closes_leaves_the_folder_open_and_what_was_said_kept(
    split, run, told, tmp_path, monkeypatch
):
    monkeypatch.setattr(way.time, "sleep", lambda _: None)
    monkeypatch.setattr(reading, "AT_ONCE", 10)

    def closes(request, letters):
        closes.asked += 1
        gone = closes.asked > 31
        return Failure("connection", "refused") if gone else likes_the_first(request, letters)

    closes.asked = 0
    hasty = SMALL.model_copy(update={"patience_s": 0.0})
    with pytest.raises(BackendError, match=r"nothing came through for 0 s .refused.*What was answ"):
        rerank.rerank(run, split, told, Reader(closes), hasty, tmp_path)
    (folder,) = (tmp_path / "reports").iterdir()
    assert not files.finished(folder)
    kept = len((folder / rerank.SAID).read_text().splitlines())
    second = Reader(likes_the_first)
    assert rerank.rerank(run, split, told, second, SMALL, tmp_path) == folder, "patience is no key"
    assert kept == 31 and second.asked == 48 - 31, "also what was said beside what was lost"
    straight = rerank.rerank(run, split, told, Reader(likes_the_first), SMALL, tmp_path / "other")
    assert report(folder) == report(straight)


def test_a_server_that_is_not_there_is_an_error(split, run, told, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    nobody = "http://127.0.0.1:9/v1"
    hasty = SMALL.model_copy(update={"patience_s": 0.0})
    for _ in range(2):
        reader = OpenAIHTTP(OpenAIHTTPConfig(model="m", base_url=nobody, retries=0))
        with pytest.raises(BackendError, match=f"^connection: {nobody}: nothing came through"):
            rerank.rerank(run, split, told, reader, hasty, tmp_path)
        reader.close()
    assert not list((tmp_path / "reports").glob(f"*/{files.MANIFEST}"))


def test_what_was_lost_on_the_way_is_asked_again_by_the_same_command(split, run, told, tmp_path):
    def loses(request, letters):
        loses.left -= 1
        return Failure("timeout", "5 s") if loses.left >= 0 else likes_the_first(request, letters)

    loses.left = 3
    folder = rerank.rerank(run, split, told, Reader(loses), SMALL, tmp_path)
    said = rerank.summary(folder)
    assert "3 of 48 requests failed (3 timeout); the same command asks 3 of them again" in said
    second = Reader(likes_the_first)
    assert rerank.rerank(run, split, told, second, SMALL, tmp_path) == folder
    assert second.asked == 3 and report(folder)["failed"] == {}
    assert "0 of 48 requests failed" in rerank.summary(folder)


def test_tokens_are_counted_over_kills_and_with_what_was_lost(
    split, run, told, tmp_path, monkeypatch
):
    monkeypatch.setattr(reading, "AT_ONCE", 10)

    def dies(request, letters):
        if reader.asked > 30:
            raise KeyboardInterrupt
        lost = Failure("truncated", "no end", 100, 1)
        return lost if reader.asked == 10 else likes_the_first(request, letters)

    reader = Reader(dies)
    with pytest.raises(KeyboardInterrupt):
        rerank.rerank(run, split, told, reader, SMALL, tmp_path)
    (unfinished,) = bill.stages(tmp_path)
    assert (unfinished.tokens_in, unfinished.tokens_out) == (2400, 24), "of validation"
    folder = rerank.rerank(run, split, told, Reader(likes_the_first), SMALL, tmp_path)
    cost = files.manifest(folder)["cost"]
    assert (cost["tokens_in"], cost["tokens_out"]) == (5800, 58), "ten were asked again"
    assert "5,800 tokens read, 58 written" in rerank.summary(folder)
    (entry,) = bill.stages(tmp_path)
    assert (entry.tokens_in, entry.tokens_out, entry.rows) == (5800, 58, 12)
    counted = rerank.rerank(run, split, told, Tallies(), SMALL, tmp_path)
    assert "tokens" not in rerank.summary(counted), "who counts reads none"


def test_a_line_that_was_spoilt_is_asked_again(split, run, told, tmp_path, caplog):
    folder = rerank.rerank(run, split, told, Reader(likes_the_first), SMALL, tmp_path)
    straight, said = report(folder), folder / rerank.SAID
    lines = said.read_bytes().splitlines()
    lines[5], lines[9], lines[11] = b'["half', b"\xff\xfe", b"[1, 2, 3]"
    said.write_bytes(b"\n".join(lines) + b"\n")
    (folder / files.MANIFEST).unlink()
    again = Reader(likes_the_first)
    rerank.rerank(run, split, told, again, SMALL, tmp_path)
    assert again.asked == 3 and report(folder) == straight
    assert "3 lines cannot be read" in caplog.text


def test_there_are_letters_for_all_candidates():
    assert RerankConfig(candidates=len(LETTERS)).candidates == 20
    with pytest.raises(ValueError, match="less than or equal"):
        RerankConfig(candidates=len(LETTERS) + 1)
