import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from circle import circle_edges, circle_events, circle_profiles
from reelm import files, sources
from reelm.cli import app
from reelm.data.dataset import DatasetConfig
from reelm.data.split import SplitConfig
from reelm.errors import BadData
from reelm.search import trials


def test_what_is_saved_is_loaded(tmp_path):
    before = sources.Sources(
        catalog=tmp_path / "catalog",
        features={"text": tmp_path / "f"},
        notes=(tmp_path / "n",),
        dataset=DatasetConfig(min_portion=0.25),
        split=SplitConfig(name="global_time", test_from=3.0),
    )
    before.save(tmp_path)
    assert sources.load(tmp_path) == before


def test_a_run_is_read_from_anywhere_and_after_its_work_folder_was_moved(tmp_path, monkeypatch):
    work, away = tmp_path / "work", tmp_path / "away"
    for folder in ("catalog/c", "features/f", "notes/n", "notes/e", "features/p", "runs/r"):
        (work / folder).mkdir(parents=True)
    away.mkdir()
    monkeypatch.chdir(tmp_path)
    named = sources.Sources(
        catalog=Path("work/catalog/c"), features={"text": Path("work/features/f")},
        notes=(Path("work/notes/n"),), edges=Path("work/notes/e"),
        profiles={"said": Path("work/features/p")},
    )  # fmt: skip
    named.save(work / "runs" / "r")
    assert sources.load(Path("work/runs/r")) == named
    monkeypatch.chdir(away)
    work.rename(tmp_path / "moved")
    found = sources.load(tmp_path / "moved" / "runs" / "r")
    folders = [found.catalog, found.features["text"], *found.notes, found.edges]
    assert all(folder.is_dir() for folder in (*folders, found.profiles["said"]))
    (tmp_path / "moved" / "notes" / "n").rmdir()
    lost = sources.load(tmp_path / "moved" / "runs" / "r")
    assert lost.notes == named.notes, "what is nowhere is named as it was"


def test_a_run_without_sources_says_what_to_do(tmp_path):
    with pytest.raises(BadData, match=r"catalogue is not known.*`reelm train` printed"):
        sources.load(tmp_path)
    with pytest.raises(BadData, match="no such folder"):
        sources.load(tmp_path / "nope")


@pytest.fixture
def said(tmp_path):
    """A catalogue of the circle, with edges and profiles that were said of its training data."""
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    events = circle_events()
    events.write_parquet(catalog / "events.parquet")
    events.select("video_id").unique(maintain_order=True).write_parquet(catalog / "videos.parquet")
    files.finish(catalog, stage="ingest")
    cut = SplitConfig(name="leave_last_two")
    bare = sources.Sources(catalog=catalog, split=cut)
    train = sources.interactions(bare.read().train)
    edges, profiles = tmp_path / "edges", tmp_path / "profiles"
    for folder in (edges, profiles):
        folder.mkdir()
    table = circle_edges()
    answers = [json.dumps({"liked": "B", "disliked": "A", "weight": 0.5})] * len(table)
    shown = table.select(pl.concat_list("disliked", "liked"))
    pl.DataFrame({"user_id": table["user_id"], "answer": answers, "candidates": shown.to_series()}
                 ).write_parquet(edges / "part-00000.parquet")  # fmt: skip
    inputs = {"train": train}
    files.finish(edges, stage="annotate", settings={"about": "user"}, inputs=inputs)
    vectors = circle_profiles()
    np.save(profiles / "part-00000.npy", vectors.vectors)
    pl.DataFrame({"user_id": vectors.ids}).write_parquet(profiles / "ids.parquet")
    files.finish(profiles, stage="encode", inputs=inputs)
    return bare.model_copy(update={"edges": edges, "profiles": {"said": profiles}})


def test_a_log_that_leaves_nothing_to_learn_from_says_which_section_did_that(said):
    bare = sources.Sources(catalog=said.catalog)
    few = bare.model_copy(update={"dataset": DatasetConfig(min_user=1000)})
    with pytest.raises(BadData, match=r"none of its .* events counts .*\[dataset\].*min_user"):
        few.read()
    events = pl.read_parquet(said.catalog / "events.parquet")
    events.with_columns(timestamp=pl.lit(7.0)).write_parquet(said.catalog / "events.parquet")
    with pytest.raises(BadData, match=r"'global_time' holds out all .*leave_last_two"):
        bare.read()
    events.clear().write_parquet(said.catalog / "events.parquet")
    assert not len(bare.read().train), "a service may begin without a log"


def test_edges_and_profiles_stand_on_the_training_data(said, tmp_path):
    split = said.read()
    assert len(split.train.preferences) == len(circle_edges())
    assert set(split.train.preferences.weight.tolist()) == {0.5}
    assert split.train.profiles["said"].shape == (24, 4)
    assert (split.train.profiles["said"][3] != 0).any()
    said.save(tmp_path)
    assert sources.load(tmp_path).read().fingerprint == split.fingerprint
    bare = said.model_copy(update={"edges": None, "profiles": {}})
    assert bare.read().fingerprint != split.fingerprint


@pytest.mark.parametrize("which", ["edges", "profiles"])
def test_what_was_said_of_another_split_is_refused(said, which):
    """It may tell of what is held out here."""
    other = said.model_copy(update={"split": SplitConfig(name="random", test_share=0.5)})
    other = other.model_copy(update={"edges": None} if which == "profiles" else {"profiles": {}})
    with pytest.raises(BadData, match="other training data"):
        other.read()


def test_profiles_that_are_notes_or_of_others_are_refused(said, tmp_path):
    with pytest.raises(BadData, match="reelm encode --encoder text --input notes"):
        said.model_copy(update={"profiles": {"said": said.edges}}).read()
    folder = said.profiles["said"]
    pl.DataFrame({"user_id": [f"x{n}" for n in range(24)]}).write_parquet(folder / "ids.parquet")
    with pytest.raises(BadData, match="none of its 24 vectors"):
        said.read()


def test_a_folder_without_an_edge_is_refused(said):
    path = said.edges / "part-00000.parquet"
    none = pl.lit(None, dtype=pl.String)
    pl.read_parquet(path).with_columns(answer=none).write_parquet(path)
    with pytest.raises(BadData, match="no edge"):
        said.read()


def test_a_search_hands_on_what_was_said(said, tmp_path):
    def told(*words):
        result = CliRunner().invoke(app, list(map(str, words)))
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()

    given = ("--edges", said.edges, "--profiles", f"said={said.profiles['said']}")
    how = [
        "search.space.train.learning_rate=loguniform(1e-3, 1e-2)", "search.trials=1",
        "split.name=leave_last_two", "train.epochs=1", "model.attributes=[]",
        'model.profiles=["said"]',
    ]  # fmt: skip
    sets = [word for one in how for word in ("--set", one)]
    where = ("--catalog", said.catalog, "--work", tmp_path / "work")
    lines = told("search", "--model", "llmrec", *given, *where, *sets)
    (command,) = [line.removeprefix("next: reelm ") for line in lines if line.startswith("next")]
    run = Path(told(*command.split())[-1])
    (best,) = trials.ranked(trials.read(Path(lines[-1])))
    assert run.name == best.run, "the command finds the run, so it has learned from the same"
    assert sources.load(run).edges == said.edges
    assert sources.load(run).profiles == said.profiles
