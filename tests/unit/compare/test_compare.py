"""The verb: every cell once, finished ones reused, failed ones kept, and files for all readers."""

import json
from html.parser import HTMLParser

import polars as pl
import pytest
from typer.testing import CliRunner

from reelm import asked, cli, evaluate, files, train
from reelm import compare as verb
from reelm.compare import CompareConfig, Entry, compare, summary
from reelm.data.split import SplitConfig
from reelm.errors import BadData, ConfigError, UnknownName
from reelm.evaluate import EvaluateConfig
from reelm.sources import Sources
from reelm.train import TrainConfig

SMALL = {"dim": 8, "layers": 1, "heads": 1, "feedforward": 8, "max_length": 8}
QUICK = TrainConfig(epochs=2, batch_size=40, seed=3)
ASKED = EvaluateConfig(ks=(5, 10), pools=("mixed", "warm"))


@pytest.fixture
def chosen(written) -> CompareConfig:
    cut = SplitConfig(name="leave_last_two")
    return CompareConfig(
        datasets={"clean": Sources(catalog=written(), split=cut)},
        models={"small": Entry(model="sasrec", settings=SMALL)},
        seeds=2,
        resamples=200,
    )


MEASURED = {f"{name}@{k}" for name in ("recall", "ndcg", "hit") for k in ASKED.ks} | {"mrr"}


def told(folder):
    text = (folder / "report.json").read_text()
    assert "NaN" not in text
    return json.loads(text)


def figure(facts, model, name):
    pool, _, metric = name.partition("/")
    rows = [
        r for r in facts["figures"] if (r["model"], r["pool"], r["metric"]) == (model, pool, metric)
    ]
    (row,) = rows
    return row


def test_a_folder_for_people_and_programs(chosen, tmp_path):
    folder = compare(chosen, tmp_path, QUICK, ASKED)
    assert folder.parent == tmp_path / "reports" and folder.name.startswith("compare-")
    assert files.manifest(folder)["rows"] == 2 + 1 + 1  # baselines draw nothing: one cell each
    facts = told(folder)
    seeds = [(c["model"], c["seed"]) for c in facts["cells"]]
    assert seeds == [("small", 3), ("small", 4), ("popularity", 3), ("item_knn", 3)]
    for cell in facts["cells"]:
        own = json.loads((tmp_path / "reports" / cell["report"] / "report.json").read_text())
        value = own["pools"]["mixed"]["metrics"]["ndcg@10"]
        assert value in figure(facts, cell["model"], "mixed/ndcg@10")["values"]
    row = figure(facts, "small", "mixed/ndcg@10")
    assert row["mean"] == pytest.approx(sum(row["values"]) / 2)
    assert row["low"] <= row["mean"] <= row["high"]
    assert figure(facts, "popularity", "mixed/ndcg@10")["low"] is None
    assert facts["cells"][0]["cost"]["parameters"] > 0 == facts["cells"][2]["cost"]["parameters"]
    assert [f["severity"] for f in facts["leaks"]["clean"]] == ["note"] * 2


def test_the_table_for_a_paper_says_what_the_report_says(chosen, tmp_path):
    folder = compare(chosen, tmp_path, QUICK, ASKED)
    facts, text = told(folder), (folder / "table.tex").read_text()
    row, best = figure(facts, "small", "mixed/mrr"), 0.0
    for model in ("small", "popularity", "item_knn"):
        best = max(best, figure(facts, model, "mixed/mrr")["mean"])
    assert rf"\pm {(row['high'] - row['low']) / 2:.4f}" in text
    assert rf"\mathbf{{{best:.4f}}}" in text
    assert r"item\_knn & " in text and "coverage" not in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    for line in text.splitlines():
        if line.endswith(r"\\"):
            assert line.count(" & ") == len({r["metric"] for r in facts["figures"]} & MEASURED)


def test_what_is_printed_and_the_table_for_a_spreadsheet_have_the_intervals(chosen, tmp_path):
    folder = compare(chosen, tmp_path, QUICK, ASKED)
    row = figure(told(folder), "small", "mixed/ndcg@10")
    rows = [r for r in told(folder)["comparisons"] if r["family"] == "measure"]
    (other,) = (r for r in rows if r["model"] == "item_knn")
    said = summary(folder)
    assert f"{row['mean']:.4f} ± {(row['high'] - row['low']) / 2:.4f}" in said
    ends = other["seeds"]
    assert f"{other['difference']:+.4f} ± {(ends['high'] - ends['low']) / 2:.4f}" in said
    table = pl.read_csv(folder / "figures.csv")
    assert table.height == len(told(folder)["figures"])
    (mine,) = table.filter(model="small", pool="mixed", metric="ndcg@10").to_dicts()
    assert (mine["mean"], mine["low"]) == pytest.approx((row["mean"], row["low"]))


