"""Verb: what the folders of a work folder cost, per stage, per note and per run, and in money."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import NonNegativeFloat

from reelm import files, sources
from reelm.bill import once
from reelm.config import Config
from reelm.cost import LEDGER, Ledger
from reelm.data.corrections import id_column
from reelm.errors import BadData

STAGES = ("catalog", "notes", "features", "runs", "tuned", "searches", "reports")
BUSY = {"runs", "tuned", "searches", "reports"}  # without a ledger a model was busy all their time
AMOUNTS = ("tokens_in", "tokens_out", "seconds", "cpu_s", "device_s", "joules")
JOULES_PER_KWH = 3.6e6

Amount = int | float | None
"""None: nobody measured it."""


class RatesConfig(Config):
    """Section [rates]: a rate card. What has no rate costs nothing."""

    currency: str = "EUR"
    """What the rates are in; only a name."""
    device_hour: NonNegativeFloat | None = None
    """Per hour that a model was busy."""
    million_tokens_in: NonNegativeFloat | None = None
    """Per million tokens that a model read."""
    million_tokens_out: NonNegativeFloat | None = None
    """Per million tokens that a model wrote."""
    kwh: NonNegativeFloat | None = None
    """Per kilowatt-hour, where joules are known."""


@dataclass(frozen=True)
class Entry:
    """What one folder, or several together, cost."""

    name: str
    """Stage and folder, such as `notes/caption-9af3…`."""
    rows: int = 0
    failed: int | None = None
    valid: float | None = None
    """Share of a model's answers that obeyed the schema at once; of one folder."""
    tokens_in: Amount = None
    tokens_out: Amount = None
    seconds: Amount = None
    cpu_s: Amount = None
    device_s: Amount = None
    joules: Amount = None
    money: Amount = None
    lacks: frozenset[str] = field(default_factory=frozenset)
    """Amounts of which a part is not known, so that they are too small."""
    folders: tuple[str, ...] = ()
    """Names of what is in it, if it is a sum."""
    finished: bool = True

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"lacks": sorted(self.lacks), "folders": list(self.folders)}


def stages(work: Path, rates: RatesConfig | None = None) -> list[Entry]:
    """One entry per stage folder of a work folder, whether finished or not. A search and a
    comparison have what is not in the folders of their runs and reports.

    Raises:
        BadData: there is nothing that costs are known of.
    """
    told = {folder.name for folder in (work / "runs").glob("*")}
    found = [
        priced(entry, rates)
        for stage in STAGES
        for folder in sorted((work / stage).glob("*"))
        if (entry := _entry(folder, told)) is not None
    ]
    if not found:
        raise BadData(f"{work}: no stage folder with costs. Name the folder that stages wrote to.")
    return found


def notes(work: Path, rates: RatesConfig | None = None) -> list[Entry]:
    """One entry per notes folder: means per note. Copies and failures, which are not asked about
    or not answered, are not counted as notes, but what failures cost is.

    Raises:
        BadData: there are none.
    """
    found = []
    for entry in stages(work, rates):
        stage, _, name = entry.name.partition("/")
        if stage == "notes":
            asked = _asked(work / stage / name)
            shares = {n: _per(getattr(entry, n), asked) for n in (*AMOUNTS, "money")}
            found.append(replace(entry, rows=asked, **shares))
    return _some(found, work / "notes", "reelm annotate")


def runs(work: Path, rates: RatesConfig | None = None) -> list[Entry]:
    """One entry per run: its training, and the features, notes and teacher it was made from. What
    several runs were made from counts in each of them.

    Raises:
        BadData: there are none.
    """
    found = []
    for folder in sorted((work / "runs").glob("*")):
        if files.finished(folder):
            found.append(of_run(folder, rates))
    return _some(found, work / "runs", "reelm train")


def of_run(folder: Path, rates: RatesConfig | None = None) -> Entry:
    """What one finished run `work/runs/…` cost, with what it was made from."""
    work = folder.resolve().parent.parent
    parts = [entry for path in [folder, *_made_from(work, folder)]
             if (entry := _entry(path)) is not None]  # fmt: skip
    return total([priced(part, rates) for part in parts], f"runs/{folder.name}")


