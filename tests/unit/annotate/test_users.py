"""Users are told of by their training alone, asked once, and every row says what was shown."""

import json

import numpy as np
import polars as pl
import pytest

from reelm import files, provenance, runs, train
from reelm.annotate import AnnotateConfig, annotate
from reelm.annotate.users import annotate_users
from reelm.backends.base import Chances, Failure
from reelm.backends.fake import Fake
from reelm.correct import correct, export
from reelm.data.preferences import read_edges
from reelm.data.split import SplitConfig
from reelm.data.tables import Catalog, read_catalog, read_features, read_notes
from reelm.encode import EncodeConfig, encode
from reelm.encoders.hashing import Hashing
from reelm.errors import BadData, ConfigError, MissingInput
from reelm.models.popularity import PopularityConfig
from reelm.prompts.attributes import Attributes
from reelm.prompts.generated_videos import GeneratedVideos
from reelm.prompts.preference_edges import PreferenceEdges
from reelm.prompts.rationale import Rationale
from reelm.prompts.user_profile import UserProfile
from reelm.sources import Sources, load
from reelm.tallies import Tallies

CUT = SplitConfig(name="global_time", valid_from=200.0, test_from=300.0)
PART = AnnotateConfig(part=3)
USERS = 8


@pytest.fixture
def sources(tmp_path):
    """Even users watch cats, odd ones dogs; then the log goes on with new videos, which
    are held out."""
    rows = [(f"u{u}", f"v{2 * ((u + n) % 8) + u % 2}", 10.0 * n + u) for u in range(USERS)
            for n in range(4)]  # fmt: skip
    rows += [(f"u{u}", f"mid{u}", 250.0 + u) for u in range(USERS)]
    rows += [(f"u{u}", f"late{u}", 300.0 + u) for u in range(USERS)]
    log = pl.DataFrame(rows, schema=["user_id", "video_id", "timestamp"], orient="row")
    catalog = tmp_path / "work" / "catalog" / "c"
    catalog.mkdir(parents=True)
    log.with_columns(event=pl.lit("like")).write_parquet(catalog / "events.parquet")
    videos = [f"v{v}" for v in range(16)] + [
        f"{when}{u}" for u in range(USERS) for when in ("mid", "late")
    ]
    pl.DataFrame({"video_id": videos}).write_parquet(catalog / "videos.parquet")
    files.finish(catalog, stage="ingest")
    return Sources(catalog=catalog, notes=(noted(tmp_path / "work", videos),), split=CUT)


def noted(work, videos):
    notes = work / "notes" / "attributes-0"
    notes.mkdir(parents=True)
    said = [json.dumps({"subject": "secret" if v[0] in "lm" else ("cat", "dog")[int(v[1:]) % 2],
                        "word": "w" + v[-1]}) for v in videos]  # fmt: skip
    table = pl.DataFrame({"video_id": videos, "answer": said, "error_kind": None, "error": None})
    table.write_parquet(notes / "part-00000.parquet")
    about = {"prompt": {"name": "attributes", "version": 1}}
    return files.finish(notes, stage="annotate", settings=about, inputs={})


@pytest.fixture
def work(sources):
    return sources.catalog.parent.parent


@pytest.fixture
def base(sources, work):
    split = sources.read()
    schedule = train.TrainConfig(epochs=1)
    return train.train_run(split, "popularity", PopularityConfig(), schedule, work, sources)


