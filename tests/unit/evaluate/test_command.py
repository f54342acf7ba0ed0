"""`reelm evaluate` from a log to the printed tables."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from reelm.cli import app


@pytest.fixture
def run(two_tastes, tmp_path):
    """A command line in a folder with a catalogue, features and a trained run."""
    folder = tmp_path / "source"
    folder.mkdir()
    rows = [(u, two_tastes.items[v], int(t)) for u, v, t in zip(
        two_tastes.user, two_tastes.item, two_tastes.time, strict=True)]  # fmt: skip
    log = pl.DataFrame(rows, schema=["user_id", "video_id", "timestamp"], orient="row")
    log.with_columns(event=pl.lit("like"), user_id=pl.format("u{}", "user_id")).write_csv(
        folder / "events.csv"
    )
    titles = pl.DataFrame({"video_id": two_tastes.items[1:]})
    titles.with_columns(title=pl.format("clip {}", "video_id")).write_csv(folder / "items.csv")
    work = str(tmp_path / "work")

    def command(*words: str) -> str:
        told = CliRunner().invoke(app, [*words, "--work", work], catch_exceptions=False)
        assert told.exit_code == 0, told.output
        return told.output

    command("ingest", str(folder / "events.csv"), "--items", str(folder / "items.csv"))
    command("train", "--model", "popularity", "--set", "split.name=leave_last_two")
    return command


def test_features_that_training_did_not_read_can_be_named(run):
    features = run("encode", "--encoder", "hashing", "--input", "title").splitlines()[-1]
    said = run(
        "evaluate", "--features", f"look={features}", "--set", "evaluate.diversity_by=look",
        "--set", "evaluate.sampled=5", "--set", "evaluate.ks=[5, 10]",
    )  # fmt: skip
    accuracy, lists, sampled = said.split("\n\n")
    assert "ndcg@10" in accuracy and "sampled" not in accuracy
    assert "diversity@10" in lists and "coverage@10" in lists and "coverage@5" not in lists
    assert "sampled5_ndcg@10" in sampled
    folder = Path(said.splitlines()[-1])
    about = json.loads((folder / "report.json").read_text())["about"]
    assert about["diversity by"] == "look"
