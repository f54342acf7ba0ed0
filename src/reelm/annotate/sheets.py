"""Sheets of answers: the parts of a notes folder, and answers that are there already.

An answer belongs to what was asked: the file's content, the question, the view and the model. A
folder notes the digest of all but the content in `asked.json`, so that other folders about the
same question, with other videos or cut short, give their answers instead of the model. The texts
that were shown beside the pictures stand in each row.
"""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from reelm import files
from reelm.annotate.asking import MEDIA, Outcome, Question, Todo
from reelm.backends.base import Answer, Failure

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
    "repaired": pl.Boolean,  # whether the model had to be asked twice; null for failures
    "told": pl.String,  # texts that were shown beside the pictures, if any
}
SAID = tuple(COLUMNS)[2:-1]  # what a row says of its content, whatever the video's id
INVALID = ("invalid_json", "schema", "truncated")
"""Kinds of failure of models that answer, but not as they were asked to."""
Known = dict[tuple[str, str], tuple[Any, ...]]
"""What SAID names, by content and texts."""


@dataclass(frozen=True)
class Sheet:
    """The notes folder of one question."""

    folder: Path
    question: Question
    known: Known
    """Answers that the model need not give again."""

    def path(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{number:05d}.parquet"

    def write(self, number: int, said: Sequence[tuple[Todo, Outcome | None]]) -> dict[str, Any]:
        """Write a part; None stands for an outcome that is known. Returns what was paid for."""
        rows = [
            row
            for todo, outcome in said
            for row in _rows(todo, self.known[key(todo)] if outcome is None else _said(outcome))
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
        """For the manifest: rows in all, rows that failed and how many of each kind, and of the
        contents that the model answered about, how many answers were `valid` and when."""
        table = _table(self.folder)
        failures = Counter(table["error_kind"].drop_nulls())
        facts = {"rows": len(table), "failed": failures.total(), "failures": dict(failures)}
        return facts | {"valid": _valid(table)}

    def drop_failed(self) -> None:
        """Take away the manifest and the parts that hold failures, so that these are asked again;
        the answers that stand beside them are known by then."""
        (self.folder / files.MANIFEST).unlink(missing_ok=True)
        for part in sorted(self.folder.glob("part-*.parquet")):
            if pl.read_parquet(part, columns=["error_kind"])["error_kind"].count():
                part.unlink()


def open_sheet(
    folder: Path, asked: str, question: Question, wanted: Collection[tuple[str, str]], again: bool
) -> Sheet:
    """The sheet in a folder, with what folders beside it know about the wanted contents
    and texts.

    Args:
        asked: digest of all that an answer depends on but the content.
        again: ask again what failed, whatever the reason.
    """
    files.write_text(folder / ASKED, json.dumps({"asked": asked}) + "\n")
    known: Known = {}
    for other in sorted(folder.parent.glob(f"{question.prompt.name}-*/{ASKED}")):
        if json.loads(other.read_text(encoding="utf-8")).get("asked") == asked:
            known |= _known(other.parent, wanted, again)
    return Sheet(folder, question, known)


def key(todo: Todo) -> tuple[str, str]:
    """What an answer belongs to, within a question."""
    return todo.video.sha256, todo.told


def _table(folder: Path) -> pl.DataFrame:
    """All rows of a folder; parts of before a column was there have null in it."""
    parts = sorted(folder.glob("part-*.parquet"))
    empty = pl.DataFrame(schema=COLUMNS)
    return pl.concat([empty, *map(pl.read_parquet, parts)], how="diagonal").select(*COLUMNS)


def _known(folder: Path, wanted: Collection[tuple[str, str]], again: bool) -> Known:
    """Answers, and failures that would come again, of the contents wanted."""
    # the first row of a content holds the price; its copies cost nothing
    table = _table(folder).unique(["sha256", "told"], keep="first", maintain_order=True)
    rows = ((sha, told or "", said) for (_, sha, *said, told) in table.iter_rows())
    return {
        (sha, told): tuple(said)
        for sha, told, said in rows
        if (sha, told) in wanted and _stands(said, again)
    }


def _valid(table: pl.DataFrame) -> dict[str, int]:
    """Answers that obeyed the schema at `first`, after one `repair`, and `never`."""
    once = table.unique(["sha256", "told"], keep="first", maintain_order=True)
    repaired = once.filter(pl.col("repaired").fill_null(False)).height
    return {
        "first": once["answer"].count() - repaired,
        "repair": repaired,
        "never": once.filter(pl.col("error_kind").is_in(INVALID)).height,
    }


def _stands(said: Sequence[Any], again: bool) -> bool:
    """True for an answer, and for a failure that is the content's own."""
    kind, message = said[SAID.index("error_kind")], said[SAID.index("error")]
    if kind is None:
        return True
    return not again and kind != MEDIA and not Failure(kind, message).passing


def _said(outcome: Outcome) -> tuple[Any, ...]:
    if isinstance(outcome, Answer):
        cost = round(outcome.seconds, 4), outcome.tokens_in, outcome.tokens_out
        return (outcome.text, None, None, *cost, outcome.repaired)
    return (None, outcome.kind, outcome.message, 0.0, 0, 0, None)


def _rows(todo: Todo, said: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """One row for the video and one for each copy, which cost nothing."""
    video, told = todo.video, todo.told or None
    free = (*said[:3], 0.0, 0, 0, said[-1])
    first = (video.id, video.sha256, *said, told)
    return [first, *((name, video.sha256, *free, told) for name in video.copies)]
