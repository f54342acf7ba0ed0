"""A work folder whose costs are known by hand."""

import io
import json
import shutil

import polars as pl
import pytest
from PIL import Image

from reelm import bill, files
from reelm.bill import RatesConfig, page, priced, runs, stages, table, total
from reelm.cost import Cost, Ledger
from reelm.errors import BadData, ConfigError
from reelm.search import trials
from reelm.search.trials import Trial
from reelm.sources import Sources


def stage(work, kind, name, lines=(), **facts):
    folder = work / kind / name
    folder.mkdir(parents=True)
    for line in lines:
        Ledger(folder).add(line)
    return files.finish(folder, **facts)


def run(work, name, key, seconds, features=(), notes=(), recall=None, **inputs):
    folder = stage(work, "runs", name, key=key, seconds=seconds, rows=9, failed=0, inputs=inputs)
    Sources(catalog=work / "catalog" / "c", features=dict(features), notes=tuple(notes)).save(
        folder
    )
    (folder / "metrics.jsonl").write_text('{"cpu_s": 1.5}\n{"cpu_s": 2.5}\n')
    if recall is not None:
        pools = {"mixed": {"metrics": {"recall@10": recall}, "margins": {"recall@10": 0.02}}}
        report = stage(work, "reports", f"{name}-test", seconds=1.0, rows=5, inputs={"run": key})
        (report / "report.json").write_text(json.dumps({"pools": pools}))
    return folder


@pytest.fixture
def work(tmp_path):
    """Notes (3 answers of 2 contents, 1 failure) -> features -> a run; and a run without them."""
    parts = [
        Cost(0, 2, 40.0, 4.0, 30.0, 2000, 100, joules=7.2e5, joules_of="package-0"),
        Cost(1, 2, 20.0, 2.0, 15.0, 1000, 100, joules=3.6e5, joules_of="package-0"),
    ]
    notes = stage(tmp_path, "notes", "caption-a", parts, rows=4, failed=1, seconds=60.0)
    pl.DataFrame(
        {"sha256": ["s0", "s0", "s1", "s2"], "answer": ["{}", "{}", "{}", None]}
    ).write_parquet(notes / "part-00000.parquet")
    made = [Cost(0, 4, 5.0, 5.0, 5.0)]
    stage(tmp_path, "features", "text-b", made, rows=4, failed=0, inputs={"notes": str(notes)})
    stage(tmp_path, "catalog", "c", rows={"videos": 4, "events": 99}, failed=0, seconds=3.0)
    features = {"text": tmp_path / "features" / "text-b"}
    run(tmp_path, "sasrec-d", "d", 10.0, features, [notes], recall=0.2)
    run(tmp_path, "popularity-e", "e", 1.0, recall=0.1)
    return tmp_path


def by_name(entries):
    return {entry.name.partition("/")[0]: entry for entry in entries}


def test_stages_are_read_from_ledgers_and_manifests(work):
    found = by_name(stages(work))
    notes = found["notes"]
    assert (notes.rows, notes.failed, notes.tokens_in, notes.tokens_out) == (4, 1, 3000, 200)
    assert (notes.seconds, notes.cpu_s, notes.device_s, notes.joules) == (60, 6, 45, 1.08e6)
    assert found["features"].joules is None
    assert (found["catalog"].rows, found["catalog"].device_s) == (4, 0)
    assert (found["runs"].seconds, found["runs"].cpu_s, found["runs"].device_s) == (10, 4, 10)


def test_money_by_the_rate_card(work):
    notes = by_name(stages(work))["notes"]
    assert priced(notes, RatesConfig()).money is None
    assert priced(notes, RatesConfig(device_hour=8)).money == pytest.approx(0.1)
    assert priced(notes, RatesConfig(million_tokens_in=10)).money == pytest.approx(0.03)
    assert priced(notes, RatesConfig(million_tokens_out=10)).money == pytest.approx(0.002)
    assert priced(notes, RatesConfig(kwh=0.5)).money == pytest.approx(0.15)
    every = RatesConfig(device_hour=8, million_tokens_in=10, million_tokens_out=10, kwh=0.5)
    assert priced(notes, every).money == pytest.approx(0.282)
    assert not priced(notes, every).lacks


def test_what_was_not_measured_is_said_and_never_guessed(work):
    card = RatesConfig(device_hour=3600, kwh=0.5)
    features = by_name(stages(work, card))["features"]
    assert features.money == pytest.approx(5) and features.lacks == {"money"}
    whole = total(stages(work, card))
    assert {"joules", "money"} <= whole.lacks and whole.joules == 1.08e6
    said = table(stages(work, card), "EUR", whole)
    assert "5+" in said and said.endswith("+ a part of it was not measured")
    assert priced(by_name(stages(work))["catalog"], RatesConfig(kwh=1)).money is None


def test_parts_whose_cost_was_lost_make_sums_too_small(work):
    Ledger(work / "notes" / "caption-a").add(Cost(2, 9, known=False))
    notes = by_name(stages(work, RatesConfig(device_hour=1)))["notes"]
    assert {"seconds", "tokens_in", "money"} <= notes.lacks


