from html.parser import HTMLParser

import pytest

from reelm.evaluate import Lists, Sampled, evaluate
from reelm.evaluate.page import html, number
from reelm.evaluate.report import kind

VOID = {"meta", "br"}


class Nested(HTMLParser):
    """Every tag that is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.bars = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        if tag == "rect":
            self.bars.append(float(dict(attrs)["width"]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def page(asked):
    some = asked(users=60)
    report = evaluate(some.model, some.questions, ks=(5, 10), lists=Lists.of(some.data),
                      sampled=Sampled(7))  # fmt: skip
    about = {"model": "<b>bold", "split": "given"}
    return report, html({"about": about, **report.facts}, kind)


def test_a_page_is_whole_and_needs_nothing_else(page):
    _, text = page
    seen = Nested()
    seen.feed(text)
    assert not seen.open
    assert "http" not in text and "nan" not in text.lower() and "None" not in text
    assert "&lt;b&gt;bold" in text


def test_a_bar_for_every_pool_and_part(page):
    report, text = page
    seen = Nested()
    seen.feed(text)
    parts = sum(len(found) for found in report.slices["mixed"].values())
    assert len(seen.bars) == len(report.pools) + parts
    values = [report[f"{pool}/recall@10"] for pool in report.pools]
    longest = max(seen.bars[:3])
    assert [bar / longest for bar in seen.bars[:3]] == pytest.approx(
        [value / max(values) for value in values], abs=1e-3
    )


def test_every_figure_is_there(page):
    report, text = page
    said = " ".join(text.split())
    for pool in report.pools:
        for metric, value in report.pools[pool].items():
            assert number(value) in said, metric
    for words in ("coverage", "novelty", "sampled7_ndcg", "not to be compared", "Pool cold"):
        assert words in said


def test_a_pool_without_questions(asked):
    some = asked()
    none = some.questions.take(some.questions.users[:0])
    report = evaluate(some.model, none, lists=Lists.of(some.data))
    text = html({"about": {"model": "m", "split": "s"}, **report.facts}, kind)
    assert text.count("No question has a target in this pool.") == 3


def test_numbers_are_as_long_as_they_need_be():
    told = {0.12345: ".1235", 1.0: "1.000", -0.5: "-.5000", 12.345: "12.35", 1234.5: "1,234",
            0.99999: "1.0000", 0.0: ".0000", float("nan"): "-"}  # fmt: skip
    assert {value: number(value) for value in told if value == value} == {
        value: said for value, said in told.items() if value == value
    }
    assert number(None) == number(float("nan")) == "-"
