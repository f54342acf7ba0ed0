"""What counts as an answer of the asked shape."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelm.backends.base import Failure
from reelm.backends.blocks.schema import faults, read_json
from reelm.backends.fake import made_up
from reelm.prompts.attributes import Attributes
from reelm.prompts.base import closed

SCHEMA = closed(
    {
        "name": {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^[a-z]*$"},
        "kind": {"type": "string", "enum": ["a", "b"]},
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
    }
)
GOOD = {"name": "abc", "kind": "a", "score": 3, "tags": ["x"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": ""}, "answer.name is shorter than 1"),
        ({"name": "abcdef"}, "answer.name is longer than 5"),
        ({"name": "ABC"}, "answer.name does not match"),
        ({"kind": "c"}, "answer.kind is not one of"),
        ({"score": 0}, "answer.score is below 1"),
        ({"score": True}, "answer.score is bool, not integer"),
        ({"score": 2.5}, "answer.score is float, not integer"),
        ({"tags": []}, "answer.tags is fewer than 1 items"),
        ({"tags": ["x", 1]}, "answer.tags[1] is int, not string"),
        ({"more": 1}, "answer.more is not asked for"),
    ],
)
def test_each_fault_is_named_with_its_place(change, said):
    wrong = faults(GOOD | change, SCHEMA)
    assert len(wrong) == 1 and wrong[0].startswith(said)


def test_all_faults_are_told():
    assert len(faults({"name": "", "kind": "c"}, SCHEMA)) == 4
    assert faults(GOOD, SCHEMA) == []


@pytest.mark.parametrize("text", ["```json\n{}\n```", "```\n{}```", " {} "])
def test_fences_are_taken_off(text):
    assert read_json(text, {"type": "object"}) == {}


@pytest.mark.parametrize("text", ["", "cat", '{"a":', "{} {}", "[" * 100_000])
def test_what_is_not_json_says_so(text):
    said = read_json(text, {"type": "object"})
    assert isinstance(said, Failure) and said.kind == "invalid_json"


@settings(max_examples=40)
@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_whatever_the_answer_it_is_read_or_refused_but_never_raises(text):
    read_json(text, Attributes.schema())


@settings(max_examples=40)
@given(st.randoms(use_true_random=False))
def test_made_up_answers_obey_their_schema(rng):
    schema = Attributes.schema({"subject": ("cat", "fish")})
    assert faults(made_up(schema, rng), schema) == []
