"""Sheets of answers: the parts of a notes folder, and answers that are there already.

An answer belongs to what was asked: the file's content, the question, the view and the model. A
folder notes the digest of all but the content in `asked.json`, so that other folders about the
same question, with other videos or cut short, give their answers instead of the model.
"""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from reelm import files
from reelm.annotate.asking import MEDIA, Outcome, Question
from reelm.backends.base import Answer, Failure
from reelm.engine import Video

ASKED = "asked.json"
COLUMNS = {
    "video_id": pl.String,
    "sha256": pl.String,
    "answer": pl.String,
    "error_kind": pl.String,
    "error": pl.String,
    "seconds": pl.Float64,
    "tokens_in": pl.Int64,
    "tokens_out": pl.Int64,
}
SAID = tuple(COLUMNS)[2:]  # what a row says of its content, whatever the video's id


@dataclass(frozen=True)
class Sheet:
    """The notes folder of one question."""

    folder: Path
    question: Question
    known: dict[str, tuple[Any, ...]]
    """By content, what SAID names: answers that the model need not give again."""

    def path(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{number:05d}.parquet"

    def write(self, number: int, said: Sequence[tuple[Video, Outcome | None]]) -> dict[str, Any]:
        """Write a part; None stands for an outcome that is known. Returns what was paid for."""
        rows = [
            row
            for video, outcome in said
            for row in _rows(video, self.known[video.sha256] if outcome is None else _said(outcome))
        ]
        with files.atomic(self.path(number)) as tmp:
            pl.DataFrame(rows, schema=COLUMNS, orient="row").write_parquet(tmp)
        paid = [one for _, one in said if isinstance(one, Answer)]
        return {
            "rows": len(rows),
            "tokens_in": sum(one.tokens_in for one in paid),
            "tokens_out": sum(one.tokens_out for one in paid),
        }

    def outcome(self) -> dict[str, Any]:
        """For the manifest: rows in all, rows that failed, and how many of each kind."""
        parts = sorted(self.folder.glob("part-*.parquet"))
        kinds = [pl.read_parquet(part, columns=["error_kind"])["error_kind"] for part in parts]
        failures = Counter(kind for column in kinds for kind in column if kind is not None)
        rows = sum(map(len, kinds))
        return {"rows": rows, "failed": failures.total(), "failures": dict(failures)}

    def drop_failed(self) -> None:
        """Take away the manifest and the parts that hold failures, so that these are asked again;
        the answers that stand beside them are known by then."""
        (self.folder / files.MANIFEST).unlink(missing_ok=True)
        for part in sorted(self.folder.glob("part-*.parquet")):
            if pl.read_parquet(part, columns=["error_kind"])["error_kind"].count():
                part.unlink()


def open_sheet(
    folder: Path, asked: str, question: Question, wanted: Collection[str], again: bool
) -> Sheet:
    """The sheet in a folder, with what folders beside it know about the wanted contents.

    Args:
        asked: digest of all that an answer depends on but the content.
        again: ask again what failed, whatever the reason.
    """
    files.write_text(folder / ASKED, json.dumps({"asked": asked}) + "\n")
    known: dict[str, tuple[Any, ...]] = {}
    for other in sorted(folder.parent.glob(f"{question.prompt.name}-*/{ASKED}")):
        if json.loads(other.read_text(encoding="utf-8")).get("asked") == asked:
            known |= _known(other.parent, wanted, again)
    return Sheet(folder, question, known)


def _known(folder: Path, wanted: Collection[str], again: bool) -> dict[str, tuple[Any, ...]]:
    """Answers, and failures that would come again, of the contents wanted."""
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        return {}
    table = pl.concat([pl.read_parquet(part) for part in parts])
    # the first row of a content holds the price; its copies cost nothing
    table = table.unique("sha256", keep="first", maintain_order=True)
    table = table.filter(pl.col("sha256").is_in(list(wanted)))
    known = {row[1]: row[2:] for row in table.iter_rows()}
    return {sha: said for sha, said in known.items() if _stands(said, again)}


def _stands(said: tuple[Any, ...], again: bool) -> bool:
    """True for an answer, and for a failure that is the content's own."""
    kind, message = said[SAID.index("error_kind")], said[SAID.index("error")]
    if kind is None:
        return True
    return not again and kind != MEDIA and not Failure(kind, message).passing


def _said(outcome: Outcome) -> tuple[Any, ...]:
    if isinstance(outcome, Answer):
        cost = round(outcome.seconds, 4), outcome.tokens_in, outcome.tokens_out
        return (outcome.text, None, None, *cost)
    return (None, outcome.kind, outcome.message, 0.0, 0, 0)


def _rows(video: Video, said: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """One row for the video and one for each copy, which cost nothing."""
    first = (video.id, video.sha256, *said)
    return [first, *((name, video.sha256, *said[:3], 0.0, 0, 0) for name in video.copies)]
