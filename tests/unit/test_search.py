"""The verb: what is proposed, what is kept of it, what is never opened."""

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from typer.testing import CliRunner

from reelm import config, files, sources, train
from reelm.cli import app
from reelm.data.split import Questions, Split, SplitConfig, leave_last_two, split
from reelm.errors import ConfigError, MissingInput, MissingPackage, StaleFolder
from reelm.search import SearchConfig, fruitless, needs, search, summary, trials
from reelm.search.space import Range
from reelm.search.trials import Trial, propose

SMALL = {"dim": 16, "layers": 1, "heads": 1, "feedforward": 16, "max_length": 8}
BASE = {"model": SMALL, "train": {"epochs": 3, "batch_size": 24, "validate_every": 3}}
RATES = {"train.learning_rate": "loguniform(1e-4, 1e-1)", "model.dropout": "uniform(0, 0.5)"}


@pytest.fixture
def cut(two_tastes) -> Split:
    return leave_last_two(two_tastes)


def outcomes(folder: Path) -> list[dict]:
    """What does not depend on the clock."""
    return [t.model_dump(exclude={"started_at", "cpu_s", "seconds"}) for t in trials.read(folder)]


# ---- ranges


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("choice(16, 32, 64)", (16, 32, 64)),
        (" choice(softmax, binary) ", ("softmax", "binary")),
        ('choice("a, b", true, 0.5)', ("a, b", True, 0.5)),
        ("choice(64)", (64,)),
        ("uniform(0, 0.5)", (0.0, 0.5)),
        ("loguniform(1e-4, 1e-1)", (1e-4, 1e-1)),
        ("int(-1, 4)", (-1, 4)),
        ("logint(8, 512)", (8, 512)),
    ],
)
def test_a_range_is_read_and_written(text, values):
    one = Range.parse(text)
    assert one.values == values
    assert [type(v) for v in one.values] == [type(v) for v in values]
    assert Range.parse(str(one)) == one


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chioce(1, 2)", "Did you mean 'choice'"),
        ("choice 1 2", "write it as"),
        ("choice", "choice lacks its brackets; write it as"),
        ("choice(1, 2", "choice lacks its closing bracket ); write it as"),
        ("choice()", "choice takes"),
        ("choice(1,,2)", "choice takes"),
        ("choice([1], [2])", "choice takes"),
        ("choice(1, 1)", "twice"),
        ("uniform(0)", "two numbers"),
        ("uniform(0, nan)", "two numbers"),
        ("uniform(0.5, 0)", "lower one first"),
        ("loguniform(0, 1)", "above 0"),
        ("int(1, 2.5)", "whole numbers"),
        ("int(false, true)", "whole numbers"),
        ("logint(0, 4)", "above 0"),
        ("16", "write it as"),
    ],
)
def test_a_wrong_range_is_named(text, said):
    with pytest.raises(ConfigError, match=r"model\.dim") as error:
        SearchConfig(space={"model.heads": "int(1, 4)", "model.dim": text})
    assert said in str(error.value) and "heads" not in str(error.value)


@given(st.sampled_from(["uniform", "loguniform", "int", "logint"]), st.integers(0, 99))
def test_what_is_proposed_lies_in_the_range(word, seed):
    one = Range.parse(f"{word}(2, 70)")
    value = propose({"x": one}, [], "random", seed)["x"]
    assert 2 <= value <= 70 and isinstance(value, int if "int" in word else float)
    assert 0 <= one.place(value) <= 1
    assert (one.place(2), one.place(70)) == (0, 1)


def test_equal_ratios_are_equally_far():
    assert Range.parse("loguniform(0.01, 1)").place(0.1) == pytest.approx(0.5)
    assert Range.parse("choice(a, b, c)").place("b") == 0.5


