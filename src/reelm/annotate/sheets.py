"""Sheets of answers: the parts of a notes folder, and answers that are there already.

An answer belongs to what was asked: the file's content, the question, the view and the model. A
folder notes the digest of all but the content in `asked.json`, so that other folders about the
same question, with other videos or cut short, give their answers instead of the model. The texts
that were shown beside the pictures stand in each row, and an answer belongs to them too. Answers
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
from reelm.annotate.asking import MEDIA, Outcome, Question, Todo
from reelm.backends.base import Answer, Failure

ASKED = "asked.json"
SAID = {
    "answer": pl.String,
    "error_kind": pl.String,
    "error": pl.String,
    "seconds": pl.Float64,
    "tokens_in": pl.Int64,
    "tokens_out": pl.Int64,
    "repaired": pl.Boolean,  # whether the model had to be asked twice; null for failures
}
"""What a row says of its content, whatever the id of whom it is about."""
INVALID = ("invalid_json", "schema", "truncated")
"""Kinds of failure of models that answer, but not as they were asked to."""
TOLD = {"told": pl.String}
"""Texts that were shown beside the pictures, if any."""
Key = tuple[str, str]
"""What an answer belongs to, within a question: a content and the texts beside it."""
Known = dict[Key, tuple[Any, ...]]
"""What SAID names."""


@dataclass(frozen=True)
class Form:
    """Columns of a notes folder."""

    id: str = "video_id"
    content: str = "sha256"
    """Digest of all that was shown of whom a row is about."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further ones, that tell of whom a row is about; attributes of that one."""
    beside: bool = True
    """Whether texts may have been shown beside it."""

    @property
    def columns(self) -> dict[str, Any]:
        """Names and types, in order."""
        beside = TOLD if self.beside else {}
        return {self.id: pl.String, self.content: pl.String, **SAID, **self.more, **beside}


PLACE = {name: place for place, name in enumerate(SAID)}
KIND = PLACE["error_kind"]
TOKENS = ("tokens_in", "tokens_out")
PRICE = slice(PLACE["seconds"], PLACE["tokens_out"] + 1)
VIDEOS = Form()


