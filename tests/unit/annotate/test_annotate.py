import json

import polars as pl
import pytest

from grey import Decoded
from reelm import annotate as verb
from reelm import files
from reelm.annotate import AnnotateConfig, annotate, annotate_all, way
from reelm.backends.base import Answer, Failure
from reelm.backends.fake import Fake, FakeConfig
from reelm.cost import Ledger
from reelm.data.tables import Catalog, read_notes
from reelm.errors import BackendError, BadData
from reelm.media.views import Picture, View
from reelm.prompts.attributes import Attributes
from reelm.prompts.caption import Caption


@pytest.fixture
def catalog(tmp_path, monkeypatch) -> Catalog:
    """Twenty videos without copies."""
    monkeypatch.setattr(verb, "Decoder", Decoded)
    names = [f"v{n:02d}" for n in range(20)]
    columns = {
        "video_id": names,
        "path": [f"/nowhere/{name}.mp4" for name in names],
        "sha256": [f"{n:064x}" for n in range(20)],
    }
    return Catalog(tmp_path / "catalog", pl.DataFrame(columns), pl.DataFrame())


class Tuned(Fake):
    """Has its own view, words and phrase; remembers what it was asked."""

    def __init__(self, **settings):
        super().__init__(FakeConfig(**settings))
        self.view = View(moments=3, shown=(0, 2), square=8, motion=True)
        self.vocabulary = {"subject": ("cat", "fish")}
        self.requests = []

    def phrase(self, prompt):
        return "List them." if prompt == "attributes" else None

    def answer(self, requests):
        self.requests += requests
        return super().answer(requests)


def test_a_model_is_shown_its_view_and_asked_in_its_own_words(catalog, tmp_path):
    backend = Tuned()
    folder = annotate(catalog, backend, Attributes, AnnotateConfig(), tmp_path)
    first = backend.requests[0]
    names = [part.name if isinstance(part, Picture) else part for part in first.parts]
    assert names == [
        "Frame 1: ", "Frame 1", "\n", "Frame 2: ", "Frame 2", "\n", "Motion 1: ", "Motion 1", "\n",
        "List them.",
    ]  # fmt: skip
    assert first.schema["properties"]["subject"]["enum"] == ["cat", "fish"]
    answers = [json.loads(a) for a in read_notes(folder)["answer"]]
    assert {a["subject"] for a in answers} == {"cat", "fish"}


def test_the_manifest_says_where_notes_come_from(catalog, tmp_path):
    folder = annotate(catalog, Tuned(seconds=0.001), Attributes, AnnotateConfig(part=8), tmp_path)
    facts = files.manifest(folder)
    assert facts["settings"]["prompt"]["question"] == "List them."
    assert facts["settings"]["view"]["shown"] == [0, 2]
    assert facts["inputs"]["backend"]["model"] == "fake"
    assert (facts["rows"], facts["failed"], facts["cost"]["parts"]) == (20, 0, 3)
    assert facts["cost"]["tokens_out"] == read_notes(folder)["tokens_out"].sum() > 0
    assert Ledger(folder).total() == facts["cost"]


def test_whatever_changes_answers_changes_the_folder(catalog, tmp_path):
    wider = Tuned()
    wider.view = View(moments=4)
    fewer = Catalog(catalog.folder, catalog.videos.head(19), catalog.events)
    config = AnnotateConfig()
    folders = [
        annotate(catalog, Tuned(), Attributes, config, tmp_path),
        annotate(catalog, Tuned(), Caption, config, tmp_path),
        annotate(catalog, Tuned(seed=1), Attributes, config, tmp_path),
        annotate(catalog, wider, Attributes, config, tmp_path),
        annotate(fewer, Tuned(), Attributes, config, tmp_path),
        annotate(catalog, Tuned(), Attributes, AnnotateConfig(part=7), tmp_path),
    ]
    assert len(set(folders)) == len(folders)
    same = AnnotateConfig(workers=2, answer_s=3)
    backend = Tuned()
    assert annotate(catalog, backend, Attributes, same, tmp_path) == folders[0]
    assert not backend.requests, "what is finished is not asked again"


