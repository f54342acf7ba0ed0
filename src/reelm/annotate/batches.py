"""Asking by batch files: requests about videos are written out, answered elsewhere, and the results
are read into the notes folders that `annotate` with the backend `openai_http` would fill.

A request's custom_id is the digest of the question and the content of the file, so results of
another question are not taken. Requests without an answer stay open: they can be written out again,
or be asked of a server that speaks for the same model.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from reelm import batch_files, files, prompts
from reelm.annotate.asking import MEDIA, Asker, Invalid, Loaded, Made, Outcome, Todo, checked
from reelm.annotate.plan import AnnotateConfig, Notes, Plan, open_todo, opened, to_watch
from reelm.annotate.sheets import Key, Sheet, row_of
from reelm.backends.base import Answer, Backend, Failure, Request
from reelm.backends.openai_http import OpenAIHTTP, OpenAIHTTPConfig
from reelm.batch_files import BatchConfig, Results
from reelm.config import parse
from reelm.data.tables import Catalog, read_catalog
from reelm.engine import Decoder, Parts, Spent, Video, alone, run
from reelm.errors import BadData, ConfigError
from reelm.prompts.base import Prompt

VERSION = 1
REQUESTS = "requests.parquet"
CONTENT = 40  # digits of a file's SHA-256 in a custom_id, which services want short
COLUMNS = {
    "custom_id": pl.String,
    "prompt": pl.String,
    "sha256": pl.String,
    "error_kind": pl.String,
    "error": pl.String,
}
"""Of `requests.parquet`; a row with an error is in no file."""


@dataclass(frozen=True)
class Taken:
    """What reading results came to."""

    folders: list[Path]
    """Notes folders, one for each prompt."""
    counts: dict[str, int]
    """As `batch_files.Results.counts`."""
    open: int
    """Requests that have no answer yet; the folders of their prompts are not finished."""


def write(
    catalog: Catalog,
    backend: OpenAIHTTP,
    chosen: Sequence[type[Prompt]],
    config: AnnotateConfig,
    limits: BatchConfig,
    work: Path,
) -> Path | None:
    """Write all requests that have no answer yet to `work/batches/<prompts>-<key>/batch-*.jsonl`.

    A second call with the same requests open returns the folder at once; one that was killed
    begins the files again. None if nothing is open; the notes folders are finished then.

    Args:
        backend: says model and decoding; it is asked nothing.
        config: with `retry_failed`, what failed is open too.

    Raises:
        ConfigError: texts are to be shown beside the pictures. What was said may be told otherwise
            before the results come, and their answers would belong to nothing.
        StaleFolder: another process is writing the same folder.
    """
    if config.texts:
        raise ConfigError(
            "annotate.texts: requests in batch files show no texts. Leave it empty, or ask a "
            "server with `reelm annotate --backend openai_http`."
        )
    wanted = to_watch(catalog, config, work)
    every = [Plan.of_videos(prompt, backend, wanted, config, work) for prompt in chosen]
    plans = [plan for plan in every if plan.unfinished(config.retry_failed)]
    todos = opened(plans, wanted, config.retry_failed, fill=False)[1]
    rows = [(plans[n], todo.video.sha256) for todo in todos for n in todo.asked]
    if not rows:
        for plan in plans:
            _settle(plan, wanted, {}, config, backend.device, catalog.folder)
        return None
    settings = {"backend": backend.config.model_dump(mode="json"), "batch": limits.model_dump()}
    ids = [_custom_id(plan, sha) for plan, sha in rows]
    key = files.key("batch", VERSION, settings, {"requests": ids})
    folder = work / "batches" / f"{'+'.join(prompt.name for prompt in chosen)}-{key}"
    if files.finished(folder):
        return folder
    with alone(folder), Decoder(work, backend.view.moments, config) as decoder:
        for half in folder.glob("batch-*.jsonl"):  # of a call that was killed
            half.unlink()
        asker = Asker(backend, [plan.question for plan in plans], decoder, 0)
        unseen: dict[str, Failure] = {}
        asked = _requests(plans, asker, todos, config.part, unseen)
        written = batch_files.write(asked, backend.config, limits, folder)
        _note(folder, rows, unseen | written.failed)
    return files.finish(
        folder, stage="batch", version=VERSION, key=key,
        settings=settings | {"annotate": config.model_dump(mode="json")},
        inputs={"catalog": str(catalog.folder.resolve()), "backend": backend.identity(),
                "asked": {plan.question.prompt.name: plan.asked for plan in plans}},
        files=[path.name for path in written.paths],
        rows=written.rows, failed=len(unseen) + len(written.failed),
    )  # fmt: skip


def read(folder: Path, results: Sequence[Path]) -> Taken:
    """Take files of results, and of errors, into the notes folders beside a batch folder.

    Answers are checked as those of a model here, but cannot be asked for once more. Failures that
    may pass, and requests without a line, stay open. Reading the same files again changes nothing.

    Args:
        folder: a finished `work/batches/…` that `write` made.

    Raises:
        BadData: the folder is not finished, a file is of another batch, none has a line about this
            one, or the question is no longer the one that was written out.
        StaleFolder: another process is filling one of the notes folders.
    """
    facts = files.manifest(files.of(folder, "a batch"))
    work = folder.resolve().parent.parent
    backend = OpenAIHTTP(parse(OpenAIHTTPConfig, facts["settings"]["backend"], "backend"))
    try:
        return _read(folder, facts, backend, results, work)
    finally:
        backend.close()


def _read(
    folder: Path, facts: Mapping[str, Any], backend: Backend, results: Sequence[Path], work: Path
) -> Taken:
    config = parse(AnnotateConfig, facts["settings"]["annotate"], "annotate")
    catalog = read_catalog(Path(facts["inputs"]["catalog"]), work)
    wanted = to_watch(catalog, config, work)
    plans = [
        Plan.of_videos(prompts.find(name), backend, wanted, config, work)
        for name in facts["inputs"]["asked"]
    ]
    _same(folder, facts["inputs"]["asked"], plans)
    table = pl.read_parquet(folder / REQUESTS)
    said, counts = _said(table, plans, results)
    _some(folder, results, counts)
    still = 0
    for plan in plans:
        if plan.unfinished(config.retry_failed):
            own = said[plan.question.prompt.name]
            still += _settle(plan, wanted, own, config, backend.device, catalog.folder)
    return Taken([plan.folder for plan in plans], counts, still)


def _some(folder: Path, results: Sequence[Path], counts: Mapping[str, int]) -> None:
    """
    Raises:
        BadData: there are requests, and about none of them was anything read.
    """
    if not (waiting := counts.get("missing")) or sum(counts.values()) > waiting:
        return
    there = ", ".join(map(str, results))
    told = f"no line about a request in {there}" if there else "no file of results is named"
    raise BadData(
        f"{folder}: {told}, and {waiting} requests wait for their answers. Name the files that "
        f"came back: reelm batch read {folder} results.jsonl"
    )


def _said(
    table: pl.DataFrame, plans: Sequence[Plan], results: Sequence[Path]
) -> tuple[dict[str, dict[str, Outcome]], dict[str, int]]:
    """Checked outcomes by prompt and content, and counts of lines."""
    named = {plan.question.prompt.name: plan.question for plan in plans}
    sent = table.filter(pl.col("error_kind").is_null())
    requests = {
        custom: Request(custom, (), named[prompt].schema, named[prompt].prompt.max_tokens)
        for custom, prompt in sent.select("custom_id", "prompt").iter_rows()
    }
    told: Results = batch_files.read_results(results, requests)
    found: dict[str, dict[str, Outcome]] = {name: {} for name in named}
    for custom, prompt, sha, kind, message in table.iter_rows():
        if kind is not None:
            found[prompt][sha] = Failure(kind, message)
            continue
        one = checked(requests[custom], named[prompt].prompt, told.outcomes[custom])
        found[prompt][sha] = one.why if isinstance(one, Invalid) else one
    return found, told.counts


def _settle(
    plan: Plan,
    wanted: Sequence[tuple[Video, str]],
    said: Mapping[str, Outcome],
    config: AnnotateConfig,
    device: str,
    catalog: Path,
) -> int:
    """Keep outcomes that stand, write the parts that are whole, and finish the folder if all are;
    how many requests are left open."""
    sheet = opened([plan], wanted, config.retry_failed)[0][0]
    new = {
        (sha, ""): one
        for sha, one in said.items()
        if not _passing(one) and _better(one, sheet, (sha, ""))
    }
    lasting = {name: one for name, one in new.items() if getattr(one, "kind", "") != MEDIA}
    with alone(plan.folder):
        if lasting:
            sheet.hold(lasting)
    sheet.known.update({name: row_of(one) for name, one in new.items() if name not in lasting})
    todos = [open_todo(one, text, [sheet]) for one, text in wanted]
    label = f"read {plan.question.prompt.name}"
    run(_Whole([sheet], device), todos, config.part, label, _whole)
    still = sum(bool(todo.asked) for todo in todos)
    if not still:
        plan.finish(catalog=str(catalog))
    return still


class _Whole(Notes):
    """Parts whose answers are all known."""

    def __init__(self, sheets: Sequence[Sheet], device: str) -> None:
        self.folders, self.device = [sheet.folder for sheet in sheets], device
        self._sheets = {sheet.folder: sheet for sheet in sheets}

    def load(self, tasks: Sequence[Todo]) -> Loaded:
        return [(todo, []) for todo in tasks]

    def make(self, loaded: Loaded) -> Made:
        return [(todo, []) for todo, _ in loaded]


def _whole(stage: Any, parts: Parts[Todo]) -> Generator[tuple[int, Made, Spent]]:
    """Hands that pass over parts with something open."""
    for number, tasks in parts:
        if not any(todo.asked for todo in tasks):
            yield number, stage.make(stage.load(tasks)), Spent(0.0, 0.0, 0.0)


def _requests(
    plans: Sequence[Plan],
    asker: Asker,
    todos: Sequence[Todo],
    size: int,
    unseen: dict[str, Failure],
) -> Iterator[tuple[str, Request]]:
    """Requests with their custom_ids; of files that cannot be decoded, the failure in `unseen`."""
    left = [todo for todo in todos if todo.asked]
    for start in range(0, len(left), size):
        for todo, made in asker.load(left[start : start + size]):
            ids = [_custom_id(plans[n], todo.video.sha256) for n in todo.asked]
            if isinstance(made, Failure):
                unseen.update(dict.fromkeys(ids, made))
            else:
                yield from zip(ids, made, strict=True)


def _note(folder: Path, rows: Sequence[tuple[Plan, str]], failed: Mapping[str, Failure]) -> None:
    """Write `requests.parquet`."""
    told = []
    for plan, sha in rows:
        custom = _custom_id(plan, sha)
        why = failed.get(custom)
        error = (None, None) if why is None else (why.kind, why.message)
        told.append((custom, plan.question.prompt.name, sha, *error))
    with files.atomic(folder / REQUESTS) as tmp:
        pl.DataFrame(told, schema=COLUMNS, orient="row").write_parquet(tmp)


def _same(folder: Path, asked: Mapping[str, str], plans: Sequence[Plan]) -> None:
    """
    Raises:
        BadData: a question has changed since it was written out.
    """
    for plan in plans:
        name = plan.question.prompt.name
        if plan.asked != asked[name]:
            raise BadData(
                f"{folder}: the question {name!r} is not the one that was written out, so the "
                "answers are to another one. Write it out again with `reelm batch write`, or read "
                "the results with the version of reelm that wrote it."
            )


def _custom_id(plan: Plan, sha256: str) -> str:
    return f"{plan.asked}-{sha256[:CONTENT]}"


def _better(one: Outcome, sheet: Sheet, name: Key) -> bool:
    """Whether nothing was known, or a failure and now an answer."""
    known = sheet.known.get(name)
    return known is None or (isinstance(one, Answer) and known[0] is None)


def _passing(one: Outcome) -> bool:
    return isinstance(one, Failure) and one.passing