@dataclass(frozen=True)
class Sheet:
    """The notes folder of one question."""

    folder: Path
    question: Question
    known: Known
    """Answers that the model need not give again."""
    unpaid: Known
    """What waits in this folder and is in no line of the ledger yet, failures that are asked again
    included."""
    form: Form = VIDEOS

    def path(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{number:05d}.parquet"

    def write(self, number: int, said: Sequence[tuple[Todo, Outcome | None]]) -> dict[str, Any]:
        """Write a part; None stands for an outcome that is known. Returns what was paid for."""
        rows = [
            row
            for todo, outcome in said
            for row in self._rows(
                todo, self.known[key(todo)] if outcome is None else row_of(outcome)
            )
        ]
        self._table(self.path(number), self.form.columns, rows)
        paid = [row_of(one) for _, one in said if one is not None]
        paid += [self.unpaid.pop(key(todo)) for todo, _ in said if key(todo) in self.unpaid]
        tokens = {name: sum(row[PLACE[name]] for row in paid) for name in TOKENS}
        return {"rows": len(rows), **tokens}

    def hold(self, said: Mapping[Key, Outcome]) -> None:
        """Keep answers until their parts are written, by whomever."""
        rows = {one: self._with_unpaid(one, row_of(outcome)) for one, outcome in said.items()}
        self._keep("answered", rows)
        self.known.update(rows)
        self.unpaid.update(rows)

    def drop_held(self) -> None:
        """Take away the answers that waited; the parts hold them now."""
        for path in _waiting(self.folder):
            path.unlink()

    def outcome(self) -> dict[str, Any]:
        """For the manifest: rows in all, rows that failed and how many of each kind, and of the
        contents that the model answered about, how many answers were `valid` and when."""
        table = _table(self._parts(), self.form.content)
        failures = Counter(table["error_kind"].drop_nulls())
        facts = {"rows": len(table), "failed": failures.total(), "failures": dict(failures)}
        return facts | {"valid": _valid(table, self.form.content)}

    def drop_failed(self) -> None:
        """Take away the manifest and the parts that hold failures, so that these are asked again;
        what the parts hold is kept, and is not paid for twice."""
        (self.folder / files.MANIFEST).unlink(missing_ok=True)
        for part in self._parts():
            table = _firsts(_table([part], self.form.content), self.form.content)
            if table["error_kind"].count():
                paid = _by_key(table)
                self._keep("kept", paid)
                for one in paid:
                    self.unpaid.pop(one, None)
                part.unlink()

    def _with_unpaid(self, one: Key, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """The row, at the price also of what it takes the place of, if that is in no ledger."""
        if one not in self.unpaid:
            return row
        both = zip(row[PRICE], self.unpaid[one][PRICE], strict=True)
        return (*row[: PRICE.start], *(new + old for new, old in both), *row[PRICE.stop :])

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _keep(self, name: str, said: Known) -> None:
        number = len(_waiting(self.folder, name))
        rows = [(content, text or None, *row) for (content, text), row in said.items()]
        columns = {self.form.content: pl.String, **TOLD, **SAID}
        self._table(self.folder / f"{name}-{number:05d}.parquet", columns, rows)

    def _rows(self, todo: Todo, said: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """One row for what was asked about and one for each copy, which cost nothing."""
        one = todo.video
        more = [getattr(one, name) for name in self.form.more]
        more += [todo.told or None] if self.form.beside else []
        free = (*said[:3], 0.0, 0, 0, *said[6:])
        copies = [(name, one.sha256, *free, *more) for name in one.copies]
        return [(one.id, one.sha256, *said, *more), *copies]

    def _table(self, path: Path, columns: Mapping[str, Any], rows: Sequence[tuple]) -> None:
        with files.atomic(path) as tmp:
            pl.DataFrame(rows, schema=columns, orient="row").write_parquet(tmp)


def open_sheet(
    folder: Path,
    asked: str,
    question: Question,
    wanted: Collection[Key],
    again: bool,
    form: Form = VIDEOS,
) -> Sheet:
    """The sheet in a folder, with what folders beside it know about the wanted contents
    and texts.

    Args:
        asked: digest of all that an answer depends on but the content and the texts.
        again: ask again what failed, whatever the reason.
    """
    files.write_text(folder / ASKED, json.dumps({"asked": asked}) + "\n")
    known: Known = {}
    for other in sorted(folder.parent.glob(f"{question.prompt.name}-*/{ASKED}")):
        if json.loads(other.read_text(encoding="utf-8")).get("asked") == asked:
            _learn(known, other.parent, wanted, again, form.content)
    answered, kept = (
        _by_key(_table(_waiting(folder, name), form.content)) for name in ("answered", "kept")
    )
    unpaid = {one: said for one, said in answered.items() if one not in kept}
    return Sheet(folder, question, known, unpaid, form)


def key(todo: Todo) -> Key:
    """What an answer belongs to, within a question."""
    return todo.video.sha256, todo.told


def _table(paths: Sequence[Path], content: str) -> pl.DataFrame:
    """Content, texts and what SAID names of files; those of before a column was there have null
    in it."""
    columns = {content: pl.String, **TOLD, **SAID}
    told = [pl.read_parquet(path) for path in paths]
    return pl.concat([pl.DataFrame(schema=columns), *told], how="diagonal").select(*columns)


def _firsts(table: pl.DataFrame, content: str) -> pl.DataFrame:
    """The first row of each content with its texts, which holds the price; copies cost nothing."""
    return table.unique([content, *TOLD], keep="first", maintain_order=True)


def _by_key(table: pl.DataFrame) -> Known:
    return {(content, told or ""): tuple(said) for content, told, *said in table.iter_rows()}


def _learn(known: Known, folder: Path, wanted: Collection[Key], again: bool, content: str) -> None:
    """Add a folder's answers, and failures that would come again, of the contents wanted."""
    for path in [*sorted(folder.glob("part-*.parquet")), *_waiting(folder)]:
        for one, said in _by_key(_firsts(_table([path], content), content)).items():
            better = one not in known or (known[one][KIND] and not said[KIND])
            if one in wanted and better and _stands(said, again):
                known[one] = said


def _waiting(folder: Path, name: str = "*") -> list[Path]:
    """Files of answers that wait for their parts."""
    found = folder.glob(f"{name}-*.parquet")
    return sorted(path for path in found if path.name.startswith(("answered-", "kept-")))


def _valid(table: pl.DataFrame, content: str) -> dict[str, int]:
    """Answers that obeyed the schema at `first`, after one `repair`, and `never`."""
    once = _firsts(table, content)
    repaired = once.filter(pl.col("repaired").fill_null(False)).height
    return {
        "first": once["answer"].count() - repaired,
        "repair": repaired,
        "never": once.filter(pl.col("error_kind").is_in(INVALID)).height,
    }


def _stands(said: Sequence[Any], again: bool) -> bool:
    """True for an answer, and for a failure that is the content's own."""
    kind, message = said[KIND], said[KIND + 1]
    if kind is None:
        return True
    return not again and kind != MEDIA and not Failure(kind, message).passing


def row_of(outcome: Outcome) -> tuple[Any, ...]:
    """An outcome as SAID names it."""
    cost = round(outcome.seconds, 4), outcome.tokens_in, outcome.tokens_out
    if isinstance(outcome, Answer):
        return (outcome.text, None, None, *cost, outcome.repaired)
    return (None, outcome.kind, outcome.message, *cost, None)
