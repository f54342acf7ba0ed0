"""What a folder took beyond what other folders tell of: each second and each token counts once.

A search and a comparison take as long as the runs and reports that they make, which lie in folders
of their own. Answers that wait for the rest of their part are in no ledger yet.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from reelm import files
from reelm.search import trials
from reelm.search.trials import Trial


def waiting(notes: Path) -> dict[str, int]:
    """Rows and tokens of answers of a notes folder that no line of its ledger tells of, such as
    those of a batch of which a part has come back."""
    found = _keyed(notes, "answered")
    if found is None:
        return {"rows": 0, "tokens_in": 0, "tokens_out": 0}
    keys = found.columns[:2]
    found = found.unique(keys, keep="last", maintain_order=True)
    for name in ("kept", "part"):  # these are in the ledger
        if (paid := _keyed(notes, name)) is not None:
            found = found.join(paid, on=keys, how="anti", nulls_equal=True)
    return {"rows": len(found)} | {n: int(found[n].sum()) for n in ("tokens_in", "tokens_out")}


def searched(folder: Path, told: set[str]) -> tuple[float | None, float | None]:
    """Seconds and processor seconds of the trials of a search whose runs are in no folder now; None
    where one of them does not say.

    Args:
        told: names of runs that are counted elsewhere; those that are counted here are added.
    """
    gone = [one for one in trials.read(folder) if one.state != "running" and one.run not in told]
    told.update(one.run for one in gone if one.run is not None)
    return _sum(gone, "seconds"), _sum(gone, "cpu_s")


def compared(folder: Path, facts: Mapping[str, Any]) -> float:
    """Seconds of a comparison without those of the runs and reports that it made."""
    cells = json.loads((folder / "report.json").read_text(encoding="utf-8"))["cells"]
    work, begun = folder.parent.parent, facts["finished_at"] - facts["seconds"]
    made = {work / stage / cell[of] for cell in cells
            for stage, of in (("runs", "run"), ("reports", "report")) if cell.get(of)}  # fmt: skip
    own = [files.manifest(one) for one in made if files.finished(one)]
    theirs = [one["seconds"] for one in own if one["finished_at"] >= begun and "seconds" in one]
    return max(0.0, round(facts["seconds"] - sum(theirs), 3))


def _keyed(notes: Path, name: str) -> pl.DataFrame | None:
    """The digest of the content and the texts beside it, then the tokens, of some files."""
    paths = sorted(notes.glob(f"{name}-*.parquet"))
    if not paths:
        return None
    table = pl.concat([pl.read_parquet(path) for path in paths], how="diagonal_relaxed")
    content = "sha256" if "sha256" in table.columns else "dossier"  # about videos, about users
    texts = pl.col("told") if "told" in table.columns else pl.lit(None, pl.String).alias("told")
    return table.select(content, texts, "tokens_in", "tokens_out")


def _sum(some: Iterable[Trial], what: str) -> float | None:
    values = [getattr(one, what) for one in some]
    return None if None in values else round(math.fsum(values), 3)
