"""Verb: turn videos, titles or notes into vectors, one row per video that has something to encode,
or per user where the notes are about users.

Parts appear whole; a run that is killed goes on where it stopped. Videos without a vector are
listed with the reason.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import PositiveInt

from reelm import files, prompts, tallies
from reelm.data.corrections import id_column
from reelm.data.tables import Catalog, applied, read_notes
from reelm.encoders.base import Clip, Encoder
from reelm.engine import DecodeConfig, Decoder, run, to_open
from reelm.errors import BadData, ConfigError, MediaError, MissingInput
from reelm.prompts.base import Prompt, plain

VERSION = 2  # pictures come from JPEG since, and answers hang on them
FIELDS, BETWEEN = "fields", "; "
ROWS = {"video_id": pl.String, "part": pl.Int64, "row": pl.Int64, "reason": pl.String}


class EncodeConfig(DecodeConfig):
    """Section [encode]."""

    input: str | None = None
    """What encoders of text read: title (with hashtags), notes (as sentences), title+notes, fields
    (title, hashtags and what notes say, each behind its name), values (short values of notes, for
    the encoder `values`), or a column of the catalogue's videos. Unset: values and fields for the
    encoders `values` and `states`, title for others."""
    fields: tuple[str, ...] = ()
    """Of notes only these fields of an answer, such as one step of a rationale; empty, all."""
    part: PositiveInt = 256
    """Videos per file of vectors; at most this many are lost when the run is killed."""
    batch: PositiveInt = 32
    """Inputs handed to the encoder at once."""
    limit: PositiveInt | None = None
    """Only the first so many videos."""


@dataclass(frozen=True)
class Task:
    """One thing to encode, and the ids of all videos that it stands for."""

    ids: tuple[str, ...]
    source: Any
    """A text, an engine.Video, or None if the video has nothing to encode."""
    missing: str = ""
    """Why there is no source."""
    silent: bool = False
    """Notes are read, and hold no answer about it."""


def encode(
    catalog: Catalog,
    encoder: Encoder,
    config: EncodeConfig,
    work: Path,
    notes: Path | None = None,
) -> Path:
    """Fill `work/features/<encoder>-<key>` and return it. Run it again to go on after a kill.

    Args:
        notes: a finished notes folder, for `input = "notes"`, `"title+notes"`, `"fields"` and
            `"values"`. If it is about users, the rows are theirs.

    Raises:
        MissingInput: notes are to be read and none were given.
        ConfigError: `input` names neither a way to read nor a column, or users have no titles.
        StaleFolder: another process is filling the same folder.
        BadData: files are to be read and there is none, the notes hold no answer, or not one row
            got a vector; no folder is left then.
    """
    text, reads = encoder.reads == "text", config.input or encoder.usual
    tasks = _texts(catalog, reads, config.fields, notes) if text else _files(catalog)
    tasks = tasks[: config.limit]
    kept = {"part"} if text else {"part", "seconds", "memory_mb", "longest"}
    settings = config.model_dump(include=kept) | ({"input": reads} if text else {})
    settings |= {"fields": config.fields} if text and config.fields else {}
    seen = [(task.ids, task.source if text else task.source.sha256) for task in tasks]
    inputs = {
        "encoder": encoder.identity(),
        "rows": files.digest(json.dumps(seen).encode()),
    }
    read = _read(notes) if text else None
    inputs |= {"read": files.digest(read.write_json().encode())} if read is not None else {}
    key = files.key("encode", VERSION, settings, inputs)
    folder = work / "features" / f"{encoder.name}-{key}"
    if files.finished(folder):
        return folder
    sources = {"catalog": str(catalog.folder), **_noted(notes)}
    about = "user_id" if text and _of_users(notes) else "video_id"
    with Decoder(work, encoder.view.moments, config) as decoder:
        stage = _Encoding(folder, encoder, config.batch, _as_text if text else _as_clip(decoder))
        (cost,) = run(stage, tasks, config.part, f"encode {encoder.name}")
    rows, failed = _tables(folder, about, read)
    if not rows:
        why = _reasons(folder)
        shutil.rmtree(folder)  # the same command tries all again
        raise BadData(_nothing(encoder, failed, why, catalog, notes))
    made = files.finish(
        folder, stage="encode", version=VERSION, key=key, settings=settings, dim=encoder.dim,
        inputs=inputs | sources,
        rows=rows + failed, failed=failed, silent=sum(task.silent for task in tasks),
        seconds=cost["seconds"], cost=cost,
    )  # fmt: skip
    for side in folder.glob("rows-*.parquet"):
        side.unlink()
    return made


def summary(folder: Path) -> str:
    """What came of it, in a line: rows, how many failed, why most of them did, and of how many the
    notes hold no answer."""
    facts = files.manifest(folder)
    told = f"{facts['rows']} rows, {facts['failed']} failed"
    told += f" ({_reasons(folder)})" if facts["failed"] else ""
    silent = facts.get("silent")
    if not silent or silent == facts["failed"]:
        return told
    return f"{told}; the notes hold no answer about {silent} of them"


class _Encoding:
    """The stage as the engine sees it."""

    def __init__(
        self,
        folder: Path,
        encoder: Encoder,
        batch: int,
        reader: Callable[[Sequence[Task]], list[Any]],
    ) -> None:
        self.folder, self.folders, self.device = folder, [folder], encoder.device
        self._encoder, self._batch, self._reader = encoder, batch, reader

    def path(self, folder: Path, number: int) -> Path:
        return folder / f"part-{number:05d}.npy"

    def load(self, tasks: Sequence[Task]) -> list[tuple[Task, Any]]:
        """Each task with its input, or with the reason why it has none."""
        there = [task for task in tasks if task.source is not None]
        read = iter(self._reader(there))
        return [(t, next(read) if t.source is not None else _Missing(t.missing)) for t in tasks]

    def make(
        self, loaded: Sequence[tuple[Task, Any]]
    ) -> "list[tuple[Task, np.ndarray | _Missing]]":
        """Each task with its vector, or with the reason why it has none."""
        inputs = [given for _, given in loaded if not isinstance(given, _Missing)]
        vectors = iter(self._vectors(inputs))
        made = [(t, g if isinstance(g, _Missing) else next(vectors)) for t, g in loaded]
        return [(t, _fit(v, self._encoder.stored)) for t, v in made]

    def keep(
        self, number: int, made: "Sequence[tuple[Task, np.ndarray | _Missing]]"
    ) -> list[dict[str, Any]]:
        """Vectors as .npy, written last; beside them, for each video, its row or its reason."""
        kept: list[np.ndarray] = []
        rows: list[tuple[str, int, int | None, str | None]] = []
        for task, vector in made:
            for name in task.ids:
                if isinstance(vector, _Missing):
                    rows.append((name, number, None, vector.reason))
                else:
                    rows.append((name, number, len(kept), None))
                    kept.append(vector)
        with files.atomic(self.folder / f"rows-{number:05d}.parquet") as tmp:
            pl.DataFrame(rows, schema=ROWS, orient="row").write_parquet(tmp)
        with files.atomic(self.path(self.folder, number)) as tmp:
            np.save(tmp, np.array(kept, self._encoder.stored).reshape(len(kept), self._encoder.dim))
        return [{"rows": len(rows)}]

    def _vectors(self, inputs: Sequence[Any]) -> list[np.ndarray]:
        made: list[np.ndarray] = []
        for start in range(0, len(inputs), self._batch):
            made += list(self._encoder.encode(inputs[start : start + self._batch]))
        return made


@dataclass(frozen=True)
class _Missing:
    """In place of an input that is not there."""

    reason: str


def _fit(vector: "np.ndarray | _Missing", stored: type) -> "np.ndarray | _Missing":
    if isinstance(vector, _Missing) or (np.abs(vector) <= np.finfo(stored).max).all():
        return vector
    return _Missing(f"the encoder gave a vector that is not finite as {stored.__name__}")


def _as_text(tasks: Sequence[Task]) -> list[Any]:
    return [task.source for task in tasks]


def _as_clip(decoder: Decoder) -> Callable[[Sequence[Task]], list[Any]]:
    def read(tasks: Sequence[Task]) -> list[Any]:
        decoded = decoder([task.source for task in tasks])
        return [_Missing(got.why) if isinstance(got, MediaError) else Clip(*got) for got in decoded]

    return read


def _files(catalog: Catalog) -> list[Task]:
    return [Task(video.ids, video) for video in to_open(catalog)]


def _texts(catalog: Catalog, reads: str, fields: Sequence[str], notes: Path | None) -> list[Task]:
    """One task per video of the catalogue; the text is None where there is nothing to read."""
    table = catalog.videos
    ids = table["video_id"].to_list()
    if reads not in ("title", "notes", "title+notes", FIELDS, "values"):
        if reads not in table.columns:
            raise ConfigError(
                f"encode.input: {reads!r} is not title, notes, title+notes, fields, values or a "
                f"column of {catalog.folder}; columns: {', '.join(table.columns)}."
            )
        texts = [str(value or "").strip() for value in table[reads].to_list()]
        return [
            _text_task(name, text, f"no {reads}") for name, text in zip(ids, texts, strict=True)
        ]
    said = _note_texts(reads, fields, notes)
    if _of_users(notes):
        if reads not in ("notes", FIELDS):
            raise ConfigError(
                f"encode.input: {reads!r}: of users there are notes only: set notes or fields."
            )
        return [_text_task(name, text, "no answer", text is None) for name, text in said.items()]
    named, titles = reads == FIELDS, [""] * len(ids)
    titles = _titles(table, named) if named or "title" in reads else titles
    tasks = []
    for name, title in zip(ids, titles, strict=True):
        both = (BETWEEN if named else " ").join(filter(None, (title, said.get(name))))
        silent = reads_notes(reads) and said.get(name) is None
        alone = silent and reads in ("notes", "values")
        why = "no answer in the notes" if alone else f"no {reads.replace('+', ' and no ')}"
        tasks.append(_text_task(name, both, why, silent))
    return tasks


def _text_task(name: str, text: str | None, missing: str, silent: bool = False) -> Task:
    return Task((name,), text or None, missing, silent)


def _titles(table: pl.DataFrame, named: bool) -> list[str]:
    """Title and hashtags of each video, each behind its name if asked; empty where there are
    none."""
    columns = [c for c in ("title", "hashtags") if c in table.columns]
    rows = table.select(columns).to_dicts() if columns else [{}] * len(table)
    if named:
        return [fielded(row) for row in rows]
    return [" ".join(str(value).strip() for value in row.values() if value) for row in rows]


def fielded(answer: Mapping[str, Any]) -> str:
    """What is said, each value behind the name of its field; lists are written out."""
    listed = ((name, plain(said)) for name, said in answer.items())
    return BETWEEN.join(f"{name}: {said}" for name, said in listed if said)


def _note_texts(reads: str, fields: Sequence[str], notes: Path | None) -> dict[str, str | None]:
    """What each video's or user's note says, as a sentence or as a line of values; None where the
    note is a failure.

    Raises:
        ConfigError: the notes have no such field.
        BadData: they are failures, all of them.
    """
    if not reads_notes(reads):
        return {}
    if notes is None:
        raise MissingInput(f"encode with input = {reads!r}", "notes", (), "reelm annotate")
    prompt = prompts.find(files.manifest(notes)["settings"]["prompt"]["name"])
    told = {"values": tallies.line, FIELDS: fielded}.get(reads, prompt.as_text)
    known = prompt.model_fields
    if strange := [name for name in fields if name not in known]:
        raise ConfigError(
            f"encode.fields: {prompt.name} has no {', '.join(strange)}; it has {', '.join(known)}."
        )
    table = read_notes(notes)
    if not table["answer"].count():
        why = ", ".join(f"{n} {kind}" for kind, n in Counter(table["error_kind"]).most_common())
        raise BadData(
            f"{notes}: of its {len(table)} rows not one holds an answer ({why}). Ask again with "
            "`reelm annotate --retry-failed`, or name others with --notes."
        )
    return {
        row[id_column(table)]: _note_text(prompt, told, fields, row)
        for row in table.iter_rows(named=True)
    }


def _note_text(
    prompt: type[Prompt],
    told: Callable[[Mapping[str, Any]], str],
    fields: Sequence[str],
    row: Mapping[str, Any],
) -> str | None:
    """What a note says, None if it is a failure; what a person corrected stands as it is, the rest
    is checked."""
    if not row["answer"]:
        return None
    answer = json.loads(row["answer"])
    if row.get("correction") is None:
        answer = prompt.checked(answer, row.get("told") or row.get("text") or "")
    return told({name: said for name, said in answer.items() if not fields or name in fields})


def reads_notes(reads: str) -> bool:
    """Whether an input of encoders is made of notes."""
    return "notes" in reads or reads in (FIELDS, "values")


def holds_values(schema: Mapping[str, Any]) -> bool:
    """Whether answers of a schema have a field that input `values` reads: a short one."""
    return any(map(_is_short, schema.get("properties", {}).values()))


def _is_short(field: Mapping[str, Any]) -> bool:
    if field.get("type") == "array":
        return _is_short(field.get("items", {}))
    closed = "enum" in field or field.get("type") in ("integer", "number", "boolean")
    return closed or field.get("maxLength", tallies.LONGEST + 1) <= tallies.LONGEST


def _read(notes: Path | None) -> pl.DataFrame | None:
    """user_id and how many of the user's interactions were looked at, where the notes say so."""
    if notes is None or not _of_users(notes):
        return None
    table = read_notes(notes)
    if "read" not in table.columns or table["read"].has_nulls():
        return None
    return table.select("user_id", "read")


