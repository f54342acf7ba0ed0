"""Every video has a row, whatever the model said; a stage that was cut off is not finished."""

from pathlib import Path

import polars as pl
import pytest

from grey import Decoded
from reelm import annotate as verb
from reelm import files
from reelm.annotate import AnnotateConfig, annotate
from reelm.backends.base import Answer, Failure
from reelm.backends.fake import Fake
from reelm.data.tables import Catalog, read_notes
from reelm.errors import BadData
from reelm.prompts.caption import Caption

BROKEN = 2
REFUSED = 5


class Moody(Fake):
    """Refuses one video; counts what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def answer(self, requests):
        self.asked += [request.key for request in requests]
        said = super().answer(requests)
        return [
            Failure("refused", "rather not") if request.key == f"v{REFUSED}" else one
            for request, one in zip(requests, said, strict=True)
        ]


class Broken(Decoded):
    broken = frozenset({f"v{BROKEN}"})


@pytest.fixture
def catalog(tmp_path, monkeypatch) -> Catalog:
    """Ten videos, of which v9 is a copy of v0."""
    monkeypatch.setattr(verb, "Decoder", Broken)
    videos = pl.DataFrame(
        {
            "video_id": [f"v{n}" for n in range(10)],
            "path": [f"/nowhere/v{n}.mp4" for n in range(10)],
            "sha256": [f"{n % 9:064x}" for n in range(10)],
            "ok": [True] * 10,
        }
    )
    return Catalog(tmp_path / "catalog", videos, pl.DataFrame())


def test_failed_videos_keep_their_row_and_the_reason(catalog, tmp_path):
    folder = annotate(catalog, Moody(), Caption, AnnotateConfig(part=4), tmp_path)
    notes = read_notes(folder)
    assert sorted(notes["video_id"]) == [f"v{n}" for n in range(10)]
    wrong = notes.filter(pl.col("answer").is_null())
    told = dict(zip(wrong["video_id"], wrong["error_kind"], strict=True))
    assert told == {f"v{BROKEN}": "media", f"v{REFUSED}": "refused"}
    assert wrong["error"].null_count() == 0
    facts = files.manifest(folder)
    assert (facts["rows"], facts["failed"]) == (10, 2)


def test_a_copy_costs_nothing(catalog, tmp_path):
    backend = Moody()
    notes = read_notes(annotate(catalog, backend, Caption, AnnotateConfig(), tmp_path))
    assert "v9" not in backend.asked
    same = notes.filter(pl.col("video_id").is_in(["v0", "v9"]))["answer"]
    assert same.n_unique() == 1 and same[0]


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_killed_stage_is_not_finished_and_goes_on_where_it_stopped(catalog, tmp_path):
    class Mortal(Moody):
        def answer(self, requests):
            if len(self.asked) >= 3:
                raise Killed
            return super().answer(requests)

    config = AnnotateConfig(part=4)
    with pytest.raises(Killed):
        annotate(catalog, Mortal(), Caption, config, tmp_path)
    (folder,) = (tmp_path / "notes").iterdir()
    with pytest.raises(BadData):
        read_notes(folder)
    first = {p.name: p.read_bytes() for p in folder.glob("part-*")}
    assert len(first) == 1
    backend = Moody()
    assert annotate(catalog, backend, Caption, config, tmp_path) == folder
    kept = pl.read_parquet(Path(folder) / next(iter(first)))["video_id"]
    assert not set(kept) & set(backend.asked)
    assert {name: (folder / name).read_bytes() for name in first} == first


def test_an_answer_that_breaks_its_schema_is_asked_for_once_more(catalog, tmp_path):
    class Sloppy(Moody):
        def answer(self, requests):
            fresh = [r.key not in self.asked for r in requests]
            said = super().answer(requests)
            broken = Answer("no JSON at all", 1, 1, 0.0)
            return [
                broken if new and isinstance(a, Answer) else a
                for new, a in zip(fresh, said, strict=True)
            ]

    backend = Sloppy()
    notes = read_notes(annotate(catalog, backend, Caption, AnnotateConfig(), tmp_path))
    assert notes["answer"].null_count() == 2
    assert backend.asked.count("v1") == 2
