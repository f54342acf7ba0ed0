"""Verdicts on made-up cells whose right answer is known."""

import numpy as np
import polars as pl
import pytest

from reelm.compare.cells import Cell
from reelm.compare.verdicts import Grid, comparisons, figures
from reelm.errors import BadData

USERS = 200


def world(tmp_path, gains, seeds=5, noise=0.004, name="d", alike=("base",)):
    """Cells of models that are better than `base` by `gains[model]` for every user on average."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0, 0.5, USERS)
    cells = []
    for model, gain in gains.items():
        for place in range(1 if model in alike else seeds):
            shift = 0 if model in alike else rng.normal(0, noise)
            values = base + gain + shift + (model != "base") * rng.normal(0, 0.1, USERS)
            folder = tmp_path / f"{name}-{model}-{place}"
            folder.mkdir()
            table = pl.DataFrame(
                {"pool": "mixed", "user_id": [f"u{u}" for u in range(USERS)], "ndcg@10": values}
            )
            table.write_parquet(folder / "per_user.parquet")
            metrics = {"ndcg@10": float(values.mean()), "coverage@10": 0.5 + gain + shift}
            pools = {"mixed": {"questions": USERS, "metrics": metrics}}
            cells.append(
                Cell(name, model, place, place, report=folder, pools=pools, alike=model in alike)
            )
    return cells


def judged(cells, datasets=("d",), resamples=2000, reference="base"):
    models = list(dict.fromkeys(cell.model for cell in cells))
    grid = Grid.of(cells, datasets, models, max(cell.place for cell in cells) + 1)
    return grid, comparisons(grid, reference, "mixed/ndcg@10", resamples)


def by(rows, metric="ndcg@10"):
    return {row["model"]: row for row in rows if row["metric"] == metric}


def test_better_worse_and_nothing_shown(tmp_path):
    _, rows = judged(world(tmp_path, {"base": 0, "up": 0.05, "down": -0.05, "same": 0}))
    assert {m: r["verdict"] for m, r in by(rows).items()} == {
        "up": "better",
        "down": "worse",
        "same": "no difference shown",
    }
    lists = {m: r["verdict"] for m, r in by(rows, "coverage@10").items()}
    assert lists == {"up": "higher", "down": "lower", "same": "no difference shown"}
    assert by(rows, "coverage@10")["up"]["users"] is None


def test_users_agree_but_seeds_do_not(tmp_path):
    """A gain of these very trainings: all users see it, other seeds may not."""
    cells = world(tmp_path, {"base": 0, "lucky": 0.03}, seeds=3, noise=0.08)
    row = by(judged(cells)[1])["lucky"]
    assert row["p_holm"] < 0.05 and row["seeds"]["low"] < 0 < row["seeds"]["high"]
    assert row["verdict"] == "no difference shown"


def test_one_seed_is_judged_by_users_alone(tmp_path):
    _, rows = judged(world(tmp_path, {"base": 0, "up": 0.05}, seeds=1))
    assert by(rows)["up"]["verdict"] == "better" and by(rows)["up"]["seeds"] is None
    assert by(rows, "coverage@10")["up"]["verdict"] == "not tested"


def test_holm_goes_over_all_datasets_and_models_of_a_family(tmp_path):
    cells = world(tmp_path, {"base": 0, "a": 0.05, "b": 0.05}) + world(
        tmp_path, {"base": 0, "a": 0.0, "b": 0.0}, name="e"
    )
    rows = [r for r in judged(cells, ("d", "e"))[1] if r["family"] == "measure"]
    assert len(rows) == 4
    least = min(r["p"] for r in rows)
    assert min(r["p_holm"] for r in rows) == pytest.approx(4 * least)


def test_seeds_are_paired_with_the_same_seeds(tmp_path):
    """Both move together from seed to seed; only pairing sees that one is always better."""
    cells = world(tmp_path, {"base": 0, "up": 0.01}, alike=())
    moved = []
    for cell in cells:
        value = 0.3 + 0.1 * cell.place + (cell.model == "up") * (0.01 + 0.001 * cell.place)
        pools = {"mixed": {"questions": USERS, "metrics": {"ndcg@10": value}}}
        moved.append(Cell(cell.dataset, cell.model, cell.place, 0, report=cell.report, pools=pools))
    row = by(judged(moved)[1])["up"]
    assert row["seeds"]["low"] > 0 and row["difference"] == pytest.approx(0.012)
    rest = [c for c in moved if not (c.model == "up" and c.place == 0)]
    assert by(judged(rest)[1])["up"]["difference"] == pytest.approx(0.0125)
    assert by(judged(rest)[1])["up"]["pairs"] == 4


def test_figures_have_intervals_over_seeds_only_where_seeds_matter(tmp_path):
    grid, _ = judged(world(tmp_path, {"base": 0, "up": 0.05}))
    rows = {(r["model"], r["metric"]): r for r in figures(grid)}
    assert rows["base", "ndcg@10"]["low"] is None and len(rows["base", "ndcg@10"]["values"]) == 1
    up = rows["up", "ndcg@10"]
    assert up["low"] < up["mean"] < up["high"] and len(up["values"]) == 5


def test_other_users_are_refused(tmp_path):
    cells = world(tmp_path, {"base": 0, "up": 0.05})
    path = cells[0].report / "per_user.parquet"
    pl.read_parquet(path).with_columns(user_id=pl.lit("x")).write_parquet(path)
    with pytest.raises(BadData, match="other users"):
        judged(cells)


def test_a_metric_that_some_questions_lack(tmp_path):
    """Judged on the questions that both have."""
    cells = world(tmp_path, {"base": 0, "up": 0.05}, seeds=2)
    for cell in cells:
        path = cell.report / "per_user.parquet"
        table = pl.read_parquet(path).with_row_index("n")
        half = pl.when(pl.col("n") % 2 == 0).then(pl.col("ndcg@10"))
        table.with_columns(half.alias("diversity@10"), n=None).write_parquet(path)
        cell.pools["mixed"]["metrics"]["diversity@10"] = 0.1
    row = by(judged(cells)[1], "diversity@10")["up"]
    assert row["users"]["questions"] == USERS // 2