def test_a_stage_that_is_at_work_is_told_and_left_alone(work):
    folder = work / "notes" / "caption-z"
    Ledger(folder).add(Cost(0, 2, 1.0))
    with (folder / "cost.jsonl").open("a") as file:
        file.write('{"part": 1, "ro')
    before = (folder / "cost.jsonl").read_bytes()
    assert "caption-z (not finished)" in table(stages(work), "EUR")
    assert (folder / "cost.jsonl").read_bytes() == before


def test_per_note_counts_answers_of_different_contents(work):
    (notes,) = bill.notes(work, RatesConfig(device_hour=8))
    assert (notes.rows, notes.tokens_in, notes.seconds) == (2, 1500, 30)
    assert notes.money == pytest.approx(0.05)


def test_a_run_costs_what_it_was_made_from(work):
    found = {entry.name: entry for entry in runs(work)}
    sasrec, popularity = found["runs/sasrec-d"], found["runs/popularity-e"]
    assert sasrec.seconds == 10 + 5 + 60 and sasrec.rows == 9 and sasrec.tokens_in == 3000
    assert sasrec.folders == ("runs/sasrec-d", "features/text-b", "notes/caption-a")
    assert popularity.seconds == 1 and popularity.folders == ("runs/popularity-e",)


def test_a_student_costs_its_teacher_too(work):
    run(work, "mf-f", "f", 2.0, teacher="d")
    found = {entry.name: entry for entry in runs(work)}
    assert found["runs/mf-f"].seconds == 2 + 10 + 5 + 60


def test_what_was_said_of_users_counts_with_what_it_was_read_from(work):
    caption = str(work / "notes" / "caption-a")
    told = {"notes": [caption], "train": "t"}
    for name, seconds in (("user_profile-p", 7.0), ("preference_edges-q", 9.0)):
        folder = stage(
            work, "notes", name, [Cost(0, 2, seconds)], rows=2, failed=0, inputs=told,
        )  # fmt: skip
        pl.DataFrame({"user_id": ["u0", "u1"], "answer": ["{}", None]}).write_parquet(
            folder / "part-00000.parquet"
        )
    read = {"notes": str(work / "notes" / "user_profile-p")}
    stage(work, "features", "text-r", [Cost(0, 2, 3.0)], rows=2, failed=0, inputs=read)
    folder = run(work, "llmrec-s", "s", 1.0)
    edges, profiles = work / "notes" / "preference_edges-q", work / "features" / "text-r"
    Sources(catalog=work / "catalog" / "c", edges=edges, profiles={"said": profiles}).save(folder)
    found = {entry.name: entry for entry in runs(work)}["runs/llmrec-s"]
    assert found.seconds == 1 + 3 + 7 + 9 + 60 and len(set(found.folders)) == 5
    per_note = {entry.name: entry for entry in bill.notes(work)}["notes/user_profile-p"]
    assert (per_note.rows, per_note.seconds) == (1, 7)


def test_a_work_folder_that_was_moved_is_found(work, tmp_path_factory):
    moved = tmp_path_factory.mktemp("moved") / "work"
    work.rename(moved)
    assert {e.name: e for e in runs(moved)}["runs/sasrec-d"].seconds == 75


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(BadData, match="no stage folder"):
        stages(tmp_path)
    with pytest.raises(BadData, match="reelm train"):
        runs(tmp_path)


def test_quality_against_cost(work, tmp_path):
    run(work, "mf-g", "g", 500.0, recall=0.15)
    run(work, "mf-h", "h", 5.0)
    made = page.plot(work, runs(work), "recall@10", "seconds")
    assert [(dot.name, dot.cost, dot.quality, dot.best) for dot in made.dots] == [
        ("popularity-e", 1, 0.1, True), ("sasrec-d", 75, 0.2, True), ("mf-g", 500, 0.15, False),
    ]  # fmt: skip
    assert made.left_out == [("runs/mf-h", "no report")]
    cheap, good, dear = made.dots
    assert cheap.x < good.x < dear.x and good.y < dear.y < cheap.y and good.high < good.y < good.low
    text = page.write(made, tmp_path / "plot.html").read_text()
    assert text.count("<circle") == 3 and "sasrec-d" in text and "runs/mf-h" in text
    drawn = Image.open(io.BytesIO(page.write(made, tmp_path / "plot.png").read_bytes()))
    dot = drawn.getpixel((round(good.x * 2), round(good.y * 2)))
    assert dot == (0x34, 0x57, 0xD5)