def test_a_space_may_be_written_in_three_ways(tmp_path):
    path = tmp_path / "s.toml"
    wanted = {"model.dim": "choice(8, 16)"}
    for text in ('"model.dim" = "choice(8, 16)"', 'model.dim = "choice(8, 16)"'):
        path.write_text(f"[search.space]\n{text}\n")
        assert config.section(SearchConfig, config.read(path), "search").space == wanted
    raw = config.read(None, ["search.space.model.dim=choice(8, 16)"])
    assert config.section(SearchConfig, raw, "search").space == wanted
    with pytest.raises(ConfigError, match=r"search\.spaces: no such setting"):
        config.parse(SearchConfig, {"spaces": {}}, "search")


def test_a_grid_takes_choices_only():
    with pytest.raises(ConfigError, match=r"choices only, and model\.dropout is none"):
        SearchConfig(sampler="grid", space={"model.dropout": "uniform(0, 1)"})


@pytest.mark.parametrize(
    ("space", "base", "said"),
    [
        ({}, BASE, "search.space is empty"),
        ({"model.dimm": "choice(1, 2)"}, BASE, "Did you mean 'model.dim'"),
        ({"split.seed": "choice(1, 2)"}, BASE, "no such setting to search"),
        ({"model.dim": "choice(8)"}, {"model": {"laiers": 1}}, "Did you mean 'model.layers'"),
        ({"model.profiles": "choice(a)"}, BASE, "sasrec reads no profiles, so it has no such"),
        ({"train.seed": "choice(1, 2)"}, BASE, "how trials are judged"),
        ({"model.dim": "choice(8)"}, {"train": {"epochs": 0}}, "train.epochs"),
        ({"model.dim": 'choice(8, "a")'}, BASE, r"search\.space: model\.dim = \"a\": .*integer$"),
        ({"model.dim": "int(0, 8)"}, BASE, r"search\.space: model\.dim = 0: .*greater than 0$"),
        ({"model.dim": "uniform(8, 16)"}, BASE, r"model\.dim = 11\.0\d+: .*integer"),
        ({"model.dropout": "uniform(0, 2)"}, BASE, r"model\.dropout = 0\.76\d*: |dropout = 2\.0:"),
        (
            {"model.items": "choice(id, nope)", "train.clip": "choice(1, 0)"},
            BASE,
            r'model\.items = "nope".*; search\.space: train\.clip = 0',
        ),
    ],
)
def test_what_no_trial_could_run_with_is_said_before(cut, tmp_path, space, base, said):
    with pytest.raises(ConfigError, match=said):
        search(cut, "sasrec", base, SearchConfig(space=space), tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_validation_there_is_nothing_to_judge_by(two_tastes, tmp_path):
    joined = split(two_tastes, SplitConfig(name="leave_last_two", join_valid=True))
    with pytest.raises(ConfigError, match="no validation questions"):
        search(joined, "sasrec", BASE, SearchConfig(space=RATES), tmp_path)


def test_the_extra_is_named_where_it_is_missing(cut, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackage, match=r"pip install 'reelm\[search\]'"):
        search(cut, "sasrec", BASE, SearchConfig(space=RATES), tmp_path)


# ---- a search


def test_finds_the_settings_that_learn(cut, tmp_path):
    base = BASE | {"train": {"epochs": 40, "batch_size": 24, "validate_every": 20}}
    space = {"train.learning_rate": "choice(1e-6, 1e-2)"}
    folder = search(cut, "sasrec", base, SearchConfig(sampler="grid", space=space), tmp_path)
    best, worst = trials.ranked(trials.read(folder))
    assert best.settings == {"train.learning_rate": 1e-2}
    assert best.valid > 0.8 > worst.valid
    assert best.cpu_s > 0
    rows = (tmp_path / "runs" / best.run / "metrics.jsonl").read_text().splitlines()
    (kept,) = [row["mixed/ndcg@10"] for row in map(json.loads, rows) if row.get("kept")]
    assert best.valid == kept
    assert f"best: trial {best.number}" in summary(folder)
    assert files.manifest(folder)["rows"] == 2 and files.manifest(folder)["failed"] == 0


def test_tpe_goes_to_where_it_is_good():
    ranges = {"train.learning_rate": Range.parse("loguniform(1e-6, 1)")}
    tried: list[Trial] = []
    for number in range(40):
        settings = propose(ranges, tried, "tpe", 0)
        off = math.log10(settings["train.learning_rate"]) + 3
        done = {"state": "done", "started_at": 0.0, "valid": -abs(off)}
        tried.append(Trial(number=number, settings=settings, **done))
    first, last = (sum(t.valid for t in some) / 10 for some in (tried[:10], tried[-10:]))
    assert last > first / 1.5


def test_a_grid_covers_every_combination_once(cut, tmp_path):
    space = {"model.dim": "choice(8, 16)", "model.dropout": "choice(0.0, 0.1, 0.2)"}
    some = SearchConfig(trials=4, sampler="grid", space=space)
    first = outcomes(search(cut, "sasrec", BASE, some, tmp_path))
    assert len(first) == 4
    folder = search(cut, "sasrec", BASE, SearchConfig(sampler="grid", space=space), tmp_path)
    assert outcomes(folder)[:4] == first
    tried = {tuple(one["settings"].values()) for one in outcomes(folder)}
    assert tried == {(d, p) for d in (8, 16) for p in (0.0, 0.1, 0.2)}
    assert len(outcomes(folder)) == 6


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_more_trials_later_are_those_of_one_long_search(cut, tmp_path, sampler):
    def tried(work: Path, count: int) -> Path:
        chosen = SearchConfig(trials=count, sampler=sampler, space=RATES, seed=5)
        return search(cut, "sasrec", BASE, chosen, work)

    assert tried(tmp_path / "a", 2) == tried(tmp_path / "a", 4)
    assert outcomes(tried(tmp_path / "a", 4)) == outcomes(tried(tmp_path / "b", 4))
    assert len({one["run"] for one in outcomes(tried(tmp_path / "a", 4))}) == 4


def test_another_seed_tries_other_settings():
    ranges = SearchConfig(space=RATES).ranges
    assert propose(ranges, [], "tpe", 1) == propose(ranges, [], "tpe", 1)
    assert propose(ranges, [], "tpe", 1) != propose(ranges, [], "tpe", 2)


def test_a_finished_search_is_not_run_again(cut, tmp_path, monkeypatch):
    chosen = SearchConfig(trials=2, space=RATES)
    folder = search(cut, "sasrec", BASE, chosen, tmp_path)
    monkeypatch.setattr(train, "train_run", lambda *given: pytest.fail("trained again"))
    assert search(cut, "sasrec", BASE, chosen, tmp_path) == folder
    turned = SearchConfig(trials=1, keep=1, space=dict(reversed(RATES.items())))
    assert search(cut, "sasrec", BASE, turned, tmp_path) == folder


def test_the_test_is_never_opened(cut, tmp_path):
    class Closed(Questions):
        def __getattribute__(self, name):
            raise AssertionError(f"the test was opened: {name}")

        def __len__(self):
            raise AssertionError("the test was counted")

    closed = replace(cut, test=object.__new__(Closed))
    with pytest.raises(AssertionError, match="the test was"):
        len(closed.test)
    folder = search(closed, "sasrec", BASE, SearchConfig(trials=3, space=RATES), tmp_path)
    assert [one["state"] for one in outcomes(folder)] == ["done"] * 3
    space = {"neighbours": "choice(1, 5)"}
    chosen = SearchConfig(sampler="grid", space={"model": space})
    assert outcomes(search(closed, "item_knn", {}, chosen, tmp_path))[1]["valid"] is not None
    assert not (tmp_path / "reports").exists()


def test_a_model_that_is_not_trained_is_measured_too(cut, tmp_path):
    chosen = SearchConfig(sampler="grid", space={"model.neighbours": "choice(1, 11)"})
    folder = search(cut, "item_knn", {}, chosen, tmp_path)
    for one in trials.read(folder):
        run = train.runs.load(tmp_path / "runs" / one.run)
        measured = train.validated(run.model, cut.valid, train.TrainConfig())
        assert one.valid == measured and one.cpu_s > 0


def test_a_failing_trial_is_kept_with_its_reason(cut, tmp_path):
    space = {"model.heads": "choice(1, 3)", "train.learning_rate": "choice(1e-3, 1e38)"}
    chosen = SearchConfig(sampler="grid", space=space)
    folder = search(cut, "sasrec", BASE, chosen, tmp_path)
    told = {tuple(one["settings"].values()): one for one in outcomes(folder)}
    assert told[1, 1e-3]["state"] == "done"
    for heads, rate, said in [
        (3, 1e-3, "ConfigError: model: heads = 3"),
        (1, 1e38, "NonFinite: SASRec"),
    ]:
        one = told[heads, rate]
        assert (one["state"], one["valid"], one["run"]) == ("failed", None, None)
        assert said in one["reason"]
    assert files.manifest(folder)["failed"] == 3
    assert summary(folder).count("failed: trial") == 3


def test_without_a_good_trial_there_is_no_best(cut, tmp_path):
    folder = search(cut, "sasrec", BASE, SearchConfig(space={"model.heads": "choice(3)"}), tmp_path)
    assert files.manifest(folder)["failed"] == files.manifest(folder)["rows"] == 20
    assert not (folder / "best.toml").exists()
    assert "best:" not in summary(folder)


def test_features_that_are_missing_are_not_counted_as_a_failure(cut, tmp_path):
    bare = replace(cut, train=replace(cut.train, features={}, has_feature={}))
    chosen = SearchConfig(trials=2, space={"model.items": "choice(content)"})
    with pytest.raises(MissingInput, match=r"features\.text"):
        search(bare, "sasrec", BASE, chosen, tmp_path)


def test_features_that_some_trial_needs_are_asked_for_before_the_first(cut, tmp_path):
    bare = replace(cut, train=replace(cut.train, features={}, has_feature={}))
    chosen = SearchConfig(sampler="grid", space={"model.items": "choice(id, both)"})
    with pytest.raises(MissingInput, match=r"features\.text"):
        search(bare, "sasrec", BASE, chosen, tmp_path)
    assert not list(tmp_path.iterdir())
    assert needs("sasrec", BASE, chosen) == ("features.text",)


def test_a_search_in_which_nothing_succeeds_says_so(cut, tmp_path, monkeypatch):
    def fails(*given):
        raise ValueError("no weights")

    monkeypatch.setattr(train, "train_run", fails)
    chosen = SearchConfig(trials=2, space={"model.dim": "choice(8, 16)"})
    folder = search(cut, "sasrec", BASE, chosen, tmp_path)
    assert fruitless(folder) and summary(folder).count("ValueError: no weights") == 2
    assert summary(folder).splitlines()[-1].startswith("no trial succeeded")
    short = SearchConfig(trials=2, space=RATES, time_s=1e-9)
    assert not fruitless(search(cut, "sasrec", BASE, short, tmp_path))


def test_the_same_settings_are_trained_once(cut, tmp_path):
    chosen = SearchConfig(trials=4, space={"model.dim": "choice(16)"})
    first, *others = trials.read(search(cut, "sasrec", BASE, chosen, tmp_path))
    assert {one.valid for one in others} == {first.valid}
    assert all(one.cpu_s == 0 and "trial 0" in one.reason for one in others)


def test_only_the_best_runs_stay_and_only_own_ones_go(cut, tmp_path):
    for keep in (4, 1):
        work = tmp_path / str(keep)
        kind = train.find("sasrec").Config
        foreign = train.train_run(
            cut, "sasrec", kind(**SMALL | {"dim": 8}), train.TrainConfig(**BASE["train"]), work
        )
        chosen = SearchConfig(sampler="grid", keep=keep, space={"model.dim": "choice(8, 12, 16)"})
        tried = trials.ranked(trials.read(search(cut, "sasrec", BASE, chosen, work)))
        left = {path.name for path in (work / "runs").iterdir()}
        assert left == {one.run for one in tried[:keep]} | {foreign.name}


def test_time_ends_it_and_it_goes_on_later(cut, tmp_path):
    short = SearchConfig(trials=3, space=RATES, time_s=1e-9)
    folder = search(cut, "sasrec", BASE, short, tmp_path)
    assert files.manifest(folder)["rows"] == 0
    assert search(cut, "sasrec", BASE, SearchConfig(trials=3, space=RATES), tmp_path) == folder
    assert files.manifest(folder)["rows"] == 3


def test_one_process_at_a_time(cut, tmp_path, monkeypatch):
    chosen = SearchConfig(trials=1, space=RATES)

    def meanwhile(*given):
        with pytest.raises(StaleFolder, match="another process"):
            search(cut, "sasrec", BASE, chosen, tmp_path)
        return real(*given)

    real = train.train_run
    monkeypatch.setattr(train, "train_run", meanwhile)
    assert outcomes(search(cut, "sasrec", BASE, chosen, tmp_path))[0]["state"] == "done"


# ---- its folder


class Numbers(HTMLParser):
    """Counts elements, and finds what is not a number where one is drawn."""

    def __init__(self):
        super().__init__()
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        for name, value in attrs:
            if name in ("cx", "cy", "x", "y"):
                assert math.isfinite(float(value))
            assert name not in ("src", "href")


def test_a_page_and_a_journal_that_optuna_reads(cut, tmp_path):
    space = RATES | {"model.heads": "choice(1, 3)"}
    folder = search(cut, "sasrec", BASE, SearchConfig(trials=6, space=space), tmp_path)
    tried = trials.read(folder)
    done = [one for one in tried if one.state == "done"]
    assert 0 < len(done) < 6
    seen = Numbers()
    seen.feed((folder / "report.html").read_text())
    assert seen.count["circle"] == 4 * len(done)  # in order, and by each of three settings
    assert seen.count["tr"] == 1 + 6 and "script" not in seen.count
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.load_study(study_name=folder.name, storage=storage)
    assert [one.params for one in study.trials] == [one.settings for one in tried]
    assert study.best_value == trials.ranked(tried)[0].valid
    assert {p.name for p in folder.iterdir()} == {
        "trials.jsonl", "best.toml", "report.html", "study.log", "manifest.json",
    }  # fmt: skip


def test_from_the_command_line_to_the_best_run(tmp_path):
    from circle import circle_events

    log, work, path = tmp_path / "log.parquet", tmp_path / "work", tmp_path / "s.toml"
    circle_events().write_parquet(log)
    model = "\n".join(f"{key} = {value}" for key, value in SMALL.items())
    path.write_text(
        f"[model]\n{model}\n[train]\nepochs = 2\nbatch_size = 24\n[dataset]\nmin_user = 2\n"
        '[split]\nname = "leave_last_two"\n[search]\ntrials = 2\n'
        '[search.space]\ntrain.learning_rate = "loguniform(1e-4, 1e-1)"\n'
    )

    def said(*words):
        result = CliRunner().invoke(app, [*map(str, words), "--work", str(work)])
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()

    said("ingest", log)
    (notes := tmp_path / "notes").mkdir()
    files.finish(notes, stage="annotate", key="n")
    told = said("search", "--settings", path, "--set", "search.trials=3", "--notes", notes)
    best = trials.ranked(trials.read(Path(told[-1])))[0]
    (command,) = [line for line in told if line.startswith("next: ")]
    words = command.removeprefix("next: reelm ").split()
    run = Path(said(*words)[-1])
    assert run.name == best.run
    assert sources.load(run).notes == (notes,)


# ---- killed


def test_a_stopped_search_goes_on_where_it_was(cut, tmp_path, monkeypatch):
    chosen = SearchConfig(trials=5, space=RATES)
    calm = outcomes(search(cut, "sasrec", BASE, chosen, tmp_path / "calm"))
    real, calls = train.train_run, []

    def stops(*given):
        calls.append(given[3])
        if len(calls) in (1, 3, 6):  # 6: with the run finished, before it is written down
            if len(calls) == 6:
                real(*given)
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(train, "train_run", stops)
    for ended in (0, 1, 3):
        with pytest.raises(KeyboardInterrupt):
            search(cut, "sasrec", BASE, chosen, tmp_path / "cut")
        (folder,) = (tmp_path / "cut" / "searches").iterdir()
        assert [one["state"] for one in outcomes(folder)] == ["done"] * ended + ["running"]
        assert not files.finished(folder)
    assert outcomes(search(cut, "sasrec", BASE, chosen, tmp_path / "cut")) == calm
    assert len(calls) == 5 + 3


def test_an_extended_search_is_unfinished_meanwhile(cut, tmp_path, monkeypatch):
    folder = search(cut, "sasrec", BASE, SearchConfig(trials=1, space=RATES), tmp_path)

    def stops(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train_run", stops)
    with pytest.raises(KeyboardInterrupt):
        search(cut, "sasrec", BASE, SearchConfig(trials=2, space=RATES), tmp_path)
    assert not files.finished(folder)


CHILD = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[2])
from circle import circle_events
from reelm.data.dataset import Dataset
from reelm.data.split import leave_last_two
from reelm.search import SearchConfig, search

torch.set_num_threads(1)
base = {"model": {"dim": 16, "feedforward": 16}, "train": {"epochs": 25, "batch_size": 24,
        "checkpoint_s": 0, "validate_every": 5}}
chosen = SearchConfig(trials=3, space={"train.learning_rate": "loguniform(1e-4, 1e-1)"})
print(search(leave_last_two(Dataset.build(circle_events())), "sasrec", base, chosen,
             Path(sys.argv[1])))
"""


def start(work: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(work), str(Path(__file__).parents[1])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> Path:
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    return Path(out.splitlines()[-1])


def epochs_done(work: Path) -> int:
    return sum(path.read_text().count("\n") for path in work.glob("runs/*/metrics.jsonl"))


@pytest.mark.slow
def test_killed_twice_the_trials_are_the_same(tmp_path):
    calm = finished(start(tmp_path / "calm"))
    total = epochs_done(tmp_path / "calm")
    for part in (0.1, 0.5):
        process = start(tmp_path / "cut")
        while epochs_done(tmp_path / "cut") < part * total:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.02)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        (folder,) = (tmp_path / "cut" / "searches").iterdir()
        assert outcomes(folder)[-1]["state"] == "running" and not files.finished(folder)
    folder = finished(start(tmp_path / "cut"))
    assert folder.name == calm.name
    assert outcomes(folder) == outcomes(calm)
    assert [one["number"] for one in outcomes(folder)] == [0, 1, 2]
    for run in (tmp_path / "calm" / "runs").iterdir():
        again = tmp_path / "cut" / "runs" / run.name / "model.safetensors"
        assert again.read_bytes() == (run / "model.safetensors").read_bytes()


def test_a_figure_has_the_name_of_what_was_measured(passed_by, tmp_path):
    space = {"train.learning_rate": "choice(0.01, 0.02)"}
    base = {"model": {"dim": 4, "hidden": (4,)}, "train": {"epochs": 1}}
    folder = search(passed_by, "din", base, SearchConfig(trials=1, space=space), tmp_path)
    assert "din, places/auc on validation" in summary(folder)
    assert "places/auc" in (folder / "report.html").read_text()
    wrong = {"model": {}, "train": {"measure": "places/auc"}}
    with pytest.raises(ConfigError, match="ranks the catalogue"):
        search(passed_by, "mf", wrong, SearchConfig(trials=1, space=space), tmp_path)
