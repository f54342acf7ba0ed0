import numpy as np
import polars as pl
import pytest

from reelm.serve.facets import Facet, Facets, Noted, facets_of, tags_of

RED_CAT = {"subject": "cat", "colour": "red", "word": "none", "count": "2"}


@pytest.mark.parametrize(
    ("fields", "values", "phrase"),
    [
        (("colour", "subject"), ("red", "cat"), "with a red cat"),
        (("colour", "subject"), ("orange", "cat"), "with an orange cat"),
        (("tempo", "instrument"), ("slow", "piano"), "with slow piano music"),
        (("motion",), ("spin",), "with spinning movement"),
        (("light",), ("sunset",), "at sunset"),
        (("light",), ("dim",), "in dim light"),
        (("word",), ("{0}",), "that say “{0}”"),
        (("camera_angle",), ("low",), "with camera angle low"),
        (("hashtag",), ("#food",), "tagged #food"),
    ],
)
def test_phrases(fields, values, phrase):
    assert Facet(fields, values).phrase() == phrase


def test_what_says_nothing_is_no_facet():
    found = facets_of(RED_CAT | {"mood": "x" * 41, "tempo": None})
    assert {f.fields for f in found} == {("colour", "subject"), ("subject",), ("colour",)}


def test_hashtags_in_any_form():
    assert tags_of("#cats, fun  #fun,,#") == ["#cats", "#fun"]
    assert tags_of(None) == []


def facets_by(*answers, **columns):
    """Facets of rows of which each has these notes, or None."""
    ids = [f"v{row}" for row in range(len(answers))]
    noted = {v: answer for v, answer in zip(ids, answers, strict=True) if answer}
    return Facets.of_rows(ids, Noted.of(noted), **columns)


def world():
    rows = [{"subject": s, "colour": c} for s in ("cat", "car") for c in ("red", "blue")]
    return facets_by(None, *rows)


def test_taste_prefers_more_of_the_same():
    facets = world()
    score = facets.score(facets.taste([1]))  # watched the red cat
    assert score[1] > score[2] > score[4]  # red cat, blue cat, blue car
    assert score[0] == 0


def test_no_past_no_taste():
    facets = world()
    assert not facets.taste([]).any()


def test_the_shared_facet_is_the_telling_one():
    cats, cars = [RED_CAT] * 2, [{"subject": "car"}] * 6
    facets = facets_by(*cats, *cars, hashtags=pl.Series([None] * 2 + ["#fyp"] * 6))
    facet, rows = facets.links([2, 1, 1]).best(0)
    assert (facet.values, rows) == (("red", "cat"), [1])


def test_what_everybody_has_links_nothing():
    facets = facets_by(*[None] * 5, hashtags=pl.Series(["#fyp"] * 5))
    assert facets.links([1, 2]).best(0) is None
    assert facets.links([0]).best(0) is None


def test_dense_holds_the_same():
    facets = world()
    held = facets.dense(np.array([0, 3]))
    assert held[0].sum() == 0
    assert held[1].sum() == len(facets.of(3)) == held.shape[1]
    both = facets.dense(np.array([3, 4]))
    assert (both[0] & both[1]).sum() == len(set(facets.of(3).tolist()) & set(facets.of(4).tolist()))


def test_columns_say_what_single_texts_say():
    texts = ["#cats, fun  #fun,,#", None, "", "a\tb,c", "##x #" + "y" * 50, "#fun"]
    creators = [None, "mia", "mia", "", "z" * 60, None]
    facets = facets_by(*[None] * 6, hashtags=pl.Series(texts), creators=pl.Series(creators))
    for row, (text, creator) in enumerate(zip(texts, creators, strict=True)):
        expected = [("hashtag", tag) for tag in tags_of(text)]
        expected += [("creator", creator[:40])] if creator else []
        held = [facets.names[facet] for facet in facets.of(row)]
        assert [(one.fields[0], one.values[0]) for one in held] == expected


def test_notes_come_before_hashtags_and_these_before_creators():
    facets = facets_by(
        None, RED_CAT, hashtags=pl.Series(["#a", "#a"]), creators=pl.Series(["m"] * 2)
    )
    fields = [facets.names[facet].fields for facet in facets.of(1)]
    assert fields == [*(f.fields for f in facets_of(RED_CAT)), ("hashtag",), ("creator",)]
    assert facets.share[facets.of(0)].tolist() == [1.0, 1.0]


def test_facets_found_before_are_as_if_all_were_found_at_once():
    said = {"a": RED_CAT, "b": {"subject": "car"}, "c": {}}
    more = {"b": {"subject": "dog", "colour": "red"}, "d": RED_CAT}
    ids = ["d", "", "b", "a", "x", "c"]
    grown = Facets.of_rows(ids, Noted.of(more, Noted.of(said)))
    whole = Facets.of_rows(ids, Noted.of(said | more))
    for row in range(len(ids)):
        held = [[facets.names[f] for f in facets.of(row)] for facets in (grown, whole)]
        assert held[0] == held[1] and len(held[0]) == [3, 0, 3, 3, 0, 0][row]