def _of_users(notes: Path | None) -> bool:
    if notes is None:
        return False
    return files.manifest(notes).get("settings", {}).get("about") == "user"


def _noted(notes: Path | None) -> dict[str, Any]:
    """The notes that were read, and a digest of the corrections that apply to them. Neither is
    part of the key: the texts are, corrections included."""
    if notes is None:
        return {"notes": None}
    train = files.manifest(notes).get("inputs", {}).get("train")
    told = {"notes": str(notes), "corrections": applied(notes, read_notes(notes)).digest}
    return told if train is None else told | {"train": train}


def _reasons(folder: Path) -> str:
    """Why rows have no vector: the commonest reason, and how many have another."""
    counted = Counter(pl.read_parquet(folder / "failed.parquet")["reason"]).most_common()
    if not counted:
        return "there is nothing to encode"
    (reason, count), *others = counted
    more = sum(count for _, count in others)
    return f"{count} {' '.join(reason.split())}" + (f", {more} for other reasons" if more else "")


def _nothing(encoder: Encoder, failed: int, why: str, catalog: Catalog, notes: Path | None) -> str:
    """What was read where not one row got a vector, and what to do."""
    told = f"{encoder.name}: of {failed} rows not one got a vector ({why})."
    if encoder.reads == "video":
        return f"{told} The files are those of {catalog.folder}; name another with --catalog."
    if notes is None:
        return f"{told} The texts are those of {catalog.folder}; read others with --input."
    return f"{told} The notes are {notes}; name others with --notes, or read others with --input."


def _tables(folder: Path, about: str, read: pl.DataFrame | None) -> tuple[int, int]:
    """Write ids.parquet and failed.parquet from what lies beside the parts; rows of each.

    Args:
        about: name of the column of ids.
        read: what was looked at of each user, or None.
    """
    parts = [pl.read_parquet(path) for path in sorted(folder.glob("rows-*.parquet"))]
    rows = (pl.concat(parts) if parts else pl.DataFrame(schema=ROWS)).rename({"video_id": about})
    ids = rows.filter(pl.col("row").is_not_null()).select(about, "part", "row")
    if read is not None:
        ids = ids.join(read, on=about, how="left", maintain_order="left")
    failed = rows.filter(pl.col("row").is_null()).select(about, "reason")
    for name, table in (("ids", ids), ("failed", failed)):
        with files.atomic(folder / f"{name}.parquet") as tmp:
            table.write_parquet(tmp)
    return len(ids), len(failed)