def test_a_server_that_is_gone_stops_the_run_and_the_next_goes_on(catalog, tmp_path):
    class Gone(Tuned):
        def answer(self, requests):
            if self.requests:
                return [Failure("connection", "refused")] * len(requests)
            return super().answer(requests)

    config = AnnotateConfig(part=8, patience_s=0)
    with pytest.raises(BackendError, match="nothing came through for 0 s"):
        annotate(catalog, Gone(), Attributes, config, tmp_path)
    (folder,) = (tmp_path / "notes").iterdir()
    assert len(list(folder.glob("part-*"))) == 1 and not files.finished(folder)
    backend = Tuned()
    annotate(catalog, backend, Attributes, config, tmp_path)
    assert len(backend.requests) == 12 and read_notes(folder)["answer"].null_count() == 0


def test_single_failures_of_the_way_are_rows(catalog, tmp_path):
    class Flaky(Tuned):
        def answer(self, requests):
            said = super().answer(requests)
            return [Failure("timeout", "120 s") if r.key == "v03" else a
                    for r, a in zip(requests, said, strict=True)]  # fmt: skip

    folder = annotate(catalog, Flaky(), Attributes, AnnotateConfig(part=8), tmp_path)
    assert files.manifest(folder)["failures"] == {"timeout": 1}


def test_an_answer_that_stays_wrong_is_a_failure_that_says_how(catalog, tmp_path):
    class Stubborn(Tuned):
        def answer(self, requests):
            said = super().answer(requests)
            return [Answer('{"subject":"dragon"}', 1, 1, 0.0) if r.key == "v05" else a
                    for r, a in zip(requests, said, strict=True)]  # fmt: skip

    backend = Stubborn()
    notes = read_notes(annotate(catalog, backend, Attributes, AnnotateConfig(), tmp_path))
    (row,) = notes.filter(pl.col("answer").is_null()).to_dicts()
    assert (row["video_id"], row["error_kind"]) == ("v05", "schema")
    assert "answer.subject is not one of" in row["error"]
    asked = [r for r in backend.requests if r.key == "v05"]
    assert len(asked) == 2 and "dragon" in asked[1].parts[-1]
    assert (row["tokens_in"], row["tokens_out"]) == (2, 2), "both answers were written"
    (line,) = Ledger(next((tmp_path / "notes").iterdir())).lines()
    assert line.tokens_out == notes["tokens_out"].sum()


