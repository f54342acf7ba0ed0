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
