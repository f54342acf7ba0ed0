import numpy as np
import polars as pl
import pytest

from reelm.serve.facets import Facet, Facets, facets_of, tags_of

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


def world():
    rows = [facets_of({"subject": s, "colour": c}) for s in ("cat", "car") for c in ("red", "blue")]
    return Facets.of_rows([[], *rows])


def test_taste_prefers_more_of_the_same():
    facets = world()
    score = facets.score(facets.taste([1]))  # watched the red cat
    assert score[1] > score[2] > score[4]  # red cat, blue cat, blue car
    assert score[0] == 0


def test_no_past_no_taste():
    facets = world()
    assert not facets.taste([]).any()


def test_the_shared_facet_is_the_telling_one():
    cats, cars = [facets_of(RED_CAT)] * 2, [facets_of({"subject": "car"})] * 6
    facets = Facets.of_rows([*cats, *cars], pl.Series([None] * 2 + ["#fyp"] * 6))
    facet, rows = facets.links([2, 1, 1]).best(0)
    assert (facet.values, rows) == (("red", "cat"), [1])


def test_what_everybody_has_links_nothing():
    facets = Facets.of_rows([()] * 5, pl.Series(["#fyp"] * 5))
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
    facets = Facets.of_rows([()] * 6, pl.Series(texts), pl.Series(creators))
    for row, (text, creator) in enumerate(zip(texts, creators, strict=True)):
        expected = [("hashtag", tag) for tag in tags_of(text)]
        expected += [("creator", creator[:40])] if creator else []
        held = [facets.names[facet] for facet in facets.of(row)]
        assert [(one.fields[0], one.values[0]) for one in held] == expected


def test_notes_come_before_hashtags_and_these_before_creators():
    facets = Facets.of_rows([(), facets_of(RED_CAT)], pl.Series(["#a", "#a"]), pl.Series(["m"] * 2))
    fields = [facets.names[facet].fields for facet in facets.of(1)]
    assert fields == [*(f.fields for f in facets_of(RED_CAT)), ("hashtag",), ("creator",)]
    assert facets.share[facets.of(0)].tolist() == [1.0, 1.0]
