"""Files into frames: CSV, TSV, Parquet and JSON lines, with the row every line came from.

Text may be compressed by gzip.
"""

import gzip
import json
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import polars as pl

from reelm.errors import BadData
from reelm.formats.base import QUARANTINE

ROW = "__row"  # place in the file, as a text editor counts for CSV and JSON lines
TABLES = (
    *(".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".inter", ".item", ".user", ".txt"),
    *(".csv.gz", ".tsv.gz", ".jsonl.gz", ".ndjson.gz", ".txt.gz"),
)
JSON = (".jsonl", ".ndjson", ".json")
SHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx, .ods and any zip; .xls
GZIP = b"\x1f\x8b"
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # the mark at the start, little and big end first
PIECE = 1_000_000  # rows that are looked at together
VIDEO_FILES = (
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".flv", ".ts"),
    *(".mpg", ".mpeg", ".3gp", ".ogv", ".wmv"),
)


def table(path: Path, of: str = "events") -> tuple[pl.DataFrame, pl.DataFrame]:
    """A file's rows with their places in the column `__row`, and the lines that are no rows.

    Values stay text where the file is text.

    Args:
        of: what lines that are no rows are told to be of: events, videos, users, comments.

    Raises:
        BadData: the file is not there, or is not what its ending says.
    """
    with _readable(path):
        if _kind(path) in JSON:
            return _json_lines(path, of)
        return _numbered(_lazy(path).collect(), 0 if path.suffix == ".parquet" else 2), _none()


def names(path: Path) -> list[str]:
    """The columns of a table.

    Raises:
        BadData: as `table` does, and if there is nothing in the file.
    """
    if _kind(path) in JSON:
        return table(path)[0].drop(ROW).columns
    with _readable(path):
        return _lazy(path).collect_schema().names()


def pieces(path: Path, wanted: Collection[str]) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """A file's rows as `table` gives them, `PIECE` at a time, with the columns `wanted` only.

    Raises:
        BadData: as `table` does.
    """
    if _kind(path) in JSON:
        frame, unparsable = table(path)
        yield frame.select(ROW, *wanted), unparsable
        return
    row = 0 if path.suffix == ".parquet" else 2
    with _readable(path):
        lazy = _lazy(path).select(wanted)
        yield _numbered(lazy.head(0).collect(), row), _none()  # says the columns of an empty file
        for frame in lazy.collect_batches(chunk_size=PIECE, maintain_order=True):
            yield _numbered(frame, row), _none()
            row += frame.height


def one_of(folder: Path, stems: tuple[str, ...]) -> Path | None:
    """The first table in a folder that is called by one of the names, e.g. events or log."""
    for stem in stems:
        for ending in TABLES:
            if (folder / f"{stem}{ending}").is_file():
                return folder / f"{stem}{ending}"
    return None


def needed(folder: Path, *names: str) -> list[Path]:
    """Paths of files that must be in a folder.

    Raises:
        BadData: naming all that are not.
    """
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BadData(f"{folder}: {', '.join(missing)} not found; is this the right folder?")
    return [folder / name for name in names]


def video_files(where: Path) -> list[Path]:
    """Video files below a folder, by their endings, the least deep first, without hidden ones
    (systems leave `._clip.mp4` beside `clip.mp4`); or those that a text file lists.

    Raises:
        BadData: there is no such folder or list. A listed file may be missing: that is found out
            when it is looked at.
    """
    if where.is_dir():
        named = (p for p in where.rglob("*") if p.suffix.lower() in VIDEO_FILES)
        found = (p for p in named if not any(n.startswith(".") for n in p.relative_to(where).parts))
        return sorted(found, key=lambda p: (len(p.parts), p))
    if not where.is_file():
        raise BadData(f"{where}: neither a folder of videos nor a list of their paths")
    try:
        lines = where.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadData(f"{where}: no list of paths in UTF-8 ({error}). Save it as UTF-8.") from error
    return [_beside(where, line.strip()) for line in lines if line.strip()]


def _beside(path: Path, name: str) -> Path:
    """A path as written in a file: relative ones start at that file's folder."""
    return (path.parent / name).resolve()


