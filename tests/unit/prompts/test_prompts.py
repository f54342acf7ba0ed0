import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelm import prompts
from reelm.annotate import texts
from reelm.backends.blocks.schema import faults
from reelm.errors import UnknownName
from reelm.prompts import PROMPTS
from reelm.prompts.attributes import Attributes
from reelm.prompts.blocks.factors import FACTORS
from reelm.prompts.caption import Caption
from reelm.prompts.content_summary import ContentSummary
from reelm.prompts.details import Details
from reelm.prompts.extraction import Extraction
from reelm.prompts.generated_videos import GeneratedVideos
from reelm.prompts.knowledge import Knowledge
from reelm.prompts.preferences import Preferences
from reelm.prompts.rationale import Rationale
from reelm.prompts.user_profile import UserProfile
from reelm.prompts.visual_summary import VisualSummary
from reelm.world.clips import sample_clip, sentence
from reelm.world.vocabulary import ATTRIBUTES

ALL = [prompts.find(name) for name in sorted(PROMPTS)]


def test_true_attributes_read_as_the_worlds_own_sentence():
    rng = random.Random(1)
    for _ in range(500):
        clip = sample_clip(rng)
        assert Attributes.as_text(clip.attributes()) == sentence(clip)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({}, ""),
        ({"subject": "cat"}, "cat."),
        ({"subject": "dog", "count": "many", "motion": "running"}, "many dog running."),
        ({"subject": "dog", "scene": None, "instrument": "none"}, "dog, no music."),
        ({"tempo": "slow", "mood": "sad"}, "slow sad music."),
        ({"instrument": "drums"}, "drums."),
        ({"word": "WOW", "count": 2}, "two, text says WOW."),
    ],
)
def test_missing_values_are_left_out(answer, said):
    assert Attributes.as_text(answer) == said


values = st.dictionaries(
    st.sampled_from([*ATTRIBUTES, "caption", "other"]), st.none() | st.integers() | st.text()
)


@settings(max_examples=60)
@given(values)
def test_any_answer_reads_as_text(answer):
    for prompt in ALL:
        assert isinstance(prompt.as_text(answer), str)


@pytest.mark.parametrize("prompt", ALL, ids=lambda p: p.name)
def test_the_schema_names_the_fields_of_the_answer_in_their_order(prompt):
    for vocabulary in (None, ATTRIBUTES):
        schema = prompt.schema(vocabulary)
        assert list(schema["properties"]) == list(prompt.model_fields) == schema["required"]
        assert prompt.ask(vocabulary)
        json.dumps(schema)


def test_a_closed_vocabulary_becomes_enums():
    true = sample_clip(random.Random(1)).attributes()
    schema = Attributes.schema(ATTRIBUTES)
    assert faults(true, schema) == [] and Attributes.model_validate(true).subject
    assert "not one of" in faults(true | {"subject": "dragon"}, schema)[0]
    assert faults(true | {"subject": "dragon"}, Attributes.schema()) == []


def test_a_caption_reads_as_itself():
    assert Caption.as_text({"caption": " A cat. "}) == "A cat."
    assert Caption.as_text({}) == ""


def test_details_leave_out_what_says_nothing():
    answer = {"scene": "street", "action": "a dog runs", "mood": "happy", "pace": "fast",
              "sound": "none", "on_screen_text": "WOW", "safety": "fine", "language": "other",
              "confidence": "high"}  # fmt: skip
    assert faults(answer, Details.schema()) == []
    assert "not one of" in faults(answer | {"safety": "ok"}, Details.schema())[0]
    assert Details.as_text(answer) == "a dog runs, street, happy mood, fast pace, text says WOW."


def test_a_profile_reads_without_what_is_disliked():
    answer = {"likes": ["cats", "rain"], "dislikes": ["dogs"], "summary": "Calm clips."}
    assert faults(answer, UserProfile.schema()) == []
    assert UserProfile.as_text(answer) == "likes cats, rain. Calm clips."


def test_a_profile_asks_nothing_about_who_somebody_is():
    assert "no age, gender" in UserProfile.ask()
    assert not {"age", "gender", "country"} & set(UserProfile.model_fields)