def total(entries: Sequence[Entry], name: str = "sum") -> Entry:
    """Several entries together; rows are the first one's if they are those of a run."""
    values: dict[str, Any] = {}
    lacks = {what for entry in entries for what in entry.lacks}
    for what in (*AMOUNTS, "money", "failed"):
        known = [v for entry in entries if (v := getattr(entry, what)) is not None]
        values[what] = sum(known) if known else None
        if 0 < len(known) < len(entries) and what not in ("tokens_in", "tokens_out", "failed"):
            lacks.add(what)
    rows = entries[0].rows if name != "sum" and entries else sum(e.rows for e in entries)
    whole = all(entry.finished for entry in entries)
    names = tuple(entry.name for entry in entries)
    return Entry(
        name, rows, lacks=frozenset(lacks), folders=names, finished=whole, **values
    )  # fmt: skip


def priced(entry: Entry, rates: RatesConfig | None) -> Entry:
    """The entry with its money; None if no rate of the card is for something it has."""
    if rates is None:
        return entry
    per = {
        "device_s": (rates.device_hour, 3600.0),
        "tokens_in": (rates.million_tokens_in, 1e6),
        "tokens_out": (rates.million_tokens_out, 1e6),
        "joules": (rates.kwh, JOULES_PER_KWH),
    }
    asked = {what: rate / of for what, (rate, of) in per.items() if rate is not None}
    known = {what: value for what in asked if (value := getattr(entry, what)) is not None}
    unknown = (asked.keys() - known.keys() - {"tokens_in", "tokens_out"}) | (
        asked.keys() & entry.lacks
    )
    if not known:
        return replace(entry, lacks=entry.lacks | ({"money"} if asked else set()))
    money = sum(asked[what] * value for what, value in known.items())
    return replace(entry, money=money, lacks=entry.lacks | ({"money"} if unknown else set()))


def table(entries: Iterable[Entry], currency: str, footer: Entry | None = None) -> str:
    """Plain columns; `+` after an amount says that a part of it is not known."""
    rows = [*entries, *([footer] if footer else [])]
    heads = ["", "rows", "failed", "valid", "tokens in", "tokens out", "wall s", "CPU s",
             "device s", "joules", currency]  # fmt: skip
    cells = [heads, *([_cell(entry, what) for what in COLUMNS] for entry in rows)]
    shown = [n for n in range(len(heads)) if n < 2 or any(row[n] != "-" for row in cells[1:])]
    widths = {n: max(len(row[n]) for row in cells) for n in shown}
    lines = [
        "  ".join(f"{row[n]:<{widths[n]}}" if n == 0 else f"{row[n]:>{widths[n]}}" for n in shown)
        for row in cells
    ]
    partly = any(entry.lacks for entry in rows)
    return "\n".join([*lines, *(["+ a part of it was not measured"] if partly else [])])


COLUMNS = ("name", "rows", "failed", "valid", *AMOUNTS, "money")
WAYS: dict[str, Callable[[Path, RatesConfig | None], list[Entry]]] = {
    "stage": stages, "note": notes, "run": runs,
}  # fmt: skip


def _some(found: list[Entry], folder: Path, command: str) -> list[Entry]:
    if not found:
        raise BadData(f"{folder}: nothing finished here yet. Run `{command}` first.")
    return found


def _cell(entry: Entry, what: str) -> str:
    value = getattr(entry, what)
    if what == "name":
        return value + ("" if entry.finished else " (not finished)")
    if value is None:
        return "-"
    if what == "valid":
        return f"{value:.1%}"
    short = f"{value:,.0f}" if isinstance(value, int) or value >= 1000 else f"{value:.4g}"
    return short + ("+" if what in entry.lacks else "")


