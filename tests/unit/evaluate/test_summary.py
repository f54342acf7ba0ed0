from reelm import files
from reelm.evaluate import summary

FACTS = """{"pools": {
  "mixed": {"questions": 3, "metrics": {"recall@10": 0.5, "mrr": 0.25}},
  "cold": {"questions": 0, "metrics": {}}}}"""


def test_a_report_is_summed_up_in_one_line_per_pool(tmp_path):
    files.write_text(tmp_path / "report.json", FACTS)
    head, mixed, cold = summary(tmp_path).splitlines()
    assert head.split() == ["pool", "questions", "recall@10", "mrr"]
    assert mixed.split() == ["mixed", "3", "0.5000", "0.2500"]
    assert cold.split() == ["cold", "0", "-", "-"]


def test_below_a_pool_stands_what_chance_would_have(tmp_path):
    told = FACTS.replace('"mrr": 0.25}', '"mrr": 0.25}, "chance": {"recall@10": 0.125}')
    files.write_text(tmp_path / "report.json", told)
    head, mixed, chance, cold = summary(tmp_path).splitlines()
    assert chance.split() == ["chance", "0.1250"]
    end = head.index("recall@10") + len("recall@10")
    assert chance[:end] == chance and mixed[:end].endswith("0.5000"), "not below its recall"
    assert cold.startswith("cold")


LONGER = """{"pools": {
  "mixed": {"questions": 3, "metrics": {"recall@5": 0.5, "recall@10": 0.75, "popularity@5": 1234.5,
    "popularity@10": 2000.0, "popularity_ratio@10": 1.5, "sampled100_recall@5": 0.8,
    "sampled100_recall@10": 0.9, "sampled100_mrr": 0.7}},
  "cold": {"questions": 0, "metrics": {}}}}"""


def test_lists_and_the_shortened_protocol_have_tables_of_their_own(tmp_path):
    files.write_text(tmp_path / "report.json", LONGER)
    accuracy, lists, sampled = summary(tmp_path).split("\n\n")
    assert accuracy.splitlines()[0].split() == ["pool", "questions", "recall@5", "recall@10"]
    assert lists.splitlines()[0].split() == ["pool", "popularity@10", "popularity_ratio@10"]
    assert lists.splitlines()[1].split() == ["mixed", "2000.0000", "1.5000"]
    heads = ["pool", "sampled100_recall@10", "sampled100_mrr"]
    assert sampled.splitlines()[0].split() == heads
    assert sampled.splitlines()[2].split() == ["cold", "-", "-"]
    columns = {len(line) for line in lists.splitlines()}
    assert len(columns) == 1  # every line is as wide as its head


def test_a_report_without_a_question_says_so(tmp_path):
    pools = '{"pools": {"mixed": {"questions": 0, "metrics": {}}}}'
    files.write_text(tmp_path / "report.json", pools)
    assert "nothing was measured" in summary(tmp_path)