def test_videos_and_people_are_asked_about_by_the_same_factors():
    assert tuple(Knowledge.model_fields) == FACTORS
    for prompt in (Preferences, Extraction):
        (listed,) = (f for f in prompt.schema()["properties"].values() if f["type"] == "array")
        assert listed["items"]["properties"]["factor"]["enum"] == list(FACTORS)


def test_knowledge_leaves_out_what_is_unknown():
    answer = dict.fromkeys(FACTORS, "unknown") | {"topic": "cooking", "on_screen_text": "stir"}
    assert faults(answer, Knowledge.schema()) == []
    assert Knowledge.as_text(answer) == "topic cooking, on screen text stir."


def test_preferences_read_without_their_reasons():
    like = {"factor": "pace", "value": "slow", "because": "in 3 of 4 videos"}
    answer = {"likes": [like, like | {"value": "none"}], "summary": "Calm."}
    assert faults(answer, Preferences.schema()) == []
    assert Preferences.as_text(answer) == "likes pace slow. Calm."
    assert "no age, gender" in " ".join(Preferences.ask().split())


SHOWN = texts.block({"title": ["Slow noodles in Kyoto"], "comments": ["- 做饭真好看"]}, 100)


@pytest.mark.parametrize(
    ("fact", "source", "stands"),
    [
        ("slow noodles", "title", True),
        ("NOODLES, Kyoto", "title", True),
        ("slow noodles", "comments", False),  # said elsewhere
        ("fast noodles", "title", False),
        ("low", "title", False),  # a part of a word is no word
        ("做饭", "comments", True),
        ("", "title", False),
        ("title", "title", False),  # a mark is no text
        ("slow", "pictures", False),
    ],
)
def test_a_fact_stands_by_the_words_of_its_source(fact, source, stands):
    one = {"factor": "topic", "fact": fact, "source": source}
    assert Extraction.checked({"facts": [one]}, SHOWN)["facts"] == ([one] if stands else [])


def test_extracted_facts_read_by_factor():
    one = {"factor": "topic", "fact": "noodles", "source": "title"}
    answer = {"facts": [one, one | {"factor": "pace", "fact": "unknown"}]}
    assert faults(answer, Extraction.schema()) == []
    assert Extraction.as_text(answer) == "topic noodles."
    assert Extraction.checked({"facts": ["x", {"fact": "y"}]}, SHOWN) == {"facts": []}
    assert Caption.checked({"caption": "y"}, SHOWN) == {"caption": "y"}


def test_an_unknown_prompt_is_told_with_the_nearest():
    with pytest.raises(UnknownName, match="attributes"):
        prompts.find("atributes")


def test_a_rationale_reads_step_by_step():
    whole = {"taste": "cats.", "forms": "slow", "next": ["a cat asleep", "", "a cat in a city"]}
    assert Rationale.as_text(whole) == "cats. slow. a cat asleep. a cat in a city."
    assert Rationale.as_text({"next": ["a cat asleep"]}) == "a cat asleep."
    assert Rationale.as_text({"taste": None}) == ""


def test_a_summary_is_short_and_reads_as_itself():
    schema = VisualSummary.schema()
    assert faults({"summary": "a cat"}, schema) == [] and faults({"summary": "a " * 200}, schema)
    assert VisualSummary.as_text({"summary": " a cat "}) == "a cat"
    assert VisualSummary.as_text({"summary": "none"}) == VisualSummary.as_text({}) == ""


def test_interests_are_values_of_what_was_watched_in_training():
    dossier = "- subject: Cat; mood: calm\n- subject: dog\n\n" + GeneratedVideos.ask()
    said = {"interests": ["cat", "cute babies", "calm", "field"], "videos": ["a cat. Asleep."]}
    assert GeneratedVideos.checked(said, dossier) == {**said, "interests": ["cat", "calm"]}
    assert GeneratedVideos.as_text(said) == "likes cat, cute babies, calm, field. a cat. Asleep."
    assert GeneratedVideos.as_text({"videos": said["videos"]}) == "a cat. Asleep."


def test_a_content_summary_reads_as_it_is():
    assert ContentSummary.as_text({"summary": " a cat plays drums "}) == "a cat plays drums"
    assert faults({"summary": ""}, ContentSummary.schema()) != []
