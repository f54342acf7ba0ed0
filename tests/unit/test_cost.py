import json

from reelm.cost import LEDGER, Cost, Ledger, Meter, progress


def test_lines_add_up(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.lines() == [] and ledger.total()["rows"] == 0
    ledger.add(Cost(0, 8, 1.5, 1.0, 1.25, 100, 50, "cpu"))
    ledger.add(Cost(1, 2, 0.5, 0.25, 0.25, 10, 5, "cuda"))
    total = Ledger(tmp_path).total()
    assert total == {
        "rows": 10, "seconds": 2.0, "cpu_s": 1.25, "device_s": 1.5, "tokens_in": 110,
        "tokens_out": 55, "parts": 2, "devices": ["cpu", "cuda"],
    }  # fmt: skip


def test_a_line_cut_short_by_a_kill_is_removed(tmp_path):
    Ledger(tmp_path).add(Cost(0, 8))
    with (tmp_path / LEDGER).open("a") as file:
        file.write(json.dumps({"part": 1, "rows": 8})[:10])
    ledger = Ledger(tmp_path)
    ledger.add(Cost(1, 4))
    assert [line.rows for line in ledger.lines()] == [8, 4]


def test_the_meter_goes_on(tmp_path):
    meter = Meter()
    first, second = meter.read(), meter.read()
    assert first.keys() == {"seconds", "cpu_s"}
    assert 0 <= first["seconds"] <= second["seconds"]


def test_no_bar_is_drawn_where_there_is_no_terminal(capsys):
    with progress("annotate", 10, done=2) as advance:
        advance(8)
    assert capsys.readouterr() == ("", "")