def _entry(folder: Path, told: set[str] | None = None) -> Entry | None:
    """What a stage folder cost; None if it does not tell.

    Args:
        told: names of runs that other entries tell of; those of a search are added.
    """
    stage, done = folder.parent.name, files.finished(folder)
    facts = files.manifest(folder) if done else {}
    name = f"{stage}/{folder.name}"
    held = once.waiting(folder) if stage == "notes" else {}
    if (folder / LEDGER).is_file() or held.get("rows"):
        return _of_ledger(folder, facts, held)
    if stage == "searches":
        seconds, cpu_s = once.searched(folder, told if told is not None else set())
    elif facts.get("seconds") is None:
        return None
    else:
        own = facts.get("stage") == "compare"
        seconds = once.compared(folder, facts) if own else facts["seconds"]
        cpu_s = _cpu_s(folder)
    return Entry(
        name, *_rows(facts), seconds=seconds, cpu_s=cpu_s,
        device_s=seconds if stage in BUSY else 0.0, finished=done,
    )  # fmt: skip


def _of_ledger(folder: Path, facts: Mapping[str, Any], held: Mapping[str, int]) -> Entry:
    """The sums of a ledger, and what waits to be told by it."""
    name = f"{folder.parent.name}/{folder.name}"
    sums = Ledger(folder, repair=False).total()
    lost = frozenset(AMOUNTS) if sums["lost"] else frozenset[str]()
    amounts = {what: sums[what] for what in AMOUNTS}
    for what in ("tokens_in", "tokens_out"):
        amounts[what] += held.get(what, 0)
    rows = facts.get("rows", sums["rows"] + held.get("rows", 0))
    failed, done = facts.get("failed"), files.finished(folder)
    return Entry(name, rows, failed, _valid(facts), **amounts, lacks=lost, finished=done)


def _valid(facts: Mapping[str, Any]) -> float | None:
    counts = facts.get("valid") or {}
    total = sum(counts.values())
    return counts["first"] / total if total else None


def _rows(facts: Mapping[str, Any]) -> tuple[int, int | None]:
    """Rows and failures; of stages that count several kinds of rows, those of videos."""
    rows, failed = (
        value.get("videos") if isinstance(value, dict) else value
        for value in (facts.get("rows"), facts.get("failed"))
    )
    return rows or 0, failed


def _cpu_s(run: Path) -> Amount:
    """Processor seconds of a training, if every epoch tells them."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    told = [json.loads(line).get("cpu_s") for line in lines]
    return sum(told) if told and None not in told else None


def _asked(folder: Path) -> int:
    """Answers of different contents in a notes folder."""
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        return 0
    table = pl.concat([pl.read_parquet(part) for part in parts], how="vertical_relaxed")
    table = table.filter(pl.col("answer").is_not_null())
    known = table["sha256"].drop_nulls() if "sha256" in table.columns else table[id_column(table)]
    return known.n_unique() + (len(table) - len(known))


def _made_from(work: Path, run: Path) -> list[Path]:
    """What is behind a run, each folder once: features, edges and notes, and of a student its
    teacher with what is behind that."""
    found: list[Path] = []
    if (run / sources.NAME).is_file():
        named = sources.load(run)
        features = [*named.features.values(), *named.profiles.values()]
        said = [_there(path, work) for path in [*features, *([named.edges] if named.edges else [])]]
        cited = [_there(path, work) for path in named.notes]
        found = [*said, *(path for folder in said for path in _read_by(folder, work)), *cited]
    teacher = _named(run).get("teacher")
    for folder in sorted((work / "runs").glob(f"*-{teacher}")) if teacher else ():
        found += [folder, *_made_from(work, folder)]
    return list(dict.fromkeys(found))


def _read_by(folder: Path, work: Path) -> list[Path]:
    """Notes that features or notes about users were made from, and what those read."""
    told = _named(folder).get("notes") or []
    paths = [_there(Path(path), work) for path in ([told] if isinstance(told, str) else told)]
    return [one for path in paths for one in (path, *_read_by(path, work))]


def _named(folder: Path) -> Mapping[str, Any]:
    return files.manifest(folder).get("inputs", {}) if files.finished(folder) else {}


def _there(path: Path, work: Path) -> Path:
    """Where a stage folder lies now: as it was named, or below `work` if that was moved. Always
    below `work` if it is there, so that one folder has one path."""
    moved = work / path.parent.name / path.name
    return moved if moved.is_dir() else path


def _per(amount: Amount, rows: int) -> Amount:
    return None if amount is None or not rows else amount / rows