def test_differences_are_those_of_the_rows(chosen, tmp_path):
    """Taken anew from rows.parquet, by another way."""
    folder = compare(chosen, tmp_path, QUICK, ASKED)
    facts, rows = told(folder), pl.read_parquet(folder / "rows.parquet")
    assert rows.height == 4 * 80 * 2  # cells, users, pools
    means = rows.filter(pool="mixed").group_by("model").agg(pl.col("ndcg@10").mean()).rows()
    means = dict(means)
    for row in facts["comparisons"]:
        if (row["pool"], row["metric"]) == ("mixed", "ndcg@10"):
            assert row["reference"] == "small" and row["family"] == "measure"
            assert row["difference"] == pytest.approx(means[row["model"]] - means["small"])
            assert row["users"]["mean"] == pytest.approx(row["difference"])
            assert row["users"]["low"] <= row["difference"] <= row["users"]["high"]
            assert row["users"]["questions"] == 80 and row["pairs"] == 2
            assert row["p"] <= row["p_holm"] <= 1
    names = {r["metric"] for r in facts["comparisons"]}
    assert {"recall@5", "mrr", "coverage@10"} <= names  # whatever the evaluator has


def test_each_test_is_opened_once_and_nothing_is_done_twice(chosen, tmp_path, monkeypatch):
    opened = []
    ask = evaluate.test

    def watched(run, *rest):
        opened.append(run.key)
        return ask(run, *rest)

    monkeypatch.setattr(evaluate, "test", watched)
    folder = compare(chosen, tmp_path, QUICK, ASKED)
    assert len(opened) == len(set(opened)) == 4
    before = (folder / "report.json").stat().st_mtime_ns
    assert compare(chosen, tmp_path, QUICK, ASKED) == folder and len(opened) == 4
    assert (folder / "report.json").stat().st_mtime_ns == before
    other = chosen.model_copy(update={"reference": "popularity"})
    monkeypatch.setattr(train, "train", _never)
    again = compare(other, tmp_path, QUICK, ASKED)
    assert again != folder
    assert {r["reference"] for r in told(again)["comparisons"]} == {"popularity"}


def _never(*_, **__):
    raise AssertionError("trained again")


def test_other_texts_are_searched_for_leaks_anew(chosen, tmp_path):
    chosen = chosen.model_copy(update={"models": {"popularity": Entry(model="popularity")}})
    before = compare(chosen, tmp_path, QUICK, ASKED)
    notes = tmp_path / "notes" / "caption-1"
    notes.mkdir(parents=True)
    said = {"video_id": ["v1", "v2"], "answer": ['{"caption": "label: 1"}', None]}
    pl.DataFrame(said).write_parquet(notes / "part-00000.parquet")
    files.finish(notes, stage="annotate", key="1")
    (label, told_of), *_ = chosen.datasets.items()
    with_notes = told_of.model_copy(update={"notes": (notes,)})
    after = compare(
        chosen.model_copy(update={"datasets": {label: with_notes}}), tmp_path, QUICK, ASKED
    )
    kinds = [{one["kind"] for one in told(folder)["leaks"][label]} for folder in (before, after)]
    assert "label in text" in kinds[1] - kinds[0]


def test_a_killed_comparison_goes_on(chosen, tmp_path, monkeypatch):
    whole = told(compare(chosen, tmp_path / "whole", QUICK, ASKED))
    real, done = train.train, []

    def fatal(*given, **rest):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(1)
        return real(*given, **rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, "train", fatal)
        compare(chosen, tmp_path / "cut", QUICK, ASKED)
    assert not list((tmp_path / "cut" / "reports").glob("compare-*/manifest.json"))
    cut = told(compare(chosen, tmp_path / "cut", QUICK, ASKED))
    assert cut["figures"] == whole["figures"] and cut["comparisons"] == whole["comparisons"]