def test_a_plot_that_cannot_be_drawn_says_what_to_choose(work, tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'seconds'"):
        page.plot(work, runs(work), "recall@10", "second")
    with pytest.raises(BadData, match=r"no report with recall@11.*--metric"):
        page.plot(work, runs(work), "recall@11", "seconds")
    with pytest.raises(BadData, match=r"with known/recall@10 for 2 of them: choose another --metr"):
        page.plot(work, runs(work), "known/recall@10", "seconds")
    with pytest.raises(BadData, match=r"money is not known for 2 of them: name a rate"):
        page.plot(work, runs(work), "recall@10", "money")
    shutil.rmtree(work / "reports")
    lost = r"plot: no report for 2 of them: run `reelm evaluate` on one\.$"
    with pytest.raises(BadData, match=lost):
        page.plot(work, runs(work), "recall@10", "seconds")
    made = page.Plot("recall@10", "seconds", [], [], [], [])
    with pytest.raises(ConfigError, match=r"\.html or \.png"):
        page.write(made, tmp_path / "plot.svg")


def test_short_lists_are_not_the_report_of_a_run(work):
    folder = stage(work, "reports", "rerank-x", stage="rerank", rows=2, failed=0, seconds=2.0,
                   inputs={"run": "d"})  # fmt: skip
    (folder / "report.json").write_text(json.dumps({"ways": {}, "lists": 2}))
    made = page.plot(work, runs(work), "recall@10", "seconds")
    assert [dot.name for dot in made.dots] == ["popularity-e", "sasrec-d"] and not made.left_out


def tried(number, run, seconds, **more):
    told = {"number": number, "state": "done", "settings": {}, "started_at": 0.0, "run": run}
    return Trial(**told | {"seconds": seconds, "cpu_s": seconds, "valid": 0.1} | more)


def test_a_search_is_counted_without_the_runs_that_are_there(work):
    folder = stage(work, "searches", "sasrec-s", rows=4, failed=1, seconds=99.0)
    gone, failed = tried(1, "sasrec-gone", 6.0), tried(2, None, 2.0, state="failed", valid=None)
    again = tried(3, "sasrec-gone", 0.0, cpu_s=0.0)
    trials.write(folder, [tried(0, "sasrec-d", 10.0), gone, failed, again])
    other = stage(work, "searches", "sasrec-t", rows=1, failed=0, seconds=50.0)
    trials.write(other, [tried(0, "sasrec-gone", 6.0)])
    found = {entry.name: entry for entry in stages(work)}
    assert (found["searches/sasrec-s"].seconds, found["searches/sasrec-s"].cpu_s) == (8, 8)
    assert (found["searches/sasrec-t"].seconds, found["searches/sasrec-t"].device_s) == (0, 0)
    assert total(stages(work)).device_s == 45 + 5 + 10 + 1 + 8 + 2  # two reports of a second


def test_trials_of_before_their_seconds_were_told_are_not_guessed(work):
    folder = stage(work, "searches", "sasrec-s", rows=1, failed=0, seconds=99.0)
    trials.write(folder, [tried(0, "sasrec-gone", None, cpu_s=3.0)])
    search = by_name(stages(work))["searches"]
    assert search.seconds is None and search.cpu_s == 3
    assert "seconds" in total(stages(work)).lacks


def test_a_comparison_is_counted_without_the_runs_and_reports_that_it_made(work):
    cells = [{"run": "mf-i", "report": "mf-i-test"}, {"run": "sasrec-d", "report": None}]
    old = files.manifest(work / "runs" / "sasrec-d") | {"finished_at": 0.0}
    files.write_text(work / "runs" / "sasrec-d" / files.MANIFEST, json.dumps(old))
    run(work, "mf-i", "i", 20.0, recall=0.1)
    folder = stage(work, "reports", "compare-x", stage="compare", rows=2, failed=0, seconds=25.0)
    (folder / "report.json").write_text(json.dumps({"cells": cells}))
    found = {entry.name: entry for entry in stages(work)}
    assert found["reports/compare-x"].seconds == 25 - 20 - 1


def test_tuned_models_count(work):
    stage(work, "tuned", "small-q", rows=5, failed=1, seconds=40.0)
    tuned = by_name(stages(work))["tuned"]
    assert (tuned.seconds, tuned.device_s, tuned.rows) == (40, 40, 5)


@pytest.mark.parametrize("told", [None, "a title"])
def test_answers_that_wait_for_their_part_count_once(work, told):
    folder = work / "notes" / "caption-w"
    folder.mkdir()

    def kept(name, shas, tokens):
        columns = {"sha256": shas, "told": [told] * len(shas)}
        columns |= {"tokens_in": [tokens] * len(shas), "tokens_out": [1] * len(shas)}
        types = {"sha256": pl.String, "told": pl.String}
        pl.DataFrame(columns, schema_overrides=types).write_parquet(folder / name)

    kept("answered-00000.parquet", ["a", "b"], 100)
    (waits,) = (entry for entry in stages(work) if entry.name == "notes/caption-w")
    assert (waits.tokens_in, waits.tokens_out, waits.rows, waits.finished) == (200, 2, 2, False)
    kept("answered-00001.parquet", ["a", "c"], 150)  # an answer that took the place of a failure
    kept("part-00000.parquet", ["b"], 100)
    Ledger(folder).add(Cost(0, 1, 1.0, tokens_in=100, tokens_out=1))
    (waits,) = (entry for entry in stages(work) if entry.name == "notes/caption-w")
    assert (waits.tokens_in, waits.rows) == (100 + 300, 3)
    kept("kept-00000.parquet", ["c"], 150)
    (waits,) = (entry for entry in stages(work) if entry.name == "notes/caption-w")
    assert waits.tokens_in == 100 + 150
