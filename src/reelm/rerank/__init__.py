"""Verb: a language model reads what is said of videos and puts short lists in order.

Nothing is learned: what the person watched and the candidates are told in lines, each candidate has
a letter, and the letters' probabilities are the scores.

Source: Liu et al. 2024, "Rec-GPT4V: Multimodal Recommendation with Large Vision-Language Models",
arXiv:2402.08670: pictures become notes first, one video at a time, and only texts are compared.
Departures:
- videos in place of pictures of products; the notes are those that `reelm annotate` keeps;
- the paper's model writes an order, which has to be parsed; here the letters are scored as closed
  choices, so that nothing can fail to parse;
- models like letters by their place, so lists are shown several times, turned round, and the mean
  of the logarithms counts;
- beside the reader's order stands one mixed with that of the run; how much of each is chosen on
  validation;
- prompts, sizes and candidates of the paper could not be read; those here are ours.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from reelm import files
from reelm.backends.base import Backend, Failure
from reelm.cost import Ledger
from reelm.data.split import Split
from reelm.rerank.lessons import lessons
from reelm.rerank.lists import Lists, RerankConfig, dealt, drawn, lines
from reelm.rerank.reading import Kept, read
from reelm.rerank.report import best_weight, compared, figures, mixed, scored, summary, ways
from reelm.runs import Run

VERSION = 2
SAID, REPORT = "said.jsonl", "report.json"
LATER = {"patience_s"}  # settings that change no answer

__all__ = [
    "Lists",
    "RerankConfig",
    "drawn",
    "figures",
    "lessons",
    "lines",
    "rerank",
    "scored",
    "summary",
]


def rerank(
    run: Run,
    split: Split,
    told: Mapping[str, str],
    reader: Backend,
    config: RerankConfig,
    work: Path,
) -> Path:
    """Fill `work/reports/rerank-<run>-<key>/`; call it again to go on after a kill, or to ask again
    what the way to the reader lost.

    report.json has, for every way to order the lists (`order` as shown, `popularity`, the `run`,
    the `reader`, and `mixed`), the means and the differences from the run with bootstrap intervals;
    per_user.parquet has every list of the test. What the reader said is kept in said.jsonl, what it
    took, over all calls, in the ledger.

    Args:
        told: what is told of each video, by its id; see `lines`.

    Raises:
        BadData: the run learned from other data, or fewer videos are told of than a list holds.
        BackendError: the way to the reader stayed closed, or it failed on all that was asked. What
            was said is kept; the folder is not finished.
    """
    run.may_be_asked(split.train)
    inputs = {
        "run": run.identity, "split": split.fingerprint, "reader": reader.identity(),
        "told": files.digest(json.dumps(sorted(told.items())).encode()),
    }  # fmt: skip
    settings = config.model_dump(exclude=LATER)
    key = files.key("rerank", VERSION, settings, inputs)
    folder = work / "reports" / f"rerank-{run.name}-{key}"
    if _settled(folder):
        return folder
    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / files.MANIFEST).unlink(missing_ok=True)
    texts = dealt(told, config.seed) if config.dealt else told
    ask = Kept(reader, folder / SAID, config.patience_s)
    rows, report = _tested(run, split, texts, ask, config)
    with files.atomic(folder / "per_user.parquet") as tmp:
        rows.write_parquet(tmp)
    files.write_text(folder / REPORT, json.dumps(report, indent=1) + "\n")
    return files.finish(
        folder, stage="rerank", version=VERSION, key=key, settings=settings,
        inputs=inputs, rows=len(rows), failed=sum(ask.failed.values()),
        seconds=round(time.monotonic() - begun, 1), cost=Ledger(folder).total(),
    )  # fmt: skip


def _settled(folder: Path) -> bool:
    """True if a folder is finished and asking again would tell nothing else: something was said,
    and no request failed on its way."""
    said = folder / SAID
    if not files.finished(folder) or (said.is_file() and not said.stat().st_size):
        return False
    failed = json.loads((folder / REPORT).read_text(encoding="utf-8"))["failed"]
    return not any(Failure(kind, "").passing for kind in failed)


def _tested(
    run: Run, split: Split, told: Mapping[str, str], ask: Kept, config: RerankConfig
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Every list of the test, and the report; validation says how to mix."""
    valid = drawn(split.valid, run.items, told, config)
    weight = best_weight(ways(valid, run, read(valid, run.items, told, ask, config)[0]), valid)
    test = drawn(split.test, run.items, told, config, salt=1)
    scores, moved = read(test, run.items, told, ask, config)
    tried = ways(test, run, scores)
    tried["mixed"] = mixed(tried, weight)
    found = {way: figures(scores, test) for way, scores in tried.items()}
    columns = {f"{way}/{name}": by[name] for way, by in found.items() for name in by}
    rows = pl.DataFrame(
        {"user_id": [run.users[u] for u in test.user], "place": test.target + 1, **columns}
    )
    report = compared(found, test) | {
        "weight of the run": weight,
        "lists": len(rows),
        "requests": ask.asked,
        "failed": ask.failed,
        "moved by turning": moved,
    }
    return rows, report
