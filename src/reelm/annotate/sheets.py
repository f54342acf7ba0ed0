"""Sheets of answers: the parts of a notes folder, and answers that are there already.

An answer belongs to what was asked: the file's content, the question, the view and the model. A
folder notes the digest of all but the content in `asked.json`, so that other folders about the
same question, with other videos or cut short, give their answers instead of the model. Answers
whose part is not there yet wait beside the parts: in `answered-*.parquet` those that came before
the rest of their part, in `kept-*.parquet` those of parts that are asked again for their failures.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from reelm import files
from reelm.annotate.asking import MEDIA, Outcome, Question
from reelm.backends.base import Answer, Failure

ASKED = "asked.json"
SAID = {
    "answer": pl.String,
    "error_kind": pl.String,
    "error": pl.String,
    "seconds": pl.Float64,
    "tokens_in": pl.Int64,
    "tokens_out": pl.Int64,
}
"""What a row says of its content, whatever the id of whom it is about."""


@dataclass(frozen=True)
class Form:
    """Columns of a notes folder."""

    id: str = "video_id"
    content: str = "sha256"
    """Digest of all that was shown of whom a row is about."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further ones, that tell of whom a row is about; attributes of what is written."""

    @property
    def columns(self) -> dict[str, Any]:
        """Names and types, in order."""
        return {self.id: pl.String, self.content: pl.String, **SAID, **self.more}


PLACE = {name: place for place, name in enumerate(SAID)}
KIND = PLACE["error_kind"]
TOKENS = ("tokens_in", "tokens_out")
VIDEOS = Form()


@dataclass(frozen=True)
class Sheet:
    """The notes folder of one question."""

    folder: Path
    question: Question
    known: dict[str, tuple[Any, ...]]
    """By content, what SAID names: answers that the model need not give again."""
    unpaid: set[str]
    """Contents whose answers are known, and in no line of the ledger yet."""
    form: Form = VIDEOS

    def path(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{number:05d}.parquet"

    def write(self, number: int, said: Sequence[tuple[Any, Outcome | None]]) -> dict[str, Any]:
        """Write a part; None stands for an outcome that is known. Returns what was paid for."""
        rows = [
            row
            for one, outcome in said
            for row in self._rows(
                one, self.known[one.sha256] if outcome is None else row_of(outcome)
            )
        ]
        self._table(self.path(number), self.form.columns, rows)
        paid = [row_of(one) for _, one in said if isinstance(one, Answer)]
        paid += [self.known[v.sha256] for v, one in said if one is None and v.sha256 in self.unpaid]
        tokens = {name: sum(row[PLACE[name]] for row in paid) for name in TOKENS}
        return {"rows": len(rows), **tokens}

    def hold(self, said: Mapping[str, Outcome]) -> None:
        """Keep answers by content until their parts are written, by whomever."""
        rows = {content: row_of(outcome) for content, outcome in said.items()}
        self._keep("answered", rows)
        self.known.update(rows)
        self.unpaid.update(rows)

    def drop_held(self) -> None:
        """Take away the answers that waited; the parts hold them now."""
        for path in _waiting(self.folder):
            path.unlink()

    def outcome(self) -> dict[str, Any]:
        """For the manifest: rows in all, rows that failed, and how many of each kind."""
        parts = sorted(self.folder.glob("part-*.parquet"))
        kinds = [pl.read_parquet(part, columns=["error_kind"])["error_kind"] for part in parts]
        failures = Counter(kind for column in kinds for kind in column if kind is not None)
        rows = sum(map(len, kinds))
        return {"rows": rows, "failed": failures.total(), "failures": dict(failures)}

    def drop_failed(self) -> None:
        """Take away the manifest and the parts that hold failures, so that these are asked again;
        the answers that stand beside them are kept."""
        (self.folder / files.MANIFEST).unlink(missing_ok=True)
        for part in sorted(self.folder.glob("part-*.parquet")):
            failed = pl.col("error_kind").is_not_null()
            table = pl.read_parquet(part, columns=[self.form.content, *SAID])
            answers = table.filter(~failed).unique(self.form.content, keep="first")
            if len(answers) < table[self.form.content].n_unique():
                paid = {sha: tuple(row) for sha, *row in answers.iter_rows()}
                self._keep("kept", paid)
                self.unpaid.difference_update(paid)
                part.unlink()

    def _keep(self, name: str, said: Mapping[str, tuple[Any, ...]]) -> None:
        number = len(_waiting(self.folder, name))
        rows = [(content, *row) for content, row in said.items()]
        columns = {self.form.content: pl.String, **SAID}
        self._table(self.folder / f"{name}-{number:05d}.parquet", columns, rows)

    def _rows(self, one: Any, said: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """One row for what was asked about and one for each copy, which cost nothing."""
        more = tuple(getattr(one, name) for name in self.form.more)
        free = (*said[:3], 0.0, 0, 0)
        copies = [(name, one.sha256, *free, *more) for name in one.copies]
        return [(one.id, one.sha256, *said, *more), *copies]

    def _table(self, path: Path, columns: Mapping[str, Any], rows: Sequence[tuple]) -> None:
        with files.atomic(path) as tmp:
            pl.DataFrame(rows, schema=columns, orient="row").write_parquet(tmp)


def open_sheet(
    folder: Path,
    asked: str,
    question: Question,
    wanted: Collection[str],
    again: bool,
    form: Form = VIDEOS,
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
            _learn(known, other.parent, wanted, again, form.content)
    answered, kept = (_contents(folder, name, form.content) for name in ("answered", "kept"))
    return Sheet(folder, question, known, answered - kept, form)


def _learn(
    known: dict[str, tuple[Any, ...]],
    folder: Path,
    wanted: Collection[str],
    again: bool,
    content: str,
) -> None:
    """Add a folder's answers, and failures that would come again, of the contents wanted."""
    for path in [*sorted(folder.glob("part-*.parquet")), *_waiting(folder)]:
        table = pl.read_parquet(path, columns=[content, *SAID])
        for sha, *said in table.filter(pl.col(content).is_in(list(wanted))).iter_rows():
            # the first row of a content holds the price; its copies cost nothing
            better = sha not in known or (known[sha][KIND] and not said[KIND])
            if better and _stands(said, again):
                known[sha] = tuple(said)


def _waiting(folder: Path, name: str = "*") -> list[Path]:
    """Files of answers that wait for their parts."""
    found = folder.glob(f"{name}-*.parquet")
    return sorted(path for path in found if path.name.startswith(("answered-", "kept-")))


def _contents(folder: Path, name: str, content: str) -> set[str]:
    tables = [pl.read_parquet(path, columns=[content]) for path in _waiting(folder, name)]
    return {sha for table in tables for (sha,) in table.iter_rows()}


def _stands(said: Sequence[Any], again: bool) -> bool:
    """True for an answer, and for a failure that is the content's own."""
    kind, message = said[KIND], said[KIND + 1]
    if kind is None:
        return True
    return not again and kind != MEDIA and not Failure(kind, message).passing


def row_of(outcome: Outcome) -> tuple[Any, ...]:
    """An outcome as SAID names it."""
    if isinstance(outcome, Answer):
        cost = round(outcome.seconds, 4), outcome.tokens_in, outcome.tokens_out
        return (outcome.text, None, None, *cost)
    return (None, outcome.kind, outcome.message, 0.0, 0, 0)