@pytest.mark.parametrize("error", [BadData("the moon is full"), RuntimeError("no memory left")])
def test_a_cell_that_fails_is_kept_and_tried_again(chosen, tmp_path, monkeypatch, error):
    real = train.train_run

    def fails(split, name, settings, schedule, *rest):
        if name == "sasrec" and schedule.seed == 4:
            raise error
        return real(split, name, settings, schedule, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_run", fails)
        folder = compare(chosen, tmp_path, QUICK, ASKED)
    facts = told(folder)
    assert files.manifest(folder)["failed"] == 1
    assert [str(error) in c["error"] for c in facts["cells"]] == [False, True, False, False]
    assert all(r["pairs"] == 1 and r["seeds"] is None for r in facts["comparisons"])
    assert str(error) in (folder / "report.html").read_text() and str(error) in verb.summary(folder)
    monkeypatch.setattr(verb, "compare", lambda *rest: folder)  # what a shell is told
    ended = CliRunner().invoke(cli.app, ["compare", "--catalog", "x", "--work", str(tmp_path)])
    assert ended.exit_code == 1 and "1 of 4 runs failed" in ended.output
    assert compare(chosen, tmp_path, QUICK, ASKED) == folder
    assert verb.failures(folder) == 0
    ended = CliRunner().invoke(cli.app, ["compare", "--catalog", "x", "--work", str(tmp_path)])
    assert ended.exit_code == 0 and ended.output.endswith(f"{folder}\n")
    assert not [c for c in told(folder)["cells"] if c["error"]]


def test_where_all_fail_there_is_still_a_report(chosen, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "train_run", _broken)
    folder = compare(chosen, tmp_path, QUICK, ASKED)
    assert files.manifest(folder)["failed"] == 2 + 2 + 2
    assert told(folder)["figures"] == [] and "AssertionError" in verb.summary(folder)


def _broken(*_):
    raise AssertionError("broken")


class Page(HTMLParser):
    """Every tag that is opened is closed, in order."""

    VOID = ("meta", "br", "path", "circle", "polyline", "link")

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole(chosen, tmp_path):
    label = "<b>small</b>"
    chosen = chosen.model_copy(update={"models": {label: chosen.models["small"]}})
    folder = compare(chosen, tmp_path, QUICK, ASKED)
    text, page = (folder / "report.html").read_text(), Page()
    page.feed(text)
    assert page.open == []
    assert "://" not in text and "<script" not in text and label not in text
    facts = told(folder)
    means = [a for tag, a in page.seen if tag == "circle" and a.get("class") == "mean"]
    shown = [r for r in facts["figures"] if f"{r['pool']}/{r['metric']}" == "mixed/ndcg@10"]
    assert len(means) == len(facts["figures"]) + len(shown)
    assert sum(tag == "polyline" for tag, _ in page.seen) == 2 * 2  # seeds, by epoch and by time
    for circle in means:
        assert 170 <= float(circle["cx"]) <= 600


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"datasets": {}}, ConfigError, "nothing to compare"),
        ({"reference": "smal"}, UnknownName, "Did you mean 'small'"),
        ({"models": {"x": Entry(model="sasrecc")}}, UnknownName, "Did you mean 'sasrec'"),
        (
            {"models": {"x": Entry(model="sasrec", settings={"dimm": 8})}},
            ConfigError,
            r"compare\.models\.x\.settings\.dimm.*Did you mean 'dim'",
        ),
        (
            {"models": {"x": Entry(model="sasrec", train={"epoch": 8})}},
            ConfigError,
            r"compare\.models\.x\.train\.epoch.*Did you mean 'epochs'",
        ),
        (
            {"models": {"x": Entry(model="sasrec", settings={"items": "both"})}},
            ConfigError,
            r"model x reads features\.text, and dataset clean is given nothing",
        ),
        ({"measure": "cold/ndcg@10"}, ConfigError, r"evaluate\.pools"),
        ({"measure": "mixed/ndcg@7"}, ConfigError, r"evaluate\.ks"),
        ({"measure": "mixed/ndcg"}, ConfigError, r"evaluate\.ks"),
        ({"measure": "mixed/ndgc@10"}, ConfigError, "no such metric.*Did you mean 'ndcg'"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_trained(
    chosen, tmp_path, monkeypatch, change, error, said
):
    monkeypatch.setattr(train, "train_run", _never)
    with pytest.raises(error, match=said):
        compare(chosen.model_copy(update=change), tmp_path, QUICK, ASKED)


def test_baselines_can_be_left_out_or_named(chosen, tmp_path):
    some = chosen.model_copy(
        update={"baselines": False, "models": {"p": Entry(model="popularity")}}
    )
    folder = compare(some, tmp_path, QUICK, ASKED)
    assert [c["model"] for c in told(folder)["cells"]] == ["p"]
    named = chosen.model_copy(update={"models": {"p": Entry(model="popularity")}, "leaks": False})
    facts = told(compare(named, tmp_path, QUICK, ASKED))
    assert [c["model"] for c in facts["cells"]] == ["p", "item_knn"]
    assert facts["leaks"] == {"clean": []}
    assert all(
        r["seeds"] is None and r["users"] for r in facts["comparisons"] if r["metric"] == "mrr"
    )


def test_what_a_command_names_is_laid_over_settings(tmp_path, written):
    raw = {
        "split": {"name": "leave_last_two"},
        "compare": {"seeds": 3, "datasets": {"own": {"catalog": "c", "split": {"seed": 1}}}},
    }
    catalogs = asked.catalogs(raw, [str(tmp_path / "abc"), "lab=x/y"], tmp_path)
    named = verb.completed(raw, ["sasrec"], catalogs, {"text": "f"})["compare"]
    parsed = CompareConfig.model_validate(named)
    assert parsed.seeds == 3 and list(parsed.models) == ["sasrec"]
    assert list(parsed.datasets) == ["abc", "lab", "own"]
    assert str(parsed.datasets["lab"].catalog) == "x/y"
    assert parsed.datasets["abc"].split.name == "leave_last_two"
    assert parsed.datasets["own"].split.name == "auto"
    assert list(parsed.datasets["abc"].features) == ["text"]
    newest = written("newest")
    assert asked.catalogs(raw, None, tmp_path) == []
    assert asked.catalogs({}, None, tmp_path) == [str(newest)]
