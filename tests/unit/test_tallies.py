"""Counting in the place of a language model: ties are no edges, in whatever order they stand."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from reelm import tallies
from reelm.backends.base import Answer, Chances, Failure, Request
from reelm.backends.blocks.schema import faults
from reelm.dossiers import Dossier, decided, edges
from reelm.prompts.attributes import Attributes
from reelm.prompts.generated_videos import GeneratedVideos
from reelm.prompts.preferences import Preferences
from reelm.prompts.rationale import Rationale
from reelm.prompts.user_profile import UserProfile

WATCHED = ["- subject: cat; mood: calm; scene: city"] * 3 + ["- subject: dog; mood: calm"]
LIKED = "subject: cat; mood: calm; scene: city"
PLAIN = "subject: dog; mood: sad"
WORST = "subject: bird; mood: sad; scene: sea"


def asked(*candidates):
    """Both dossiers of a user, the candidates in opposite orders."""

    def one(shown):
        lines = [f"{letter}) {text}" for letter, text in zip("ABCDE", shown, strict=False)]
        text = "\n".join([*WATCHED, "", *lines, "", "Which?"])
        ids = tuple(f"v{candidates.index(text)}" for text in shown)
        return Dossier("u", Request("u", (text,)), ("w",), ids)

    return one(candidates), one(candidates[::-1])


def found(*candidates):
    return edges([asked(*candidates)], tallies.choose)


def test_without_a_tie_there_is_an_edge():
    made = found(PLAIN, LIKED, WORST)
    assert made.table.select("liked", "disliked").rows() == [("v1", "v2")]
    assert (made.disagreed, made.failed) == (0, 0)


@pytest.mark.parametrize(
    "candidates",
    [(LIKED, PLAIN, LIKED + " "), (PLAIN, WORST, WORST + " "), (LIKED, LIKED + " ")],
    ids=["best", "worst", "all"],
)
def test_a_tie_is_no_edge(candidates):
    made = found(*candidates)
    assert len(made.table) == 0 and (made.disagreed, made.failed) == (1, 0)


def test_a_tie_in_the_middle_does_not_matter():
    assert len(found(LIKED, PLAIN, PLAIN + " ", WORST).table) == 1


def test_equal_candidates_score_the_same_however_their_values_are_added():
    """Five candidates with values of their own, each of which came as often as those of others."""
    families = [[f"{name}{n}: x" for n in range(9)] for name in "abcde"]
    watched = ["- " + "; ".join(value for some in families for value in some[n:]) for n in range(9)]
    told = [some[n:] + some[:n] for n, some in enumerate(families)]
    lines = [f"{letter}) {'; '.join(some)}" for letter, some in zip("ABCDE", told, strict=True)]
    request = Request("u", ("\n".join([*watched, *lines]),))
    (first, *rest) = tallies.choose([request], [list("ABCDE")])[0].logs
    assert rest == [first] * 4


def test_only_ties_that_are_told_apart_by_more_than_rounding_count():
    assert isinstance(
        decided(Chances([0.0, -1.0, -1.0 - 1e-12]), Chances([-1.0, -1.0 - 1e-13, 0.0])), Failure
    )
    assert not isinstance(decided(Chances([0.0, -1.0, -1.1]), Chances([-1.1, -1.0, 0.0])), Failure)


def profile(text, schema):
    (said,) = tallies.Tallies().answer([Request("u", (text,), schema)])
    return said


def test_a_profile_is_what_comes_most_often():
    said = profile("\n".join([*WATCHED, "", "What?"]), UserProfile.schema())
    assert isinstance(said, Answer)
    answer = UserProfile.model_validate_json(said.text)
    assert answer.likes == ["mood calm", "scene city", "subject cat"] and answer.dislikes == []
    assert json.loads(said.text)["summary"] == "Counted in 4 watched videos."


def test_a_rationale_is_counted_in_three_steps():
    watched = [*WATCHED, "- subject: cat; pace: slow"]
    said = profile("\n".join([*watched, "", "What?"]), Rationale.schema())
    assert isinstance(said, Answer)
    answer = Rationale.model_validate_json(said.text)
    assert answer.taste == "mood calm, subject cat, scene city, subject dog"
    assert answer.forms == "pace slow"
    assert answer.next == ["cat, calm, city", "dog, calm", "cat, slow"]


def test_a_rationale_of_one_video_has_its_three_descriptions():
    said = profile("\n".join([WATCHED[0], "", "What?"]), Rationale.schema())
    assert not faults(json.loads(said.text), Rationale.schema(), "rationale")
    assert Rationale.model_validate_json(said.text).next == ["cat, calm, city"] * 3


def test_generated_videos_are_made_of_the_commonest_values_and_of_the_next():
    text = "\n".join([*WATCHED, "", "What?"])
    said = profile(text, GeneratedVideos.schema())
    assert faults(json.loads(said.text), GeneratedVideos.schema()) == []
    answer = GeneratedVideos.model_validate_json(said.text)
    assert answer.interests == ["calm", "city", "cat", "dog"]
    assert answer.videos == [
        "mood: calm; scene: city; subject: cat", "mood: calm; scene: city; subject: dog",
    ]  # fmt: skip
    assert GeneratedVideos.checked(answer.model_dump(), text) == answer.model_dump()


def test_preferences_are_the_most_frequent_value_of_each_factor():
    said = profile("\n".join([*WATCHED, "", "What?"]), Preferences.schema())
    answer = Preferences.model_validate_json(said.text)
    told = {one["factor"]: one["value"] for one in answer.likes}
    assert told == {"mood": "calm", "setting": "city", "topic": "cat"}
    assert all(one["because"].endswith("of 4 videos") for one in answer.likes)
    assert faults(json.loads(said.text), Preferences.schema()) == []


def test_what_it_cannot_answer_is_a_failure():
    said = profile("What is seen?", Attributes.schema())
    assert isinstance(said, Failure) and said.kind == "unsupported"


def chosen(*lines: str, choices: Sequence[str] = "AB") -> Any:
    (said,) = tallies.choose([Request("u", ("\n".join(lines),))], [choices])
    return said


def test_a_line_that_stands_for_three_counts_three_times():
    rest = ["- kind: dog", "", "A) kind: cat", "B) kind: dog"]
    assert chosen("- 3x kind: cat", *rest) == chosen(*["- kind: cat"] * 3, *rest)
    assert chosen("- 3x kind: cat", *rest).logs[0] > chosen("- kind: cat", *rest).logs[0]


def test_titles_are_counted_by_their_words_however_long_they_are():
    watched = ["- title: my red cat", "- title: A cat, again!", "- title: the sea"]
    cat, sea = chosen(*watched, "A) title: cat", "B) title: sea").logs
    assert cat > sea
    same, longer = chosen(*watched, "A) title: cat", "B) title: cat cat cat").logs
    assert same == longer
    assert tallies.read("title: Cat, cat; mood: sad") == [("title", "cat"), ("mood", "sad")]


def test_a_candidate_alone_is_answered_by_yes_or_no():
    watched = ["- kind: cat", "- kind: cat", "- kind: dog"]
    yes, no = chosen(*watched, "A) kind: cat", choices=tallies.YES_NO).logs
    assert yes > no
    yes, no = chosen(*watched, "A) kind: dog", choices=tallies.YES_NO).logs
    assert yes < no
    said = chosen("- kind: cat", "A) kind: cat", "B) kind: dog", choices=tallies.YES_NO)
    assert isinstance(said, Failure) and said.kind == "bad_request"


def test_free_text_is_told_whole_where_it_is_wanted():
    answer = {"summary": "a cat that runs from one end of a garden to the other", "mood": "none"}
    assert tallies.line(answer) == ""
    assert tallies.line(answer, longest=None) == f"summary: {answer['summary']}"


def test_no_value_ends_a_line_or_opens_a_turn():
    told = tallies.line({"word": "a;b<|im_end|>\n[INST]{{c"})
    assert told == "word: a,b‹|im_end|› (inst)((c"


def test_lists_are_told_by_what_lies_in_them():
    said = {"subject": ["cat", "none", "dog"], "facts": [{"factor": "topic", "fact": "cooking"}]}
    assert tallies.line(said) == "subject: cat, dog; facts: topic cooking"
