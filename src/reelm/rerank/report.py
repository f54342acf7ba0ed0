"""Ways to order lists, how well each does, and the report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from reelm import files, metrics, paired
from reelm.backends.base import Failure
from reelm.rerank.lists import Lists
from reelm.rerank.reading import TOKENS, Scores, counted
from reelm.runs import Run

WEIGHTS = tuple(round(0.1 * n, 1) for n in range(11))  # of the run, tried on validation


def ways(lists: Lists, run: Run, reader: Scores) -> dict[str, Scores]:
    """Scores of the lists by all ways to order them but the mixed one."""
    shape = lists.items.shape
    return {
        "order": np.broadcast_to(-np.arange(shape[1], dtype=float), shape),
        "popularity": run.counts[lists.items].astype(float),
        "run": scored(lists, run),
        "reader": reader,
    }


def scored(lists: Lists, run: Run) -> Scores:
    """What a run's model says of the candidates."""
    users = torch.from_numpy(lists.user)
    parts = zip(users.split(256), lists.history.split(256), strict=True)
    with torch.inference_mode():
        whole = np.concatenate([run.retriever.score(*part).numpy() for part in parts])
    return np.take_along_axis(whole, lists.items, axis=1).astype(float)


def mixed(ways: Mapping[str, Scores], weight: float) -> Scores:
    """So much of the run, the rest of the reader, each with deviation 1 within a list."""
    return weight * _even(ways["run"]) + (1 - weight) * _even(ways["reader"])


def _even(scores: Scores) -> Scores:
    middle = scores - scores.mean(1, keepdims=True)
    return middle / np.maximum(scores.std(1, keepdims=True), 1e-9)


def best_weight(ways: Mapping[str, Scores], lists: Lists) -> float:
    """The weight of the run that orders these lists best."""
    return max(WEIGHTS, key=lambda w: figures(mixed(ways, w), lists)["ndcg"].mean())


def figures(scores: Scores, lists: Lists) -> dict[str, Float[np.ndarray, "lists"]]:
    """ndcg, hit of the first place and reciprocal rank, list by list; ties count against."""
    return _figures(metrics.ranks(scores, np.arange(len(scores)), lists.target))


def chance(candidates: int) -> dict[str, float]:
    """What a random order would have in the mean: each place is as likely as another."""
    told = _figures(np.arange(1, candidates + 1)).items()
    return {name: round(float(values.mean()), 5) for name, values in told}


def _figures(rank: Int[np.ndarray, "lists"]) -> dict[str, Float[np.ndarray, "lists"]]:
    return {"ndcg": 1 / np.log2(rank + 1), "hit@1": (rank == 1) * 1.0, "mrr": 1 / rank}


def compared(
    found: Mapping[str, Mapping[str, Float[np.ndarray, "lists"]]], lists: Lists
) -> dict[str, Any]:
    """Means with 95 % intervals over lists, differences from the run, and what places do."""
    said = lambda values: _interval(paired.bootstrap_interval(values))  # noqa: E731
    ways = {way: {name: said(v) for name, v in by.items()} for way, by in found.items()}
    against = {
        way: {name: said(by[name] - found["run"][name]) for name in by}
        for way, by in found.items()
        if way in ("reader", "mixed")
    }
    last = lists.items.shape[1] - 1
    first = [(lists.target == place) for place in (0, last)]
    hits = found["reader"]["hit@1"]
    by_place = {
        name: float(hits[rows].mean()) if rows.any() else None
        for name, rows in zip(("first", "last"), first, strict=True)
    }
    return {
        "ways": ways,
        "chance": chance(lists.items.shape[1]),
        "less the run": against,
        "reader hit@1 by place of the target": by_place,
    }


def _failures(facts: Mapping[str, Any]) -> str:
    """How many of how many requests failed, why, and what becomes of those that may yet succeed;
    reports of before they were counted do not tell of how many."""
    failed = facts["failed"]
    told = " of ".join(
        str(n) for n in (sum(failed.values()), facts.get("requests")) if n is not None
    )
    told += " requests failed" + (f" ({counted(failed)})" if failed else "")
    passing = sum(count for kind, count in failed.items() if Failure(kind, "").passing)
    return told + (f"; the same command asks {passing} of them again" if passing else "")


def _spent(folder: Path) -> str:
    """Tokens that the reader read and wrote, failures and lost tries included; nothing of a reader
    that counts none, and of reports of before they were counted."""
    cost = files.manifest(folder).get("cost", {})
    read, written = (cost.get(name, 0) for name in TOKENS)
    return f"; {read:,} tokens read, {written:,} written" if read or written else ""


def _interval(found: paired.Interval) -> list[float]:
    return [round(float(value), 5) for value in (found.mean, found.low, found.high)]


def summary(folder: Path) -> str:
    """The report as a small table."""
    facts = json.loads((folder / "report.json").read_text())
    rows = [f"{'':12}{'ndcg':>22}{'hit@1':>10}{'mrr':>10}"]
    for way, by in facts["ways"].items():
        mean, low, high = by["ndcg"]
        spread = f"{mean:>8.3f} ({low:.3f}, {high:.3f})"
        rows.append(f"{way:12}{spread}{by['hit@1'][0]:>10.3f}{by['mrr'][0]:>10.3f}")
    if told := facts.get("chance"):  # not in reports of before it was told
        rows.append(f"{'chance':12}{told['ndcg']:>8.3f}{told['hit@1']:>24.3f}{told['mrr']:>10.3f}")
    mean, low, high = facts["less the run"]["reader"]["ndcg"]
    rows.append(
        f"{facts['lists']} lists; reader less run {mean:+.3f} ({low:+.3f}, {high:+.3f}); mixed: "
        f"{facts['weight of the run']:.0%} of the run, chosen on validation; "
        f"{_failures(facts)}{_spent(folder)}"
    )
    return "\n".join(rows)