def _numbered(frame: pl.DataFrame, first: int) -> pl.DataFrame:
    return frame.with_row_index(ROW, offset=first).cast({ROW: pl.Int64})


def _none() -> pl.DataFrame:
    return pl.DataFrame(schema=QUARANTINE)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Refuse what is plainly no table; inside the block, what a reader raises becomes BadData."""
    if not path.is_file():
        raise BadData(f"{path}: no such file. Tables end in {', '.join(TABLES)}")
    try:
        with _opened(path) as file:
            _refuse_strangers(path, file.read(4))
        yield
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error) as error:
        raise BadData(f"{path}: cannot be read as {_kind(path)[1:]}: {error}") from error


def _refuse_strangers(path: Path, head: bytes) -> None:
    """Tell spreadsheets and UTF-16 by a file's first bytes."""
    if head in SHEETS:
        raise BadData(f"{path}: a spreadsheet or an archive. Save the sheet as CSV (UTF-8)")
    if head.startswith(UTF16) or b"\0" in head[:2]:  # without a mark, every other byte is zero
        raise BadData(
            f"{path}: text in UTF-16. Save it as UTF-8; a shell does it with "
            "iconv -f UTF-16 -t UTF-8 OLD > NEW"
        )


def _kind(path: Path) -> str:
    """What a file is by its ending, be it compressed or not: `.csv` of log.csv and log.csv.gz."""
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def _opened(path: Path) -> BufferedIOBase:
    """A file's bytes, decompressed where they are gzip."""
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    return gzip.open(path) if packed else path.open("rb")


def _lazy(path: Path) -> pl.LazyFrame:
    """Parquet, or text with a header. Short lines are filled up with nulls, long ones are cut."""
    if path.suffix == ".parquet":
        return pl.scan_parquet(path)
    return pl.scan_csv(
        path,
        separator=_separator(path),
        infer_schema=False,
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
    )


def _separator(path: Path) -> str:
    """The sign that the header has most of; a CSV's comma or another table's tab before others."""
    with _opened(path) as file:
        header = file.readline().decode("utf-8", errors="replace")
    kind = _kind(path)
    if kind != ".csv" and "\t" in header:
        return "\t"
    signs = ",;\t|" if kind == ".csv" else "\t,;|"
    return max(signs, key=header.count)


def _json_lines(path: Path, of: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One object per line. A file with broken lines is read line by line, which is slower."""
    with _opened(path) as file:
        data = file.read()
    try:
        frame = pl.read_ndjson(data, infer_schema_length=None)
        if frame.height == data.count(b"\n") + (data[-1:] not in (b"", b"\n")):
            return _numbered(frame, 1), _none()
    except pl.exceptions.PolarsError:
        pass
    good: list[dict[str, str | int | None]] = []
    bad: list[dict[str, str | None]] = []
    for row, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            bad.append(_unparsable(of, path, row, str(error)))
            continue
        if isinstance(value, dict):
            good.append({k: _flat(v) for k, v in value.items()} | {ROW: row})
        else:
            bad.append(_unparsable(of, path, row, "not an object"))
    if bad and not good:
        raise BadData(
            f"{path}: no line is a JSON object. One event a line is wanted; of one long list a "
            "shell makes them with jq -c '.[]' OLD > NEW.jsonl"
        )
    keys = list(dict.fromkeys(key for line in good for key in line)) or [ROW]
    schema = dict.fromkeys(keys, pl.String) | {ROW: pl.Int64}
    return pl.DataFrame(good, schema=schema), pl.DataFrame(bad, schema=QUARANTINE)


def _flat(value: object) -> str | None:
    """A JSON value as text; lists of words with spaces between."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return " ".join(str(part) for part in value)
    return json.dumps(value)


def _unparsable(of: str, path: Path, row: int, detail: str) -> dict[str, str | None]:
    place = f"{path.name}:{row}"
    return {
        "table": of, "id": None, "place": place, "reason": "not JSON", "detail": detail,
    }  # fmt: skip
