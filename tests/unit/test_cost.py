import io
import json
from dataclasses import replace
from functools import partial

import pytest
import rich.console

from reelm import cost, models
from reelm.cost import LEDGER, Cost, Ledger, Meter, progress
from reelm.energy import Energy


def test_lines_add_up(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.lines() == [] and ledger.total()["rows"] == 0
    ledger.add(Cost(0, 8, 1.5, 1.0, 1.25, 100, 50, "cpu"))
    ledger.add(Cost(1, 2, 0.5, 0.25, 0.25, 10, 5, "cuda"))
    total = Ledger(tmp_path).total()
    assert total == {
        "rows": 10, "seconds": 2.0, "cpu_s": 1.25, "device_s": 1.5, "tokens_in": 110,
        "tokens_out": 55, "parts": 2, "lost": 0, "devices": ["cpu", "cuda"], "joules": None,
    }  # fmt: skip


def test_joules_are_summed_only_where_every_part_tells_them(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.add(Cost(0, 8, joules=1.5, joules_of="package-0"))
    ledger.add(Cost(1, 8, known=False))
    ledger.add(Cost(2, 8, joules=2.0, joules_of="package-0"))
    assert ledger.total()["joules"] == 3.5 and ledger.total()["lost"] == 1
    ledger.add(Cost(3, 8, joules=2.0, joules_of="package-0+gpu0"))
    assert ledger.total()["joules"] is None
    ledger.add(Cost(4, 8))
    assert ledger.total()["joules"] is None


def test_lines_of_before_and_of_later_are_read(tmp_path):
    old = {"part": 0, "rows": 64, "seconds": 37.8, "cpu_s": 3.1, "device": "cpu", "known": True}
    new = {"part": 1, "rows": 64, "seconds": 2.0, "device_s": 1.0, "water_l": 3}
    (tmp_path / LEDGER).write_text("".join(json.dumps(line) + "\n" for line in (old, new)))
    assert [line.device_s for line in Ledger(tmp_path).lines()] == [37.8, 1.0]


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
    told = Meter(Energy(tmp_path)).read()
    assert told["joules"] is None and told["joules_of"] == ""


def test_no_bar_is_drawn_where_there_is_no_terminal(capsys):
    with progress("annotate", 10, done=2) as advance:
        advance(8)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("terminal", "operations"), [(True, 1e9), (False, 1e9), (True, 0.0)])
def test_what_takes_long_is_said_where_a_terminal_watches(monkeypatch, terminal, operations):
    seen = io.StringIO()
    made = partial(rich.console.Console, file=seen, force_terminal=terminal, width=100)
    monkeypatch.setattr(rich.console, "Console", lambda stderr: made())
    monkeypatch.setattr(cost, "_rate", lambda: 1e6)
    with cost.doing("ease: 19,000 items", operations):
        pass
    said = "ease: 19,000 items, about 17 min; so far" in seen.getvalue()
    assert said == (terminal and operations > 0)
    assert bool(seen.getvalue()) == said


def test_only_a_long_fit_in_closed_form_counts_its_operations(two_tastes):
    kind = models.find("ease")
    assert kind.operations(kind.Config(), two_tastes) == 0
    wide = replace(two_tastes, items=tuple(map(str, range(19_001))))
    assert kind.operations(kind.Config(), wide) == pytest.approx(7 / 3 * 19_001**3)
    assert models.find("mf").operations(None, wide) == 0
