"""From a rendered world to models that read what was said of users, by commands alone: llmrec with
notes, a base, edges and profiles; slim with rationales of a large model and of a small one; kar
with preferences and exposures."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

import tiny_reader
from reelm import files, runs, sources
from reelm.cli import app
from reelm.data.tables import read_notes

CHEAP = ("--set", "annotate.replicas=0", "--set", "annotate.seconds=120")
CUT = ("--set", "split.name=leave_last_two")
SMALL = ("--set", "model.dim=4", "--set", "train.epochs=2", "--set", "train.validate_on=20")


def said(*words: object, code: int = 0) -> list[str]:
    ran = CliRunner().invoke(app, [str(word) for word in words])
    assert ran.exit_code == code, ran.output + repr(ran.exception)
    return ran.stdout.splitlines()


def noted(folder: Path) -> tuple[tuple, str]:
    """The option that names a work folder, and its notes about a rendered world."""
    work, world = ("--work", folder), folder / "world"
    render = ("--set", "world.width=90", "--set", "world.height=160", "--set", "world.fps=4")
    said("world", "--videos", 12, "--people", 20, "--out", world, *render)
    said("ingest", world, *work)
    return work, said("annotate", "--backend", "fake", "--prompt", "details", *CHEAP, *work)[-1]


@pytest.mark.slow
def test_world_to_llmrec_by_commands(tmp_path):
    work, notes = noted(tmp_path)
    base = said("train", "--model", "lightgcn", *CUT, *SMALL, *work)[-1]
    reader = ("--backend", "transformers", "--set", f"backend.model={tiny_reader.save(tmp_path)}")
    few = [f"--set=rerank.{one}" for one in ("candidates=2", "questions=5", "watched=1")]
    lists = json.loads(Path(said("rerank", base, *reader, *few, *work)[-1]).read_text())
    assert lists["lists"] == 5 and not lists["failed"] and lists["moved by turning"] > 0
    taught = tmp_path / "lists.jsonl"
    assert said("rerank", base, "--lessons", taught, *few, *work) == ["5 rows", str(taught)]

    users = ("--backend", "tallies", "--notes", notes, *CUT, *CHEAP, *work)
    profile = said("annotate", "--prompt", "user_profile", *users)[-1]
    edges = said("annotate", "--prompt", "preference_edges", "--base", base, *users)[-1]
    assert said("annotate", "--prompt", "preference_edges", "--base", base, *users)[-1] == edges
    hashing = ("--encoder", "hashing", "--input", "notes")
    profiles = said("encode", *hashing, "--notes", profile, *work)[-1]
    features = said("encode", *hashing, *work)[-1]
    assert pl.read_parquet(Path(profiles) / "ids.parquet").columns[0] == "user_id"
    assert pl.read_parquet(Path(features) / "ids.parquet").columns[0] == "video_id"

    given = ("--features", f"text={features}", "--profiles", f"said={profiles}", "--edges", edges)
    how = ("--set", 'model.profiles=["said"]', "--set", "model.share=0.5")
    run = Path(said("train", "--model", "llmrec", *given, *how, *CUT, *SMALL, *work)[-1])
    assert Path(run).name.startswith("llmrec-")
    report = json.loads((Path(said("evaluate", run, *work)[-1]) / "report.json").read_text())
    assert report["pools"]["mixed"]["metrics"]

    known = sources.load(run).read().train
    assert len(known.preferences) > 0 and (known.profiles["said"] != 0).any()
    assert len(runs.load(run).recommend(known.users[:2], 3)) == 6
    seen = {known.items[item] for item in known.item}
    for folder in (profile, edges):
        for user, shown in read_notes(Path(folder)).select("user_id", "shown").iter_rows():
            assert set(shown) <= seen and known.row(user) >= 0
    told = json.loads("\n".join(said("provenance", edges, known.users[0], "--json")))
    assert set(told["shown"]) <= seen and told["text"]


@pytest.mark.slow
def test_rationales_to_slim_by_commands(tmp_path):
    work, notes = noted(tmp_path)

    half = ("--set", "annotate.cut=0.5", "--notes", notes, *CUT, *CHEAP, *work)
    asked = ("annotate", "--prompt", "rationale", *half)
    few = said(*asked, "--backend", "tallies", "--set", "annotate.share=0.5")[-1]
    every = said(*asked, "--backend", "tallies")[-1]
    assert 0 < files.manifest(Path(few))["rows"] < files.manifest(Path(every))["rows"]
    lines = tmp_path / "lessons.jsonl"
    assert said("lessons", few, lines)[-1] == str(lines)
    reader = tiny_reader.save(tmp_path / "reader")
    learn = ("--set", "lora.epochs=1", "--set", "lora.device=cpu", "--set", "lora.held_out=0")
    tuned = said("tune", "--on", lines, "--model", reader, *learn, *work)[-1]
    student = ("--backend", "transformers", "--set", f"backend.model={reader}")
    adapted = ("--set", f"backend.adapter={tuned}/adapter", "--set", "annotate.limit=2")
    told = said(*asked, *student, *adapted, "--set", "backend.device=cpu", code=1)[-1]
    facts = files.manifest(Path(told))
    assert facts["rows"] == facts["failed"] == 2, "a student of one pass says nothing whole yet"

    encode = ("encode", "--encoder", "hashing", "--input", "notes", *work)
    steps = {}
    for step in ("taste", "next"):
        only = ("--notes", every, "--set", f'encode.fields=["{step}"]')
        steps[step] = said(*encode, *only)[-1]
    features = said(*encode, "--notes", notes)[-1]
    given = ["--features", f"text={features}"]
    for step, folder in steps.items():
        given += ["--profiles", f"{step}={folder}"]
    how = ("--set", 'model.profiles=["taste","next"]')
    run = said("train", "--model", "slim", *given, *how, *CUT, *SMALL, *work)[-1]
    known = sources.load(Path(run)).read().train
    for user, shown, read in read_notes(Path(every)).select("user_id", "shown", "read").rows():
        row = known.row(user)
        assert set(shown) <= {known.items[item] for item in known.history(row)[:read]}
        assert read == len(known.history(row)) // 2 == known.profiles_read["taste"][row]
    assert json.loads((Path(said("evaluate", run, *work)[-1]) / "report.json").read_text())


@pytest.mark.slow
def test_preferences_to_kar_by_commands(tmp_path):
    work, notes = noted(tmp_path)
    shown = ("--set", "dataset.exposures=true", "--set", "split.name=global_time")
    half = ("--backend", "tallies", "--set", "annotate.cut=0.5", "--notes", notes)
    liked = said("annotate", "--prompt", "preferences", *half, *shown, *CHEAP, *work)[-1]
    encode = ("encode", "--encoder", "hashing", "--input", "notes", "--notes")
    users, videos = (said(*encode, folder, *work)[-1] for folder in (liked, notes))

    given = ("--features", f"text={videos}", "--profiles", f"liked={users}")
    how = ("--set", "model.user_knowledge=liked", "--set", "train.measure=places/auc")
    run = said("train", "--model", "kar", *given, *how, *shown, *SMALL, *work)[-1]
    train = sources.load(Path(run)).read().train
    read = train.profiles_read["liked"]
    assert (read == np.diff(train.offsets) // 2).all()
    model = runs.load(Path(run)).model
    learned = sum(len(b.user) for b in model.batches(train, 64, torch.Generator()))
    places = train.exposures
    assert learned == int((places.stop - places.start >= read[places.user]).sum())
    assert 0 < learned < len(places)
    assert json.loads((Path(said("evaluate", run, *work)[-1]) / "report.json").read_text())