def test_a_way_that_opens_again_is_waited_for(catalog, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(way.time, "sleep", pauses.append)

    class Restarted(Tuned):
        left = 8 + 3  # a part's requests, and three that probe

        def answer(self, requests):
            said = super().answer(requests)
            gone = [Failure("connection", "refused")] * min(self.left, len(said))
            self.left -= len(gone)
            return gone + said[len(gone) :]

    config = AnnotateConfig(part=8)
    notes = read_notes(annotate(catalog, Restarted(), Attributes, config, tmp_path))
    assert notes["answer"].null_count() == 0 and len(notes) == 20
    assert [p for p in pauses if p] == [1.0, 2.0, 4.0], "the rest are the model's own"


class Away(Tuned):
    """Behind a server that loses the first so many requests."""

    address = "http://there/v1"

    def __init__(self, left):
        super().__init__()
        self.left = left

    def answer(self, requests):
        said = super().answer(requests)
        gone = [Failure("connection", "refused")] * min(self.left, len(said))
        self.left -= len(gone)
        return gone + said[len(gone) :]


@pytest.mark.parametrize(("left", "words"), [(8 + 3, 1), (8, 0), (7, 0)])
def test_a_way_that_closes_is_said_once(catalog, tmp_path, monkeypatch, caplog, left, words):
    monkeypatch.setattr(way.time, "sleep", lambda _: None)
    annotate(catalog, Away(left), Attributes, AnnotateConfig(part=8), tmp_path)
    told = [record.getMessage() for record in caplog.records if record.name == way.__name__]
    said = "http://there/v1: nothing comes through (refused); tried again for up to 600 s"
    assert told == [said] * words


def test_an_address_that_stays_closed_is_named(catalog, tmp_path):
    config = AnnotateConfig(part=8, patience_s=0)
    with pytest.raises(BackendError, match=r"^connection: http://there/v1: nothing came through"):
        annotate(catalog, Away(99), Attributes, config, tmp_path)


def test_a_request_that_the_model_cannot_survive_fails_alone(catalog, tmp_path):
    class Fragile(Tuned):
        def answer(self, requests):
            if any(r.key in ("v03", "v04", "v17") for r in requests):
                raise RuntimeError("device-side assert")
            return super().answer(requests)

    notes = read_notes(annotate(catalog, Fragile(), Attributes, AnnotateConfig(), tmp_path))
    failed = notes.filter(pl.col("answer").is_null())
    assert failed["video_id"].to_list() == ["v03", "v04", "v17"]
    assert set(failed["error_kind"]) == {"model"}
    assert "device-side assert" in failed["error"][0]


def test_what_is_known_of_a_content_is_not_asked_again(catalog, tmp_path):
    half = Catalog(catalog.folder, catalog.videos.tail(10), catalog.events)
    before = read_notes(annotate(half, Tuned(), Attributes, AnnotateConfig(), tmp_path))
    backend = Tuned()
    folder = annotate(catalog, backend, Attributes, AnnotateConfig(part=8), tmp_path)
    assert [r.key for r in backend.requests] == [f"v{n:02d}" for n in range(10)]
    notes = read_notes(folder)
    assert notes["video_id"].to_list() == catalog.videos["video_id"].to_list()
    assert notes.tail(10).equals(before)
    paid = notes.head(10)["tokens_out"].sum()
    assert files.manifest(folder)["cost"]["tokens_out"] == paid
    other = Tuned(seed=1)
    annotate(catalog, other, Attributes, AnnotateConfig(part=8), tmp_path)
    assert len(other.requests) == 20, "another model must see for itself"


def test_failures_are_asked_again_when_one_says_so(catalog, tmp_path):
    class Flaky(Tuned):
        def answer(self, requests):
            said = super().answer(requests)
            return [Failure("timeout", "120 s") if r.key in ("v03", "v12") else a
                    for r, a in zip(requests, said, strict=True)]  # fmt: skip

    config = AnnotateConfig(part=8)
    folder = annotate(catalog, Flaky(), Attributes, config, tmp_path)
    kept = (folder / "part-00002.parquet").read_bytes()
    backend = Tuned()
    assert annotate(catalog, backend, Attributes, config, tmp_path) == folder
    assert not backend.requests
    again = config.model_copy(update={"retry_failed": True})
    assert annotate(catalog, backend, Attributes, again, tmp_path) == folder
    assert [r.key for r in backend.requests] == ["v03", "v12"]
    assert files.manifest(folder)["failed"] == 0
    assert read_notes(folder)["answer"].null_count() == 0
    assert (folder / "part-00002.parquet").read_bytes() == kept


def test_several_questions_are_asked_on_one_watching(catalog, tmp_path, monkeypatch):
    decoded = []

    class Once(Decoded):
        def __call__(self, wanted):
            decoded.extend(v.id for v in wanted)
            return super().__call__(wanted)

    monkeypatch.setattr(verb, "Decoder", Once)
    config = AnnotateConfig(part=8)
    alone = [read_notes(annotate(catalog, Tuned(), prompt, config, tmp_path / "alone"))
             for prompt in (Attributes, Caption)]  # fmt: skip
    assert len(decoded) == 40
    decoded.clear()
    backend = Tuned()
    folders = annotate_all(catalog, backend, [Attributes, Caption], config, tmp_path)
    assert len(decoded) == 20 and len(backend.requests) == 40
    first, second = backend.requests[:2]
    assert first.key == second.key == "v00" and first.pictures[0] is second.pictures[0]
    for folder, before in zip(folders, alone, strict=True):
        assert read_notes(folder).equals(before)
        assert files.manifest(folder)["cost"]["tokens_out"] == before["tokens_out"].sum()


def test_a_question_that_comes_later_leaves_the_finished_folder_alone(catalog, tmp_path):
    config = AnnotateConfig(part=8)
    first = annotate(catalog, Tuned(), Attributes, config, tmp_path)
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    backend = Tuned()
    again, later = annotate_all(catalog, backend, [Attributes, Caption], config, tmp_path)
    assert again == first and files.finished(later) and len(backend.requests) == 20
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before


def test_a_catalogue_without_files_is_an_error_and_leaves_no_folder(tmp_path):
    bare = Catalog(tmp_path, pl.DataFrame({"video_id": ["a"]}), pl.DataFrame())
    with pytest.raises(BadData, match=r"has a file that can be read.*--videos"):
        annotate(bare, Tuned(), Caption, AnnotateConfig(), tmp_path)
    assert not (tmp_path / "notes").exists()