class Counting(Fake):
    """Remembers whom it was asked about."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def answer(self, requests):
        self.asked += [request.key for request in requests]
        return super().answer(requests)


def test_every_user_has_a_row_that_says_what_was_shown(sources, work):
    folder = annotate_users(sources, Fake(), UserProfile, PART, work)
    assert folder.name.startswith("user_profile-")
    table = read_notes(folder)
    train_part = sources.read().train
    seen = {train_part.items[item] for item in train_part.item}
    assert table["user_id"].to_list() == list(train_part.users) and len(table) == USERS
    for user, shown, text in table.select("user_id", "shown", "text").iter_rows():
        own = [train_part.items[i] for i in train_part.history(train_part.row(user))]
        assert shown == own and set(shown) <= seen
        assert "secret" not in text and text.count("- subject") == len(own)
    facts = files.manifest(folder)
    assert (facts["rows"], facts["failed"]) == (USERS, 0)
    assert load(folder).split == CUT


def test_shown_ids_of_edges_are_of_training(sources, work, base):
    folder = annotate_users(sources, Tallies(), PreferenceEdges, PART, work, base)
    train_part = sources.read().train
    seen = {train_part.items[item] for item in train_part.item}
    rows = read_notes(folder).to_dicts()
    assert len(rows) == USERS
    for row in rows:
        own = {train_part.items[i] for i in train_part.history(train_part.row(row["user_id"]))}
        assert set(row["shown"]) <= seen and "secret" not in row["text"]
        assert set(row["candidates"]) == set(row["shown"]) - own


def test_edges_are_the_best_and_the_worst_of_both_orders(sources, work, base):
    folder = annotate_users(sources, Tallies(), PreferenceEdges, PART, work, base)
    edges = read_edges(folder)
    table = read_notes(folder)
    assert len(edges) + table["answer"].null_count() == USERS
    assert set(table["error_kind"].drop_nulls()) <= {"undecided"}
    shown = dict(table.select("user_id", "candidates").iter_rows())
    for user, liked, disliked, weight in edges.iter_rows():
        assert {liked, disliked} <= set(shown[user]) and 0 < weight < 1


def test_a_choice_becomes_an_edge_of_ids(sources, work, base):
    class Sure(Fake):
        def choose(self, requests, choices):
            """Likes the candidate whose line comes first in the alphabet, in any order."""
            found = []
            for request, letters in zip(requests, choices, strict=True):
                text = request.parts[0].splitlines()
                lines = {one[0]: one[3:] + one[0] for one in text if one[1:3] == ") "}
                order = sorted(letters, key=lambda letter, known=lines: known[letter][:-1])
                logs = [-1.0 - order.index(letter) for letter in letters]
                found.append(Chances(logs, 50, 1))
            return found

    folder = annotate_users(sources, Sure(), PreferenceEdges, PART, work, base)
    table, edges = read_notes(folder), read_edges(folder)
    assert set(table.select("tokens_in", "tokens_out").rows()) == {(100, 2)}, "of both orders"
    answers = {u: json.loads(a) for u, a in table.select("user_id", "answer").drop_nulls().rows()}
    shown = dict(table.select("user_id", "candidates").iter_rows())
    assert len(edges) == len(answers) > 0
    for user, liked, disliked, weight in edges.iter_rows():
        said = answers[user]
        assert liked == shown[user]["ABCDEFGHIJ".index(said["liked"])]
        assert disliked == shown[user]["ABCDEFGHIJ".index(said["disliked"])]
        assert weight == said["weight"]


def test_how_many_videos_are_told_of_is_a_setting(sources, work, base):
    few = PART.model_copy(update={"watched": 2, "candidates": 3})
    folder = annotate_users(sources, Tallies(), PreferenceEdges, few, work, base)
    for row in read_notes(folder).to_dicts():
        assert (len(row["shown"]), len(row["candidates"])) == (5, 3)
    assert folder != annotate_users(sources, Tallies(), PreferenceEdges, PART, work, base)


def test_a_base_of_other_data_is_refused(sources, work, base):
    other = sources.model_copy(
        update={"split": CUT.model_copy(update={"valid_from": 25.0, "test_from": 25.0})}
    )
    with pytest.raises(BadData, match="same split"):
        annotate_users(other, Tallies(), PreferenceEdges, PART, work, base)
    assert runs.load(base).users


def test_what_is_missing_is_said(sources, work):
    with pytest.raises(MissingInput, match="--base"):
        annotate_users(sources, Fake(), PreferenceEdges, PART, work)
    with pytest.raises(MissingInput, match="--notes"):
        bare = sources.model_copy(update={"notes": ()})
        annotate_users(bare, Fake(), UserProfile, PART, work)
    with pytest.raises(ConfigError, match="about videos"):
        annotate_users(sources, Fake(), Attributes, PART, work)
    with pytest.raises(ConfigError, match="about users"):
        annotate(Catalog(work, pl.DataFrame(), pl.DataFrame()), Fake(), UserProfile, PART, work)
    mine = annotate_users(sources, Fake(), UserProfile, PART, work)
    with pytest.raises(BadData, match="about users"):
        told = sources.model_copy(update={"notes": (mine,)})
        annotate_users(told, Fake(), UserProfile, PART, work)


def test_notes_that_say_nothing_of_what_was_watched_are_an_error(sources, work, monkeypatch):
    monkeypatch.setattr("reelm.dossiers.said", lambda _: {"another video": {"subject": "cat"}})
    with pytest.raises(BadData, match=r"of no user.*Are they about this catalogue"):
        annotate_users(sources, Fake(), UserProfile, PART, work)


def test_what_a_rationale_has_read_is_kept_and_comes_before_the_cut(sources, work):
    half = PART.model_copy(update={"cut": 0.5})
    folder = annotate_users(sources, Tallies(), Rationale, half, work)
    known = sources.read().train
    for user, shown, read in read_notes(folder).select("user_id", "shown", "read").iter_rows():
        history = [known.items[item] for item in known.history(known.row(user))]
        assert read == 2 and shown == history[:read]
    assert annotate_users(sources, Tallies(), Rationale, PART, work) != folder

    steps = {}
    for step in ("taste", "next"):
        config = EncodeConfig(input="notes", fields=(step,))
        steps[step] = encode(read_catalog(sources.catalog), Hashing(), config, work, folder)
    assert steps["taste"] != steps["next"]
    told = sources.model_copy(update={"profiles": steps}).read().train
    assert {name: read.tolist() for name, read in told.profiles_read.items()} == dict.fromkeys(
        steps, [2] * USERS
    )
    with pytest.raises(ConfigError, match="rationale has no mood; it has taste, forms, next"):
        wrong = EncodeConfig(input="notes", fields=("mood",))
        encode(read_catalog(sources.catalog), Hashing(), wrong, work, folder)


def test_what_was_generated_comes_from_training_and_is_encoded_without_its_interests(sources, work):
    half = PART.model_copy(update={"cut": 0.5})
    folder = annotate_users(sources, Tallies(), GeneratedVideos, half, work)
    known = sources.read().train
    told = {}
    for user, shown, answer in read_notes(folder).select("user_id", "shown", "answer").iter_rows():
        history = [known.items[item] for item in known.history(known.row(user))]
        assert set(shown) <= set(history[: len(history) // 2])
        told[user] = GeneratedVideos.as_text({"videos": json.loads(answer)["videos"]})
    config = EncodeConfig(input="notes", fields=("videos",))
    made = read_features(encode(read_catalog(sources.catalog), Hashing(), config, work, folder))
    said = Hashing().encode([told[user] for user in made.ids])
    assert said.any(1).all() and np.array_equal(made.vectors, said)


def test_a_share_of_users_can_be_asked_about(sources, work):
    few = PART.model_copy(update={"share": 0.5})
    asked = read_notes(annotate_users(sources, Fake(), UserProfile, few, work))["user_id"]
    assert 0 < len(asked) < USERS
    backend = Counting()
    annotate_users(sources, backend, UserProfile, PART, work)
    assert set(backend.asked) == {f"u{u}" for u in range(USERS)} - set(asked), "asked twice"


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_killed_stage_goes_on_where_it_stopped(sources, work):
    class Mortal(Counting):
        def answer(self, requests):
            if len(self.asked) >= 3:
                raise Killed
            return super().answer(requests)

    with pytest.raises(Killed):
        annotate_users(sources, Mortal(), UserProfile, PART, work)
    backend = Counting()
    folder = annotate_users(sources, backend, UserProfile, PART, work)
    assert backend.asked == [f"u{u}" for u in range(3, USERS)]
    assert read_notes(folder)["answer"].null_count() == 0
    assert annotate_users(sources, backend, UserProfile, PART, work) == folder
    assert len(backend.asked) == USERS - 3


def test_who_reads_as_before_is_not_asked_again(sources, work):
    some = PART.model_copy(update={"limit": 5})
    first = annotate_users(sources, Counting(), UserProfile, some, work)
    backend = Counting()
    folder = annotate_users(sources, backend, UserProfile, PART, work)
    assert folder != first and backend.asked == ["u5", "u6", "u7"]
    assert read_notes(folder).head(5).equals(read_notes(first))


def test_failures_are_typed_and_asked_again(sources, work):
    class Flaky(Counting):
        def answer(self, requests):
            return [Failure("refused", "no") if r.key == "u2" else a
                    for r, a in zip(requests, super().answer(requests), strict=True)]  # fmt: skip

    folder = annotate_users(sources, Flaky(), UserProfile, PART, work)
    assert files.manifest(folder)["failures"] == {"refused": 1}
    again, backend = PART.model_copy(update={"retry_failed": True}), Counting()
    assert annotate_users(sources, backend, UserProfile, again, work) == folder
    assert backend.asked == ["u2"] and files.manifest(folder)["failed"] == 0


def test_a_failed_choice_costs_its_user_alone(sources, work, base):
    class Broken(Tallies):
        def choose(self, requests, choices):
            said = super().choose(requests, choices)
            failed = Failure("unsupported", "no log-probabilities")
            return [failed if r.key == "u1" else one for r, one in zip(requests, said, strict=True)]

    rows = read_notes(annotate_users(sources, Broken(), PreferenceEdges, PART, work, base))
    wrong = rows.filter(pl.col("error_kind") == "unsupported")
    assert wrong["user_id"].to_list() == ["u1"]


def test_provenance_and_corrections_of_users(sources, work, base):
    folder = annotate_users(sources, Tallies(), PreferenceEdges, PART, work, base)
    told = provenance.provenance(folder, "u1")
    assert told["shown"] and told["candidates"] and "A) subject:" in told["text"]
    assert told["prompt"] == "preference_edges" and told["pictures"] == []
    assert "shown: " in provenance.as_text(told)
    with pytest.raises(BadData, match="made without pictures"):
        provenance.seen_one(folder, "u1")
    correct(folder, "u1", {"liked": "B", "disliked": "A"}, "ann")
    (edge,) = read_edges(folder).filter(pl.col("user_id") == "u1").rows()
    assert edge[1:3] == (told["candidates"][1], told["candidates"][0])
    (line,) = map(json.loads, export(work, work / "tuning.jsonl").path.read_text().splitlines())
    assert line["messages"][0]["content"] == [{"type": "text", "text": told["text"]}]
    correct(folder, "u1", {"liked": "T"}, "ann")
    assert "u1" not in read_edges(folder)["user_id"], "T names nobody"


def test_counting_says_what_is_liked(sources, work):
    folder = annotate_users(sources, Tallies(), UserProfile, PART, work)
    for user, answer in read_notes(folder).select("user_id", "answer").iter_rows():
        assert json.loads(answer)["likes"][0] == f"subject {('cat', 'dog')[int(user[1:]) % 2]}"
